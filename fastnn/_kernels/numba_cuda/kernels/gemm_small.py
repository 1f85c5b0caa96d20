"""Matrix products of a dense operation, for the threads of one block: z = x W, ∂C/∂x = δ Wᵀ and the
gradient xᵀ δ of the weight.

A warp works out a tile of 16 × 32 results, 4 × 4 a thread, reading both factors where they lie: in
shared memory, or in the first-level cache, which is the same memory. Where a block has more warps
than tiles, several share a tile, each with a slice of the depth, and their parts are added in
order. So a mini-batch of ten rows still keeps all warps busy. No thread waits for another but for
that sum.

What becomes of a result is decided where it is: activation and mask on the way forward, and in the
gradient of a weight the penalties and the optimiser. A gradient that nothing else needs is never
stored.
"""

from fastnn._kernels.numba_cuda.kernels import update
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, at, divide
from fastnn._kernels.numba_cuda.kernels.elementwise import finish, store_input_gradient
from fastnn._kernels.numba_cuda.kernels.frame import CELLS
from fastnn._kernels.numba_cuda.kernels.records import no_rule
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

ROWS, COLUMNS = 4, 4  # of a thread: CELLS results
# steps of the depth that are read at once, and what they take
AHEAD, ROWS_AHEAD, COLUMNS_AHEAD = 2, 8, 8
LANES_DOWN, LANES_ACROSS = 4, 8  # threads of a warp
TILE_ROWS, TILE_COLUMNS = ROWS * LANES_DOWN, COLUMNS * LANES_ACROSS
LEAST_DEPTH = 8  # of a slice: below it the sum of the slices costs more than it saves

FORWARD, INPUT, WEIGHT = range(3)


@device
def forward(frame, op, first_row, n_rows, step, worker, workers):
    """y = f(x W + b) · m for rows of the mini-batch; ``worker`` of ``workers`` blocks takes its
    share of the tiles.
    """
    x, w, shape, rule = (
        op.x + first_row * op.n_in,
        op.weight,
        (n_rows, op.n_out, op.n_in),
        no_rule(frame),
    )
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
        first_row,
        step,
        rule,
        worker,
        workers,
    )


@device
def input_gradient(frame, op, first_row, n_rows, worker, workers):
    """∂C/∂x = δ Wᵀ, written or added as ``op.x_grad`` says."""
    d_z, w, shape, rule = (
        op.y + first_row * op.n_out,
        op.weight,
        (n_rows, op.n_in, op.n_out),
        no_rule(frame),
    )
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
        first_row,
        0,
        rule,
        worker,
        workers,
    )


@device
def weight_gradient(frame, op, batch, rule, fused, worker, workers):
    """xᵀ δ, and below it δ summed over the mini-batch, the bias's gradient, as if x had a column of
    ones.

    ``fused``: the parameters are updated at once; else the gradient, penalties included, is stored.
    """
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
        0,
        rule,
        worker,
        workers,
    )


@device
def weight_tiles(op):
    """How many tiles the gradient of an operation's weight and bias has."""
    rows = op.n_in + (1 if op.bias >= 0 else 0)
    return (rows + TILE_ROWS - 1) // TILE_ROWS * ((op.n_out + TILE_COLUMNS - 1) // TILE_COLUMNS)


