"""Statistics of a step: what `opcodes.DELTA` to `opcodes.SATURATED` name, a worker's part of each
sum; the host adds up the parts.

They are taken of few steps, so each sum simply goes over what lies in memory, in float64, as
squares of vanishing gradients underflow otherwise.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels import philox
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, block_sum, lane_sum, share
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

_FROM_0, _FROM_MINUS_1 = oc.SATURATES[oc.SIGMOID], oc.SATURATES[oc.TANH]


@device
def own_row(frame, record, index, worker, workers):
    """Where in ``statistics`` this worker's sums of an operation begin."""
    return ((record * workers + worker) * len(frame.ops) + index) * oc.N_STATISTICS


@device
def values(frame, op, own, batch, step, worker, workers):
    """Sums over what an operation puts out and what comes back to it, for this worker's share of
    units and elements.
    """
    total, squares, saturated = _moments(frame, op, batch, step, worker, workers)
    delta, dead = _units(frame, op, batch, worker, workers)
    total, squares, saturated = (
        block_sum(frame, total),
        block_sum(frame, squares),
        block_sum(frame, saturated),
    )
    delta, dead = block_sum(frame, delta), block_sum(frame, dead)
    if cuda.threadIdx.x == 0:
        frame.statistics[own + oc.VALUES], frame.statistics[own + oc.SQUARES] = total, squares
        (
            frame.statistics[own + oc.SATURATED],
            frame.statistics[own + oc.DELTA],
            frame.statistics[own + oc.DEAD],
        ) = saturated, delta, dead


@device
def _moments(frame, op, batch, step, worker, workers):
    """This thread's parts of Σ y, Σ y² and of the count of saturated values."""
    n, y0, count = op.n_out, op.y, 0.0
    drops = op.threshold > 0
    from_0 = op.activation == oc.SIGMOID or op.activation == oc.HARD_SIGMOID
    from_minus_1 = (
        op.activation == oc.TANH or op.activation == oc.HARD_TANH or op.activation == oc.SOFTSIGN
    )
    low, high = _FROM_0 if from_0 else _FROM_MINUS_1
    first, last = share(batch * n, worker, workers)
    total, squares = 0.0, 0.0
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        y = np.float64(frame.work[y0 + e])
        total += y
        squares += y * y
        if from_0 or from_minus_1:
            kept = True
            if drops:
                kept = philox.is_kept(
                    op.threshold,
                    e // n,
                    e % n,
                    n,
                    frame.control[fr.SEED],
                    oc.STREAM_MASK + op.stream,
                    step,
                )
                y /= np.float64(op.kept)
            if kept and (y < low or y > high):
                count += 1.0
    return total, squares, count


@device
def _units(frame, op, batch, worker, workers):
    """Σ over units of (Σ δ)², where there is a weight, and the count of ReLU's dead units: parts of
    the threads of the first warp.
    """
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    n, start, delta, dead = op.n_out, op.y, 0.0, 0.0
    for first in range(worker * WARP, n, workers * WARP):
        c, total, above = min(first + lane, n - 1), 0.0, 0.0
        for r in range(warp, batch, warps):
            above += 1.0 if frame.work[start + r * n + c] > 0 else 0.0
            if op.weight >= 0:
                total += np.float64(frame.d_work[start + r * n + c])
        total, above = lane_sum(frame.doubles, total), lane_sum(frame.doubles, above)
        if warp == 0 and first + lane < n:
            delta += total * total
            dead += 1.0 if op.activation == oc.RELU and above == 0 else 0.0
    return delta, dead
