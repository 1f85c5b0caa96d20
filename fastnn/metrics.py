"""Metrics: scores of a network's answers, averaged with sample weights w (n,).

Accuracy comes from the engine's `Evaluation`. The others are functions of the predictions p (n, k)
and the targets t (n, k), which are made only for a metric that needs them. Averages are sums, not
dot products: the threads of BLAS would spin while the engine wants the cores for the next epoch.

To add one: a function here and a line in ``VALUE_METRICS``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn._kernels.contract import Evaluation, Samples
from fastnn._utils import checks
from fastnn.data.targets import one_hot
from fastnn.nn.protocol import NetworkProtocol


def r2(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Coefficient of determination 1 − Σ(p − t)²/Σ(t − t̄)², averaged over outputs.

    An output whose target is constant scores 1 where every prediction equals it, else 0. A target
    counts as constant where its standard deviation is no more than rounding makes it: the machine
    epsilon of its dtype (in float64, 16 of them, as t̄ is rounded too) times its largest magnitude.
    """
    rounding = max(np.finfo(t.dtype).eps, 16 * np.finfo(np.float64).eps)
    p, t, _ = _squarable(p, t, axis=0)
    residual = np.average((p - t) ** 2, axis=0, weights=w)
    total = np.average((t - np.average(t, axis=0, weights=w)) ** 2, axis=0, weights=w)
    varies = total > (rounding * np.abs(t).max(axis=0)) ** 2
    of_constant = np.where((p == t).all(axis=0), 1.0, 0.0)
    scores = np.where(varies, 1.0 - residual / np.where(varies, total, 1.0), of_constant)
    return float(scores.mean())


def mae(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Mean absolute error over samples and outputs."""
    return float(np.average(np.abs(p - t), axis=0, weights=w).mean())


def rmse(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Root of the mean squared error over samples and outputs."""
    p, t, unit = _squarable(p, t)
    return float(np.sqrt(np.average((p - t) ** 2, axis=0, weights=w).mean()) * unit)


def _squarable(
    p: np.ndarray, t: np.ndarray, axis: int | None = None
) -> tuple[np.ndarray, np.ndarray, Any]:
    """p and t in units in which their squares neither overflow nor vanish, and these units.

    Numbers of a usual size stay as they are. Others are divided by a power of two, in float64.
    """
    largest = np.maximum(np.abs(p).max(axis), np.abs(t).max(axis)).astype(np.float64)
    usual = ~np.isfinite(largest) | ((largest > 1e-12) & (largest < 1e18)) | (largest == 0)
    if np.all(usual):
        return p, t, 1.0
    exponent = np.where(usual, 0, np.frexp(largest)[1])
    p, t = (np.ldexp(values.astype(np.float64), -exponent) for values in (p, t))
    return p, t, np.ldexp(1.0, exponent)


VALUE_METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "r2": r2,
    "mae": mae,
    "rmse": rmse,
}
METRICS = ("accuracy", *VALUE_METRICS)
HIGHER_IS_BETTER = ("accuracy", "r2")


def metric_names(metrics: Sequence[str], classify: bool) -> tuple[str, ...]:
    """The names in ``metrics``, checked, each once.

    Where targets do not stand for classes, accuracy means r2.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise TypeError(
            f"metrics must be a sequence of names, such as ('accuracy',), not {metrics!r}"
        )
    names = [checks.one_of("metric", name, METRICS) for name in metrics]
    return tuple(
        dict.fromkeys("r2" if name == "accuracy" and not classify else name for name in names)
    )


def score(net: NetworkProtocol, samples: Samples, metrics: Sequence[str]) -> dict[str, float]:
    """Loss (penalties included) and metrics of a network, by the engine that trains it.

    Parameters
    ----------
    net : Network
    samples : Samples
    metrics : sequence of str
        As `metric_names` gives them.

    Returns
    -------
    dict
        "loss" first, then the metrics in their order.
    """
    # An overflow shows in the scores.
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = net.engine.evaluate(net.state, samples)
        scores = {"loss": float(evaluation.loss) + net.penalty()}
        values = None
        for name in metrics:
            if name == "accuracy":
                scores[name] = _accuracy(net, samples, evaluation)
            else:
                values = values or _values(net, samples, evaluation)
                scores[name] = VALUE_METRICS[name](*values)
    return scores


def _accuracy(net: NetworkProtocol, samples: Samples, evaluation: Evaluation) -> float:
    """Weighted share of samples that are classified correctly.

    Engines count them for a loss that classifies. With another loss, targets that stand for classes
    are one-hot rows, and the largest output must be the target's.
    """
    if net.loss.spec.classifies:
        return evaluation.correct_weight / evaluation.weight
    assert samples.values is not None
    correct = evaluation.outputs.argmax(axis=1) == samples.values.argmax(axis=1)
    return float(np.average(correct, weights=_weights(samples)))


def _values(
    net: NetworkProtocol, samples: Samples, evaluation: Evaluation
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions (n, outputs), targets (n, outputs) and weights (n,)."""
    p, t = evaluation.outputs, samples.values
    # Those of an ensemble are linked already.
    if net.loss.spec.link != "identity" and net.program.members == 1:
        p, _ = net.engine.forward(net.state, samples.X, linked=True)
    if samples.labels is not None:
        t = one_hot(samples.labels, net.outputs, net.dtype)
    assert t is not None
    w = _weights(samples)
    if not w.all():
        p = np.where(w[:, None] > 0, p, t)  # a weight of 0 times what overflowed would be NaN
    return p, t, w


def _weights(samples: Samples) -> np.ndarray:
    w = samples.weights
    return np.ones(len(samples)) if w is None else w.astype(np.float64)
