"""Metrics: functions of the raw outputs z (n, k), predictions p (n, k) and targets t (n, k),
averaged with sample weights w (n,).

Averages are sums, not dot products: BLAS's threads would go on spinning while the engine wants the
cores for the next epoch.

To add one: a function here and a line in ``METRICS``.
"""

from collections.abc import Callable, Sequence

import numpy as np

from fastnn._kernels.reference import is_correct
from fastnn._utils import checks


def accuracy(
    loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray
) -> float:
    """Share of samples whose largest output is the target's; for a single output, probability above
    ½ against t > ½.
    """
    return float(np.average(is_correct(loss_code, z, t), weights=w))


def r2(
    loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray
) -> float:
    """Coefficient of determination 1 − Σ(p − t)²/Σ(t − t̄)², averaged over outputs; a constant
    target scores 1 if met, else 0.
    """
    residual = np.average((prediction - t) ** 2, axis=0, weights=w)
    total = np.average((t - np.average(t, axis=0, weights=w)) ** 2, axis=0, weights=w)
    met = np.where(residual > 0, 0.0, 1.0)
    return float(np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), met).mean())


def mae(
    loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray
) -> float:
    """Mean absolute error over samples and outputs."""
    return float(np.average(np.abs(prediction - t), axis=0, weights=w).mean())


def rmse(
    loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray
) -> float:
    """Root of the mean squared error over samples and outputs."""
    return float(np.sqrt(np.average((prediction - t) ** 2, axis=0, weights=w).mean()))


METRICS: dict[str, Callable] = {"accuracy": accuracy, "r2": r2, "mae": mae, "rmse": rmse}

HIGHER_IS_BETTER = ("accuracy", "r2")


def metric_names(metrics: Sequence[str], classify: bool) -> tuple[str, ...]:
    """The names asked for, checked, each once; where targets do not stand for classes accuracy
    means r2.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise TypeError(
            f"metrics must be a sequence of names, such as ('accuracy',), not {metrics!r}"
        )
    names = [checks.one_of("metric", name, METRICS) for name in metrics]
    return tuple(
        dict.fromkeys("r2" if name == "accuracy" and not classify else name for name in names)
    )
