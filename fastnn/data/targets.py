"""Targets: what users pass as y becomes the labels or values that engines take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn.data.validation import as_numbers, convert, require

_SUM_TOLERANCE = 1e-3  # how far from 1 the probabilities of a sample may sum
# These take integer class labels as one-hot rows.
_LABEL_LOSSES = ("binary_cross_entropy", "mse", "quadratic")


@dataclass(frozen=True, eq=False)
class Targets:
    """What a network is to answer: either class labels or values, the other being None.

    Attributes
    ----------
    labels : ndarray (n,) of int64, or None
    values : ndarray (n, outputs) of the network's dtype, or None
    """

    labels: np.ndarray | None = None
    values: np.ndarray | None = None


def as_targets(y: Any, n: int, n_outputs: int, loss_name: str, dtype: DTypeLike) -> Targets:
    """Targets for ``n`` samples, as a loss takes them.

    - softmax_cross_entropy: whole numbers of any dtype, (n,) or (n, 1), are labels; (n, outputs)
      probabilities, one-hot or not, are values.
    - binary_cross_entropy: values from 0 to 1; integer labels become one-hot values.
    - mse, quadratic: finite values; integer labels become one-hot values.
    - quantile: one finite value for each sample, (n,) or (n, 1), the target of each output.
    - any other loss: finite values, which poisson wants to be 0 or more.

    Values are (n, outputs), or (n,) for a network of one output. Labels lie in 0 to outputs - 1.

    Parameters
    ----------
    y : array-like
        Any container that `as_numbers` reads.
    n, n_outputs : int
        Samples, and outputs of the network.
    loss_name : str
    dtype : numpy.float32 or numpy.float64
        Of the values; labels are int64.

    Returns
    -------
    Targets

    Raises
    ------
    TypeError
        Where `as_numbers` does, above all for text labels.
    ValueError
        A wrong shape, or a target outside what the loss takes; it names the first offending row.
    """
    source = as_numbers(y, "y")
    if source.ndim not in (1, 2):
        raise ValueError(f"y is {source.ndim}-D with shape {source.shape}; expected 1-D or 2-D")
    if len(source) != n:
        raise ValueError(f"y has {len(source)} rows, but X has {n}")
    is_column = source.ndim == 1 or source.shape[1] == 1
    if loss_name == "softmax_cross_entropy":
        if is_column:
            return Targets(labels=_as_labels(source, n_outputs))
        return Targets(values=_as_probabilities(source, n_outputs, dtype))
    if loss_name in _LABEL_LOSSES and is_column and n_outputs > 1 and source.dtype.kind in "biu":
        return Targets(values=one_hot(_as_labels(source, n_outputs), n_outputs, dtype))
    if loss_name == "quantile":
        if not is_column:
            raise ValueError(
                f"y has {source.shape[1]} columns; quantile takes one value for each sample"
            )
        return Targets(values=np.repeat(_as_values(source, 1, dtype), n_outputs, axis=1))
    values = _as_values(source, n_outputs, dtype)
    if loss_name == "binary_cross_entropy":
        is_valid = (values >= 0) & (values <= 1)
        require(is_valid, values, "y", "binary_cross_entropy takes numbers from 0 to 1")
    if loss_name == "poisson":
        require(values >= 0, values, "y", "poisson takes numbers of 0 or more")
    return Targets(values=values)


def class_weights(
    class_weight: Mapping[int, float] | str,
    labels: np.ndarray,
    n_classes: int,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """The weight of each sample that follows from its class.

    Parameters
    ----------
    class_weight : mapping of class to weight, or "balanced"
        A class the mapping lacks counts 1. "balanced" weighs class c by n / (n_classes * n_c), n_c
        being its number of samples, so that all classes count alike.
    labels : ndarray (n,) of integers in 0 to n_classes - 1
    n_classes : int
    counted : ndarray of integers, optional
        The labels whose numbers "balanced" takes; all of ``labels`` by default.

    Returns
    -------
    ndarray (n,) of float64

    Raises
    ------
    ValueError
        An unknown class, a weight that is negative or not finite, or another word than "balanced".
    TypeError
        Neither a mapping nor a word.
    """
    if isinstance(class_weight, Mapping):
        unknown = [label for label in class_weight if label not in range(n_classes)]
        if unknown:
            raise ValueError(
                f"class_weight names class {unknown[0]!r}; the classes are 0 to {n_classes - 1}"
            )
        weights = as_numbers(list(class_weight.values()), "class_weight")
        is_valid = np.isfinite(weights) & (weights >= 0)
        require(is_valid, weights, "class_weight", "weights are finite and 0 or more")
        per_class = np.ones(n_classes)
        per_class[[int(label) for label in class_weight]] = weights
    elif isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(
                f"class_weight is {class_weight!r}; "
                'expected "balanced" or a mapping of class to weight'
            )
        counted = labels if counted is None else counted
        counts = np.bincount(counted, minlength=n_classes)
        # A class without samples is never looked up.
        per_class = len(counted) / (n_classes * np.maximum(counts, 1))
    else:
        raise TypeError(
            f"class_weight is a {type(class_weight).__name__}; "
            'expected "balanced" or a mapping of class to weight'
        )
    return per_class[labels]


def one_hot(labels: np.ndarray, n_classes: int, dtype: DTypeLike) -> np.ndarray:
    """Labels (n,) as rows (n, n_classes) that are 1 at the label and 0 elsewhere."""
    values = np.zeros((len(labels), n_classes), dtype)
    values[np.arange(len(labels)), labels] = 1
    return values


def _as_labels(source: np.ndarray, n_classes: int) -> np.ndarray:
    labels = source.reshape(-1)
    valid = (labels >= 0) & (labels < n_classes) & (labels == np.floor(labels))  # false of NaN
    require(valid, labels, "y", f"class labels are whole numbers from 0 to {n_classes - 1}")
    return np.require(labels, np.int64, ("C", "A"))


def _as_values(source: np.ndarray, n_outputs: int, dtype: DTypeLike) -> np.ndarray:
    if source.ndim == 1 and n_outputs > 1:
        raise ValueError(
            f"y is 1-D of dtype {source.dtype}; expected shape ({len(source)}, {n_outputs}), one "
            "column per output, or integer class labels where the loss takes them"
        )
    columns = source[:, None] if source.ndim == 1 else source
    if columns.shape[1] != n_outputs:
        raise ValueError(
            f"y has {columns.shape[1]} columns, but the network has {n_outputs} outputs"
        )
    return convert(columns, dtype, "y")


def _as_probabilities(source: np.ndarray, n_outputs: int, dtype: DTypeLike) -> np.ndarray:
    values = _as_values(source, n_outputs, dtype)
    require(values >= 0, values, "y", "probabilities are 0 or more")
    sums = values.sum(axis=1, dtype=np.float64)
    is_valid = np.abs(sums - 1) <= _SUM_TOLERANCE
    require(is_valid, sums, "the sum of y", "the probabilities of a sample sum to 1")
    return values
