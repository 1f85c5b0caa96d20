"""Matrix products of a dense operation by small tiles: z = x W, ∂C/∂x = δ Wᵀ, ∂C/∂W = xᵀ δ.

A warp computes a tile of 16 × 32 results, 4 × 4 a thread. It reads both factors where they lie: in
shared memory or in the first-level cache, which is the same memory. Where a block has more warps
than tiles, several warps share a tile (split-K): each takes a slice of the depth, and their partial
results are added in order. So a mini-batch of ten rows still keeps all warps busy. No thread waits
for another but for that reduction.

The epilogue of a product acts where the result is: bias, activation and mask in the forward pass,
penalties and the optimiser in the gradient of a weight. A gradient that nothing else needs is never
stored.
"""

from typing import Any, NamedTuple

from fastnn._kernels.numba_cuda.kernels import update
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, at, divide
from fastnn._kernels.numba_cuda.kernels.context import CELLS
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue, store_input_gradient
from fastnn._kernels.numba_cuda.kernels.records import no_optimizer
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

ROWS, COLUMNS = 4, 4  # of a thread: CELLS results
UNROLLED = 2  # steps of the depth whose operands are read at once
ROW_FRAGMENT, COLUMN_FRAGMENT = 8, 8  # registers for those: UNROLLED · ROWS, UNROLLED · COLUMNS
LANES_DOWN, LANES_ACROSS = 4, 8  # threads of a warp
TILE_ROWS, TILE_COLUMNS = ROWS * LANES_DOWN, COLUMNS * LANES_ACROSS
MIN_SLICE = 8  # steps of a split-K slice: below it the reduction costs more than the slice saves

FORWARD, INPUT, WEIGHT = range(3)


class Operand(NamedTuple):
    """A matrix: element (i, j) is ``array[offset + i * row_stride + j * column_stride]``."""

    array: Any
    offset: Any
    row_stride: Any
    column_stride: Any


class Result(NamedTuple):
    """What becomes of the results of a product."""

    kind: Any  # FORWARD, INPUT or WEIGHT
    op: Any
    first_row: Any  # row of the mini-batch, and of a member, that the first result row is
    step: Any  # FORWARD: counter of masks
    fused: Any  # WEIGHT: update at once, else store the gradient
    optimizer: Any  # WEIGHT


@device
def forward(ctx, op, first_row, n_rows, step, worker, workers):
    """y = f(x W + b) · m for rows of the mini-batch.

    ``worker`` of ``workers`` blocks computes its share of the tiles.
    """
    x = Operand(ctx.work, op.x + first_row * op.n_in, op.member_in, 1)
    w = Operand(ctx.theta, op.weight, op.member_out, 1)
    result = Result(FORWARD, op, first_row * op.members, step, 0, no_optimizer(ctx))
    shape = n_rows * op.members, op.member_out, op.member_in
    _gemm(ctx, result, x, w, shape, worker, workers)


@device
def input_gradient(ctx, op, first_row, n_rows, worker, workers):
    """∂C/∂x = δ Wᵀ, written or added as ``op.x_grad`` says."""
    d_z = Operand(ctx.d_work, op.y + first_row * op.n_out, op.member_out, 1)
    w_transposed = Operand(ctx.theta, op.weight, 1, op.member_out)
    result = Result(INPUT, op, first_row * op.members, 0, 0, no_optimizer(ctx))
    shape = n_rows * op.members, op.member_in, op.member_out
    _gemm(ctx, result, d_z, w_transposed, shape, worker, workers)


@device
def weight_gradient(ctx, op, batch, optimizer, fused, worker, workers):
    """xᵀ δ, and below it the bias's gradient, as if x had a column of ones.

    ``fused``: the parameters are updated at once; else the gradient, penalties included, is stored.
    """
    x_transposed = Operand(ctx.work, op.x, 1, op.member_in)
    d_z = Operand(ctx.d_work, op.y, op.member_out, 1)
    rows = op.member_in + (1 if op.bias >= 0 else 0)
    shape = rows, op.member_out, batch * op.members
    result = Result(WEIGHT, op, 0, 0, fused, optimizer)
    _gemm(ctx, result, x_transposed, d_z, shape, worker, workers)


@device
def weight_tiles(op):
    """Number of tiles of the gradient of an operation's weight and bias."""
    rows, columns = op.member_in + (1 if op.bias >= 0 else 0), op.member_out
    return (rows + TILE_ROWS - 1) // TILE_ROWS * ((columns + TILE_COLUMNS - 1) // TILE_COLUMNS)


