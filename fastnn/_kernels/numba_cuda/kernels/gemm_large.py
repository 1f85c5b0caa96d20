"""Matrix products of large operations, where both sides have many rows, by tiles of 64 × 64.

A block computes a tile. The factors come through shared memory, a slice of the depth at a time,
while the next slice is read into registers. A thread then has 16 multiplications for two reads of
four neighbours. The three products and their epilogues are those of `gemm_small`.
"""

from fastnn._kernels.numba_cuda.kernels.blocks import THREADS, at, divide
from fastnn._kernels.numba_cuda.kernels.context import CELLS
from fastnn._kernels.numba_cuda.kernels.gemm_small import (
    FORWARD,
    INPUT,
    WEIGHT,
    Operand,
    Result,
    store,
)
from fastnn._kernels.numba_cuda.kernels.records import no_optimizer
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

ACROSS = 16  # threads across a tile; 256 threads are 16 × 16
SIDE = 4  # rows and columns of a thread
WIDTH = ACROSS * SIDE
DEPTH = 16
UNROLLED = 4
PITCH = WIDTH + 4  # of a row in shared memory: neighbours in depth fall on different banks
HALF = DEPTH * PITCH
HEIGHT = THREADS // ACROSS * SIDE
# Elements of a slice that a thread reads.
STAGED_A, STAGED_B = HEIGHT * DEPTH // THREADS, WIDTH * DEPTH // THREADS


@device
def forward(ctx, op, n_rows, step, worker, workers):
    """y = f(x W + b) · m."""
    x = Operand(ctx.work, op.x, op.member_in, 1)
    w_transposed = Operand(ctx.theta, op.weight, 1, op.member_out)
    result = Result(FORWARD, op, 0, step, 0, no_optimizer(ctx))
    shape = n_rows * op.members, op.member_out, op.member_in
    _gemm(ctx, result, x, w_transposed, shape, worker, workers)


@device
def input_gradient(ctx, op, n_rows, worker, workers):
    """∂C/∂x = δ Wᵀ, written or added as ``op.x_grad`` says."""
    d_z = Operand(ctx.d_work, op.y, op.member_out, 1)
    w = Operand(ctx.theta, op.weight, op.member_out, 1)
    result = Result(INPUT, op, 0, 0, 0, no_optimizer(ctx))
    shape = n_rows * op.members, op.member_in, op.member_out
    _gemm(ctx, result, d_z, w, shape, worker, workers)


@device
def weight_gradient(ctx, op, batch, optimizer, fused, worker, workers):
    """xᵀ δ and below it the bias's gradient; ``fused``: with the update."""
    x_transposed = Operand(ctx.work, op.x, 1, op.member_in)
    d_z_transposed = Operand(ctx.d_work, op.y, 1, op.member_out)
    rows = op.member_in + (1 if op.bias >= 0 else 0)
    shape = rows, op.member_out, batch * op.members
    result = Result(WEIGHT, op, 0, 0, fused, optimizer)
    _gemm(ctx, result, x_transposed, d_z_transposed, shape, worker, workers)


