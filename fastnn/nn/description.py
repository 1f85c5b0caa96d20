"""`Description`: what a network is made from, checked, and the state it starts in."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import DTYPES, PRECISIONS, Program
from fastnn._kernels.state import State
from fastnn._utils import checks
from fastnn.nn.initializers import Draw
from fastnn.nn.layers import Layer, check_layers
from fastnn.nn.losses import LOSSES, Loss, as_loss
from fastnn.nn.lowering import lower


@dataclass(frozen=True, eq=False)
class Description:
    """What a network is made from, but for the engine; `Network` describes each field.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, or the layer whose widths do not fit.
    """

    layers: list[Layer]
    inputs: int
    loss: Loss
    dtype: np.dtype
    seed: int
    precision: str

    @classmethod
    def checked(
        cls,
        layers: Sequence[Layer],
        inputs: int,
        loss: str | Loss,
        dtype: Any,
        seed: int,
        precision: str,
    ) -> "Description":
        """The description of arguments as `Network` takes them."""
        description = cls(
            check_layers("layers", layers),
            checks.integer("inputs", inputs),
            as_loss(loss),
            as_dtype(dtype),
            checks.integer("seed", seed, least=0),
            checks.one_of("precision", precision, PRECISIONS),
        )
        if not description.program.parameters:
            raise ValueError("layers must hold at least one layer with parameters, such as Dense")
        _check_constants(description.program)
        if description.loss.name == "softmax_cross_entropy" and description.program.n_outputs == 1:
            raise ValueError(
                "loss 'softmax_cross_entropy' needs an output for each class, but the last layer "
                "has 1: the softmax of one output is always 1, so nothing would be learnt. For two "
                "classes use 2 outputs, or 1 output with loss='binary_cross_entropy'; for a number "
                "use loss='mse'"
            )
        return description

    @functools.cached_property
    def program(self) -> Program:
        """What engines run."""
        return lower(self.layers, self.inputs, self.loss, self.dtype, self.precision)

    def with_precision(self, precision: str) -> "Description":
        """This description with another precision; the same object where it is the same one."""
        return self if precision == self.precision else replace(self, precision=precision)

    def blank_state(self) -> State:
        """The state whose parameters are 0, running variances 1, and steps none."""
        program = self.program
        buffers = np.zeros(program.n_buffers, program.dtype)
        for array in program.buffers:
            # Made here, when a file's tensors are known to have this size.
            array.view(buffers)[...] = array.init() if callable(array.init) else array.init
        no_slots = program.new_vectors(0)
        return State(program.new_vector(), buffers, self.seed, no_slots, np.ones(1))

    def initial_state(self) -> State:
        """The state with initial weights, drawn by the seed."""
        state = self.blank_state()
        for number, array in enumerate(self.program.parameters):
            draw = Draw(self.seed, number)
            view, start = array.view(state.theta), array.init(array.name, array.shape, draw)
            with np.errstate(over="ignore"):  # named here
                view[...] = start
            if not np.isfinite(view).all():
                raise ValueError(
                    f"init of {array.name} gives numbers up to {np.abs(start).max():g}, "
                    f"which are not finite in {view.dtype}"
                )
        return state


def _check_constants(program: Program) -> None:
    """Refuse constants that are 0 in the network's dtype though they may not be 0."""
    smallest = np.finfo(program.dtype).tiny
    norms = np.isin(program.ops["code"], (opcodes.BATCH_NORM, opcodes.LAYER_NORM))
    constants = [("epsilon of a normalisation", value) for value in program.ops["epsilon"][norms]]
    if program.loss["code"][0] == LOSSES["huber"].code:
        constants.append(("delta of huber", program.loss["constant"][0]))
    if program.loss["code"][0] == LOSSES["quantile"].code:
        _check_levels(program.loss["constant"], program.dtype)
    for name, value in constants:
        if value < smallest:
            raise ValueError(f"{name} is {value:g}, which is 0 in {program.dtype}")


def _check_levels(levels: np.ndarray, dtype: np.dtype) -> None:
    for level, rounded in zip(levels, levels.astype(dtype), strict=True):
        if min(rounded, 1 - rounded) < np.finfo(dtype).tiny:
            raise ValueError(f"level {float(level)!r} of quantile is {rounded:g} in {dtype}")


def as_dtype(dtype: Any) -> np.dtype:
    """A dtype that engines compute in."""
    try:
        name = np.dtype(dtype).name if dtype is not None else "None"  # NumPy takes None for float64
    except (TypeError, ValueError, SyntaxError):  # NumPy parses text such as "f4, f4"
        name = str(dtype)
    if name not in DTYPES:
        raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    return np.dtype(name)
