"""What a step learns: the gradient of every parameter over the whole mini-batch, and its update.

Blocks share the tiles of each weight. Mostly a gradient is used up by the optimiser in the
registers where it was summed (*fused*). Only where something wants the whole gradient first
(clipping by global norm, statistics, or a user) is it stored, and `apply` goes over it after a
meeting.
"""

import math

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels import gemm_small, norm, update
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, block_sum, divide, share
from fastnn._kernels.numba_cuda.kernels.records import operation, rule_at
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def is_recorded(frame, k):
    """Whether statistics are taken of the chunk's step k."""
    every = frame.control[fr.EVERY]
    return every > 0 and (frame.control[fr.STEP] + k) % every == 0


@device
def is_fused(frame, k):
    """Whether step k updates with a gradient as soon as it is known."""
    rule = frame.rule[0]
    return rule.code != oc.NO_UPDATE and rule.clip_norm == 0 and not is_recorded(frame, k)


@device
def gradients_of(frame, op, batch, k, fused, worker, workers):
    """The gradient of one operation's parameters, or at once their update."""
    if op.code == oc.DENSE:
        gemm_small.weight_gradient(frame, op, batch, rule_at(frame, k), fused, worker, workers)
    elif op.weight >= 0:
        lane, warp, rule = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, rule_at(frame, k)
        for first in range(worker * WARP, op.n_out, workers * WARP):
            c = min(first + lane, op.n_out - 1)
            if op.code == oc.LAYER_NORM:
                d_shift, d_scale = norm.layer_sums(frame, op, batch, c)
            else:
                d_shift = frame.scratch[op.column_stats + norm.SUM * op.n_out + c]
                d_scale = frame.scratch[op.column_stats + norm.PRODUCT * op.n_out + c]
            if warp == 0 and first + lane < op.n_out:
                _take(frame, op.weight + c, d_scale, rule, fused)
                _take(frame, op.bias + c, d_shift, rule, fused)


@device
def all_gradients(frame, batch, k, fused, worker, workers):
    """`gradients_of` every operation. The first block to get a tile of one comes after the last to
    get a tile of the one before.
    """
    used = 0
    for i in range(len(frame.ops)):
        op = operation(frame, i)
        if op.weight >= 0:
            _, turn = divide(worker + workers - divide(used, workers)[1], workers)
            gradients_of(frame, op, batch, k, fused, turn, workers)
            used += (
                gemm_small.weight_tiles(op)
                if op.code == oc.DENSE
                else (op.n_out + WARP - 1) // WARP
            )


@device
def _take(frame, p, g, rule, fused):
    if fused:
        update.update(frame, rule, p, update.clip(rule, g), 0.0)
    else:
        frame.gradient[p] = g


@device
def sum_of_squares(frame, worker, workers):
    """This worker's part of Σ g², clipped by value, goes to ``sums``; the padding of the gradient
    is 0.
    """
    first, last = share(len(frame.gradient), worker, workers)
    total, rule = 0.0, rule_at(frame, 0)
    for p in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = np.float64(update.clip(rule, frame.gradient[p]))
        total += g * g
    total = block_sum(frame, total)
    if cuda.threadIdx.x == 0:
        frame.sums[2 * workers + worker] = total


@device
def clipping_factor(frame, workers):
    """What clipping by global norm multiplies the gradient by."""
    limit, total = frame.rule[0].clip_norm, 0.0
    if limit == 0:
        return 1.0
    for i in range(cuda.threadIdx.x, workers, cuda.blockDim.x):
        total += frame.sums[2 * workers + i]
    length = math.sqrt(block_sum(frame, total))
    if length > 0 and limit / length < 1.0:
        return limit / length
    return 1.0 if length >= 0 else length  # NaN


@device
def apply(frame, op, own, recorded, k, factor, worker, workers):
    """Update this worker's share of one operation's parameters with the stored gradient; if
    ``recorded`` its statistics go to ``own``.

    With the rule NO_UPDATE there are only statistics to take.
    """
    if op.weight < 0:
        return
    is_dense = op.code == oc.DENSE
    n_weights = op.n_in * op.n_out if is_dense else op.n_out
    decay = frame.rule[0].weight_decay if is_dense else 0.0
    first, last = share(n_weights, worker, workers)
    gradients, weights, moved = _apply_range(
        frame, op.weight + first, op.weight + last, k, factor, decay
    )
    if op.bias >= 0:
        first, last = share(op.n_out, worker, workers)
        _apply_range(frame, op.bias + first, op.bias + last, k, factor, 0.0)
    if recorded:
        gradients, weights, moved = (
            block_sum(frame, gradients),
            block_sum(frame, weights),
            block_sum(frame, moved),
        )
        if cuda.threadIdx.x == 0:
            frame.statistics[own + oc.GRADIENT], frame.statistics[own + oc.WEIGHT] = (
                gradients,
                weights,
            )
            frame.statistics[own + oc.UPDATE] = moved


@device
def _apply_range(frame, first, last, k, factor, decay):
    """Σ g² before clipping, Σ w² before the update and Σ (Δw)² of this thread's parameters."""
    rule, gradients, weights, moved = rule_at(frame, k), 0.0, 0.0, 0.0
    for p in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = frame.gradient[p]
        old, new = frame.theta[p], frame.theta[p]
        if rule.code != oc.NO_UPDATE:
            old, new = update.update(frame, rule, p, update.clip(rule, g) * type(g)(factor), decay)
        gradients += np.float64(g) * np.float64(g)
        weights += np.float64(old) * np.float64(old)
        moved += (np.float64(new) - np.float64(old)) * (np.float64(new) - np.float64(old))
    return gradients, weights, moved


@device
def constrain(frame, op, worker, workers):
    """Scale this worker's columns of a weight down to Euclidean norm ``max_norm`` where they are
    longer; a thread takes a column.
    """
    if op.max_norm > 0:
        first, last = share(op.n_out, worker, workers)
        for c in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
            total = 0.0
            for r in range(op.n_in):
                w = np.float64(frame.home[op.weight + r * op.n_out + c])
                total += w * w
            if total > op.max_norm * op.max_norm:
                factor = frame.home.dtype.type(op.max_norm / math.sqrt(total))
                for r in range(op.n_in):
                    frame.home[op.weight + r * op.n_out + c] *= factor
