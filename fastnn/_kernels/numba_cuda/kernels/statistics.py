"""Statistics of a step: what `opcodes.DELTA` to `opcodes.SATURATED` name.

Each worker has a part of each sum, and the host adds up the parts. They are taken of few steps, so
each sum goes over what lies in memory. Sums are in float64, as squares of vanishing gradients would
underflow otherwise.
"""

import math

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import control, philox
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, block_range, block_sum, sum_over_warps
from fastnn._kernels.numba_cuda.kernels.records import dropout_at
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def own_row(ctx, record, index, worker, workers):
    """Where in ``statistics`` this worker's sums of an operation begin."""
    return ((record * workers + worker) * len(ctx.ops) + index) * oc.N_STATISTICS


@device
def values(ctx, op, own, batch, step, worker, workers):
    """Sums over an operation's outputs and δ, for this worker's range of units and elements."""
    total, squares, saturated = _moments(ctx, op, batch, step, worker, workers)
    delta, dead = _units(ctx, op, batch, worker, workers)
    total, squares = block_sum(ctx, total), block_sum(ctx, squares)
    saturated = block_sum(ctx, saturated)
    delta, dead = block_sum(ctx, delta), block_sum(ctx, dead)
    if cuda.threadIdx.x == 0:
        ctx.statistics[own + oc.VALUES] = total
        ctx.statistics[own + oc.SQUARES] = squares
        ctx.statistics[own + oc.SATURATED] = saturated
        ctx.statistics[own + oc.DELTA] = delta
        ctx.statistics[own + oc.DEAD] = dead


@device
def _moments(ctx, op, batch, step, worker, workers):
    """This thread's parts of Σ y, Σ y² and of the count of saturated values."""
    n, y0, count = op.n_out, op.y, 0.0
    first, last = block_range(batch * n, worker, workers)
    total, squares = 0.0, 0.0
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        y = np.float64(ctx.work[y0 + e])
        total += y
        squares += y * y
        if op.high < math.inf:
            kept = True
            if op.threshold > 0:
                seed, stream = ctx.control[control.SEED], oc.STREAM_MASK + op.stream
                threshold, factor = dropout_at(ctx, op, step)
                kept = philox.is_kept(threshold, e // n, e % n, n, seed, stream, step)
                y /= np.float64(factor)
            if kept and (y < op.low or y > op.high):
                count += 1.0
    return total, squares, count


@device
def _units(ctx, op, batch, worker, workers):
    """Σ over units of (Σ δ)², where there is a weight, and the count of ReLU's dead units.

    Both are parts of the threads of the first warp.
    """
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    n, start, delta, dead = op.n_out, op.y, 0.0, 0.0
    for first in range(worker * WARP, n, workers * WARP):
        c, total, above = min(first + lane, n - 1), 0.0, 0.0
        for r in range(warp, batch, warps):
            above += 1.0 if ctx.work[start + r * n + c] > 0 else 0.0
            if op.weight >= 0:
                total += np.float64(ctx.d_work[start + r * n + c])
        total, above = sum_over_warps(ctx.doubles, total), sum_over_warps(ctx.doubles, above)
        if warp == 0 and first + lane < n:
            delta += total * total
            dead += 1.0 if op.activation == oc.RELU and above == 0 else 0.0
    return delta, dead
