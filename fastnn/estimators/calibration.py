"""Probabilities after training: a temperature, and the threshold of a decision.

Both are learnt from predictions of rows that the networks did not train on.
"""

from typing import Any

import numpy as np

from fastnn.metrics import HIGHER_IS_BETTER, VALUE_METRICS

_COLDEST, _HOTTEST = 0.25, 4.0
_PARTS = 5  # of the rows, to try a temperature on rows that it was not chosen by
LEAST = 1e-15  # probability that has a logarithm
_MOST_THRESHOLDS = 1000


def with_temperature(p: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of log(p)/T for probabilities p (n, classes) (Guo et al. 2017)."""
    if temperature == 1.0:
        return p
    z = np.log(np.maximum(p, LEAST)) / temperature
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(p.dtype)


def best_temperature(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    """The temperature with the lowest log-loss, or 1 where none is lower beyond doubt.

    It must lower the log-loss of rows that did not choose it, by more than the standard error of
    the difference.

    Parameters
    ----------
    p : ndarray (n, classes)
        Probabilities.
    y : ndarray (n,)
        Class numbers.
    w : ndarray (n,)
        Weights.
    """
    part = np.arange(len(y)) % _PARTS
    gains = np.zeros(len(y))
    for k in range(_PARTS):
        tried, chosen_by = part == k, part != k
        if not tried.any() or not w[chosen_by].any():
            return 1.0
        temperature = _lowest(p[chosen_by], y[chosen_by], w[chosen_by])
        cooled = with_temperature(p[tried], temperature)
        gains[tried] = _losses(p[tried], y[tried]) - _losses(cooled, y[tried])
    weights = w / w.sum()
    mean = float(weights @ gains)
    error = float(np.sqrt((weights**2) @ (gains - mean) ** 2))
    return _lowest(p, y, w) if mean > error else 1.0


def _lowest(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    from scipy.optimize import minimize_scalar

    def cost(log_temperature: float) -> float:
        return float(w @ _losses(with_temperature(p, float(np.exp(log_temperature))), y))

    bounds = np.log([_COLDEST, _HOTTEST])
    found: Any = minimize_scalar(cost, bounds=tuple(bounds), method="bounded")
    return float(np.exp(found.x))


def _losses(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    return -np.log(np.maximum(p[np.arange(len(y)), y].astype(np.float64), LEAST))


def best_threshold(p: np.ndarray, y: np.ndarray, w: np.ndarray, metric: str) -> float:
    """The probability of the second class from which it is the answer, by a metric.

    Parameters
    ----------
    p : ndarray (n,)
        Probabilities of the second of two classes.
    y : ndarray (n,)
        0 or 1.
    w : ndarray (n,)
        Weights.
    metric : str
        "accuracy", "balanced_accuracy" or "f1".
    """
    levels = np.unique(p)
    if len(levels) > _MOST_THRESHOLDS:
        levels = np.unique(np.quantile(levels, np.linspace(0, 1, _MOST_THRESHOLDS)))
    between = 0.5 * (levels[1:] + levels[:-1])
    candidates = np.concatenate([[0.5], between, [0.0, 1.0]])  # of equals the first
    scores = [_decision_score(p >= level, y, w, metric) for level in candidates]
    return float(candidates[int(np.argmax(scores))])


def _decision_score(said: np.ndarray, y: np.ndarray, w: np.ndarray, metric: str) -> float:
    if metric == "accuracy":
        return float(np.average(said == (y == 1), weights=w))
    assert metric in HIGHER_IS_BETTER
    p, t = said[:, None].astype(np.float64), y[:, None].astype(np.float64)
    return VALUE_METRICS[metric](p, t, w)
