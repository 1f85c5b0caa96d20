"""Losses with their constants; `fastnn._kernels.tables` has their table.

A loss takes the raw output z of the last layer, and ``predict`` applies the loss's link to z. The
two cross-entropies are computed from logits and never overflow.
"""

from typing import Any

from fastnn._kernels.tables import LOSSES, LossRow
from fastnn._utils import checks
from fastnn.nn.calls import named_call


def loss_table() -> str:
    """Name, formula and link of each loss, as a table for a docstring."""
    cells = [(name, row.formula, row.link) for name, row in LOSSES.items()]
    return checks.docstring_table(("name", "loss", "link of ``predict``"), cells)


class Loss:
    """A loss with its constants, for ``Network(loss=…)``.

    A plain name stands for the default constants. Per sample, with z the raw output, t the target
    and k outputs:

    {table}

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
        self.name: str = checks.one_of("loss", name, LOSSES)
        self.spec: LossRow = LOSSES[self.name]
        accepted = self.spec.constants
        self.constants: dict[str, float] = checks.filled_constants(
            f"loss {name!r}", constants, accepted
        )

    def __repr__(self) -> str:
        return named_call("Loss", self.name, self.constants)

    def to_config(self) -> dict[str, Any]:
        """Name and constants as plain data for a model file."""
        return {"name": self.name, **self.constants}


Loss.__doc__ = checks.with_table(Loss.__doc__, loss_table())


def as_loss(loss: "str | Loss") -> Loss:
    """A `Loss` from a name or a `Loss`."""
    return loss if isinstance(loss, Loss) else Loss(loss)
