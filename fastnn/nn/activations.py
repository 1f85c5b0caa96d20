"""Validation and documentation of activations; `fastnn._kernels.tables` has their table."""

import re

from fastnn._kernels.tables import ACTIVATIONS
from fastnn._utils import checks


def check_activation(name: str, constants: dict[str, float]) -> dict[str, float]:
    """The constants of activation ``name``, defaults filled in.

    Raises
    ------
    ValueError
        Unknown name (the known ones are listed), or ``alpha`` outside its range: (0, 1) for
        leaky_relu, positive for elu.
    TypeError
        Unknown constant, or one that is no number.
    """
    row = ACTIVATIONS[checks.one_of("activation", name, ACTIVATIONS)]
    return checks.filled_constants(f"activation {name!r}", constants, row.constants)


def activation_table() -> str:
    """Name, formula and source of each activation, as a table for a docstring."""
    cells = [(name, _shown(row.formula), row.source) for name, row in ACTIVATIONS.items()]
    return checks.docstring_table(("name", "f(z)", "source"), cells)


def _shown(formula: str) -> str:
    """A formula as a reader wants it: ``where(c, a, b)`` in words, max for maximum."""
    formula = formula.replace("maximum", "max").replace("minimum", "min")
    return re.sub(r"^where\((.+?), (.+?), (.+)\)$", r"\2 where \1, else \3", formula)
