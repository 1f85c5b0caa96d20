"""How good predictions are."""

import numpy as np
from scipy.stats import rankdata

from real_tables.sets import CLASSIFICATION, REGRESSION

FIRST = {CLASSIFICATION: "log_loss", REGRESSION: "r2"}  # what contenders are ranked by
LOWER_IS_BETTER = {"log_loss"}
TITLES = {
    "log_loss": "log-loss",
    "accuracy": "accuracy",
    "auc": "AUC",
    "r2": "R²",
    "rmse": "RMSE",
    "mae": "MAE",
}
_LEAST_PROBABILITY = 1e-15


def score(task: str, truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """All scores of a task, the first one first.

    Parameters
    ----------
    task : str
        "classification" or "regression".
    truth : ndarray (n,)
        Class numbers, or values.
    predicted : ndarray (n, classes) or (n,)
        Probabilities, or values.

    Raises
    ------
    ValueError
        A prediction is not finite, or the shapes do not fit.
    """
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted):,} predictions of {len(truth):,} rows")
    if not np.isfinite(predicted).all():
        raise ValueError("a prediction is not finite")
    return (_of_classes if task == CLASSIFICATION else _of_values)(truth, predicted)


def baseline(task: str, training: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The scores of what needs no features: the class shares or the mean of the training rows."""
    if task == REGRESSION:
        return score(task, truth, np.full(len(truth), training.mean()))
    shares = np.bincount(training) / len(training)
    return score(task, truth, np.tile(shares, (len(truth), 1)))


def area_under_curve(positive: np.ndarray, values: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive row has the higher value; ties half."""
    n = positive.sum()
    ranks = rankdata(values)[positive].sum()
    return float((ranks - n * (n + 1) / 2) / (n * (len(positive) - n)))


def _of_classes(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    of_truth = predicted[np.arange(len(truth)), truth]
    # Of two classes, both give the same area. Of more, it is the mean of each against the rest.
    first = 1 if predicted.shape[1] == 2 else 0
    areas = [
        area_under_curve(truth == k, predicted[:, k]) for k in range(first, predicted.shape[1])
    ]
    return {
        "log_loss": float(-np.log(np.clip(of_truth, _LEAST_PROBABILITY, 1)).mean()),
        "accuracy": float((predicted.argmax(axis=1) == truth).mean()),
        "auc": float(np.mean(areas)),
    }


def _of_values(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    error = predicted - truth
    square = (error**2).mean()
    return {
        "r2": float(1 - square / truth.var()),
        "rmse": float(np.sqrt(square)),
        "mae": float(np.abs(error).mean()),
    }
