"""A user's data, checked, as an engine takes it: `Samples` to train on and to validate with.

``net`` is the `Network` that they are for.
"""

import numbers
from typing import Any

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Samples
from fastnn._utils import checks
from fastnn.data import validation as validate


def checked_samples(
    net: Any, X: Any, y: Any, sample_weight: Any = None, class_weight: Any = None
) -> Samples:
    """Samples of arguments as `Network.fit` takes them."""
    X = checked_features(net, X)
    if net.takes_gpu_arrays:
        y, sample_weight = (
            validate.on_host(y, "y"),
            validate.on_host(sample_weight, "sample_weight"),
        )
    targets = validate.as_targets(y, len(X), net.outputs, net.loss.name, net.dtype)
    weights = (
        None
        if sample_weight is None
        else validate.as_sample_weight(sample_weight, len(X), net.dtype)
    )
    labels = _labels(net, y, targets)
    if class_weight is not None:
        if labels is None:
            raise ValueError("class_weight needs integer class labels as y")
        by_class = validate.class_weights(class_weight, labels, max(net.outputs, 2)).astype(
            net.dtype
        )
        weights = by_class if weights is None else weights * by_class
        if not weights.any():
            raise ValueError(
                "class_weight and sample_weight leave every sample the weight 0; at least one must count"
            )
    return Samples(
        X, targets.labels, targets.values, weights, labels is not None or net.loss.spec.classifies
    )


def checked_features(net: Any, X: Any) -> Any:
    """X alone, every number of it finite: an array, or one that stays on the GPU."""
    X = validate.as_features(X, net.dtype, net.inputs, gpu=net.takes_gpu_arrays)
    if not isinstance(X, np.ndarray) and not net.engine.is_finite(X):
        validate.as_features(X.to_host(), net.dtype)  # names the place
    return X


def split_off(net: Any, samples: Samples, validation: Any) -> tuple[np.ndarray, Samples | None]:
    """Indices of the samples to train on, and the samples to validate with, of what `Network.fit`
    takes as ``validation``.
    """
    n = len(samples)
    if validation is None:
        return np.arange(n), None
    if isinstance(validation, numbers.Real) and not isinstance(validation, bool):
        return _share(net, samples, validation)
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise TypeError(
            f"validation must be None, a fraction, or a pair (X, y); got {type(validation).__name__}"
        )
    try:
        return np.arange(n), checked_samples(net, *validation)
    except (ValueError, TypeError) as error:
        raise type(error)(f"validation: {error}") from error


def _share(net, samples, validation):
    n, share = (
        len(samples),
        checks.number("validation", validation, 0.0, 1.0, low_open=True, high_open=True),
    )
    count = round(share * n)
    if not 0 < count < n:
        raise ValueError(
            f"validation={validation} of {n} samples leaves {n - count} to train on and {count} to validate with"
        )
    order = philox.permutation(net.seed, opcodes.STREAM_SPLIT, 0, n)
    kept, held_out = np.sort(order[count:]), samples.take(np.sort(order[:count]))
    if samples.weights is not None and not (samples.weights[kept].any() and held_out.weights.any()):
        raise ValueError(
            f"validation={validation} leaves one part with no sample whose sample_weight and class_weight are above 0"
        )
    return kept, held_out


def _labels(net, y, targets):
    """The integer class labels that y was given as, if it was."""
    if targets.is_labels:
        return targets.labels
    if net.outputs > 1:
        return (
            targets.values.argmax(axis=1)
            if validate.as_array(y, "y").size == len(targets)
            else None
        )
    zero_one = net.loss.spec.classifies and np.isin(targets.values, (0, 1)).all()
    return targets.values[:, 0].astype(np.int64) if zero_one else None
