"""Metrics: scores of a network's answers, averaged with sample weights w (n,).

Accuracy comes from the engine's `Evaluation`. The others are functions of the predictions p (n, k)
and the targets t (n, k), which are made only for a metric that needs them. Averages are sums, not
dot products: the threads of BLAS would spin while the engine wants the cores for the next epoch.

To add one: a function here and a line in ``VALUE_METRICS``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn._kernels import reference
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


def log_loss(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Mean of −Σ t log p over the probabilities p of the classes, and of one probability alone
    that of −t log p − (1 − t) log(1 − p).
    """
    p, t = _of_classes(p, t)
    return float(np.average(-(t * np.log(np.maximum(p, _LEAST))).sum(axis=1), weights=w))


def balanced_accuracy(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Mean over the classes that occur of the share of each that is classified correctly."""
    recalls = [hit / total for hit, total, _ in _counts(p, t, w) if total > 0]
    return float(np.mean(recalls))


def f1(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """2 · hits / (samples of a class + predictions of it): of two classes that of the second, of
    more the mean over all that occur or are predicted.
    """
    counts = _counts(p, t, w)
    counts = counts[1:] if len(counts) == 2 else counts
    scores = [2 * hit / (total + said) for hit, total, said in counts if total + said > 0]
    return float(np.mean(scores)) if scores else 0.0


def auc(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Area under the ROC curve; of more than two classes the mean of each against the others.

    It is the share of pairs of a sample of the class and one of another in which the first has the
    higher probability (Hanley & McNeil 1982); NaN where all samples are of one class.
    """
    p, t = _of_classes(p, t)
    classes = [1] if p.shape[1] == 2 else np.flatnonzero(t.any(axis=0))
    return float(np.mean([_area(p[:, c], t[:, c] > 0.5, w) for c in classes]))


def _area(score: np.ndarray, positive: np.ndarray, w: np.ndarray) -> float:
    _, place = np.unique(score, return_inverse=True)
    of_class, others = (np.bincount(place, w * chosen) for chosen in (positive, ~positive))
    below = np.cumsum(others) - 0.5 * others  # of equal scores half
    pairs = of_class.sum() * others.sum()
    return float((of_class * below).sum() / pairs) if pairs else float("nan")


def _of_classes(p: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and targets with a column for each class, in float64."""
    p, t = p.astype(np.float64), t.astype(np.float64)
    return (p, t) if p.shape[1] > 1 else (np.hstack([1 - p, p]), np.hstack([1 - t, t]))


def _counts(p: np.ndarray, t: np.ndarray, w: np.ndarray) -> list[tuple[float, float, float]]:
    """Of each class the weight of its hits, of its samples, and of its predictions."""
    p, t = _of_classes(p, t)
    predicted, true = p.argmax(axis=1), t.argmax(axis=1)
    right = predicted == true
    sums = (
        np.bincount(classes, weights, p.shape[1])
        for classes, weights in ((true, w * right), (true, w), (predicted, w))
    )
    return list(zip(*(each.tolist() for each in sums), strict=True))


_LEAST = 1e-15  # probability of a class, for its logarithm

VALUE_METRICS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "r2": r2,
    "mae": mae,
    "rmse": rmse,
    "log_loss": log_loss,
    "balanced_accuracy": balanced_accuracy,
    "f1": f1,
    "auc": auc,
}
METRICS = ("accuracy", *VALUE_METRICS)
HIGHER_IS_BETTER = ("accuracy", "r2", "balanced_accuracy", "f1", "auc")
OF_CLASSES = ("log_loss", "accuracy", "balanced_accuracy", "f1", "auc")
OF_VALUES = ("rmse", "mae", "r2")


def metric_names(metrics: Sequence[str], classify: bool) -> tuple[str, ...]:
    """The names in ``metrics``, checked, each once.

    Where targets do not stand for classes, accuracy means r2, and metrics of classes are refused.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise TypeError(
            f"metrics must be a sequence of names, such as ('accuracy',), not {metrics!r}"
        )
    names = [checks.one_of("metric", name, METRICS) for name in metrics]
    if not classify:
        for name in names:
            if name in OF_CLASSES and name != "accuracy":  # which means r2 here
                raise ValueError(f"metric {name!r} is one of classes, and the targets are values")
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
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = net.engine.evaluate(net.state, samples)
    return scores_of(net, samples, evaluation, metrics, net.penalty())


def scores_of(
    net: NetworkProtocol,
    samples: Samples,
    evaluation: Evaluation,
    metrics: Sequence[str],
    penalty: float = 0.0,
) -> dict[str, float]:
    """`score` where the outputs are known; ``net`` says what they mean."""
    # An overflow shows in the scores.
    with np.errstate(over="ignore", invalid="ignore"):
        scores = {"loss": float(evaluation.loss) + penalty}
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
    """Predictions (n, outputs), targets (n, outputs) and weights (n,).

    Of quantiles those of the level nearest ½: predictions (n, 1) and targets (n, 1).
    """
    p, t = evaluation.outputs, samples.values
    # Those of an ensemble are linked already.
    if net.loss.spec.link != "identity" and net.program.members == 1:
        p = reference.link(net.program.loss, evaluation.outputs)
    if samples.labels is not None:
        t = one_hot(samples.labels, net.outputs, net.dtype)
    assert t is not None
    if net.loss.levels:
        nearest = int(np.abs(np.array(net.loss.levels) - 0.5).argmin())
        p, t = p[:, nearest : nearest + 1], t[:, nearest : nearest + 1]
    w = _weights(samples)
    if not w.all():
        p = np.where(w[:, None] > 0, p, t)  # a weight of 0 times what overflowed would be NaN
    return p, t, w


def _weights(samples: Samples) -> np.ndarray:
    w = samples.weights
    return np.ones(len(samples)) if w is None else w.astype(np.float64)
