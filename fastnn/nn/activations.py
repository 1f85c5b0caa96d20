"""The table of activations: name → code of the kernels and constants.

To add one: a line here, its formula and derivative in ``_kernels/scalars.py`` and
``_kernels/reference.py``.
"""

from dataclasses import dataclass, field

from fastnn._kernels import opcodes
from fastnn._utils import checks


@dataclass(frozen=True)
class ActivationSpec:
    """What the lowering needs to know of an activation.

    Attributes
    ----------
    code : int
        Code of `fastnn._kernels.opcodes`.
    constants : dict
        Name → default of its constants; at most one, ``alpha``.
    init : str
        The initialiser that ``init="auto"`` picks for a layer followed by this activation.
    """

    code: int
    constants: dict[str, float] = field(default_factory=dict)
    init: str = "glorot_uniform"


ACTIVATIONS: dict[str, ActivationSpec] = {
    "linear": ActivationSpec(opcodes.LINEAR),
    "sigmoid": ActivationSpec(opcodes.SIGMOID),
    "tanh": ActivationSpec(opcodes.TANH),
    "relu": ActivationSpec(opcodes.RELU, init="he_normal"),
    "leaky_relu": ActivationSpec(opcodes.LEAKY_RELU, {"alpha": 0.01}, init="he_normal"),
    "elu": ActivationSpec(opcodes.ELU, {"alpha": 1.0}, init="he_normal"),
    "selu": ActivationSpec(opcodes.SELU, init="lecun_normal"),
    "gelu": ActivationSpec(opcodes.GELU, init="he_normal"),
    "silu": ActivationSpec(opcodes.SILU, init="he_normal"),
    "mish": ActivationSpec(opcodes.MISH, init="he_normal"),
    "softplus": ActivationSpec(opcodes.SOFTPLUS, init="he_normal"),
    "softsign": ActivationSpec(opcodes.SOFTSIGN),
    "hard_sigmoid": ActivationSpec(opcodes.HARD_SIGMOID),
    "hard_tanh": ActivationSpec(opcodes.HARD_TANH),
}


def check_activation(name: str, constants: dict[str, float]) -> dict[str, float]:
    """The constants of activation ``name``, defaults filled in.

    Raises
    ------
    ValueError
        Unknown name (the known ones are listed), or ``alpha`` outside its range: (0, 1) for
        leaky_relu, positive for elu.
    """
    spec = ACTIVATIONS[checks.one_of("activation", name, ACTIVATIONS)]
    checks.constants(f"activation {name!r}", constants, spec.constants)
    filled = {**spec.constants, **constants}
    if "alpha" in filled:
        high = 1.0 if name == "leaky_relu" else float("inf")
        filled["alpha"] = checks.number(
            "alpha", filled["alpha"], 0.0, high, low_open=True, high_open=True
        )
    return filled
