"""Members of an ensemble: MEMBER_SCALE, z_m = scale_m ⊙ x_m + b_m, and HEADS, z_m = x_m W_m + b_m.

A row of a value holds one row of each member, one after the other. Heads have few outputs: a thread
computes an element alone.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, advance, divide, sum_over_warps
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def forward(ctx, op, first_row, n_rows, step):
    """z and the epilogue."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        z = _head(ctx, op, r, c)
        if op.code == oc.MEMBER_SCALE:
            z = ctx.theta[op.weight + c] * ctx.work[_input_of(op, r, c)]
        if op.bias >= 0:
            z += ctx.theta[op.bias + c]
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def _input_of(op, r, c):
    """Where MEMBER_SCALE reads x of column c: all members may share one x."""
    is_shared = op.n_in == op.member_in
    return op.x + r * op.n_in + (divide(c, op.member_in)[1] if is_shared else c)


@device
def _head(ctx, op, r, c):
    """Σ_i x_mi W_mij of column c = (m, j) of HEADS; 0 of other operations."""
    total = ctx.work.dtype.type(0)
    if op.code == oc.HEADS:
        m, j = divide(c, op.member_out)
        x, w = op.x + r * op.n_in + m * op.member_in, _weight_of(op, m) + j
        for i in range(op.member_in):
            total += ctx.work[x + i] * ctx.theta[w + i * op.member_out]
    return total


@device
def _weight_of(op, m):
    """Where W_m of HEADS begins."""
    return op.weight + m * op.member_in * op.member_out


@device
def backward(ctx, op, first_row, n_rows):
    """∂C/∂x_m = scale_m ⊙ δ_m, summed over members where they share x, or δ_m W_mᵀ."""
    n, thread, threads = op.n_in, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        d, d_z = ctx.work.dtype.type(0), op.y + r * op.n_out
        if op.code == oc.HEADS:
            m, i = divide(c, op.member_in)
            w, of_member = _weight_of(op, m) + i * op.member_out, d_z + m * op.member_out
            for j in range(op.member_out):
                d += ctx.d_work[of_member + j] * ctx.theta[w + j]
        else:
            # One column, or that of each member.
            for e in range(c, op.n_out, n):
                d += ctx.d_work[d_z + e] * ctx.theta[op.weight + e]
        place = op.x + r * n + c
        ctx.d_work[place] = ctx.d_work[place] + d if op.x_grad == oc.GRAD_ADD else d
        r, c = advance(r, c, stride, n)


@device
def column_sums(ctx, op, batch, c):
    """∂C/∂b = Σ δ and ∂C/∂scale = Σ δ ⊙ x of column ``c`` of MEMBER_SCALE.

    Every thread of the block must call this, those of a lane with the same column.
    """
    warp, warps = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    plain, product = ctx.work.dtype.type(0), ctx.work.dtype.type(0)
    for r in range(warp, batch, warps):
        d = ctx.d_work[op.y + r * op.n_out + c]
        plain += d
        product += d * ctx.work[_input_of(op, r, c)]
    return sum_over_warps(ctx.reals, plain), sum_over_warps(ctx.reals, product)


@device
def weight_gradient(ctx, op, batch, element):
    """∂C/∂W_mij = Σ x_mi δ_mj of one element of HEADS."""
    row, j = divide(element, op.member_out)  # row (m, i) multiplies column (m, i) of x
    m, total = divide(row, op.member_in)[0], ctx.work.dtype.type(0)
    for r in range(batch):
        d = ctx.d_work[op.y + r * op.n_out + m * op.member_out + j]
        total += ctx.work[op.x + r * op.n_in + row] * d
    return total
