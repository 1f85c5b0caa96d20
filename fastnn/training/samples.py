"""`Samples` of a user's arrays, checked, to train on and to validate with.

``net`` is the `Network` that they are for.
"""

import numbers
from typing import Any

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Samples
from fastnn._utils import checks
from fastnn.data.targets import Targets, as_targets, class_weights
from fastnn.data.validation import as_array, as_features, as_sample_weight, on_host
from fastnn.nn.protocol import NetworkProtocol


def checked_samples(
    net: NetworkProtocol, X: Any, y: Any, sample_weight: Any = None, class_weight: Any = None
) -> Samples:
    """Samples of arguments as `Network.fit` takes them."""
    X = checked_features(net, X)
    if net.takes_gpu_arrays:
        y, sample_weight = on_host(y, "y"), on_host(sample_weight, "sample_weight")
    targets = as_targets(y, len(X), net.outputs, net.loss.name, net.dtype)
    labels = _labels(net, y, targets)
    weights = None
    if sample_weight is not None:
        weights = as_sample_weight(sample_weight, len(X), net.dtype)
    if class_weight is not None:
        if labels is None:
            raise ValueError("class_weight needs integer class labels as y")
        by_class = class_weights(class_weight, labels, max(net.outputs, 2)).astype(net.dtype)
        weights = by_class if weights is None else weights * by_class
        if not weights.any():
            raise ValueError(
                "class_weight and sample_weight leave every sample the weight 0; "
                "at least one must count"
            )
    classify = labels is not None or net.loss.spec.classifies
    return Samples(X, targets.labels, targets.values, weights, classify)


def checked_features(net: NetworkProtocol, X: Any) -> Any:
    """X alone, every number of it finite: an array, or one that stays on the GPU."""
    X = as_features(X, net.dtype, net.inputs, "X", True, net.takes_gpu_arrays)
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
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise TypeError(
            "validation must be None, a fraction, or a pair (X, y); "
            f"got {type(validation).__name__}"
        )
    try:
        return np.arange(n), checked_samples(net, *validation)
    except (ValueError, TypeError) as error:
        raise type(error)(f"validation: {error}") from error


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
    for weights in (held_out.weights, None if samples.weights is None else samples.weights[kept]):
        if weights is not None and not weights.any():
            raise ValueError(
                f"validation={validation} leaves one part with no sample whose sample_weight and "
                "class_weight are above 0"
            )
    return kept, held_out


def _labels(net: NetworkProtocol, y: Any, targets: Targets) -> np.ndarray | None:
    """The integer class labels that y was given as, if it was."""
    if targets.labels is not None:
        return targets.labels
    values = targets.values
    assert values is not None
    if net.outputs > 1:
        return values.argmax(axis=1) if as_array(y, "y").size == len(values) else None
    zero_one = net.loss.spec.classifies and np.isin(values, (0, 1)).all()
    return values[:, 0].astype(np.int64) if zero_one else None
