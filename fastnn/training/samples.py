"""`Samples` of a user's arrays, checked, to train on and to validate with.

``net`` is the `Network` that they are for.
"""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Samples
from fastnn._utils import checks
from fastnn.data.targets import Targets, as_targets, class_weights
from fastnn.data.validation import (
    as_array,
    as_features,
    as_numbers,
    as_sample_weight,
    check_codes,
    on_host,
    rescaled_weights,
)
from fastnn.nn.protocol import NetworkProtocol


class TrainingData(NamedTuple):
    """What a training learns from, and what it is scored on."""

    samples: Samples
    indices: np.ndarray  # of the samples to train on
    validation: Samples | None


def training_data(
    net: NetworkProtocol,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | str | None = None,
    validation: Any = None,
) -> TrainingData:
    """The data of arguments as `Network.fit` takes them.

    ``class_weight`` weighs what is trained on, and counts only that where it is "balanced". Scores
    of the validation data take ``sample_weight`` alone: classes are not known in advance where a
    network is used.
    """
    if net.takes_gpu_arrays:
        y = on_host(y, "y")
    samples = checked_samples(net, X, y, sample_weight)
    indices, held_out = split_off(net, samples, validation)
    if class_weight is not None:
        weights = _with_class_weight(net, y, samples, indices, class_weight)
        samples = dataclasses.replace(samples, weights=weights)
    return TrainingData(samples, indices, held_out)


def checked_samples(net: NetworkProtocol, X: Any, y: Any, sample_weight: Any = None) -> Samples:
    """Samples of arguments as `Network.evaluate` takes them."""
    X = checked_features(net, X)
    if net.takes_gpu_arrays:
        y, sample_weight = on_host(y, "y"), on_host(sample_weight, "sample_weight")
    weights = None
    if sample_weight is not None:
        weights = as_sample_weight(sample_weight, len(X), net.dtype)
        y = _without_uncounted(y, weights)
    targets = as_targets(y, len(X), net.outputs, net.loss.name, net.dtype)
    classify = _labels(net, y, targets) is not None or net.loss.spec.classifies
    return Samples(X, targets.labels, targets.values, weights, classify)


def _without_uncounted(y: Any, weights: np.ndarray) -> Any:
    """``y`` where samples of weight 0 have the target of a sample that counts.

    Their own may be what fills a gap in a table, such as NaN, −1 or 1e30: nothing looks at it.
    """
    if weights.all():
        return y
    source = as_numbers(y, "y")
    if source.ndim == 0 or len(source) != len(weights):
        return y  # `as_targets` tells what is wrong
    source = source.copy()
    source[weights == 0] = source[weights.argmax()]
    return source


def checked_features(net: NetworkProtocol, X: Any) -> Any:
    """X alone, every number of it finite: an array, or one that stays on the GPU."""
    X = as_features(X, net.dtype, net.inputs, "X", True, net.takes_gpu_arrays)
    check_codes(X, net.program.cardinalities)
    # `as_features` has checked a NumPy array; the engine checks one on the GPU.
    if not isinstance(X, np.ndarray) and not net.engine.is_finite(X):
        as_features(X.to_host(), net.dtype)  # raises the error that names the place
    return X


def split_off(
    net: NetworkProtocol, samples: Samples, validation: Any
) -> tuple[np.ndarray, Samples | None]:
    """Indices of the samples to train on, and the samples to validate with.

    ``validation`` is as `Network.fit` takes it.
    """
    n = len(samples)
    if validation is None:
        return np.arange(n), None
    if isinstance(validation, numbers.Real) and not isinstance(validation, bool):
        return _split_share(net, samples, validation)
    if isinstance(validation, np.ndarray) and validation.dtype.kind in "iu":
        return _set_aside(samples, validation)
    if not isinstance(validation, tuple | list) or len(validation) not in (2, 3):
        raise TypeError(
            "validation must be None, a fraction, row numbers, (X, y), or (X, y, sample_weight); "
            f"got {type(validation).__name__}"
        )
    try:
        return np.arange(n), checked_samples(net, *validation)
    except (ValueError, TypeError) as error:
        raise type(error)(f"validation: {error}") from error


def _set_aside(samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, Samples]:
    """The other samples' indices, and the samples ``rows``."""
    n = len(samples)
    chosen = np.zeros(n, np.bool_)
    if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"validation must hold row numbers from 0 to {n - 1}, at least one")
    chosen[rows] = True
    kept, held_out = np.flatnonzero(~chosen), samples.take(np.flatnonzero(chosen))
    if not len(kept):
        raise ValueError(f"validation has all {n} rows; none is left to train on")
    _check_weights(samples, kept, held_out)
    return kept, held_out


def _check_weights(samples: Samples, kept: np.ndarray, held_out: Samples) -> None:
    """ValueError where one of two parts has no sample that counts."""
    for weights in (held_out.weights, None if samples.weights is None else samples.weights[kept]):
        if weights is not None and not weights.any():
            raise ValueError(
                "validation leaves one part with no sample whose sample_weight is above 0"
            )


def _split_share(
    net: NetworkProtocol, samples: Samples, validation: numbers.Real
) -> tuple[np.ndarray, Samples]:
    n = len(samples)
    share = checks.number("validation", validation, 0.0, 1.0, low_open=True, high_open=True)
    count = round(share * n)
    if not 0 < count < n:
        raise ValueError(
            f"validation={validation} of {n} samples leaves {n - count} to train on "
            f"and {count} to validate with"
        )
    order = philox.permutation(net.seed, opcodes.STREAM_SPLIT, 0, n)
    kept, held_out = np.sort(order[count:]), samples.take(np.sort(order[:count]))
    _check_weights(samples, kept, held_out)
    return kept, held_out


def _with_class_weight(
    net: NetworkProtocol,
    y: Any,
    samples: Samples,
    indices: np.ndarray,
    class_weight: Mapping[int, float] | str,
) -> np.ndarray:
    """The samples' weights times those of their classes."""
    labels, weights = _labels(net, y, samples), samples.weights
    if labels is None:
        raise ValueError("class_weight needs integer class labels as y")
    counted = indices if weights is None else indices[weights[indices] > 0]
    by_class = class_weights(class_weight, labels, max(net.outputs, 2), labels[counted])
    if by_class[counted].any():
        by_class = rescaled_weights(by_class, net.dtype)
        # Of two float32 numbers the product in float64 is exact.
        product = by_class.astype(np.float64) * (1.0 if weights is None else weights)
        if product[indices].any():
            return rescaled_weights(product, net.dtype)
    raise ValueError(
        "class_weight and sample_weight leave every sample to train on the weight 0; "
        "at least one must count"
    )


def _labels(net: NetworkProtocol, y: Any, targets: Targets | Samples) -> np.ndarray | None:
    """The integer class labels that y was given as, if it was."""
    if targets.labels is not None:
        return targets.labels
    values = targets.values
    assert values is not None
    if net.loss.levels:  # whose one value is the target of each output
        return None
    if net.outputs > 1:
        return values.argmax(axis=1) if as_array(y, "y").size == len(values) else None
    zero_one = net.loss.spec.classifies and np.isin(values, (0, 1)).all()
    return values[:, 0].astype(np.int64) if zero_one else None
