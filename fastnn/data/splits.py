"""Splitting and scaling of data sets.

Splits are functions of the seed alone: the same on every machine, whatever was drawn before.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np

from fastnn._kernels.opcodes import STREAM_SPLIT
from fastnn._kernels.philox import permutation
from fastnn._utils import checks
from fastnn.data.validation import as_array, as_features, as_numbers

_BLOCK_BYTES = 1 << 20  # scalers work through an array in pieces of this size, in float64


def train_test_split(
    X: Any, y: Any, test_size: float = 0.25, seed: int = 0, stratify: bool = False
) -> tuple:
    """Split samples at random into two sets.

    Parameters
    ----------
    X, y : array-likes of n rows each
        Of any dtype; pandas frames and series stay what they are, all else becomes an array.
    test_size : float or int
        A fraction of the samples, or their number.
    seed : int
    stratify : bool
        Give every class of y (n,) the share it has in the whole to within one sample.

    Returns
    -------
    X_train, X_test, y_train, y_test

    Raises
    ------
    ValueError
        Lengths that differ, a size that leaves one of the sets empty, or ``stratify`` with a y that
        is no column.
    TypeError
        A size or a seed of another type, or a missing y.
    """
    X, y, n = _same_length(X, y)
    count = _count(test_size, n, "test_size")
    if count >= n:
        raise ValueError(
            f"test_size {test_size} takes all of {n} samples; none would be left for training"
        )
    test, train = _hold_out(_order(seed, n), count, _classes(y) if stratify else None)
    return tuple(_rows(data, index) for data in (X, y) for index in (train, test))


def train_validation_test_split(
    X: Any,
    y: Any,
    validation_size: float = 0.15,
    test_size: float = 0.15,
    seed: int = 0,
    stratify: bool = False,
) -> tuple:
    """Split samples at random into three sets; both sizes are fractions of all samples, or numbers
    of them.

    Stratified, the test set has the class shares of the whole, and the validation set those of what
    the test set leaves, each to within one sample. All else is as in `train_test_split`.

    Returns
    -------
    X_train, X_validation, X_test, y_train, y_validation, y_test
    """
    X, y, n = _same_length(X, y)
    validation_count, test_count = (
        _count(validation_size, n, "validation_size"),
        _count(test_size, n, "test_size"),
    )
    if validation_count + test_count >= n:
        raise ValueError(
            f"validation_size {validation_size} and test_size {test_size} take all of {n} samples; none would be left for training"
        )
    classes = _classes(y) if stratify else None
    test, rest = _hold_out(_order(seed, n), test_count, classes)
    validation, train = _hold_out(rest, validation_count, classes)
    return tuple(_rows(data, index) for data in (X, y) for index in (train, validation, test))


def k_fold(n: int, k: int = 10, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of index arrays (train, validation) for k-fold cross-validation of n samples.

    Every sample is in exactly one validation set; their sizes differ by one at most.

    Raises
    ------
    ValueError, TypeError
        Unless k is an integer from 2 to n.
    """
    if checks.integer("k", k, least=2) > n:
        raise ValueError(f"k is {k}; expected 2 to n = {n}")
    folds = np.array_split(_order(seed, n), k)
    return [(np.concatenate(folds[:i] + folds[i + 1 :]), folds[i]) for i in range(k)]


