"""Lowering: a list of layers becomes a `Program`, the op table that every engine interprets.

An activation or dropout layer costs no operation of its own: it joins the epilogue y = f(z) · m of
the operation before it, unless a residual block needs the output of that operation as it is.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import ArrayInfo, Program
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.ensemble_lowering import batch_ensemble, misplaced_heads
from fastnn.nn.feature_lowering import lower_embedding, lower_periodic, lower_piecewise
from fastnn.nn.initializers import Initializer, of_bias, ones
from fastnn.nn.layers import (
    Activation,
    BatchEnsemble,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    GaussianNoise,
    Heads,
    Layer,
    LayerNorm,
    Periodic,
    PiecewiseLinear,
    Residual,
    Scale,
    dense_initializers,
)
from fastnn.nn.losses import Loss
from fastnn.optim.schedules import Schedule

_NEEDS_Z = {row.code for row in ACTIVATIONS.values() if row.needs_z}
_FIELDS = opcodes.OP.names or ()
# Absent where they are -1.
_OFFSETS = (
    "skip",
    "aux",
    "slope",
    "change",
    "row_stats",
    "column_stats",
    "weight",
    "bias",
    "state",
    "schedule",
)
_FACTORS = ("factor", "weight_rate", "bias_rate")  # 1 where nothing else is said
_BLANK = dict.fromkeys(_FIELDS, 0) | dict.fromkeys(_OFFSETS, -1) | dict.fromkeys(_FACTORS, 1.0)
_Value = tuple[int, int]  # column offset of a value, and its width
_ALIGNMENT = 16  # elements: a parameter array begins on a cache line of float32
_MOST_NUMBERS = 2**60  # of float64, more than a machine can address


def lower(
    layers: Sequence[Layer], inputs: int, loss: Loss, dtype: Any, precision: str = "float32"
) -> Program:
    """The program of a stack of layers.

    Parameters
    ----------
    layers : sequence of Layer
    inputs : int
        Features of a sample.
    loss : Loss
    dtype : float32 or float64
    precision : str
        One of `contract.PRECISIONS`.

    Raises
    ------
    ValueError
        Where widths do not fit, naming the layer.
    """
    lowering = Lowering(inputs)
    output, width = lowering.sequence(layers, opcodes.INPUT, inputs, "")
    if loss.name == "binary_cross_entropy":
        lowering.strip_sigmoid(output)
    lowering.plan_backward()
    members = lowering.members
    loss.check_outputs(width // members)
    record = loss.record()
    record["members"], record["linked"] = members, lowering.scratch(width if members > 1 else 0)
    lowering.check_size()
    return Program(
        ops=np.array([tuple(op[name] for name in _FIELDS) for op in lowering.ops], opcodes.OP),
        parameters=tuple(lowering.parameters),
        buffers=tuple(lowering.buffers),
        n_inputs=inputs,
        n_outputs=width // members,
        members=members,
        output=output,
        n_parameters=lowering.n_parameters,
        n_buffers=lowering.n_buffers,
        n_columns=lowering.n_columns,
        n_scratch=lowering.n_scratch,
        loss=record,
        dtype=np.dtype(dtype),
        cardinalities=lowering.cardinalities,
        precision=precision,
        schedules=tuple(lowering.schedules),
    )


class Lowering:
    """The tables while they grow."""

    def __init__(self, inputs: int):
        self.ops: list[dict[str, Any]] = []
        self.parameters: list[ArrayInfo] = []
        self.buffers: list[ArrayInfo] = []
        self.n_parameters = self.n_buffers = self.n_scratch = 0
        self.n_columns = inputs  # column 0 … inputs − 1 hold the mini-batch itself
        self.pinned = {opcodes.INPUT}  # values that must stay as they are
        self.cardinalities: tuple[int, ...] = ()
        self.schedules: list[Schedule] = []
        self.members = 1  # of the ensemble that the layers lowered so far end in

    # --- pieces -----------------------------------------------------------------------------------

    def parameter(self, name: str, shape: tuple[int, ...], kind: str, init: Any) -> int:
        """Append a parameter array and return its offset in θ."""
        offset = self.n_parameters
        self.parameters.append(ArrayInfo(name, offset, shape, kind, init))
        self.n_parameters += -(-math.prod(shape) // _ALIGNMENT) * _ALIGNMENT
        return offset

    def buffer(self, name: str, shape: tuple[int, ...], kind: str, init: Any) -> int:
        """Append a buffer, which is no parameter, and return its offset in the buffers."""
        offset = self.n_buffers
        self.buffers.append(ArrayInfo(name, offset, shape, kind, init))
        self.n_buffers += math.prod(shape)
        return offset

    def scratch(self, n: int) -> int:
        """Reserve numbers of the per-thread scratch and return the first."""
        self.n_scratch += n
        return self.n_scratch - n

    def columns(self, n: int) -> int:
        """Reserve workspace columns and return the first."""
        self.n_columns += n
        return self.n_columns - n

    def emit(self, code: int, x: int, n_in: int, n_out: int, **fields: Any) -> int:
        """Append an operation and return the column offset of its output."""
        members = fields.get("members", 1)
        op: dict[str, Any] = _BLANK | {
            "code": code,
            "x": x,
            "n_in": n_in,
            "n_out": n_out,
            "members": members,
            "member_in": n_in // members,
            "member_out": n_out // members,
            **fields,
        }
        op["y"], op["stream"] = self.columns(n_out), len(self.ops)
        self.ops.append(op)
        return op["y"]

    def epilogue(self, x: int, width: int, free: tuple[str, ...]) -> dict[str, Any]:
        """The operation whose epilogue may still change value x.

        It is the one that made x, or a new ELEMENTWISE one.
        """
        if (
            self.ops
            and self.ops[-1]["y"] == x
            and x not in self.pinned
            and not any(self.ops[-1][name] for name in free)
        ):
            return self.ops[-1]
        self.emit(opcodes.ELEMENTWISE, x, width, width)
        return self.ops[-1]

    def activate(self, x: int, width: int, activation: Activation, name: str) -> int:
        """Apply an activation to value x and return the new value."""
        spec = ACTIVATIONS[activation.name]
        if spec.code == opcodes.LINEAR:
            return x
        if activation.parametric:
            return self.parametric(x, width, activation, name)
        op = self.epilogue(x, width, free=("activation", "rate"))
        op["activation"], op["alpha"] = spec.code, activation.constants.get("alpha", 0.0)
        return op["y"]

    def parametric(self, x: int, width: int, activation: Activation, name: str) -> int:
        """x + α ⊙ (f(x) − x)."""
        shape = (width,) if self.members == 1 else (self.members, width // self.members)
        fields = {
            "weight": self.parameter(f"{name}alpha", shape, "alpha", ones),
            "weight_rate": activation.lr_factor,
            "weight_decay": activation.decay_factor,
            "inner": ACTIVATIONS[activation.name].code,
            "alpha": activation.constants.get("alpha", 0.0),
            "slope": self.columns(width),
            "change": self.columns(width),
        }
        return self.emit(opcodes.PARAMETRIC, x, width, width, **fields)

    # --- layers: each takes value x of a width and returns the new value and width ----------------

    def sequence(self, layers: Sequence[Layer], x: int, width: int, prefix: str) -> _Value:
        for i, layer in enumerate(layers):
            lower_layer = _LOWERINGS[type(layer)]
            # Not a slice: copies of all that follows would take quadratic time.
            following = (layers[k] for k in range(i + 1, len(layers)))
            x, width = lower_layer(self, layer, x, width, f"{prefix}{i}.", following)
        return x, width

    def dense(
        self, layer: Dense, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        fields = self.dense_fields(layer, width, name, following, bias=True)
        y = self.emit(opcodes.DENSE, x, width, layer.units, **fields)
        return self.activate(y, layer.units, layer.activation, name), layer.units

    def dense_fields(
        self, layer: Dense, width: int, name: str, following: Iterable[Layer], bias: bool
    ) -> dict[str, Any]:
        """What an operation DENSE of this many inputs has of its layer, with parameters made."""
        init, bias_init = dense_initializers(layer, following)
        weight = self.parameter(f"{name}weight", (width, layer.units), "weight", init)
        offset = -1
        if bias and layer.bias:
            start = of_bias(bias_init, width)
            offset = self.parameter(f"{name}bias", (layer.units,), "bias", start)
        return {
            "weight": weight,
            "bias": offset,
            "l1": layer.l1,
            "l2": layer.l2,
            "max_norm": layer.max_norm or 0.0,
            "factor": 1 / math.sqrt(width) if layer.scaling == "ntk" else 1.0,
            "weight_rate": layer.lr_factor,
            "bias_rate": layer.bias_lr_factor,
            "weight_decay": layer.decay_factor,
        }

    def activation(
        self, layer: Activation, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        return self.activate(x, width, layer, name), width

    def _scale_and_shift(self, name: str, width: int) -> dict[str, int]:
        return {
            "weight": self.parameter(f"{name}scale", (width,), "scale", ones),
            "bias": self.parameter(f"{name}shift", (width,), "shift", Initializer("zeros")),
        }

    def batch_norm(
        self, layer: BatchNorm, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        state = self.buffer(f"{name}running_mean", (width,), "mean", 0.0)
        self.buffer(f"{name}running_var", (width,), "variance", 1.0)
        fields = {
            "state": state,
            "column_stats": self.scratch(opcodes.COLUMN_STATS * width),
            "epsilon": layer.epsilon,
            "momentum": layer.momentum,
        }
        fields |= self._scale_and_shift(name, width)
        return self.emit(opcodes.BATCH_NORM, x, width, width, **fields), width

    def layer_norm(
        self, layer: LayerNorm, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        fields = {"row_stats": self.columns(2), "epsilon": layer.epsilon}
        fields |= self._scale_and_shift(name, width)
        return self.emit(opcodes.LAYER_NORM, x, width, width, **fields), width

    def dropout(
        self, layer: Dropout, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        if layer.rate == 0:
            return x, width
        op = self.epilogue(x, width, free=("rate",))
        if isinstance(layer.rate, Schedule):
            op["rate"], op["schedule"] = 1.0, len(self.schedules)
            self.schedules.append(layer.rate)
        else:
            op["rate"] = layer.rate
        return op["y"], width

    def noise(
        self, layer: GaussianNoise, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        if layer.std == 0:
            return x, width
        return self.emit(opcodes.NOISE, x, width, width, std=layer.std), width

    def residual(
        self, layer: Residual, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        self.pinned.add(x)
        y, inner = self.sequence(layer.layers, x, width, name)
        project = inner != width if layer.projection == "auto" else layer.projection
        if inner != width and not project:
            where = f"layer {name[:-1]} (Residual)"
            raise ValueError(
                f"{where}: F(x) has width {inner} and x has width {width}, which cannot add; "
                "use projection='auto'"
            )
        skip = x
        if project:
            weight = self.parameter(
                f"{name}projection.weight", (width, inner), "weight", Initializer("glorot_uniform")
            )
            skip = self.emit(opcodes.DENSE, x, width, inner, weight=weight, weight_decay=1.0)
        total = self.emit(opcodes.ADD, y, inner, inner, skip=skip)
        return self.activate(total, inner, layer.activation, name), inner

    def scale(
        self, layer: Scale, x: int, width: int, name: str, following: Iterable[Layer]
    ) -> _Value:
        fields = {
            "weight": self.parameter(f"{name}scale", (width,), "scale", ones),
            "weight_rate": layer.lr_factor,
            "weight_decay": layer.decay_factor,
        }
        return self.emit(opcodes.SCALE, x, width, width, **fields), width

    # --- finishing touches ------------------------------------------------------------------------

    def check_size(self) -> None:
        """ValueError where no machine could hold the network."""
        most = max(self.n_parameters, self.n_columns, self.n_buffers, self.n_scratch)
        if most > _MOST_NUMBERS:
            digits = len(str(most))
            raise ValueError(
                f"the layers ask for about 10^{digits - 1} numbers, more than any memory holds; "
                "use narrower ones"
            )

    def strip_sigmoid(self, output: int) -> None:
        """Take a sigmoid off the last layer: binary cross-entropy takes logits and links them."""
        for last in self.ops[-1:]:
            if last["y"] == output and last["activation"] == opcodes.SIGMOID and last["rate"] == 0:
                last["activation"] = opcodes.LINEAR

    def plan_backward(self) -> None:
        """Who needs a gradient, who writes it first, and which operations must store f′(z) · m."""
        learns = set()  # values that depend on a parameter
        for op in self.ops:
            if op["weight"] >= 0 or op["x"] in learns or op["skip"] in learns:
                learns.add(op["y"])
            if op["y"] in learns and (op["rate"] > 0 or op["activation"] in _NEEDS_Z):
                op["aux"] = self.columns(op["n_out"])
        written = set()
        for op in reversed(self.ops):
            for value, flag in (("skip", "skip_grad"), ("x", "x_grad")):
                if op[value] in learns:
                    op[flag] = opcodes.GRAD_ADD if op[value] in written else opcodes.GRAD_WRITE
                    written.add(op[value])


_LOWERINGS = {
    Dense: Lowering.dense,
    Scale: Lowering.scale,
    Embedding: lower_embedding,
    PiecewiseLinear: lower_piecewise,
    Periodic: lower_periodic,
    Activation: Lowering.activation,
    BatchNorm: Lowering.batch_norm,
    LayerNorm: Lowering.layer_norm,
    Dropout: Lowering.dropout,
    GaussianNoise: Lowering.noise,
    Residual: Lowering.residual,
    BatchEnsemble: batch_ensemble,
    Heads: misplaced_heads,
}