@device
def _multiply(
    kind,
    frame,
    op,
    fused,
    a,
    a0,
    a_m,
    a_k,
    b,
    b0,
    b_k,
    b_n,
    shape,
    first,
    step,
    rule,
    worker,
    workers,
):
    """Σₖ a[a0 + m a_m + k a_k] b[b0 + k b_k + n b_n] for this worker's tiles of an m × n result,
    each given to `store`.
    """
    parts = frame.tiles
    sums = cuda.local.array(CELLS, a.dtype)
    m, n, depth = shape
    warp, lane, warps = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP, cuda.blockDim.x // WARP
    across = (n + TILE_COLUMNS - 1) // TILE_COLUMNS
    tiles = (m + TILE_ROWS - 1) // TILE_ROWS * across
    slices = 1
    while (
        slices * 2 <= warps
        and tiles * slices * 2 <= warps * workers
        and slices * 2 * LEAST_DEPTH <= depth
    ):
        slices *= 2
    at_once, (which, slice_) = divide(warps, slices)[0], divide(warp, slices)
    first_k, last_k = divide(depth * slice_, slices)[0], divide(depth * (slice_ + 1), slices)[0]
    for first_tile in range(worker * at_once, tiles, workers * at_once):
        tile = first_tile + which
        down, right = divide(tile, across)
        row, column = (
            down * TILE_ROWS + lane // LANES_ACROSS * ROWS,
            right * TILE_COLUMNS + lane % LANES_ACROSS,
        )
        if tile < tiles:
            limit = op.n_in if kind == WEIGHT else m
            _accumulate(
                kind, sums, a, a0, a_m, a_k, b, b0, b_k, b_n, row, column, limit, n, first_k, last_k
            )
            for cell in range(CELLS):
                parts[at((warp * CELLS + cell) * WARP + lane)] = sums[cell]
        if slices > 1:
            cuda.syncthreads()
        if tile < tiles:
            for cell in range(slice_, CELLS, slices):
                r, c = row + cell // COLUMNS, column + cell % COLUMNS * LANES_ACROSS
                total = parts[(which * slices * CELLS + cell) * WARP + lane]
                for other in range(1, slices):
                    total += parts[((which * slices + other) * CELLS + cell) * WARP + lane]
                if r < m and c < n:
                    store(kind, frame, op, fused, rule, first, r, c, total, step)
        if slices > 1:
            cuda.syncthreads()  # the parts have been read


@device
def _accumulate(kind, sums, a, a0, a_m, a_k, b, b0, b_k, b_n, row, column, m, n, first, last):
    """The sums of one thread over a stretch of the depth. Beyond the edges it reads the last row or
    column, for sums that nobody stores.

    It asks for several steps of the depth at a time, as an answer from the second-level cache takes
    as long as a hundred multiplications.
    """
    x, y = cuda.local.array(ROWS_AHEAD, a.dtype), cuda.local.array(COLUMNS_AHEAD, a.dtype)
    for cell in range(CELLS):
        sums[cell] = a.dtype.type(0)
    whole = first + (last - first) // AHEAD * AHEAD
    for few in range(first, whole, AHEAD):
        for k in range(AHEAD):
            _read(kind, x, y, k, few + k, a, a0, a_m, a_k, b, b0, b_k, b_n, row, column, m, n)
        for k in range(AHEAD):
            for i in range(ROWS):
                for j in range(COLUMNS):
                    sums[i * COLUMNS + j] += x[k * ROWS + i] * y[k * COLUMNS + j]
    for k in range(whole, last):
        _read(kind, x, y, 0, k, a, a0, a_m, a_k, b, b0, b_k, b_n, row, column, m, n)
        for i in range(ROWS):
            for j in range(COLUMNS):
                sums[i * COLUMNS + j] += x[i] * y[j]


@device
def _read(kind, x, y, place, k, a, a0, a_m, a_k, b, b0, b_k, b_n, row, column, m, n):
    """What step k of the depth multiplies; the bias is the weight of a feature that is 1."""
    for i in range(ROWS):
        x[place * ROWS + i] = a[at(a0 + min(row + i, m - 1) * a_m + k * a_k)]
        if kind == WEIGHT and row + i == m:
            x[place * ROWS + i] = a.dtype.type(1)
    for j in range(COLUMNS):
        y[place * COLUMNS + j] = b[at(b0 + k * b_k + min(column + j * LANES_ACROSS, n - 1) * b_n)]


@device
def store(kind, frame, op, fused, rule, first, r, c, total, step):
    """What becomes of result (r, c); ``first`` is the first row of the mini-batch that the result
    has.
    """
    if kind == FORWARD:
        finish(
            frame,
            op,
            first + r,
            c,
            total + frame.theta[op.bias + c] if op.bias >= 0 else total,
            step,
        )
    elif kind == INPUT:
        store_input_gradient(frame, op, (first + r) * op.n_in + c, total)
    else:
        learn_weight(frame, op, fused, rule, r, c, total)


@device
def learn_weight(frame, op, fused, rule, r, c, g):
    """Penalties, then the update with the gradient g of element (r, c) of the weight, or its
    storing; row n_in is the bias.
    """
    is_bias = r == op.n_in
    p = op.bias + c if is_bias else op.weight + r * op.n_out + c
    if not is_bias and (op.l1 > 0 or op.l2 > 0):
        w = frame.theta[p]
        g += op.l2 * w + (op.l1 if w > 0 else -op.l1 if w < 0 else w)
    if fused:
        update.update(frame, rule, p, update.clip(rule, g), 0.0 if is_bias else rule.weight_decay)
    else:
        frame.gradient[p] = g
