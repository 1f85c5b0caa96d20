"""Losses with their constants; `fastnn._kernels.tables` has their table.

A loss takes the raw output z of the last layer, and ``predict`` applies the loss's link to z. The
two cross-entropies are computed from logits and never overflow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.tables import LOSSES, LossRow
from fastnn._utils import checks
from fastnn._utils.calls import named_call


def loss_table() -> str:
    """Name, formula and link of each loss, as a table for a docstring."""
    cells = [(name, row.formula, row.link) for name, row in LOSSES.items()]
    return checks.docstring_table(("name", "loss", "link of ``predict``"), cells)


class Loss:
    """A loss with its constants, for ``Network(loss=…)``.

    A plain name stands for the default constants. Per sample, with z the raw output, t the target
    and k outputs:

    {table}

    quantile has an output for each level τ: the value below which the target lies with probability
    τ (Koenker & Bassett 1978). Its target is one value for each sample. Each output is trained for
    its level alone; ``predict`` sorts the outputs of a sample, so that quantiles never cross, which
    never raises the loss (rearrangement: Chernozhukov, Fernández-Val & Galichon 2010), and of an
    ensemble averages what is sorted for each member. R², MAE and RMSE are of the level nearest ½.

    Parameters
    ----------
    name : str
        A name of the table.
    **constants : float
        ``label_smoothing`` ε in [0, 1) of the two cross-entropies (targets become (1 − ε) t + ε/k,
        or (1 − ε) t + ε/2 for the binary one; Szegedy et al. 2016); ``delta`` > 0 of huber;
        ``levels`` of quantile, a sequence of numbers in (0, 1), each above the one before.

    Raises
    ------
    ValueError, TypeError
        Unknown name, unknown constant, constant out of range.
    """

    def __init__(self, name: str, **constants: Any):
        self.name: str = checks.one_of("loss", name, LOSSES)
        self.spec: LossRow = LOSSES[self.name]
        self.levels: tuple[float, ...] = self.spec.levels
        owner, accepted = f"loss {name!r}", self.spec.constants
        if self.spec.levels:
            checks.constants(owner, constants, ["levels", *accepted])
            self.levels = _checked_levels(constants.pop("levels", self.spec.levels))
        self.constants: dict[str, float] = checks.filled_constants(owner, constants, accepted)

    def __repr__(self) -> str:
        levels = {"levels": self.levels} if self.levels else {}
        return named_call("Loss", self.name, levels | self.constants)

    def to_config(self) -> dict[str, Any]:
        """Name and constants as plain data for a model file."""
        levels = {"levels": list(self.levels)} if self.levels else {}
        return {"name": self.name, **levels, **self.constants}

    def record(self) -> np.ndarray:
        """What engines read: an array of one `opcodes.LOSS`, or of one for each level.

        It is that of a network without members; `lowering.lower` says where there are some.
        """
        record = np.zeros(max(1, len(self.levels)), opcodes.LOSS)
        record["members"] = 1
        record["code"], record["link"] = self.spec.code, opcodes.LINKS[self.spec.link]
        record["constant"] = self.levels or next(iter(self.constants.values()), 0.0)
        return record

    def check_outputs(self, n: int) -> None:
        """ValueError where the loss cannot be of n outputs."""
        if self.levels and n != len(self.levels):
            raise ValueError(
                f"loss {self.name!r} needs an output for each of its levels {self.levels}, "
                f"but the last layer has {n}"
            )


Loss.__doc__ = checks.with_table(Loss.__doc__, loss_table())


def _checked_levels(levels: Any) -> tuple[float, ...]:
    if isinstance(levels, str) or not isinstance(levels, Sequence | np.ndarray) or not len(levels):
        raise TypeError(
            f"levels must be a list of numbers, such as (0.1, 0.5, 0.9); got {levels!r}"
        )
    numbers = [
        checks.number(f"levels[{i}]", level, 0.0, 1.0, low_open=True, high_open=True)
        for i, level in enumerate(levels)
    ]
    for i in range(1, len(numbers)):
        if numbers[i] <= numbers[i - 1]:
            raise ValueError(
                f"levels must rise, but levels[{i}] is {numbers[i]:g} after {numbers[i - 1]:g}"
            )
    return tuple(numbers)


def as_loss(loss: "str | Loss") -> Loss:
    """A `Loss` from a name or a `Loss`."""
    return loss if isinstance(loss, Loss) else Loss(loss)
