"""The gradient of this thread's share of every parameter array over the mini-batch, and its update.

A weight's gradient is worked through in blocks that stay in the second-level cache: the optimiser
uses each block as soon as it is there. The whole gradient is stored only where something needs all
of it first (clipping by global norm, or a user). Plain SGD never stores it: with α = −η and
β = 1 − ηλ₂ the GEMM that would make it updates the weight itself.
"""

from typing import NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import (
    columns,
    elementwise,
    embedding,
    ensemble,
    feature_dense,
    norm,
    periodic,
    piecewise,
    update,
)
from fastnn._kernels.numba_cpu import statistics as stats
from fastnn._kernels.numba_cpu.barrier import barrier_wait, partition
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.gemm import gemm
from fastnn._kernels.numba_cpu.gemm_tile import MR
from fastnn._kernels.numba_cpu.kernel_context import splits_k
from fastnn._kernels.numba_cpu.views import matrix, segment
from fastnn._kernels.step_rates import StepRates

BLOCK = 24576  # elements of a block: 96 KiB of float32, a tenth of a second-level cache
# Elements of δ up to which a block takes whole rows of a weight; beyond, part of δ that stays in
# cache. 512 × 256 × 1024: 150 GFLOP/s by whole rows, 175 by parts.
LARGEST_DELTA = 1 << 17


class StepContext(NamedTuple):
    """What is the same for all operations of a step."""

    optimizer: np.void  # a record of opcodes.OPTIMIZER
    rates: StepRates
    batch: int  # rows of the mini-batch
    thread_sums: np.ndarray


@inline
def compute_gradients_and_update(ctx, step, statistics, phase):
    """Gradient and update of this thread's share of every parameter array.

    ``statistics`` has a row for each operation, or none: see `statistics`. Returns the next phase
    of the barrier.
    """
    optimizer = step.optimizer
    clips_norm = ctx.updates and optimizer.clip_norm > 0
    at_once = ctx.updates and optimizer.clip_norm == 0
    fused = at_once and _is_plain_sgd(optimizer) and len(statistics) == 0
    squares, constrained = 0.0, False
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        sums = statistics[i : i + 1]
        if len(sums) > 0:
            stats.dead_units(ctx, op, sums)
        if op.weight < 0:
            continue
        constrained |= op.max_norm > 0
        if op.code == oc.DENSE and fused and op.l1 == 0:
            _fused_sgd_update(ctx, step, op)
        elif op.code == oc.DENSE and at_once:
            _blocked_weight_update(ctx, step, op, sums)
        else:
            squares += _weight_gradient(ctx, step, op, sums)
            if at_once:
                _update_weight(ctx, step, op, sums)
        if op.bias >= 0:
            squares += _bias_gradient(ctx, step, op, sums)
            if at_once:
                _update_bias(ctx, step, op)
        if len(sums) > 0 and not _has_bias_everywhere(op):
            stats.delta_of_units(ctx, op, step.batch, sums)
    if clips_norm:
        step.thread_sums[ctx.rank, 2] = squares
        phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
        length = np.sqrt(step.thread_sums[:, 2].sum())
        if length == np.inf:
            length = _scaled_norm(ctx)
            # All have read the gradient, which shrinks now.
            phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
        factor = min(1.0, optimizer.clip_norm / length) if length > 0 else 1.0
        _scale_and_update(ctx, step, factor, statistics)
    if ctx.updates and constrained:
        phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
        _constrain(ctx)
    return phase


@kernel
def _scaled_norm(ctx):
    """‖g‖ where Σ g² overflows, by each thread alone."""
    total = 0.0
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        if op.weight >= 0:
            rows, width = _weight_shape(op)
            n = rows * width
            total += update.scaled_squares(segment(ctx.gradient, op.weight, n))
        if op.bias >= 0:
            total += update.scaled_squares(segment(ctx.gradient, op.bias, _bias_length(op)))
    return update.norm_of_scaled(total)


@inline
def _is_plain_sgd(optimizer):
    return optimizer.code == oc.SGD and optimizer.beta1 == 0 and optimizer.clip_value == 0


