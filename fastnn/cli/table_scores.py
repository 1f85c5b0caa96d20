"""Scores of a table's network on its test rows, beside those of the best constant answer.

The constant is learnt from the training rows: the shares of the classes, or the mean.
"""

from typing import Any

import numpy as np

from fastnn.cli.data import TrainingSets
from fastnn.metrics import mae, rmse
from fastnn.network import Network
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.targets import BoundedValue

_LEAST = 1e-15  # probability of a class, for its logarithm


def table_scores(net: Network, sets: TrainingSets) -> dict[str, float]:
    """Log-loss and AUC, or RMSE and MAE in the column's unit, and those of the baseline."""
    X, y = sets.test
    if sets.classification:
        shares = np.bincount(sets.training[1], minlength=sets.outputs) / len(sets.training[1])
        P = net.predict(X)
        return {
            "log_loss": log_loss(P, y),
            "auc": auc(P, y),
            "baseline_accuracy": float((y == shares.argmax()).mean()),
            "baseline_log_loss": log_loss(np.broadcast_to(shares, P.shape), y),
        }
    assert isinstance(sets.encoder, TableEncoder)
    target = sets.encoder.target
    assert isinstance(target, BoundedValue)
    values = y * target.scale + target.mean
    predicted = target.decode(net.predict(X))["prediction"]
    mean = np.full(len(y), sets.training[1].mean() * target.scale + target.mean)
    w = np.ones(len(y))
    return {
        "rmse": rmse(predicted, values, w),
        "mae": mae(predicted, values, w),
        "baseline_rmse": rmse(mean, values, w),
        "baseline_mae": mae(mean, values, w),
    }


def in_words(scores: dict[str, float]) -> str:
    """What `table_scores` found, in a line."""
    if "rmse" in scores:
        return (
            f"test RMSE {scores['rmse']:.4g}, MAE {scores['mae']:.4g}; the mean alone: "
            f"RMSE {scores['baseline_rmse']:.4g}, MAE {scores['baseline_mae']:.4g}"
        )
    return (
        f"test log-loss {scores['log_loss']:.4g}, AUC {scores['auc']:.3f}; the shares of the "
        f"classes alone: log-loss {scores['baseline_log_loss']:.4g}, accuracy "
        f"{100 * scores['baseline_accuracy']:.1f} %"
    )


def is_no_better(scores: dict[str, float]) -> bool:
    """Whether the constant answers as well as the network."""
    name = "rmse" if "rmse" in scores else "log_loss"
    return not scores[name] < scores[f"baseline_{name}"]  # also of NaN


def log_loss(P: np.ndarray, y: np.ndarray) -> float:
    """Mean of −log p over the probabilities (n, classes) of the classes y (n,)."""
    of_class = P[np.arange(len(y)), y].astype(np.float64)
    return float(-np.log(np.maximum(of_class, _LEAST)).mean())


def auc(P: np.ndarray, y: np.ndarray) -> float:
    """Area under the ROC curve; of several classes the mean of each against the others.

    It is the share of pairs of a row of the class and one of another in which the first has the
    higher probability (Hanley & McNeil 1982); NaN where all rows are of one class.
    """
    classes = [1] if P.shape[1] == 2 else [c for c in range(P.shape[1]) if (y == c).any()]
    return float(np.mean([_area(P[:, c], y == c) for c in classes]))


def _area(score: np.ndarray, positive: np.ndarray) -> float:
    n, n_positive = len(score), int(positive.sum())
    if n_positive in (0, n):
        return float("nan")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of equal scores the middle one
    above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(above / (n_positive * (n - n_positive)))


def figures(scores: dict[str, float]) -> dict[str, Any]:
    """The scores by their names in a file of metrics."""
    return {
        name if name.startswith("baseline_") else f"test_{name}": value
        for name, value in scores.items()
    }
