"""Scores of a table's model: of what it predicts, with its temperature, threshold and range.

The command line and the estimators share them.
"""

import numpy as np

from fastnn.estimators.table_model import TableModel
from fastnn.metrics import VALUE_METRICS
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.targets import BoundedValue, Classes

Scores = dict[str, float]
CLASS_SCORES, VALUE_SCORES = ("accuracy", "log_loss", "auc"), ("r2", "rmse", "mae")


def scores_of(
    model: TableModel, X: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> Scores:
    """Accuracy, log-loss and AUC, or R², RMSE and MAE in the unit of the target.

    Accuracy is that of the classes that the model decides for, by its threshold if it has one.

    Parameters
    ----------
    model : TableModel
    X : ndarray (n, inputs)
        Encoded rows.
    y : ndarray (n,)
        Class numbers or standardised values.
    weights : ndarray (n,), optional
    """
    return scores_of_outputs(model, model.outputs(X), y, weights)


def scores_of_outputs(
    model: TableModel, outputs: np.ndarray, y: np.ndarray, weights: np.ndarray | None = None
) -> Scores:
    """The same of outputs (n, outputs) that `TableModel.outputs` gave."""
    target = model.encoder.target
    predicted = model.decode(outputs)["prediction"]
    if not isinstance(target, Classes):
        return value_scores(predicted, in_units(model.encoder, y), weights)
    hits = predicted == target.labels()[y]
    accuracy = float(np.average(hits, weights=weights))
    return class_scores(outputs, y, weights) | {"accuracy": accuracy}


def table_scores(model: TableModel, X: np.ndarray, y: np.ndarray) -> Scores:
    """The scores with "loss" before them, as of a `Network`.

    It is the log-loss, or the mean squared error of the standardised target.
    """
    scores, target = scores_of(model, X, y), model.encoder.target
    is_value = isinstance(target, BoundedValue)
    loss = (scores["rmse"] / target.scale) ** 2 if is_value else scores["log_loss"]
    return {"loss": loss, **scores}


def in_units(encoder: TableEncoder, y: np.ndarray) -> np.ndarray:
    """Standardised values (n,) in the unit of the target."""
    target = encoder.target
    assert isinstance(target, BoundedValue)
    return y.astype(np.float64) * target.scale + target.mean


def class_scores(p: np.ndarray, y: np.ndarray, w: np.ndarray | None = None) -> Scores:
    """Accuracy, log-loss and AUC of probabilities (n, classes) of the classes y (n,)."""
    w, t = np.ones(len(y)) if w is None else w, np.eye(p.shape[1])[y]
    accuracy = float(np.average(p.argmax(axis=1) == y, weights=w))
    others = {name: VALUE_METRICS[name](p, t, w) for name in CLASS_SCORES[1:]}
    return {"accuracy": accuracy, **others}


def value_scores(p: np.ndarray, y: np.ndarray, w: np.ndarray | None = None) -> Scores:
    """R², RMSE and MAE of predictions (n,) of values y (n,)."""
    w = np.ones(len(y)) if w is None else w
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow shows in the scores
        return {
            name: VALUE_METRICS[name](p[:, None].astype(np.float64), y[:, None], w)
            for name in VALUE_SCORES
        }
