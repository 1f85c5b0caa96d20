"""Records in registers: read once, where a field of a record in memory would be read again after
every write to memory.
"""

from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.step_rates import N_RATES
from fastnn._kernels.numba_cuda.toolchain.shim import device


class Operation(NamedTuple):
    """A `table.OPERATION`, its constants of the network's dtype."""

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
    """An `opcodes.RULE` with what it has for rates at one step, see `rates`; of the network's dtype
    but where said.
    """

    code: Any
    nesterov: Any
    beta1: Any
    rest1: Any  # 1 − β₁, of which float32 would lose digits
    beta2: Any
    rest2: Any
    epsilon: Any
    clip_value: Any
    weight_decay: Any  # float64
    eta: Any  # float64
    step: Any
    step_gradient: Any
    root: Any


@device
def operation(frame, index):
    """The operation of that index.

    Offsets of columns become places in the workspaces. Outside of training nothing is dropped, and
    where no way back follows no slope kept.
    """
    op, real, capacity = frame.ops[index], frame.home.dtype.type, frame.control[fr.CAPACITY]
    threshold = op.threshold if frame.control[fr.TRAINING] != 0 else 0
    aux = op.aux * capacity if frame.control[fr.BACKWARD] != 0 else -1
    return Operation(
        op.code, op.activation, op.n_in, op.n_out, op.x * capacity, op.y * capacity, op.skip * capacity, aux, op.row_stats * capacity,
        op.column_stats, op.weight, op.bias, op.state, op.stream, op.x_grad, op.skip_grad, np.uint64(threshold), op.x_activation,
        op.x_aux * capacity, op.finished, real(op.alpha), real(op.x_alpha), real(op.kept), real(op.epsilon), real(op.momentum),
        real(op.l1), real(op.l2), op.std, op.max_norm,
    )  # fmt: skip


@device
def loss_of(frame):
    """The loss."""
    loss, real = frame.loss[0], frame.home.dtype.type
    return Loss(loss.code, real(loss.delta), real(loss.label_smoothing))


@device
def rule_at(frame, k):
    """The rule at the chunk's step k."""
    rule, real, at = frame.rule[0], frame.home.dtype.type, k * N_RATES
    return Rule(
        rule.code, rule.nesterov, real(rule.beta1), real(1.0 - rule.beta1), real(rule.beta2), real(1.0 - rule.beta2), real(rule.epsilon),
        real(rule.clip_value), rule.weight_decay, frame.rates[at], real(frame.rates[at + 1]), real(frame.rates[at + 2]),
        real(frame.rates[at + 3]),
    )  # fmt: skip


@device
def no_rule(frame):
    """In the place of a rule, where nothing is updated."""
    zero = frame.home.dtype.type(0)
    return Rule(0, 0, zero, zero, zero, zero, zero, zero, 0.0, 0.0, zero, zero, zero)