@device
def _gemm(ctx, result, a, b, shape, worker, workers):
    """This worker's tiles of the m × n product a b of depth k, with shape = (m, n, k)."""
    m, n, depth = shape
    sums = cuda.local.array(CELLS, a.array.dtype)
    warp, lane, warps = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP, cuda.blockDim.x // WARP
    across = (n + TILE_COLUMNS - 1) // TILE_COLUMNS
    tiles = (m + TILE_ROWS - 1) // TILE_ROWS * across
    slices = _split_k(tiles, depth, warps, workers)
    at_once, (which, slice_) = divide(warps, slices)[0], divide(warp, slices)
    first_k, last_k = divide(depth * slice_, slices)[0], divide(depth * (slice_ + 1), slices)[0]
    for first_tile in range(worker * at_once, tiles, workers * at_once):
        tile = first_tile + which
        down, right = divide(tile, across)
        row = down * TILE_ROWS + lane // LANES_ACROSS * ROWS
        column = right * TILE_COLUMNS + lane % LANES_ACROSS
        if tile < tiles:
            limit = result.op.member_in if result.kind == WEIGHT else m
            _accumulate(result.kind, sums, a, b, (row, column), (limit, n), (first_k, last_k))
            for cell in range(CELLS):
                ctx.tiles[at((warp * CELLS + cell) * WARP + lane)] = sums[cell]
        if slices > 1:
            cuda.syncthreads()
        if tile < tiles:
            for cell in range(slice_, CELLS, slices):
                r, c = row + cell // COLUMNS, column + cell % COLUMNS * LANES_ACROSS
                total = _reduce_split_k(ctx.tiles, which * slices, slices, cell, lane)
                if r < m and c < n:
                    store(ctx, result, r, c, total)
        if slices > 1:
            cuda.syncthreads()  # before the next tile overwrites the partial results


@device
def _split_k(tiles, depth, warps, workers):
    """In how many slices of the depth the warps of a block share a tile: a power of two."""
    slices = 1
    while (
        slices * 2 <= warps
        and tiles * slices * 2 <= warps * workers
        and slices * 2 * MIN_SLICE <= depth
    ):
        slices *= 2
    return slices


@device
def _reduce_split_k(partials, first, slices, cell, lane):
    """The sum of a cell over the slices, which are those of warps ``first`` and following."""
    total = partials[(first * CELLS + cell) * WARP + lane]
    for other in range(1, slices):
        total += partials[((first + other) * CELLS + cell) * WARP + lane]
    return total


@device
def _accumulate(kind, sums, a, b, corner, limits, depths):
    """The sums of one thread over a range of the depth.

    ``corner`` is the thread's first row and column. Beyond ``limits`` it reads the last row or
    column, for sums that nobody stores. Several steps of the depth are read at a time, as a read
    from the second-level cache takes as long as a hundred multiplications.
    """
    x = cuda.local.array(ROW_FRAGMENT, a.array.dtype)
    y = cuda.local.array(COLUMN_FRAGMENT, a.array.dtype)
    (row, column), (m, n), (first, last) = corner, limits, depths
    for cell in range(CELLS):
        sums[cell] = a.array.dtype.type(0)
    whole = first + (last - first) // UNROLLED * UNROLLED
    for start in range(first, whole, UNROLLED):
        for k in range(UNROLLED):
            _read_rows(kind, x, k * ROWS, a, start + k, row, m)
            _read_columns(y, k * COLUMNS, b, start + k, column, n)
        for k in range(UNROLLED):
            for i in range(ROWS):
                for j in range(COLUMNS):
                    sums[i * COLUMNS + j] += x[k * ROWS + i] * y[k * COLUMNS + j]
    for k in range(whole, last):
        _read_rows(kind, x, 0, a, k, row, m)
        _read_columns(y, 0, b, k, column, n)
        for i in range(ROWS):
            for j in range(COLUMNS):
                sums[i * COLUMNS + j] += x[i] * y[j]


@device
def _read_rows(kind, x, start, a, k, row, m):
    """The thread's rows of column k of a; the bias is the weight of a feature that is 1."""
    for i in range(ROWS):
        place = a.offset + min(row + i, m - 1) * a.row_stride + k * a.column_stride
        x[start + i] = a.array[at(place)]
        if kind == WEIGHT and row + i == m:
            x[start + i] = a.array.dtype.type(1)


@device
def _read_columns(y, start, b, k, column, n):
    """The thread's columns of row k of b."""
    for j in range(COLUMNS):
        place = (
            b.offset + k * b.row_stride + min(column + j * LANES_ACROSS, n - 1) * b.column_stride
        )
        y[start + j] = b.array[at(place)]


@device
def store(ctx, result, r, c, total):
    """The epilogue of result (r, c)."""
    op, kind = result.op, result.kind
    if kind == FORWARD:
        z = op.factor * total
        if op.bias >= 0:
            z += ctx.theta[op.bias + c]
        row, column = result.first_row + r, c
        if op.members > 1:
            row, member = divide(row, op.members)
            column += member * op.member_out
        epilogue(ctx, op, row, column, z, result.step)
    elif kind == INPUT:
        element = (result.first_row + r) * op.member_in + c
        store_input_gradient(ctx, op, element, op.factor * total)
    else:
        weight_epilogue(ctx, result, r, c, total)


@device
def weight_epilogue(ctx, result, r, c, g):
    """Penalties, then the update with the gradient g of element (r, c) of the weight, or its store.

    Row member_in is the bias.
    """
    op, optimizer = result.op, result.optimizer
    is_bias = r == op.member_in
    p = op.bias + c if is_bias else op.weight + r * op.member_out + c
    if not is_bias:
        g *= op.factor
        if op.l1 > 0 or op.l2 > 0:
            w = ctx.theta[p]
            g += op.l2 * w + (op.l1 if w > 0 else -op.l1 if w < 0 else w)
    if result.fused:
        rate = op.bias_rate if is_bias else op.weight_rate
        decay = 0.0 if is_bias else optimizer.weight_decay * op.weight_decay
        update.update(ctx, optimizer, p, update.clip(optimizer, g), rate, decay)
    else:
        ctx.gradient[p] = g
