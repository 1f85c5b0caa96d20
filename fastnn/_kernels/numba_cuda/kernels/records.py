"""Records of the op table, the loss and the optimiser in registers.

Kernels read them once. A field of a record in memory would be read again after every write to
memory.
"""

from collections import namedtuple
from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.generated import define
from fastnn._kernels.numba_cuda.toolchain.shim import device
from fastnn._kernels.scalars import UpdateConstants
from fastnn._kernels.step_rates import StepRates

_N_RATES = len(StepRates._fields)  # rates of a step, in this order

# Fields of an `op_table.OPERATION` that kernels use, and how a field is read: "raw" as it is,
# "real" converted to the network's dtype, "column" from a column offset to a place in the
# workspace, "given" as the function `operation` has worked it out.
_OPERATION_FIELDS = (
    ("code", "raw"),
    ("activation", "raw"),
    ("inner", "raw"),
    ("n_in", "raw"),
    ("n_out", "raw"),
    ("members", "raw"),
    ("member_in", "raw"),
    ("member_out", "raw"),
    ("codes", "raw"),
    ("features", "raw"),
    ("bins", "raw"),
    ("size", "raw"),
    ("rows", "raw"),
    ("frequencies", "raw"),
    ("parts", "raw"),
    ("shared", "raw"),
    ("x", "column"),
    ("y", "column"),
    ("skip", "column"),
    ("aux", "given"),
    ("slope", "column"),
    ("change", "column"),
    ("row_stats", "column"),
    ("column_stats", "raw"),
    ("weight", "raw"),
    ("bias", "raw"),
    ("state", "raw"),
    ("schedule", "raw"),
    ("stream", "raw"),
    ("x_grad", "raw"),
    ("skip_grad", "raw"),
    ("threshold", "given"),  # uint64
    ("x_activation", "raw"),
    ("x_aux", "column"),
    ("derivative_fused", "raw"),
    ("alpha", "real"),
    ("x_alpha", "real"),
    ("kept", "real"),
    ("factor", "real"),
    ("weight_rate", "real"),
    ("bias_rate", "real"),
    ("weight_decay", "raw"),  # float64
    ("bias_decay", "raw"),  # float64
    ("epsilon", "real"),
    ("momentum", "real"),
    ("l1", "real"),
    ("l2", "real"),
    ("std", "raw"),  # float64
    ("low", "raw"),  # float64
    ("high", "raw"),  # float64
    ("max_norm", "raw"),  # float64
)
_READ = {"raw": "op.{}", "real": "real(op.{})", "column": "op.{} * capacity", "given": "{}"}

Operation = namedtuple("Operation", [name for name, _ in _OPERATION_FIELDS])
_fields = ", ".join(_READ[kind].format(name) for name, kind in _OPERATION_FIELDS)
_read_operation = device(
    define(
        "read_operation",
        "def read_operation(op, real, capacity, aux, threshold):\n"
        f"    return Operation({_fields})\n",
        Operation=Operation,
    )
)


class Loss(NamedTuple):
    """An `opcodes.LOSS`; the constant is of the network's dtype."""

    code: Any
    link: Any
    members: Any
    constant: Any


class Optimizer(NamedTuple):
    """An `opcodes.OPTIMIZER` at one step."""

    code: Any
    formula: Any  # code of the formula in `scalars.update`
    clip_value: Any  # of the network's dtype
    weight_decay: Any  # float64
    eta: Any  # float64
    constants: Any  # a `scalars.UpdateConstants` of the network's dtype


@device
def operation(ctx, index):
    """The operation of that index.

    Column offsets become places in the workspaces. Outside of training nothing is dropped, and
    f′(z) is stored only where a backward pass follows.
    """
    op, capacity = ctx.ops[index], ctx.control[control.CAPACITY]
    threshold = op.threshold if ctx.control[control.TRAINING] != 0 else 0
    aux = op.aux * capacity if ctx.control[control.BACKWARD] != 0 else -1
    return _read_operation(op, ctx.theta_out.dtype.type, capacity, aux, np.uint64(threshold))


@device
def dropout_at(ctx, op, step):
    """Threshold and factor of an operation's dropout at step number ``step``."""
    if op.schedule < 0:
        return op.threshold, op.kept
    k = step - ctx.control[control.STEP]
    place = 2 * (op.schedule * ctx.control[control.STEPS] + k)
    return np.uint64(ctx.dropout[place]), type(op.kept)(ctx.dropout[place + 1])


@device
def loss_of(ctx):
    """The loss."""
    loss = ctx.loss[0]
    return Loss(loss.code, loss.link, loss.members, ctx.theta_out.dtype.type(loss.constant))


@device
def optimizer_at(ctx, k):
    """The optimiser at the chunk's step k."""
    record, real, first = ctx.optimizer[0], ctx.theta_out.dtype.type, k * _N_RATES
    formula = record.code
    if record.code == oc.SGD and record.beta1 != 0:
        formula = oc.NESTEROV if record.nesterov != 0 else oc.MOMENTUM
    eta = ctx.rates[first]
    constants = UpdateConstants(
        real(eta),
        real(ctx.rates[first + 1]),
        real(ctx.rates[first + 2]),
        real(record.beta1),
        real(1.0 - record.beta1),
        real(record.beta2),
        real(1.0 - record.beta2),
        real(ctx.rates[first + 3]),
        real(record.epsilon),
        real(0),  # `update.update` applies the weight decay
        real(1),
    )
    clip_value = real(record.clip_value)
    decay = ctx.rates[first + 4]
    return Optimizer(record.code, formula, clip_value, decay, eta, constants)


@device
def no_optimizer(ctx):
    """Stands for an optimiser where nothing is updated."""
    zero = ctx.theta_out.dtype.type(0)
    constants = UpdateConstants(zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)
    return Optimizer(oc.NO_UPDATE, oc.NO_UPDATE, zero, 0.0, 0.0, constants)
