"""The gradient of every parameter over the whole mini-batch, and its update.

Blocks divide the tiles of each weight among themselves. Mostly the optimiser uses a gradient up in
the registers where it was summed: the update is *fused*. Where something needs the whole gradient
first (clipping by global norm, statistics, or a user), it is stored, and `apply_update` goes over
it after a grid barrier.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.elementary import scaled_square
from fastnn._kernels.numba_cuda.kernels import (
    columns,
    control,
    embedding,
    ensemble,
    feature_dense,
    gemm_small,
    norm,
    periodic,
    piecewise,
    update,
)
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, block_range, block_sum, divide
from fastnn._kernels.numba_cuda.kernels.records import operation, optimizer_at
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

_LARGEST = float(np.finfo(np.float64).max)


class StoredUpdate(NamedTuple):
    """What an update with the stored gradient needs to know."""

    k: Any  # the chunk's step
    factor: Any  # float64 that the gradient is multiplied by: clipping by global norm
    recorded: Any  # whether statistics are taken
    own: Any  # where in ``statistics`` they go


@device
def is_recorded(ctx, k):
    """Whether statistics are taken of the chunk's step k."""
    every = ctx.control[control.EVERY]
    return every > 0 and (ctx.control[control.STEP] + k) % every == 0


@device
def is_fused(ctx, k):
    """Whether step k updates a parameter as soon as its gradient is summed."""
    record = ctx.optimizer[0]
    return record.code != oc.NO_UPDATE and record.clip_norm == 0 and not is_recorded(ctx, k)


@device
def operation_gradient(ctx, op, batch, k, fused, worker, workers):
    """The gradient of one operation's parameters, or at once their update."""
    if op.code == oc.DENSE:
        optimizer = optimizer_at(ctx, k)
        gemm_small.weight_gradient(ctx, op, batch, optimizer, fused, worker, workers)
    elif op.code == oc.EMBEDDING:
        _table_gradient(ctx, op, batch, k, fused, worker, workers)
    elif op.code == oc.PIECEWISE:
        _map_gradient(ctx, op, batch, k, fused, worker, workers)
    elif op.code == oc.PERIODIC:
        _angle_gradients(ctx, op, batch, k, fused, worker, workers)
    elif op.code == oc.FEATURE_DENSE:
        _feature_gradients(ctx, op, batch, k, fused, worker, workers)
    elif op.code == oc.HEADS:
        _heads_gradient(ctx, op, batch, k, fused, worker, workers)
    elif op.weight >= 0:
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        optimizer = optimizer_at(ctx, k)
        for first in range(worker * WARP, op.n_out, workers * WARP):
            c, d_shift = min(first + lane, op.n_out - 1), ctx.work.dtype.type(0)
            if op.code == oc.SCALE or op.code == oc.PARAMETRIC:
                d_scale = columns.column_sum(ctx, op, batch, c)
            elif op.code == oc.MEMBER_SCALE:
                d_shift, d_scale = ensemble.column_sums(ctx, op, batch, c)
            elif op.code == oc.LAYER_NORM:
                d_shift, d_scale = norm.layer_sums(ctx, op, batch, c)
            else:
                d_shift = ctx.scratch[op.column_stats + norm.SUM * op.n_out + c]
                d_scale = ctx.scratch[op.column_stats + norm.PRODUCT * op.n_out + c]
            if warp == 0 and first + lane < op.n_out:
                _apply_or_store(ctx, op, op.weight + c, d_scale, optimizer, fused)
                if op.bias >= 0:
                    _apply_or_store(ctx, op, op.bias + c, d_shift, optimizer, fused)


@device
def _table_gradient(ctx, op, batch, k, fused, worker, workers):
    """The gradient of this thread's warp's rows of the tables, or at once their update."""
    optimizer, lane = optimizer_at(ctx, k), cuda.threadIdx.x % WARP
    first, last = embedding.own_elements(ctx, op, worker, workers)
    embedding.gradient(ctx, op, batch, first, last)
    if fused:
        for row in range(first, last, op.size):
            for column in range(lane, op.size, WARP):
                p = op.weight + row + column
                _apply_or_store(ctx, op, p, ctx.gradient[p], optimizer, fused)


