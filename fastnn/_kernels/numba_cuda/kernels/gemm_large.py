"""Matrix products of large operations, where both sides have many rows: a block works out a tile of
64 × 64 results.

The factors come through shared memory, a slice of the depth at a time, while the next slice is on
its way to registers; a thread then has 16 multiplications for two reads of four neighbours. The
three products and what becomes of their results are those of `products`.
"""

from fastnn._kernels.numba_cuda.kernels.blocks import THREADS, at, divide
from fastnn._kernels.numba_cuda.kernels.frame import CELLS
from fastnn._kernels.numba_cuda.kernels.gemm_small import FORWARD, INPUT, WEIGHT, store
from fastnn._kernels.numba_cuda.kernels.records import no_rule
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

ACROSS = 16  # threads across a tile; 256 threads are 16 × 16
SIDE = 4  # rows and columns of a thread
WIDTH = ACROSS * SIDE
DEPTH = 16
UNROLLED = 4
PITCH = WIDTH + 4  # of a row in shared memory: neighbours in depth fall on different banks
HALF = DEPTH * PITCH
HEIGHT = THREADS // ACROSS * SIDE
# elements of a slice that a thread brings
STAGED_A, STAGED_B = HEIGHT * DEPTH // THREADS, WIDTH * DEPTH // THREADS


@device
def forward(frame, op, n_rows, step, worker, workers):
    """y = f(x W + b) · m."""
    x, w, shape = op.x, op.weight, (n_rows, op.n_out, op.n_in)
    _multiply(
        FORWARD,
        frame,
        op,
        0,
        frame.work,
        x,
        op.n_in,
        1,
        frame.theta,
        w,
        op.n_out,
        1,
        shape,
        step,
        no_rule(frame),
        worker,
        workers,
    )


@device
def input_gradient(frame, op, n_rows, worker, workers):
    """∂C/∂x = δ Wᵀ, written or added as ``op.x_grad`` says."""
    d_z, w, shape = op.y, op.weight, (n_rows, op.n_in, op.n_out)
    _multiply(
        INPUT,
        frame,
        op,
        0,
        frame.d_work,
        d_z,
        op.n_out,
        1,
        frame.theta,
        w,
        1,
        op.n_out,
        shape,
        0,
        no_rule(frame),
        worker,
        workers,
    )


@device
def weight_gradient(frame, op, batch, rule, fused, worker, workers):
    """xᵀ δ and the bias's gradient below it; ``fused``: with the update."""
    x, d_z = op.x, op.y
    shape = op.n_in + (1 if op.bias >= 0 else 0), op.n_out, batch
    _multiply(
        WEIGHT,
        frame,
        op,
        fused,
        frame.work,
        x,
        1,
        op.n_in,
        frame.d_work,
        d_z,
        op.n_out,
        1,
        shape,
        0,
        rule,
        worker,
        workers,
    )


@device
def _multiply(
    kind, frame, op, fused, a, a0, a_m, a_k, b, b0, b_k, b_n, shape, step, rule, worker, workers
):
    """As `products._multiply`: this worker's tiles of an m × n result, each element given to
    `products.store`.
    """
    m, n, depth = shape
    sums, x, y = (
        cuda.local.array(CELLS, a.dtype),
        cuda.local.array(SIDE, a.dtype),
        cuda.local.array(SIDE, a.dtype),
    )
    next_a, next_b = cuda.local.array(STAGED_A, a.dtype), cuda.local.array(STAGED_B, a.dtype)
    down, across = cuda.threadIdx.x // ACROSS, cuda.threadIdx.x % ACROSS
    tiles_across = (n + WIDTH - 1) // WIDTH
    limit = op.n_in if kind == WEIGHT else m
    for tile in range(worker, (m + HEIGHT - 1) // HEIGHT * tiles_across, workers):
        down_tiles, across_tiles = divide(tile, tiles_across)
        top, left = down_tiles * HEIGHT, across_tiles * WIDTH
        for cell in range(CELLS):
            sums[cell] = a.dtype.type(0)
        _fetch(kind, next_a, STAGED_A, a, a0, a_m, a_k, top, limit, 0, depth, HEIGHT)
        _fetch(FORWARD, next_b, STAGED_B, b, b0, b_n, b_k, left, n, 0, depth, WIDTH)
        for first in range(0, depth, DEPTH):
            cuda.syncthreads()  # the slice before has been read
            _stage(frame.tiles, 0, next_a, STAGED_A, a_k, HEIGHT)
            _stage(frame.tiles, HALF, next_b, STAGED_B, b_k, WIDTH)
            cuda.syncthreads()
            if first + DEPTH < depth:
                _fetch(
                    kind,
                    next_a,
                    STAGED_A,
                    a,
                    a0,
                    a_m,
                    a_k,
                    top,
                    limit,
                    first + DEPTH,
                    depth,
                    HEIGHT,
                )
                _fetch(
                    FORWARD, next_b, STAGED_B, b, b0, b_n, b_k, left, n, first + DEPTH, depth, WIDTH
                )
            for few in range(0, DEPTH, UNROLLED):
                for k in range(UNROLLED):
                    for i in range(SIDE):
                        x[i] = frame.tiles[at((few + k) * PITCH + down * SIDE + i)]
                        y[i] = frame.tiles[at(HALF + (few + k) * PITCH + across * SIDE + i)]
                    for i in range(SIDE):
                        for j in range(SIDE):
                            sums[i * SIDE + j] += x[i] * y[j]
        cuda.syncthreads()
        for cell in range(CELLS):
            frame.tiles[cell * THREADS + cuda.threadIdx.x] = sums[cell]
        cuda.syncthreads()
        # row by row, as memory likes it, not each thread its own square
        for e in range(cuda.threadIdx.x, HEIGHT * WIDTH, THREADS):
            r, c = e // WIDTH, e % WIDTH
            place = (r % SIDE * SIDE + c % SIDE) * THREADS + r // SIDE * ACROSS + c // SIDE
            if top + r < m and left + c < n:
                store(kind, frame, op, fused, rule, 0, top + r, left + c, frame.tiles[place], step)


@device
def _fetch(
    kind,
    values,
    n_values,
    source,
    first,
    side_stride,
    depth_stride,
    side,
    side_limit,
    depth,
    depth_limit,
    breadth,
):
    """This thread's part of a slice of one factor, into registers; 0 beyond the edges.

    Threads read along whichever direction is contiguous. In the gradient of a weight the row below
    the last is of ones, for the bias.
    """
    for i in range(n_values):
        e = i * THREADS + cuda.threadIdx.x
        s, d = (e // DEPTH, e % DEPTH) if depth_stride == 1 else (e % breadth, e // breadth)
        values[i] = source.dtype.type(0)
        if depth + d < depth_limit:
            if side + s < side_limit:
                values[i] = source[
                    at(first + (side + s) * side_stride + (depth + d) * depth_stride)
                ]
            elif kind == WEIGHT and side + s == side_limit:
                values[i] = source.dtype.type(1)


@device
def _stage(tiles, start, values, n_values, depth_stride, breadth):
    """What was fetched, to shared memory, turned so that what a thread needs at once lies side by
    side.
    """
    for i in range(n_values):
        e = i * THREADS + cuda.threadIdx.x
        s, d = (e // DEPTH, e % DEPTH) if depth_stride == 1 else (e % breadth, e // breadth)
        tiles[at(start + d * PITCH + s)] = values[i]
