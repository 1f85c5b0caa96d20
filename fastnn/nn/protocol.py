"""`NetworkProtocol`: what the modules below `fastnn.network` call of a `Network`.

They are handed a network but cannot import its class, which imports them.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from fastnn._kernels.contract import Engine, Program, Samples
from fastnn._kernels.state import State
from fastnn.errors import HistoryProtocol
from fastnn.nn.layers import Layer
from fastnn.nn.losses import Loss
from fastnn.nn.parameter_views import Arrays
from fastnn.optim.optimizers import LBFGS, Optimizer


class NetworkProtocol(Protocol):
    """The attributes and methods of `Network` that need no module above this one."""

    layers: list[Layer]
    inputs: int
    loss: Loss
    dtype: np.dtype
    seed: int
    program: Program
    backend: str
    state: State
    takes_gpu_arrays: bool
    optimizer_kind: str | None
    epochs: int
    metadata: dict[str, Any]

    @property
    def parameters(self) -> Arrays: ...

    @property
    def buffers(self) -> Arrays: ...

    @property
    def precision(self) -> str: ...

    @property
    def outputs(self) -> int: ...

    @property
    def engine(self) -> Engine: ...

    # Parameters: those of `Network.fit` that the callers here use.
    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = ...,
        batch_size: int = ...,
        optimizer: str | Optimizer | LBFGS = ...,
        *,
        validation: Any = ...,
        sample_weight: Any = ...,
        class_weight: Mapping[int, float] | str | None = ...,
        callbacks: Sequence[Any] = ...,
        progress: bool = ...,
    ) -> HistoryProtocol: ...

    def use_optimizer(self, kind: str) -> None: ...

    def forget_optimizer(self) -> None: ...

    def forward(self, X: Any) -> np.ndarray: ...

    def predict(self, X: Any) -> np.ndarray: ...

    def evaluate(self, X: Any, y: Any, sample_weight: Any = ...) -> dict[str, float]: ...

    def score(self, samples: Samples, metrics: Sequence[str]) -> dict[str, float]: ...

    def gradients(
        self, X: Any, y: Any, training: bool = ...
    ) -> tuple[float, dict[str, np.ndarray]]: ...

    def penalty(self) -> float: ...

    def copy(self, dtype: Any = ..., backend: str | None = ...) -> "NetworkProtocol": ...

    def save(self, path: str | os.PathLike[str]) -> None: ...