class _Scaler(ABC):
    """Columns shifted and divided: (x - shift) / scale. A subclass learns both from data; all its
    attributes are learnt.

    Statistics and arithmetic are float64; float32 data come back as float32, all else as float64.
    """

    def fit(self, X: Any) -> "_Scaler":
        """Learn the columns' statistics from X (n, features); returns the scaler itself."""
        self._learn(_as_floats(X))
        return self

    def transform(self, X: Any) -> np.ndarray:
        """X (n, features) scaled, as a new array."""
        return self._apply(X, lambda block, shift, scale: (block - shift) / scale)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Scaled X (n, features) in its original units, as a new array."""
        return self._apply(X, lambda block, shift, scale: block * scale + shift)

    def fit_transform(self, X: Any) -> np.ndarray:
        """``fit(X)``, then ``transform(X)``."""
        return self.fit(X).transform(X)

    def _apply(self, X: Any, formula: Callable[..., np.ndarray]) -> np.ndarray:
        if not vars(self):
            raise ValueError(f"this {type(self).__name__} has not been fitted: call fit first")
        shift, scale = self._shift_and_scale()
        array = _as_floats(X)
        if array.shape[1] != len(shift):
            raise ValueError(
                f"X has {array.shape[1]} columns, but this {type(self).__name__} was fitted to {len(shift)}"
            )
        result = np.empty_like(array)
        for rows in _blocks(array):
            result[rows] = formula(array[rows], shift, scale)
        return result

    @abstractmethod
    def _learn(self, array: np.ndarray) -> None:
        """Keep the statistics of the columns."""

    @abstractmethod
    def _shift_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """What is subtracted from each column, and what it is then divided by."""


class Standardizer(_Scaler):
    """Scale columns to mean 0 and standard deviation 1; a constant column becomes 0.

    Attributes
    ----------
    mean_ : ndarray (features,) of float64
    scale_ : ndarray (features,) of float64
        Standard deviation (of the population: divided by n), or 1 where the column is constant.
    """

    def _learn(self, array):
        # The mean of a constant column is rounded, too: taken for the column's value, it would
        # leave a tiny spread to divide by.
        lowest = array.min(axis=0)
        self.mean_ = np.where(
            lowest == array.max(axis=0), lowest, array.mean(axis=0, dtype=np.float64)
        )
        squares = sum(((array[rows] - self.mean_) ** 2).sum(axis=0) for rows in _blocks(array))
        self.scale_ = _one_where_zero(np.sqrt(squares / len(array)))

    def _shift_and_scale(self):
        return self.mean_, self.scale_


class MinMaxScaler(_Scaler):
    """Scale columns to lie from 0 to 1; a constant column becomes 0.

    Attributes
    ----------
    minimum_, maximum_ : ndarray (features,) of float64
    """

    def _learn(self, array):
        self.minimum_, self.maximum_ = (
            array.min(axis=0).astype(np.float64),
            array.max(axis=0).astype(np.float64),
        )

    def _shift_and_scale(self):
        return self.minimum_, _one_where_zero(self.maximum_ - self.minimum_)


def _one_where_zero(scale):
    return np.where(scale == 0, 1.0, scale)


def _as_floats(X):
    array = as_numbers(X, "X")
    return as_features(array, np.float32 if array.dtype == np.float32 else np.float64)


def _blocks(array: np.ndarray) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // array[:1].nbytes)
    return (slice(start, start + step) for start in range(0, len(array), step))


def _same_length(X, y):
    X, y = (
        data if hasattr(data, "iloc") else np.atleast_1d(as_array(data, name))
        for data, name in ((X, "X"), (y, "y"))
    )
    if len(X) != len(y):
        raise ValueError(f"y has {len(y)} rows, but X has {len(X)}")
    return X, y, len(X)


def _rows(data, index):
    return data.iloc[index] if hasattr(data, "iloc") else data[index]


def _order(seed, n):
    return permutation(checks.integer("seed", seed, least=0), STREAM_SPLIT, 0, n)


def _count(size, n, name):
    """The number of samples that a fraction or a count asks for, at least one."""
    if isinstance(size, bool) or not isinstance(size, Real):
        raise TypeError(
            f"{name} is {size!r}; expected a fraction (float) or a number of samples (int)"
        )
    if isinstance(size, Integral):
        if not 0 < size < n:
            raise ValueError(f"{name} is {size}; expected 1 to {n - 1} of {n} samples")
        return int(size)
    if not 0 < size < 1:
        raise ValueError(
            f"{name} is {size}; expected a fraction between 0 and 1, or a whole number of samples"
        )
    return max(1, round(n * float(size)))


def _classes(y):
    """The class of each sample as a small integer."""
    labels = np.asarray(y)
    if labels.size != len(labels):
        raise ValueError(f"stratify needs one class per sample, but y has shape {labels.shape}")
    return np.unique(labels.reshape(-1), return_inverse=True)[1]


def _hold_out(order, count, classes):
    """Part the samples of a random ``order`` into ``count`` held out and the rest; both stay in
    random order.

    With classes, the samples are put in line class by class, and of n places those are taken at
    which floor(place * count / n) steps up. Any stretch of the line then gives its share to within
    one sample, and so does every class.
    """
    if classes is None:
        return order[:count], order[count:]
    n = len(order)
    line = np.argsort(classes[order], kind="stable")
    held_out = np.zeros(n, bool)
    held_out[line[np.diff(np.arange(n + 1) * count // n) == 1]] = True
    return order[held_out], order[~held_out]