@device
def _gemm(ctx, result, a, b, shape, worker, workers):
    """This worker's tiles of the m × n product a bᵀ of depth k, with shape = (m, n, k).

    Rows of both operands run along a side of the result, and their columns along the depth.
    """
    m, n, depth = shape
    sums = cuda.local.array(CELLS, a.array.dtype)
    next_a = cuda.local.array(STAGED_A, a.array.dtype)
    next_b = cuda.local.array(STAGED_B, a.array.dtype)
    tiles_across = (n + WIDTH - 1) // WIDTH
    a_limits, b_limits = (result.op.member_in if result.kind == WEIGHT else m, depth), (n, depth)
    for tile in range(worker, (m + HEIGHT - 1) // HEIGHT * tiles_across, workers):
        down_tiles, across_tiles = divide(tile, tiles_across)
        top, left = down_tiles * HEIGHT, across_tiles * WIDTH
        for cell in range(CELLS):
            sums[cell] = a.array.dtype.type(0)
        _fetch(result.kind, next_a, a, (top, 0), a_limits, HEIGHT)
        _fetch(FORWARD, next_b, b, (left, 0), b_limits, WIDTH)
        for first in range(0, depth, DEPTH):
            cuda.syncthreads()  # before this slice overwrites the last one
            _stage(ctx.tiles, 0, next_a, a.column_stride, HEIGHT)
            _stage(ctx.tiles, HALF, next_b, b.column_stride, WIDTH)
            cuda.syncthreads()
            if first + DEPTH < depth:
                _fetch(result.kind, next_a, a, (top, first + DEPTH), a_limits, HEIGHT)
                _fetch(FORWARD, next_b, b, (left, first + DEPTH), b_limits, WIDTH)
            _accumulate(ctx.tiles, sums)
        _store_tile(ctx, result, sums, (top, left), (m, n))


@device
def _accumulate(tiles, sums):
    """Add the product of the slices in shared memory to a thread's sums."""
    x, y = cuda.local.array(SIDE, tiles.dtype), cuda.local.array(SIDE, tiles.dtype)
    down, across = cuda.threadIdx.x // ACROSS, cuda.threadIdx.x % ACROSS
    for start in range(0, DEPTH, UNROLLED):
        for k in range(UNROLLED):
            for i in range(SIDE):
                x[i] = tiles[at((start + k) * PITCH + down * SIDE + i)]
                y[i] = tiles[at(HALF + (start + k) * PITCH + across * SIDE + i)]
            for i in range(SIDE):
                for j in range(SIDE):
                    sums[i * SIDE + j] += x[i] * y[j]


@device
def _store_tile(ctx, result, sums, corner, shape):
    """The epilogues of a tile whose first row and column are ``corner``.

    The sums go through shared memory, so that neighbouring threads write neighbouring columns.
    """
    (top, left), (m, n) = corner, shape
    cuda.syncthreads()
    for cell in range(CELLS):
        ctx.tiles[cell * THREADS + cuda.threadIdx.x] = sums[cell]
    cuda.syncthreads()
    for e in range(cuda.threadIdx.x, HEIGHT * WIDTH, THREADS):
        r, c = e // WIDTH, e % WIDTH
        place = (r % SIDE * SIDE + c % SIDE) * THREADS + r // SIDE * ACROSS + c // SIDE
        if top + r < m and left + c < n:
            store(ctx, result, top + r, left + c, ctx.tiles[place])


@device
def _place(e, depth_stride, breadth):
    """Side and depth of element e of a slice. Neighbours lie along the contiguous direction."""
    return (e // DEPTH, e % DEPTH) if depth_stride == 1 else (e % breadth, e // breadth)


@device
def _fetch(kind, values, operand, corner, limits, breadth):
    """This thread's part of a slice of one operand, into registers; 0 beyond ``limits``.

    In the gradient of a weight the row below the last is of ones, for the bias.
    """
    (side, depth), (side_limit, depth_limit) = corner, limits
    for i in range(breadth * DEPTH // THREADS):
        s, d = _place(i * THREADS + cuda.threadIdx.x, operand.column_stride, breadth)
        values[i] = operand.array.dtype.type(0)
        if depth + d < depth_limit:
            if side + s < side_limit:
                along = (side + s) * operand.row_stride + (depth + d) * operand.column_stride
                values[i] = operand.array[at(operand.offset + along)]
            elif kind == WEIGHT and side + s == side_limit:
                values[i] = operand.array.dtype.type(1)


@device
def _stage(tiles, start, values, depth_stride, breadth):
    """Fetched values to shared memory, transposed, so that a thread reads neighbours at once."""
    for i in range(breadth * DEPTH // THREADS):
        s, d = _place(i * THREADS + cuda.threadIdx.x, depth_stride, breadth)
        tiles[at(start + d * PITCH + s)] = values[i]
