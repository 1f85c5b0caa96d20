"""What a step learns: the gradient of this thread's share of every parameter array over the whole
mini-batch, and its update.

A weight's gradient is worked through in blocks that stay in the second-level cache: each is updated
with as soon as it is known. Only where something wants the whole gradient first (clipping by global
norm, or a user) is it stored. Plain SGD never has one at all: with α = −η and β = 1 − ηλ₂ the
product that would make it updates the weight itself.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise, norm, update
from fastnn._kernels.numba_cpu import statistics as stats
from fastnn._kernels.numba_cpu.barrier import share, wait
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.frame import cuts_features
from fastnn._kernels.numba_cpu.gemm_tile import ROWS
from fastnn._kernels.numba_cpu.views import gemm, matrix, segment

BLOCK = 24576  # elements of a block: 96 KiB of float32, a tenth of a second-level cache
# Elements of δ up to which a block takes whole rows of a weight; beyond, part of δ that stays in
# cache. 512 × 256 × 1024: 150 GFLOP/s by whole rows, 175 by parts.
LARGEST_DELTA = 1 << 17


@inline
def learn(frame, rule, now, batch, partial, statistics, phase):
    """Gradient and update of this thread's share of every parameter array; returns the next phase
    of the barrier.

    ``statistics`` has a row for each operation, or none: see `measure`.
    """
    updates = rule.code != oc.NO_UPDATE
    folds = (
        rule.code == oc.SGD
        and rule.beta1 == 0
        and rule.clip_value == 0
        and rule.clip_norm == 0
        and len(statistics) == 0
    )
    at_once = updates and rule.clip_norm == 0
    squares, constrained = 0.0, False
    for i in range(len(frame.ops)):
        op = frame.ops[i]
        own = statistics[i : i + 1]
        if len(own) > 0:
            stats.dead_units(frame, op, own)
        if op.weight < 0:
            continue
        constrained |= op.max_norm > 0
        if op.code == oc.DENSE and folds and op.l1 == 0:
            _descend(frame, op, batch, -now.eta, 1.0 - now.eta * (op.l2 + rule.weight_decay))
        elif op.code == oc.DENSE and at_once:
            _learn_by_blocks(frame, rule, now, op, batch, own)
        else:
            squares += _weight_gradient(frame, rule, op, batch, own)
            if at_once:
                _update_weight(frame, rule, now, op, own)
        if op.bias >= 0:
            squares += _bias_gradient(frame, rule, op, batch, own)
            if at_once:
                first, last = share(op.n_out, frame.rank, frame.n_threads)
                _update_range(
                    frame,
                    rule,
                    now,
                    0.0,
                    op.bias + first,
                    segment(frame.gradient, op.bias + first, last - first),
                )
        elif len(own) > 0:
            stats.delta_without_bias(frame, op, batch, own)
    if updates and rule.clip_norm > 0:
        partial[frame.rank, 2] = squares
        phase = wait(frame.counter, phase, frame.n_threads)
        length = np.sqrt(partial[:, 2].sum())
        _scale_and_update(
            frame, rule, now, min(1.0, rule.clip_norm / length) if length > 0 else 1.0, statistics
        )
    if updates and constrained:
        phase = wait(frame.counter, phase, frame.n_threads)
        _constrain(frame)
    return phase


@inline
def _own_rows(frame, op):
    """Offset in θ and shape of the rows of a weight matrix (or the elements of a scale vector) that
    this thread owns.
    """
    if op.code == oc.DENSE:
        first, last = share(op.n_in, frame.rank, frame.n_threads)
        return op.weight + first * op.n_out, last - first, op.n_out
    first, last = share(op.n_out, frame.rank, frame.n_threads)
    return op.weight + first, last - first, 1


@inline
def _own_inputs(frame, op, batch):
    """The columns of the operation's input that meet this thread's rows of the weight, over the
    whole mini-batch.
    """
    first, last = share(op.n_in, frame.rank, frame.n_threads)
    width = op.n_in
    offset = op.x * frame.capacity
    if cuts_features(frame, op):
        offset, width, first, last = frame.capacity * first, last - first, 0, last - first
    return matrix(frame.work, offset, batch, width)[:, first:last]


@inline
def _descend(frame, op, batch, alpha, beta):
    """W ← β W + α xᵀ δ."""
    offset, rows, n_out = _own_rows(frame, op)
    d_z = matrix(frame.d_work, op.y * frame.capacity, batch, n_out)
    gemm(
        True,
        False,
        alpha,
        _own_inputs(frame, op, batch),
        d_z,
        beta,
        matrix(frame.theta, offset, rows, n_out),
    )


@kernel
def _learn_by_blocks(frame, rule, now, op, batch, own):
    """Gradient and update of this thread's rows of a weight, one block after the other: whole rows,
    or parts of them where δ is large.
    """
    offset, rows, n_out = _own_rows(frame, op)
    x = _own_inputs(frame, op, batch)
    d_z = matrix(frame.d_work, op.y * frame.capacity, batch, n_out)
    breadth = (
        n_out
        if batch * n_out <= LARGEST_DELTA
        else min(n_out, max(128, LARGEST_DELTA // (2 * batch) // 32 * 32))
    )
    height = max(ROWS, BLOCK // breadth // ROWS * ROWS)
    for column in range(0, n_out, breadth):
        n_columns = min(breadth, n_out - column)
        for row in range(0, rows, height):
            n_rows = min(height, rows - row)
            # the same memory for every block, which keeps it in cache
            g = matrix(frame.gradient, offset, n_rows, n_columns)
            gemm(
                True,
                False,
                1.0,
                x[:, row : row + n_rows],
                d_z[:, column : column + n_columns],
                0.0,
                g,
            )
            # of weights that lie next to each other in memory
            stretches = 1 if n_columns == n_out else n_rows
            length = n_rows * n_columns // stretches
            start, block = (
                offset + row * n_out + column,
                segment(frame.gradient, offset, n_rows * n_columns),
            )
            if op.l1 > 0 or op.l2 > 0:
                for i in range(stretches):
                    update.add_penalties(
                        segment(frame.theta, start + i * n_out, length),
                        segment(block, i * length, length),
                        op.l1,
                        op.l2,
                    )
            if len(own) > 0:
                stats.gradient(own, block)
            if rule.clip_value > 0:
                update.clip(block, rule.clip_value)
            for i in range(stretches):
                _update_measured(
                    frame,
                    rule,
                    now,
                    rule.weight_decay,
                    start + i * n_out,
                    segment(block, i * length, length),
                    own,
                )


@inline
def _weight_gradient(frame, rule, op, batch, own):
    """The gradient of this thread's share of a weight, penalties included and clipped by value;
    returns its sum of squares if needed.
    """
    offset, rows, n_out = _own_rows(frame, op)
    g = segment(frame.gradient, offset, rows * n_out)
    if op.code == oc.DENSE:
        d_z = matrix(frame.d_work, op.y * frame.capacity, batch, n_out)
        gemm(
            True,
            False,
            1.0,
            _own_inputs(frame, op, batch),
            d_z,
            0.0,
            matrix(frame.gradient, offset, rows, n_out),
        )
        if op.l1 > 0 or op.l2 > 0:
            update.add_penalties(segment(frame.theta, offset, rows * n_out), g, op.l1, op.l2)
    elif op.code == oc.LAYER_NORM:
        norm.layer_norm_parameter_gradients(frame, op, batch)
    if len(own) > 0:
        stats.gradient(own, g)
        if rule.code == oc.NO_UPDATE:
            stats.weight(own, segment(frame.theta, offset, rows * n_out))
    return _clip_and_measure(rule, g)


@inline
def _bias_gradient(frame, rule, op, batch, own):
    """The same for a bias, Σ δ over the mini-batch; a norm's shift has its gradient already."""
    first, last = share(op.n_out, frame.rank, frame.n_threads)
    g = segment(frame.gradient, op.bias + first, last - first)
    if op.code == oc.DENSE:
        elementwise.sum_of_rows(
            segment(frame.d_work, op.y * frame.capacity, batch * op.n_out), op.n_out, first, g
        )
    if len(own) > 0:
        stats.delta(own, g)
    return _clip_and_measure(rule, g)