@inline
def thread_rows(ctx, op):
    """Offset in θ and shape of this thread's rows of a weight or of tables."""
    rows, width = _weight_shape(op)
    first, last = partition(rows, ctx.rank, ctx.n_threads)
    return op.weight + first * width, last - first, width


@inline
def _weight_shape(op):
    """Rows and columns of a weight or of tables; elements of a scale are rows of one."""
    if op.code == oc.DENSE:
        return op.member_in, op.member_out
    if op.code == oc.HEADS:
        return op.members * op.member_in, op.member_out
    if op.code == oc.EMBEDDING:
        return op.rows, op.size
    if op.code == oc.PIECEWISE:
        return op.features, (op.bins + 1) * op.size
    if op.code == oc.PERIODIC:
        return op.features, op.frequencies
    if op.code == oc.FEATURE_DENSE:
        return feature_dense.map_rows(op), op.size
    return op.n_out, 1


@inline
def _bias_length(op):
    """Numbers of a bias or shift."""
    if op.code == oc.DENSE:
        return op.member_out
    if op.code == oc.PIECEWISE:
        return op.features * op.size
    if op.code == oc.PERIODIC:
        return periodic.n_angles(op)
    if op.code == oc.FEATURE_DENSE:
        return feature_dense.bias_length(op)
    return op.n_out


@inline
def _has_bias_everywhere(op):
    """Whether the gradient of a bias is Σ δ of every unit."""
    encodes = op.code == oc.PIECEWISE or op.code == oc.PERIODIC or op.code == oc.FEATURE_DENSE
    is_shared = op.code == oc.DENSE and op.members > 1
    return op.bias >= 0 and not encodes and not is_shared


@inline
def _thread_inputs(ctx, op, batch):
    """The columns of the operation's input that multiply this thread's rows of the weight."""
    first, last = partition(op.member_in, ctx.rank, ctx.n_threads)
    width = op.member_in
    offset = op.x * ctx.capacity
    if splits_k(ctx, op):
        offset, width, first, last = ctx.capacity * first, last - first, 0, last - first
    return matrix(ctx.work, offset, batch * op.members, width)[:, first:last]


@inline
def _delta_of(ctx, op, batch):
    """δ over the whole mini-batch, a row for each member and sample."""
    return matrix(ctx.d_work, op.y * ctx.capacity, batch * op.members, op.member_out)


@inline
def _fused_sgd_update(ctx, step, op):
    """W ← (1 − η(λ₂ + decay)) W − η xᵀ δ, as one GEMM."""
    offset, rows, n_out = thread_rows(ctx, op)
    d_z = _delta_of(ctx, op, step.batch)
    eta = step.rates.eta * op.weight_rate
    decay = op.l2 + step.rates.decay * op.weight_decay
    alpha, beta = -eta * op.factor, 1.0 - eta * decay
    x, w = _thread_inputs(ctx, op, step.batch), matrix(ctx.theta, offset, rows, n_out)
    gemm(True, False, alpha, x, d_z, beta, w)


