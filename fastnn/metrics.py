"""Metrics: functions of the raw outputs z (n, k) and targets t (n, k), averaged with sample weights w (n,) that sum to 1.

To add one: a function here and a line in ``METRICS``.
"""

from collections.abc import Callable

import numpy as np

from fastnn._kernels.reference import classified_rightly


def accuracy(loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Share of samples whose largest output is the target's; for a single output, probability above ½ against t > ½."""
    return float(w @ classified_rightly(loss_code, z, t))


def r2(loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Coefficient of determination 1 − Σ(p − t)²/Σ(t − t̄)², averaged over outputs; a constant target scores 1 if met, else 0."""
    residual = w @ (prediction - t) ** 2
    total = w @ (t - w @ t) ** 2
    met = np.where(residual > 0, 0.0, 1.0)
    return float(np.where(total > 0, 1.0 - residual / np.where(total > 0, total, 1.0), met).mean())


def mae(loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Mean absolute error over samples and outputs."""
    return float((w @ np.abs(prediction - t)).mean())


def rmse(loss_code: int, z: np.ndarray, prediction: np.ndarray, t: np.ndarray, w: np.ndarray) -> float:
    """Root of the mean squared error over samples and outputs."""
    return float(np.sqrt((w @ (prediction - t) ** 2).mean()))


METRICS: dict[str, Callable] = {"accuracy": accuracy, "r2": r2, "mae": mae, "rmse": rmse}

HIGHER_IS_BETTER = ("accuracy", "r2")
