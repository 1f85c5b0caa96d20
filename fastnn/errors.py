"""Exceptions of the library; bad arguments raise plain ``ValueError`` and ``TypeError``."""

from collections.abc import ItemsView
from typing import Any, Protocol


class HistoryProtocol(Protocol):
    """What modules below `fastnn.training` use of a `History`."""

    stopped: str | None
    gradient_flow: Any

    def __getitem__(self, key: str, /) -> list[float]: ...

    def get(self, key: str, default: Any = ..., /) -> Any: ...

    def items(self) -> ItemsView[str, list[float]]: ...

    def diagnose(self) -> Any: ...


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

    def __init__(self, message: str, epoch: int, step: int, history: HistoryProtocol | None = None):
        super().__init__(message)
        self.epoch: int = epoch
        self.step: int = step
        self.history: HistoryProtocol | None = history

    def __reduce__(self) -> tuple[type["DivergenceError"], tuple[Any, ...]]:
        return type(self), (str(self), self.epoch, self.step, self.history)


class ModelFileError(ValueError):
    """A model file is damaged, truncated, or not a fastnn model at all."""
