"""EMBEDDING: the last columns of x hold codes, each of which becomes a row of its table.

A warp takes rows of the tables and adds up their gradient in the order of the samples: there are no
atomic additions.
"""

from fastnn._kernels.numba_cuda.kernels.blocks import WARP, advance, block_range, divide
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def _table_row(ctx, op, code, j):
    """The row of code number j, of all tables; what is no code of its table counts as 0.

    Buffers and codes may hold anything: the row is inside the tables all the same.
    """
    first = ctx.buffers[op.state + j]
    row = int(first)
    if code > 0 and code < ctx.buffers[op.state + j + 1] - first:
        row += int(code)
    return max(0, min(row, op.rows - 1))


@device
def forward(ctx, op, first_row, n_rows, step):
    """z = [x without its codes, E₁[code₁], E₂[code₂], …], and the epilogue."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    passed = op.n_in - op.codes
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        x = op.x + r * op.n_in
        if c < passed:
            z = ctx.work[x + c]
        else:
            j, k = divide(c - passed, op.size)
            row = _table_row(ctx, op, ctx.work[x + passed + j], j)
            z = ctx.theta[op.weight + row * op.size + k]
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def own_elements(ctx, op, worker, workers):
    """First and last + 1 of the elements of the tables, in whole rows, of this thread's warp."""
    warp, warps = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    first, last = block_range(op.rows, worker * warps + warp, workers * warps)
    return first * op.size, last * op.size


@device
def gradient(ctx, op, batch, first, last):
    """The gradient of the elements from ``first`` to ``last`` of the tables, by one warp."""
    lane, passed = cuda.threadIdx.x % WARP, op.n_in - op.codes
    # A lane writes the same columns of every row: no other reads what it has written.
    for row in range(first // op.size, last // op.size):
        for k in range(lane, op.size, WARP):
            ctx.gradient[op.weight + row * op.size + k] = ctx.work.dtype.type(0)
    for r in range(batch):
        for j in range(op.codes):
            row = _table_row(ctx, op, ctx.work[op.x + r * op.n_in + passed + j], j)
            if first <= row * op.size < last:
                d = op.y + r * op.n_out + passed + j * op.size
                for k in range(lane, op.size, WARP):
                    ctx.gradient[op.weight + row * op.size + k] += ctx.d_work[d + k]