@kernel
def _blocked_weight_update(ctx, step, op, sums):
    """Gradient and update of this thread's rows of a weight, one block after the other.

    A block is whole rows, or parts of them where δ is large.
    """
    offset, rows, n_out = thread_rows(ctx, op)
    batch = step.batch * op.members
    x, d_z = _thread_inputs(ctx, op, step.batch), _delta_of(ctx, op, step.batch)
    breadth = n_out
    if batch * n_out > LARGEST_DELTA:
        breadth = min(n_out, max(128, LARGEST_DELTA // (2 * batch) // 32 * 32))
    height = max(MR, BLOCK // breadth // MR * MR)
    for column in range(0, n_out, breadth):
        columns = min(breadth, n_out - column)
        for row in range(0, rows, height):
            n_rows = min(height, rows - row)
            # The same memory for every block, which keeps it in cache.
            g = matrix(ctx.gradient, offset, n_rows, columns)
            delta = d_z[:, column : column + columns]
            gemm(True, False, op.factor, x[:, row : row + n_rows], delta, 0.0, g)
            _update_block(ctx, step, op, sums, offset, offset + row * n_out + column, g)


@inline
def _update_block(ctx, step, op, sums, offset, start, g):
    """Update the block of a weight that begins at element ``start`` of θ; g is its gradient."""
    n_rows, columns = g.shape
    # Runs of weights that lie next to each other in memory.
    width = op.member_out
    runs = 1 if columns == width else n_rows
    length = n_rows * columns // runs
    block = segment(ctx.gradient, offset, n_rows * columns)
    if op.l1 > 0 or op.l2 > 0:
        for i in range(runs):
            w = segment(ctx.theta, start + i * width, length)
            update.add_penalties(w, segment(block, i * length, length), op.l1, op.l2)
    if len(sums) > 0:
        stats.gradient(sums, block)
    if step.optimizer.clip_value > 0:
        update.clip(block, step.optimizer.clip_value)
    decay = step.rates.decay * op.weight_decay
    for i in range(runs):
        part = segment(block, i * length, length)
        _update_recorded(ctx, step, op.weight_rate, decay, start + i * width, part, sums)


@inline
def _weight_gradient(ctx, step, op, sums):
    """The gradient of this thread's share of a weight, penalties included and clipped by value.

    Returns its sum of squares where the global norm is clipped, else 0.
    """
    offset, rows, n_out = thread_rows(ctx, op)
    g = segment(ctx.gradient, offset, rows * n_out)
    if op.code == oc.DENSE:
        d_z = _delta_of(ctx, op, step.batch)
        x, target = _thread_inputs(ctx, op, step.batch), matrix(ctx.gradient, offset, rows, n_out)
        gemm(True, False, op.factor, x, d_z, 0.0, target)
        if op.l1 > 0 or op.l2 > 0:
            update.add_penalties(segment(ctx.theta, offset, rows * n_out), g, op.l1, op.l2)
    elif op.code == oc.LAYER_NORM:
        norm.layer_norm_parameter_gradients(ctx, op, step.batch)
    elif op.code == oc.EMBEDDING:
        first = (offset - op.weight) // op.size
        embedding.embedding_gradient(ctx, op, first, first + rows, step.batch)
    elif op.code == oc.PIECEWISE:
        first = (offset - op.weight) // n_out
        piecewise.piecewise_gradient(ctx, op, first, first + rows, step.batch)
    elif op.code == oc.PERIODIC:
        first = (offset - op.weight) // n_out
        periodic.frequency_gradient(ctx, op, first, first + rows, step.batch)
    elif op.code == oc.FEATURE_DENSE:
        first = (offset - op.weight) // n_out
        feature_dense.map_gradient(ctx, op, first, first + rows, step.batch)
    elif op.code == oc.HEADS:
        first = (offset - op.weight) // n_out
        ensemble.heads_gradient(ctx, op, first, first + rows, step.batch)
    elif op.code == oc.MEMBER_SCALE:
        ensemble.member_sums(ctx, op, offset - op.weight, g)
    elif op.code == oc.SCALE or op.code == oc.PARAMETRIC:
        columns.column_gradients(ctx, op, step.batch)
    if len(sums) > 0:
        stats.gradient(sums, g)
        if not ctx.updates:
            stats.weight(sums, segment(ctx.theta, offset, rows * n_out))
    return _clip_and_sum_squares(step.optimizer, g)


@inline
def _bias_gradient(ctx, step, op, sums):
    """The same for a bias, Σ δ over the mini-batch; a norm's shift has its gradient already."""
    first, last = partition(_bias_length(op), ctx.rank, ctx.n_threads)
    g = segment(ctx.gradient, op.bias + first, last - first)
    if op.code == oc.DENSE or op.code == oc.PIECEWISE or op.code == oc.HEADS:
        delta = segment(ctx.d_work, op.y * ctx.capacity, step.batch * op.n_out)
        width = op.member_out if op.code == oc.DENSE else op.n_out
        elementwise.sum_of_rows(delta, width, first, g)
    elif op.code == oc.PERIODIC:
        periodic.phase_gradient(ctx, op, step.batch)
    elif op.code == oc.FEATURE_DENSE:
        feature_dense.map_bias_gradient(ctx, op, step.batch)
    elif op.code == oc.MEMBER_SCALE:
        ensemble.member_sums(ctx, op, op.n_out + first, g)
    if len(sums) > 0 and _has_bias_everywhere(op):
        stats.delta(sums, g)
    return _clip_and_sum_squares(step.optimizer, g)


@inline
def _clip_and_sum_squares(optimizer, g):
    if optimizer.clip_value > 0:
        update.clip(g, optimizer.clip_value)
    return update.sum_of_squares(g) if optimizer.clip_norm > 0 else 0.0


@inline
def _update_weight(ctx, step, op, sums):
    offset, rows, n_out = thread_rows(ctx, op)
    decay = step.rates.decay * op.weight_decay
    g = segment(ctx.gradient, offset, rows * n_out)
    _update_recorded(ctx, step, op.weight_rate, decay, offset, g, sums)


@inline
def _update_bias(ctx, step, op):
    first, last = partition(_bias_length(op), ctx.rank, ctx.n_threads)
    g = segment(ctx.gradient, op.bias + first, last - first)
    decay = step.rates.decay * op.bias_decay
    _update_range(ctx, step, op.bias_rate, decay, op.bias + first, g)


@inline
def _update_recorded(ctx, step, rate, decay, offset, g, sums):
    """`_update_range`, recording Σ w² and Σ (Δw)², `SUM_BLOCK` elements at a time."""
    if len(sums) == 0:
        _update_range(ctx, step, rate, decay, offset, g)
        return
    for first in range(0, len(g), oc.SUM_BLOCK):
        n = min(oc.SUM_BLOCK, len(g) - first)
        w, before = segment(ctx.theta, offset + first, n), stats.block_scratch(ctx, n)
        elementwise.copy(w, before)
        part = segment(g, first, n)
        squares, moved = _update_range(ctx, step, rate, decay, offset + first, part)
        stats.update(sums, squares, moved, before, w)


@kernel
def _update_range(ctx, step, rate, decay, offset, g):
    """Update the parameters from element ``offset`` of θ on: Σ θ² before, and Σ (Δθ)².

    ``rate`` is a factor of the learning rate, ``decay`` the weight decay.
    """
    n, length, n_slots = len(g), len(ctx.theta), len(ctx.slots) // len(ctx.theta)
    m = segment(ctx.slots, offset, n if n_slots > 0 else 0)
    v = segment(ctx.slots, length + offset, n if n_slots > 1 else 0)
    w = segment(ctx.theta, offset, n)
    eta, of_m, of_g, inv_sqrt_bias2, _ = step.rates
    rates = StepRates(rate * eta, rate * of_m, rate * of_g, inv_sqrt_bias2, decay)
    return update.update(step.optimizer, rates, w, g, m, v)


@inline
def _scale_and_update(ctx, step, factor, statistics):
    """Clipping by global norm: the gradient shrinks, then this thread's shares are updated."""
    scale = ctx.theta.dtype.type(factor)
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        if op.weight >= 0:
            offset, rows, n_out = thread_rows(ctx, op)
            _scale(segment(ctx.gradient, offset, rows * n_out), scale)
            _update_weight(ctx, step, op, statistics[i : i + 1])
        if op.bias >= 0:
            first, last = partition(_bias_length(op), ctx.rank, ctx.n_threads)
            _scale(segment(ctx.gradient, op.bias + first, last - first), scale)
            _update_bias(ctx, step, op)


@inline
def _scale(g, factor):
    for i in range(len(g)):
        g[i] *= factor


@inline
def _constrain(ctx):
    """Max-norm constraints, a share of the columns each."""
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        if op.max_norm > 0:
            first, last = partition(op.member_out, ctx.rank, ctx.n_threads)
            w = matrix(ctx.theta, op.weight, op.member_in, op.member_out)
            update.limit_columns(w, first, last, op.max_norm)
