"""Records in registers: read once, where a field of a record in memory would be read again after every write to memory."""

from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels.numba_cuda.shim import device


class Operation(NamedTuple):
    """A `table.OPERATION`; constants are of the network's dtype."""

    code: Any
    activation: Any
    n_in: Any
    n_out: Any
    x: Any
    y: Any
    skip: Any
    aux: Any
    row_stats: Any
    column_stats: Any
    weight: Any
    bias: Any
    state: Any
    stream: Any
    x_grad: Any
    skip_grad: Any
    threshold: Any  # uint64
    x_activation: Any
    x_aux: Any
    finished: Any
    alpha: Any
    x_alpha: Any
    kept: Any
    epsilon: Any
    momentum: Any
    l1: Any
    l2: Any
    std: Any  # float64
    max_norm: Any  # float64


class Loss(NamedTuple):
    """An `opcodes.LOSS`."""

    code: Any
    delta: Any
    label_smoothing: Any


class Rule(NamedTuple):
    """An `opcodes.RULE`; constants are of the network's dtype but for the decay and ``clip_norm``."""

    code: Any
    nesterov: Any
    beta1: Any
    rest1: Any  # 1 − β₁, of which float32 would lose digits
    beta2: Any
    rest2: Any
    epsilon: Any
    weight_decay: Any
    clip_value: Any
    clip_norm: Any


@device
def operation(frame, index):
    """The operation of that index."""
    op, real = frame.ops[index], frame.home.dtype.type
    return Operation(
        op.code, op.activation, op.n_in, op.n_out, op.x, op.y, op.skip, op.aux, op.row_stats, op.column_stats, op.weight, op.bias, op.state,
        op.stream, op.x_grad, op.skip_grad, np.uint64(op.threshold), op.x_activation, op.x_aux, op.finished, real(op.alpha),
        real(op.x_alpha), real(op.kept), real(op.epsilon), real(op.momentum), real(op.l1), real(op.l2), op.std, op.max_norm,
    )  # fmt: skip


@device
def read_loss(losses, like):
    """The loss, with constants of the dtype of the array ``like``."""
    real = like.dtype.type
    return Loss(losses[0].code, real(losses[0].delta), real(losses[0].label_smoothing))


@device
def read_rule(rules, like):
    """The optimiser's rule, with constants of the dtype of the array ``like``."""
    rule, real = rules[0], like.dtype.type
    return Rule(
        rule.code, rule.nesterov, real(rule.beta1), real(1.0 - rule.beta1), real(rule.beta2), real(1.0 - rule.beta2), real(rule.epsilon),
        rule.weight_decay, real(rule.clip_value), rule.clip_norm,
    )  # fmt: skip
