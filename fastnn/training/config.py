"""`FitConfig`: the arguments of `fit` that say how to train."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastnn._utils import checks
from fastnn.optim.optimizers import LBFGS, Optimizer


@dataclass(frozen=True)
class FitConfig:
    """How to train; `Network.fit` describes each field.

    Raises
    ------
    ValueError, TypeError
        A field that `fit` does not take; the message names it.
    """

    epochs: int
    batch_size: int
    optimizer: Optimizer | LBFGS
    shuffle: bool
    callbacks: Sequence[Any]
    metrics: Sequence[str]
    progress: bool
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name)))
        for name in ("shuffle", "progress", "drop_last"):
            object.__setattr__(self, name, checks.boolean(name, getattr(self, name)))

    def samples_per_epoch(self, n: int) -> int:
        """How many of n samples an epoch trains on."""
        drops = self.drop_last and n > self.batch_size and not isinstance(self.optimizer, LBFGS)
        return n - n % self.batch_size if drops else n
