"""Statistics of a step: what `opcodes.DELTA` to `opcodes.SATURATED` name, this thread's part of
each sum.

``own`` is the row of sums of one operation as an array (1, N_STATISTICS), or (0, N_STATISTICS)
where nothing is measured. Long sums are taken in the network's dtype a stretch at a time, which is
several times faster than in float64, and again in float64 where squares underflow or overflow, as
those of gradients do that vanish or explode.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise
from fastnn._kernels.numba_cpu.barrier import share
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.views import matrix, segment

_FROM_0, _FROM_MINUS_1 = oc.SATURATES[oc.SIGMOID], oc.SATURATES[oc.TANH]
# sums of squares within these lost nothing to underflow or overflow in float32
_FAITHFUL = 1e-25, 1e35


@inline
def stretch(frame, n):
    """Room of this thread for n ≤ oc.STRETCH elements."""
    per_thread = len(frame.notes) // frame.n_threads
    return segment(frame.notes, (frame.rank + 1) * per_thread - oc.STRETCH, n)


@inline
def _peaks(frame, op, rank):
    """The largest output of each unit among the rows of thread ``rank``, or 0."""
    return segment(frame.notes, rank * (len(frame.notes) // frame.n_threads) + op.y, op.n_out)


@kernel
def values(frame, statistics, first_row, n_rows):
    """Sums over what each operation puts out for the rows of this thread."""
    for i in range(len(statistics)):
        op = frame.ops[i]
        first, n = op.y * frame.capacity + first_row * op.n_out, n_rows * op.n_out
        y = segment(frame.work, first, n)
        # left there by the epilogue
        masks = segment(frame.d_work, first, n if frame.training and op.rate > 0 else 0)
        _add_moments(statistics[i : i + 1], y)
        if op.activation == oc.RELU:
            _note_peaks(matrix(frame.work, first, n_rows, op.n_out), _peaks(frame, op, frame.rank))
        elif op.activation == oc.SIGMOID or op.activation == oc.HARD_SIGMOID:
            statistics[i, oc.SATURATED] += _outside(y, _FROM_0, masks, op.rate)
        elif (
            op.activation == oc.TANH
            or op.activation == oc.HARD_TANH
            or op.activation == oc.SOFTSIGN
        ):
            statistics[i, oc.SATURATED] += _outside(y, _FROM_MINUS_1, masks, op.rate)


@kernel
def _add_moments(own, y):
    """Sums about one of the values: about 0 rounding would hide a small variance, as where all
    units are saturated.
    """
    if len(y) > 0:
        total, squares = _moments(y, y[0])
        shift = np.float64(y[0])
        own[0, oc.VALUES] += total + len(y) * shift
        own[0, oc.SQUARES] += squares + 2 * shift * total + len(y) * shift * shift


@inline
def _note_peaks(y, peaks):
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
def _outside(y, bounds, masks, rate):
    """How many of y = f(z) · m, of those that dropout keeps, have f(z) outside the bounds; without
    dropout there are no masks.
    """
    kept = 1.0 - rate if len(masks) > 0 else 1.0
    low, high = y.dtype.type(bounds[0] / kept), y.dtype.type(bounds[1] / kept)
    count = 0
    for i in range(len(y)):
        count += y[i] < low or y[i] > high
    if low > 0:  # then 0 is outside, be it f(z) or dropped
        for i in range(len(masks)):
            count -= masks[i] == 0
    return count


@inline
def dead_units(frame, op, own):
    """Count ReLU's dead units in this thread's share of the columns, once all threads have noted
    their peaks.
    """
    if op.activation == oc.RELU:
        first, last = share(op.n_out, frame.rank, frame.n_threads)
        for c in range(first, last):
            alive = False
            for rank in range(frame.n_threads):
                alive |= _peaks(frame, op, rank)[c] > 0
            own[0, oc.DEAD] += 0 if alive else 1


@kernel
def delta(own, g):
    """g = Σ δ of units of this thread's share: the gradient of their biases."""
    own[0, oc.DELTA] += _moments(g, g.dtype.type(0))[1]


@kernel
def delta_without_bias(frame, op, batch, own):
    """The same where there is no bias to have a gradient."""
    first, last = share(op.n_out, frame.rank, frame.n_threads)
    for column in range(first, last, oc.STRETCH):
        g = stretch(frame, min(oc.STRETCH, last - column))
        elementwise.sum_of_rows(
            segment(frame.d_work, op.y * frame.capacity, batch * op.n_out), op.n_out, column, g
        )
        delta(own, g)


@kernel
def gradient(own, g):
    """Part of a weight's gradient, before clipping."""
    own[0, oc.GRADIENT] += _moments(g, g.dtype.type(0))[1]


@kernel
def weight(own, w):
    """Part of a weight that is not updated; an update returns this sum."""
    own[0, oc.WEIGHT] += _moments(w, w.dtype.type(0))[1]


@kernel
def _moments(values, shift):
    """Σ (v − shift) and Σ (v − shift)²."""
    total, squares = 0.0, 0.0
    for first in range(0, len(values), oc.STRETCH):
        part = segment(values, first, min(oc.STRETCH, len(values) - first))
        a, b = part.dtype.type(0), part.dtype.type(0)
        for i in range(len(part)):
            a += part[i] - shift
            b += (part[i] - shift) * (part[i] - shift)
        if _FAITHFUL[0] < b < _FAITHFUL[1]:
            total += a
            squares += b
        else:
            for i in range(len(part)):
                v = np.float64(part[i]) - np.float64(shift)
                total += v
                squares += v * v
    return total, squares
