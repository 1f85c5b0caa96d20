"""Splits of data sets.

They are functions of the seed alone: the same on every machine, whatever was drawn before.
"""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from fastnn._kernels.opcodes import STREAM_SPLIT
from fastnn._kernels.philox import permutation
from fastnn._utils import checks
from fastnn.data.validation import as_array


def train_test_split(
    X: Any, y: Any, test_size: float = 0.25, seed: int = 0, stratify: bool = False
) -> tuple[Any, ...]:
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
) -> tuple[Any, ...]:
    """Split samples at random into three sets.

    Both sizes are fractions of all samples, or numbers of them. Stratified, the test set has the
    class shares of the whole, and the validation set those of what the test set leaves, each to
    within one sample. All else is as in `train_test_split`.

    Returns
    -------
    X_train, X_validation, X_test, y_train, y_validation, y_test
    """
    X, y, n = _same_length(X, y)
    validation_count = _count(validation_size, n, "validation_size")
    test_count = _count(test_size, n, "test_size")
    if validation_count + test_count >= n:
        raise ValueError(
            f"validation_size {validation_size} and test_size {test_size} take all of {n} samples; "
            "none would be left for training"
        )
    classes = _classes(y) if stratify else None
    test, rest = _hold_out(_order(seed, n), test_count, classes)
    validation, train = _hold_out(rest, validation_count, classes)
    return tuple(_rows(data, index) for data in (X, y) for index in (train, validation, test))


def split_rows(
    n: int, shares: Sequence[float], seed: int = 0, classes: Any = None
) -> list[np.ndarray]:
    """Index arrays: the samples that are left, then those that each share sets aside in turn.

    A share is one of the samples that are left at its turn. It copies no data, as the splits of
    arrays do.

    Parameters
    ----------
    n : int
    shares : sequence of float
    seed : int
    classes : array-like (n,), optional
        Give every part the class shares of what it is taken from, to within one sample.
    """
    rest, codes, parts = _order(seed, n), None if classes is None else _classes(classes), []
    for share in shares:
        part, rest = _hold_out(rest, _count(share, len(rest), "share"), codes)
        parts.append(part)
    return [rest, *parts]


def k_fold(
    n: int, k: int = 10, seed: int = 0, classes: Any = None, groups: Any = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of index arrays (train, validation) for k-fold cross-validation of n samples.

    Every sample is in exactly one validation set. Without groups, their sizes differ by one at
    most.

    Parameters
    ----------
    n, k, seed : int
    classes : array-like (n,), optional
        Give every validation set the class shares of the whole, to within one sample.
    groups : array-like (n,), optional
        Keep samples of a group together, such as the visits of a patient. The largest groups are
        dealt first, each to the validation set with the fewest samples.

    Raises
    ------
    ValueError, TypeError
        Unless k is an integer from 2 to n, or to the number of groups; or where both ``classes``
        and ``groups`` are given.
    """
    if checks.integer("k", k, least=2) > n:
        raise ValueError(f"k is {k}; expected 2 to n = {n}")
    order = _order(seed, n)
    if groups is not None:
        if classes is not None:
            raise ValueError("give classes or groups, not both")
        folds = _dealt_groups(_column("groups", groups, n), k, order)
    elif classes is not None:
        codes = _column("classes", classes, n)
        # Class after class, and dealt one by one.
        sorted_order = order[np.argsort(codes[order], kind="stable")]
        folds = [sorted_order[i::k] for i in range(k)]
    else:
        folds = np.array_split(order, k)
    return [(np.concatenate(folds[:i] + folds[i + 1 :]), folds[i]) for i in range(k)]


def _column(name: str, values: Any, n: int) -> np.ndarray:
    """Values (n,) as numbers of those that are equal."""
    array = as_array(values, name)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}; expected ({n},)")
    return np.unique(array, return_inverse=True)[1]


def _dealt_groups(groups: np.ndarray, k: int, order: np.ndarray) -> list[np.ndarray]:
    sizes = np.bincount(groups)
    if len(sizes) < k:
        raise ValueError(f"groups has {len(sizes)} different values; expected at least k = {k}")
    met = groups[order]
    first_met = np.full(len(sizes), len(met))
    np.minimum.at(first_met, met, np.arange(len(met)))
    fold_of, loads = np.zeros(len(sizes), np.int64), np.zeros(k, np.int64)
    for group in sorted(range(len(sizes)), key=lambda g: (-sizes[g], first_met[g])):
        fold_of[group] = loads.argmin()
        loads[fold_of[group]] += sizes[group]
    return [order[fold_of[met] == i] for i in range(k)]


def _same_length(X: Any, y: Any) -> tuple[Any, Any, int]:
    """X and y, pandas objects or arrays, and their number of rows."""
    X, y = (
        data if hasattr(data, "iloc") else np.atleast_1d(as_array(data, name))
        for data, name in ((X, "X"), (y, "y"))
    )
    if len(X) != len(y):
        raise ValueError(f"y has {len(y)} rows, but X has {len(X)}")
    return X, y, len(X)


def _rows(data: Any, index: np.ndarray) -> Any:
    return data.iloc[index] if hasattr(data, "iloc") else data[index]


def _order(seed: int, n: int) -> np.ndarray:
    order = permutation(checks.integer("seed", seed, least=0), STREAM_SPLIT, 0, n)
    return order.astype(np.int32) if n < 1 << 31 else order  # half the memory


def _count(size: Any, n: int, name: str) -> int:
    """The number of samples that a fraction or a count means, at least one."""
    if isinstance(size, bool) or not isinstance(size, Real):
        raise TypeError(
            f"{name} is {size!r}; expected a fraction (float) or a number of samples (int)"
        )
    number = float(size)
    if isinstance(size, Integral):
        if not 0 < number < n:
            raise ValueError(f"{name} is {size}; expected 1 to {n - 1} of {n} samples")
        return int(size)
    if not 0 < number < 1:
        raise ValueError(
            f"{name} is {size}; expected a fraction between 0 and 1, or a whole number of samples"
        )
    return max(1, round(n * number))


def _classes(y: Any) -> np.ndarray:
    """The class of each sample as a small integer."""
    labels = np.asarray(y)
    if labels.size != len(labels):
        raise ValueError(f"stratify needs one class per sample, but y has shape {labels.shape}")
    labels = labels.reshape(-1)
    distinct = np.unique(labels)  # its return_inverse would take three times the memory
    return np.searchsorted(distinct, labels).astype(np.min_scalar_type(len(distinct)))


def _hold_out(
    order: np.ndarray, count: int, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Divide a random order into ``count`` samples held out and the rest, both in random order.

    With classes, samples are sorted by class, and of n places those are taken at which
    floor((place + 1) * count / n) steps up. Any run of places then gives its share to within one
    sample, and so does every class.
    """
    if classes is None:
        return order[:count], order[count:]
    n = len(order)
    by_class = np.argsort(classes[order], kind="stable")
    held_out = np.zeros(n, bool)
    places = -(-np.arange(1, count + 1) * n // count) - 1
    held_out[by_class[places]] = True
    return order[held_out], order[~held_out]
