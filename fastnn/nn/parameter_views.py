"""Named views of a flat vector: what ``net.parameters`` and ``net.buffers`` are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn._kernels.contract import ArrayInfo
from fastnn.data import validation


class Arrays(Mapping[str, np.ndarray]):
    """A mapping from names to views of one flat vector.

    Assigning to a name checks the shape and copies into the view.
    """

    def __init__(self, what: str, arrays: Sequence[ArrayInfo], vector: np.ndarray):
        self._what, self._vector = what, vector
        self._arrays = {array.name: array for array in arrays}

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            raise KeyError(f"no {self._what} {name!r}; known: {', '.join(self._arrays)}")
        return self._arrays[name].view(self._vector)

    def __setitem__(self, name: str, values: Any) -> None:
        view, new = self[name], validation.as_numbers(values, name)
        if new.shape != view.shape:
            raise ValueError(f"{name} has shape {view.shape}; got an array of shape {new.shape}")
        with np.errstate(over="ignore"):
            rounded = new.astype(view.dtype)
        if not np.isfinite(rounded).all():
            raise ValueError(
                f"{name} must be finite in {view.dtype}; got {new[~np.isfinite(rounded)][0]}"
            )
        view[...] = rounded

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name!r}: {array.shape}" for name, array in self._arrays.items())
        return f"{{{shapes}}}"