@inline
def _clip_and_measure(rule, g):
    if rule.clip_value > 0:
        update.clip(g, rule.clip_value)
    return update.sum_of_squares(g) if rule.clip_norm > 0 else 0.0


@inline
def _update_weight(frame, rule, now, op, own):
    """Weight decay is for weights, not for scales."""
    offset, rows, n_out = _own_rows(frame, op)
    decay = rule.weight_decay if op.code == oc.DENSE else 0.0
    _update_measured(
        frame, rule, now, decay, offset, segment(frame.gradient, offset, rows * n_out), own
    )


@inline
def _update_measured(frame, rule, now, decay, offset, g, own):
    """`_update_range`; how long the weights are and how far they moved is measured a stretch at a
    time, in the network's dtype.
    """
    length = oc.STRETCH if len(own) > 0 else max(len(g), 1)
    for first in range(0, len(g), length):
        part = segment(g, first, min(length, len(g) - first))
        squares, moved = _update_range(frame, rule, now, decay, offset + first, part)
        if len(own) > 0:
            own[0, oc.WEIGHT] += squares
            own[0, oc.UPDATE] += moved


@kernel
def _update_range(frame, rule, now, decay, offset, g):
    """Update the parameters from element ``offset`` of θ on with their gradient; returns Σ θ²
    before, and Σ (Δθ)².
    """
    n, length, n_slots = len(g), len(frame.theta), len(frame.slots) // len(frame.theta)
    m = segment(frame.slots, offset, n if n_slots > 0 else 0)
    v = segment(frame.slots, length + offset, n if n_slots > 1 else 0)
    return update.update(rule, now, decay, segment(frame.theta, offset, n), g, m, v)


@inline
def _scale_and_update(frame, rule, now, factor, statistics):
    """Clipping by global norm: the gradient shrinks, then this thread's shares are updated."""
    scale = frame.theta.dtype.type(factor)
    for i in range(len(frame.ops)):
        op = frame.ops[i]
        if op.weight >= 0:
            offset, rows, n_out = _own_rows(frame, op)
            g = segment(frame.gradient, offset, rows * n_out)
            for j in range(len(g)):
                g[j] *= scale
            _update_weight(frame, rule, now, op, statistics[i : i + 1])
        if op.bias >= 0:
            first, last = share(op.n_out, frame.rank, frame.n_threads)
            g = segment(frame.gradient, op.bias + first, last - first)
            for j in range(len(g)):
                g[j] *= scale
            _update_range(frame, rule, now, 0.0, op.bias + first, g)


@inline
def _constrain(frame):
    """Max-norm constraints, a share of the columns each."""
    for i in range(len(frame.ops)):
        op = frame.ops[i]
        if op.max_norm > 0:
            first, last = share(op.n_out, frame.rank, frame.n_threads)
            update.limit_columns(
                matrix(frame.theta, op.weight, op.n_in, op.n_out), first, last, op.max_norm
            )
