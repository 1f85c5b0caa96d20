"""Statistics of a step: this thread's part of the sums from `opcodes.DELTA` to `opcodes.SATURATED`.

``sums`` is the row of one operation as an array (1, N_STATISTICS), or (0, N_STATISTICS) where the
step is not recorded. Long sums are taken in the network's dtype, `SUM_BLOCK` elements at a time,
which is several times faster than in float64. They are taken again in float64 where squares
underflow or overflow, as those of vanishing or exploding gradients do.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise
from fastnn._kernels.numba_cpu.barrier import partition
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.kernel_context import dropout_rate
from fastnn._kernels.numba_cpu.views import matrix, segment
from fastnn._kernels.tables import ACTIVATIONS

# By code of the activation; where nothing saturates, no value lies outside the bounds.
_BOUNDS = [row.saturation or (-np.inf, np.inf) for row in ACTIVATIONS.values()]
_LOW, _HIGH = tuple(low for low, _ in _BOUNDS), tuple(high for _, high in _BOUNDS)
# sums of squares between these lost nothing in float32
_SAFE_SQUARES = 1e-25, 1e35


@inline
def block_scratch(ctx, n):
    """Room of this thread for n ≤ oc.SUM_BLOCK elements."""
    per_thread = len(ctx.stats_scratch) // ctx.n_threads
    return segment(ctx.stats_scratch, (ctx.rank + 1) * per_thread - oc.SUM_BLOCK, n)


@inline
def _peaks(ctx, op, rank):
    """The largest output of each unit among the rows of thread ``rank``, or 0."""
    return segment(
        ctx.stats_scratch, rank * (len(ctx.stats_scratch) // ctx.n_threads) + op.y, op.n_out
    )


@kernel
def values(ctx, statistics, step, first_row, n_rows):
    """Sums over what each operation puts out for the rows of this thread."""
    for i in range(len(statistics)):
        op = ctx.ops[i]
        first, n = op.y * ctx.capacity + first_row * op.n_out, n_rows * op.n_out
        y = segment(ctx.work, first, n)
        # left there by the epilogue
        drops = ctx.training and op.rate > 0
        masks = segment(ctx.d_work, first, n if drops else 0)
        _add_moments(statistics[i : i + 1], y)
        if op.activation == oc.RELU:
            _record_peaks(matrix(ctx.work, first, n_rows, op.n_out), _peaks(ctx, op, ctx.rank))
        elif _LOW[op.activation] > -np.inf:
            bounds = _LOW[op.activation], _HIGH[op.activation]
            kept = 1.0 - dropout_rate(ctx, op, step) if drops else 1.0
            statistics[i, oc.SATURATED] += _count_outside(y, bounds, masks, kept)


@kernel
def _add_moments(sums, y):
    """Sums about one of the values: about 0 rounding would hide a small variance.

    All values are nearly the same where all units are saturated.
    """
    if len(y) > 0:
        total, squares = _moments(y, y[0])
        shift = np.float64(y[0])
        sums[0, oc.VALUES] += total + len(y) * shift
        sums[0, oc.SQUARES] += squares + 2 * shift * total + len(y) * shift * shift


@inline
def _record_peaks(y, peaks):
    peaks[:] = 0
    whole = len(y) // 4 * 4
    # four rows at a time: the next would wait for the peaks of the one before
    for r in range(0, whole, 4):
        for c in range(len(peaks)):
            peaks[c] = max(peaks[c], max(max(y[r, c], y[r + 1, c]), max(y[r + 2, c], y[r + 3, c])))
    for r in range(whole, len(y)):
        for c in range(len(peaks)):
            peaks[c] = max(peaks[c], y[r, c])


@kernel
def _count_outside(y, bounds, masks, kept):
    """How many of y = f(z) · m, of those that dropout keeps, have f(z) outside the bounds.

    ``kept`` is the share that dropout keeps. Without dropout there are no masks.
    """
    low, high = y.dtype.type(bounds[0] / kept), y.dtype.type(bounds[1] / kept)
    count = 0
    for i in range(len(y)):
        count += y[i] < low or y[i] > high
    if low > 0:  # then 0 is outside, be it f(z) or dropped
        for i in range(len(masks)):
            count -= masks[i] == 0
    return count


@inline
def dead_units(ctx, op, sums):
    """Count ReLU's dead units in this thread's share of the columns.

    All threads have recorded their peaks before.
    """
    if op.activation == oc.RELU:
        first, last = partition(op.n_out, ctx.rank, ctx.n_threads)
        for c in range(first, last):
            alive = False
            for rank in range(ctx.n_threads):
                alive |= _peaks(ctx, op, rank)[c] > 0
            sums[0, oc.DEAD] += 0 if alive else 1


@kernel
def delta(sums, g):
    """g = Σ δ of units of this thread's share: the gradient of their biases."""
    sums[0, oc.DELTA] += _moments(g, g.dtype.type(0))[1]


@kernel
def delta_of_units(ctx, op, batch, sums):
    """The same where there is no bias to have a gradient."""
    first, last = partition(op.n_out, ctx.rank, ctx.n_threads)
    for column in range(first, last, oc.SUM_BLOCK):
        g = block_scratch(ctx, min(oc.SUM_BLOCK, last - column))
        elementwise.sum_of_rows(
            segment(ctx.d_work, op.y * ctx.capacity, batch * op.n_out), op.n_out, column, g
        )
        delta(sums, g)


@kernel
def gradient(sums, g):
    """Part of a weight's gradient, before clipping."""
    sums[0, oc.GRADIENT] += _moments(g, g.dtype.type(0))[1]


@kernel
def weight(sums, w):
    """Part of a weight that is not updated; an update returns this sum."""
    sums[0, oc.WEIGHT] += _moments(w, w.dtype.type(0))[1]


@kernel
def update(sums, squares, moved, before, after):
    """An update's Σ w² before it and Σ (Δw)², taken again in float64 where they are not exact."""
    if not _is_exact(squares):
        squares = _moments(before, before.dtype.type(0))[1]
    if not _is_exact(moved):
        moved = 0.0
        for i in range(len(before)):
            difference = np.float64(after[i]) - np.float64(before[i])
            moved += difference * difference
    sums[0, oc.WEIGHT] += squares
    sums[0, oc.UPDATE] += moved


@inline
def _is_exact(squares):
    """Whether a sum of squares lost nothing to underflow or overflow in float32."""
    return _SAFE_SQUARES[0] < squares < _SAFE_SQUARES[1]


@kernel
def _moments(values, shift):
    """Σ (v − shift) and Σ (v − shift)²."""
    total, squares = 0.0, 0.0
    for first in range(0, len(values), oc.SUM_BLOCK):
        part = segment(values, first, min(oc.SUM_BLOCK, len(values) - first))
        a, b = part.dtype.type(0), part.dtype.type(0)
        for i in range(len(part)):
            a += part[i] - shift
            b += (part[i] - shift) * (part[i] - shift)
        if _is_exact(b):
            total += a
            squares += b
        else:
            for i in range(len(part)):
                v = np.float64(part[i]) - np.float64(shift)
                total += v
                squares += v * v
    return total, squares
