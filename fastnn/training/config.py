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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name)))
        for name in ("shuffle", "progress"):
            object.__setattr__(self, name, checks.boolean(name, getattr(self, name)))
