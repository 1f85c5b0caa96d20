"""What the members of a `BatchEnsemble` have of their own: heads, and how their factors start."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.nn.initializers import (
    ArrayInitializer,
    Draw,
    Initializer,
    Shape,
    explicit_initializer,
)
from fastnn.nn.layer import Layer


class Heads(Layer):
    """A linear map of its own for each member: y_m = x_m W_m + b_m; the end of a `BatchEnsemble`.

    Parameters
    ----------
    units : int
        Outputs of a member.
    init, bias_init : str, Initializer or array
        How W, (members, n_in, units), and b, (members, units), start; as arrays they have these
        shapes. Each member draws its own numbers.
    bias : bool
        Whether there is a b.
    lr_factor, decay_factor : float
        Factors of the learning rate and of the optimiser's ``weight_decay`` for W.
    bias_lr_factor : float
        Factor of the learning rate for b.
    """

    # Parameters: each but the first has a default; they are those of `Dense`.
    def __init__(
        self,
        units: int,
        init: Any = "fan_in_uniform",
        bias: bool = True,
        bias_init: Any = "fan_in_uniform",
        lr_factor: float = 1.0,
        decay_factor: float = 1.0,
        bias_lr_factor: float = 1.0,
    ):
        self.units: int = checks.integer("units", units)
        self.init: Initializer | ArrayInitializer = explicit_initializer("init", init)
        self.bias: bool = checks.boolean("bias", bias)
        self.bias_init: Initializer | ArrayInitializer = explicit_initializer(
            "bias_init", bias_init
        )
        self.lr_factor: float = checks.number("lr_factor", lr_factor)
        self.decay_factor: float = checks.number("decay_factor", decay_factor)
        self.bias_lr_factor: float = checks.number("bias_lr_factor", bias_lr_factor)


class FirstScale:
    """The initialiser of the first r, (members, columns): one draw a member and group."""

    def __init__(self, start: str, groups: Sequence[int] | None):
        self.start: str = start
        self.groups: Sequence[int] | None = groups

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        members, width = shape
        groups = [1] * width if self.groups is None else self.groups
        n = members * len(groups)
        drawn = draw.normal(n) if self.start == "normal" else np.sign(draw.uniform(n) - 0.5)
        return np.repeat(drawn.reshape(members, -1), groups, axis=1)


class SameForAll:
    """An initialiser (members, …) that draws once and gives each member the same numbers."""

    def __init__(self, init: Any):
        self.init: Any = init

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        return np.broadcast_to(self.init(name, shape[1:], draw), shape)


class OfMembers:
    """An initialiser of biases (members, units), each of which starts as one of a long bias."""

    def __init__(self, init: Any):
        self.init: Any = init

    def __call__(self, name: str, shape: Shape, draw: Draw) -> np.ndarray:
        if isinstance(self.init, ArrayInitializer):
            return self.init(name, shape, draw)
        return self.init(name, (int(np.prod(shape)),), draw).reshape(shape)
