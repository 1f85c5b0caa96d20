"""Scalers: columns of features shifted and divided, with statistics learnt from data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from fastnn.data.validation import as_features, as_numbers

_BLOCK_BYTES = 1 << 20  # scalers work through an array in pieces of this size, in float64


class _Scaler(ABC):
    """Columns shifted and divided: (x - shift) / scale.

    A subclass learns both from data, and all its attributes are learnt. Statistics and arithmetic
    are float64; float32 data come back as float32, all else as float64.
    """

    def fit(self, X: Any) -> Self:
        """Learn the columns' statistics from X (n, features); returns the scaler itself."""
        self._learn(_as_floats(X))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """X (n, features) scaled, as a new array."""
        return self._apply(
            X, lambda block, shift, scale, unit: (_over(block, unit) - shift) / scale
        )

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Scaled X (n, features) in its original units, as a new array."""
        return self._apply(X, lambda block, shift, scale, unit: _times(block * scale + shift, unit))

    def fit_transform(self, X: Any) -> np.ndarray:
        """``fit(X)``, then ``transform(X)``."""
        return self.fit(X).transform(X)

    def _apply(self, X: Any, formula: Callable[..., np.ndarray]) -> np.ndarray:
        if not vars(self):
            raise ValueError(f"this {type(self).__name__} has not been fitted: call fit first")
        shift, scale, unit = self._shift_and_scale()
        array = _as_floats(X)
        if array.shape[1] != len(shift):
            raise ValueError(
                f"X has {array.shape[1]} columns, "
                f"but this {type(self).__name__} was fitted to {len(shift)}"
            )
        result = np.empty_like(array)
        for rows in _blocks(array):
            result[rows] = formula(array[rows], shift, scale, unit)
        return result

    @abstractmethod
    def _learn(self, array: np.ndarray) -> None:
        """Keep the statistics of the columns."""

    @abstractmethod
    def _shift_and_scale(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is subtracted from each column, what it is then divided by, and their unit."""


class Standardizer(_Scaler):
    """Scale columns to mean 0 and standard deviation 1; a constant column becomes 0.

    Attributes
    ----------
    mean_ : ndarray (features,) of float64
    scale_ : ndarray (features,) of float64
        Standard deviation (of the population: divided by n), or 1 where the column is constant.
    """

    def _learn(self, array: np.ndarray) -> None:
        lowest, highest = array.min(axis=0), array.max(axis=0)
        unit = _unit_of(np.maximum(np.abs(lowest), np.abs(highest)))
        low, high = _over(lowest, unit), _over(highest, unit)
        odd = unit != 0
        with np.errstate(over="ignore", invalid="ignore"):  # in columns of an odd size
            mean = array.mean(axis=0, dtype=np.float64)
        mean[odd] = _over(array[:, odd], unit[odd]).mean(axis=0)
        # A constant column has its value as the mean: the computed mean is rounded, which would
        # leave a tiny spread to divide by.
        mean = np.where(low == high, low, mean)
        squares = sum(
            ((_over(array[rows], unit) - mean) ** 2).sum(axis=0) for rows in _blocks(array)
        )
        scale = np.sqrt(squares / len(array))
        self.mean_: np.ndarray = _times(mean, unit)
        self.scale_: np.ndarray = _one_where_zero(_times(scale, unit))

    def _shift_and_scale(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        unit = _unit_of(np.maximum(np.abs(self.mean_), self.scale_))
        return _over(self.mean_, unit), _over(self.scale_, unit), unit


class MinMaxScaler(_Scaler):
    """Scale columns to lie from 0 to 1; a constant column becomes 0.

    Attributes
    ----------
    minimum_, maximum_ : ndarray (features,) of float64
    """

    def _learn(self, array: np.ndarray) -> None:
        self.minimum_: np.ndarray = array.min(axis=0).astype(np.float64)
        self.maximum_: np.ndarray = array.max(axis=0).astype(np.float64)

    def _shift_and_scale(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        unit = _unit_of(np.maximum(np.abs(self.minimum_), np.abs(self.maximum_)))
        low, high = _over(self.minimum_, unit), _over(self.maximum_, unit)
        return low, _one_where_zero(high - low), unit


# --- units ----------------------------------------------------------------------------------------
# Very large and very small columns are worked on in units of a power of two, which rounds nothing:
# squares of 1e200, and the range of a column from −1e308 to 1e308, would overflow.


def _unit_of(largest: np.ndarray) -> np.ndarray:
    """For columns of these largest magnitudes the exponent of two of their units, mostly 0."""
    largest = largest.astype(np.float64)
    usual = (largest == 0) | ((largest > 1e-100) & (largest < 1e100))
    return np.where(usual, 0, np.frexp(largest)[1])


def _over(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """``values`` in units of 2^unit."""
    return np.ldexp(values.astype(np.float64), -unit) if unit.any() else values


def _times(values: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """The inverse of `_over`."""
    return np.ldexp(values, unit) if unit.any() else values


def _one_where_zero(scale: np.ndarray) -> np.ndarray:
    return np.where(scale == 0, 1.0, scale)


def _as_floats(X: Any) -> np.ndarray:
    array = as_numbers(X, "X")
    return as_features(array, np.float32 if array.dtype == np.float32 else np.float64)


def _blocks(array: np.ndarray) -> Iterator[slice]:
    """The rows of an array in slices of about `_BLOCK_BYTES`."""
    step = max(1, _BLOCK_BYTES // array[:1].nbytes)
    return (slice(start, start + step) for start in range(0, len(array), step))