@device
def _map_gradient(ctx, op, batch, k, fused, worker, workers):
    """The gradient of this block's elements of the maps and of their bias, or their update."""
    optimizer = optimizer_at(ctx, k)
    first, last = piecewise.own_elements(op, worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = piecewise.map_gradient(ctx, op, batch, e)
        _apply_or_store(ctx, op, op.weight + e, g, optimizer, fused)
    first, last = block_range(op.features * op.size, worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = piecewise.bias_gradient(ctx, op, batch, e)
        _apply_or_store(ctx, op, op.bias + e, g, optimizer, fused)


@device
def _angle_gradients(ctx, op, batch, k, fused, worker, workers):
    """The gradient of this block's frequencies and phases, or their update."""
    optimizer = optimizer_at(ctx, k)
    first, last = block_range(periodic.n_angles(op), worker, workers)
    for angle in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        d_frequency, d_phase = periodic.angle_gradients(ctx, op, batch, angle)
        _apply_or_store(ctx, op, op.weight + angle, d_frequency, optimizer, fused)
        if op.bias >= 0:
            _apply_or_store(ctx, op, op.bias + angle, d_phase, optimizer, fused)


@device
def _feature_gradients(ctx, op, batch, k, fused, worker, workers):
    """The gradient of this block's elements of W and b of FEATURE_DENSE, or their update."""
    optimizer = optimizer_at(ctx, k)
    first, last = block_range(feature_dense.n_weights(op), worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = feature_dense.map_gradient(ctx, op, batch, e)
        _apply_or_store(ctx, op, op.weight + e, g, optimizer, fused)
    first, last = block_range(feature_dense.bias_length(op), worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = feature_dense.bias_gradient(ctx, op, batch, e)
        _apply_or_store(ctx, op, op.bias + e, g, optimizer, fused)


@device
def _heads_gradient(ctx, op, batch, k, fused, worker, workers):
    """The same of the members' own weights and biases."""
    optimizer = optimizer_at(ctx, k)
    first, last = block_range(op.n_in * op.member_out, worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = ensemble.weight_gradient(ctx, op, batch, e)
        _apply_or_store(ctx, op, op.weight + e, g, optimizer, fused)
    if op.bias >= 0:
        first, last = block_range(op.n_out, worker, workers)
        for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
            g = piecewise.bias_gradient(ctx, op, batch, e)
            _apply_or_store(ctx, op, op.bias + e, g, optimizer, fused)


@device
def all_gradients(ctx, batch, k, fused, worker, workers):
    """`operation_gradient` of every operation.

    The first tile of an operation goes to the block after the one that has the last tile of the
    operation before, so that all blocks have equally many.
    """
    used = 0
    for i in range(len(ctx.ops)):
        op = operation(ctx, i)
        if op.weight >= 0:
            _, turn = divide(worker + workers - divide(used, workers)[1], workers)
            operation_gradient(ctx, op, batch, k, fused, turn, workers)
            used += (
                gemm_small.weight_tiles(op)
                if op.code == oc.DENSE
                else (op.n_out + WARP - 1) // WARP
            )


@device
def _apply_or_store(ctx, op, p, g, optimizer, fused):
    """Update parameter p, which is none of a product, with gradient g, or store g."""
    if fused:
        is_bias = op.bias >= 0 and p >= op.bias
        rate = op.bias_rate if is_bias else op.weight_rate
        decay = optimizer.weight_decay * (op.bias_decay if is_bias else op.weight_decay)
        update.update(ctx, optimizer, p, update.clip(optimizer, g), rate, decay)
    else:
        ctx.gradient[p] = g


@device
def sum_of_squares(ctx, worker, workers):
    """This worker's part of Σ g², clipped by value, to ``sums``; the gradient's padding is 0."""
    first, last = block_range(len(ctx.gradient), worker, workers)
    total, optimizer = 0.0, optimizer_at(ctx, 0)
    for p in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = np.float64(update.clip(optimizer, ctx.gradient[p]))
        total += g * g
    total = block_sum(ctx, total)
    if cuda.threadIdx.x == 0:
        ctx.sums[2 * workers + worker] = total


@device
def clipping_factor(ctx, workers):
    """What clipping by global norm multiplies the gradient by."""
    limit, total = ctx.optimizer[0].clip_norm, 0.0
    if limit == 0:
        return 1.0
    for i in range(cuda.threadIdx.x, workers, cuda.blockDim.x):
        total += ctx.sums[2 * workers + i]
    length = math.sqrt(block_sum(ctx, total))
    if length == math.inf:
        length = _scaled_norm(ctx)
    if length > 0 and limit / length < 1.0:
        return limit / length
    return 1.0 if length >= 0 else length  # NaN


@device
def _scaled_norm(ctx):
    """‖g‖ where Σ g² overflows, by each block alone; of one beyond the numbers, the largest."""
    total, optimizer = 0.0, optimizer_at(ctx, 0)
    for p in range(cuda.threadIdx.x, len(ctx.gradient), cuda.blockDim.x):
        total += scaled_square(np.float64(update.clip(optimizer, ctx.gradient[p])))
    return min(math.sqrt(block_sum(ctx, total)) * 2.0**600, _LARGEST)


@device
def _lengths(op):
    """Numbers of an operation's weight, and of its bias if it has one."""
    if op.code == oc.DENSE:
        return op.member_in * op.member_out, op.member_out
    if op.code == oc.HEADS:
        return op.n_in * op.member_out, op.n_out
    if op.code == oc.EMBEDDING:
        return op.rows * op.size, 0
    if op.code == oc.PIECEWISE:
        return op.features * (op.bins + 1) * op.size, op.features * op.size
    if op.code == oc.PERIODIC:
        return periodic.n_angles(op), periodic.n_angles(op)
    if op.code == oc.FEATURE_DENSE:
        return feature_dense.n_weights(op), feature_dense.bias_length(op)
    return op.n_out, op.n_out


@device
def apply_update(ctx, op, stored, worker, workers):
    """Update this worker's part of one operation's parameters with the stored gradient.

    Where the step is recorded, their statistics are taken too. With the optimiser NO_UPDATE there
    are only statistics to take.
    """
    if op.weight < 0:
        return
    n_weights, n_bias = _lengths(op)
    decay = optimizer_at(ctx, stored.k).weight_decay * op.weight_decay
    first, last = block_range(n_weights, worker, workers)
    gradients, weights, moved = _apply_range(
        ctx, op.weight + first, op.weight + last, stored, op.weight_rate, decay
    )
    if op.bias >= 0:
        first, last = block_range(n_bias, worker, workers)
        decay = optimizer_at(ctx, stored.k).weight_decay * op.bias_decay
        _apply_range(ctx, op.bias + first, op.bias + last, stored, op.bias_rate, decay)
    if stored.recorded:
        gradients, weights = block_sum(ctx, gradients), block_sum(ctx, weights)
        moved = block_sum(ctx, moved)
        if cuda.threadIdx.x == 0:
            ctx.statistics[stored.own + oc.GRADIENT] = gradients
            ctx.statistics[stored.own + oc.WEIGHT] = weights
            ctx.statistics[stored.own + oc.UPDATE] = moved


@device
def _apply_range(ctx, first, last, stored, rate, decay):
    """Σ g² before clipping, Σ w² before the update and Σ (Δw)² of this thread's parameters."""
    optimizer, gradients, weights, moved = optimizer_at(ctx, stored.k), 0.0, 0.0, 0.0
    for p in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = ctx.gradient[p]
        old, new = ctx.theta[p], ctx.theta[p]
        if optimizer.code != oc.NO_UPDATE:
            clipped = update.clip(optimizer, g) * type(g)(stored.factor)
            old, new = update.update(ctx, optimizer, p, clipped, rate, decay)
        gradients += np.float64(g) * np.float64(g)
        weights += np.float64(old) * np.float64(old)
        moved += (np.float64(new) - np.float64(old)) * (np.float64(new) - np.float64(old))
    return gradients, weights, moved


@device
def constrain(ctx, op, worker, workers):
    """Scale this worker's columns of a weight down to Euclidean norm ``max_norm`` if longer.

    A thread takes a column.
    """
    if op.max_norm > 0:
        first, last = block_range(op.member_out, worker, workers)
        for c in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
            total = 0.0
            for r in range(op.member_in):
                w = np.float64(ctx.theta_out[op.weight + r * op.member_out + c])
                total += w * w
            if total > op.max_norm * op.max_norm:
                length = math.sqrt(total)
                if length == math.inf:
                    length = _scaled_column_norm(ctx, op, c)
                factor = ctx.theta_out.dtype.type(op.max_norm / length)
                for r in range(op.member_in):
                    ctx.theta_out[op.weight + r * op.member_out + c] *= factor


@device
def _scaled_column_norm(ctx, op, c):
    """‖w‖ of a column whose Σ w² overflows."""
    total = 0.0
    for r in range(op.member_in):
        total += scaled_square(np.float64(ctx.theta_out[op.weight + r * op.member_out + c]))
    return min(math.sqrt(total) * 2.0**600, _LARGEST)
