"""Exceptions of the library; bad arguments raise plain ``ValueError`` and ``TypeError``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnn.training.history import History


class DivergenceError(ArithmeticError):
    """A loss or a parameter became infinite or NaN while training.

    The network keeps the last finite parameters; the optimiser's state is dropped.

    Attributes
    ----------
    epoch, step : int
        Where it happened: epoch counted from 1, mini-batch within the epoch counted from 1.
    history : History or None
        What `fit` had recorded until then; ``error.history.diagnose()`` tells why.
    """

    def __init__(self, message: str, epoch: int, step: int, history: "History | None" = None):
        super().__init__(message)
        self.epoch: int = epoch
        self.step: int = step
        self.history: History | None = history

    def __reduce__(self) -> tuple[type["DivergenceError"], tuple[Any, ...]]:
        return type(self), (str(self), self.epoch, self.step, self.history)


class ModelFileError(ValueError):
    """A model file is damaged, truncated, or not a fastnn model at all."""
