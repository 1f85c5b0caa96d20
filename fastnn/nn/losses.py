"""The table of losses: name → code of the kernels, link, and constants.

A loss takes the raw output z of the last layer and knows its link, the function that ``predict``
applies to z: softmax cross-entropy and binary cross-entropy are computed from logits and never
overflow.

To add one: a line here, and its formula in ``_kernels/reference.py`` and
``_kernels/numba_cpu/loss.py``.
"""

from dataclasses import dataclass, field
from typing import Any

from fastnn._kernels import opcodes
from fastnn._utils import checks


@dataclass(frozen=True)
class LossSpec:
    """What the network needs to know of a loss.

    Attributes
    ----------
    code : int
        Code of `fastnn._kernels.opcodes`.
    link : str
        What ``predict`` applies to the raw output: identity, softmax, sigmoid or exp.
    constants : dict
        Name → default of its constants.
    classifies : bool
        Whether ``evaluate`` reports accuracy (otherwise R²).
    """

    code: int
    link: str = "identity"
    constants: dict[str, float] = field(default_factory=dict)
    classifies: bool = False


LOSSES: dict[str, LossSpec] = {
    "softmax_cross_entropy": LossSpec(
        opcodes.SOFTMAX_CROSS_ENTROPY, "softmax", {"label_smoothing": 0.0}, classifies=True
    ),
    "binary_cross_entropy": LossSpec(
        opcodes.BINARY_CROSS_ENTROPY, "sigmoid", {"label_smoothing": 0.0}, classifies=True
    ),
    "mse": LossSpec(opcodes.MSE),
    "quadratic": LossSpec(opcodes.QUADRATIC),
    "mae": LossSpec(opcodes.MAE),
    "huber": LossSpec(opcodes.HUBER, constants={"delta": 1.0}),
    "poisson": LossSpec(opcodes.POISSON, "exp"),
}


class Loss:
    """A loss with its constants, for ``Network(loss=…)``; a plain name stands for the default
    constants.

    With z the raw output, t the target and k outputs, per sample:

    =====================  =============================================  ==========================
    name                   loss                                           link of ``predict``
    =====================  =============================================  ==========================
    softmax_cross_entropy  −Σⱼ tⱼ log softmax(z)ⱼ                         softmax
    binary_cross_entropy   −Σⱼ tⱼ log σ(zⱼ) + (1 − tⱼ) log(1 − σ(zⱼ))     sigmoid
    mse                    (1/k) Σⱼ (zⱼ − tⱼ)²                            identity
    quadratic              ½ Σⱼ (zⱼ − tⱼ)²                                identity
    mae                    (1/k) Σⱼ |zⱼ − tⱼ|                             identity
    huber                  (1/k) Σⱼ ½d² where |d| < δ, else δ(|d| − δ/2)  identity
    poisson                (1/k) Σⱼ exp(zⱼ) − tⱼ zⱼ                       exp
    =====================  =============================================  ==========================

    Parameters
    ----------
    name : str
        A name of the table.
    **constants : float
        ``label_smoothing`` ε in [0, 1) of the two cross-entropies (targets become (1 − ε) t + ε/k,
        or (1 − ε) t + ε/2 for the binary one; Szegedy et al. 2016); ``delta`` > 0 of huber.

    Raises
    ------
    ValueError, TypeError
        Unknown name, unknown constant, constant out of range.
    """

    def __init__(self, name: str, **constants: float):
        self.spec = LOSSES[checks.one_of("loss", name, LOSSES)]
        self.name = name
        checks.constants(f"loss {name!r}", constants, self.spec.constants)
        self.constants = {**self.spec.constants, **constants}
        if "label_smoothing" in self.constants:
            checks.number(
                "label_smoothing", self.constants["label_smoothing"], 0.0, 1.0, high_open=True
            )
        if "delta" in self.constants:
            checks.number("delta", self.constants["delta"], 0.0, low_open=True)

    def __repr__(self) -> str:
        return f"Loss({', '.join([repr(self.name), *(f'{k}={v:g}' for k, v in self.constants.items())])})"

    def to_config(self) -> dict[str, Any]:
        """Name and constants as plain data for a model file."""
        return {"name": self.name, **self.constants}


def as_loss(loss: "str | Loss") -> Loss:
    """A `Loss` from a name or a `Loss`."""
    return loss if isinstance(loss, Loss) else Loss(loss)
