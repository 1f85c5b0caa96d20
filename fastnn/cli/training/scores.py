"""Scores of a table's model beside those of the best constant answer, in words and as figures.

The constant is learnt from the training rows: the shares of the classes, or the mean.
"""

from typing import Any

import numpy as np

from fastnn.estimators.fitting import class_scores, in_units, value_scores
from fastnn.estimators.table_model import TableModel
from fastnn.tabular.targets import Classes

Scores = dict[str, float]


def scores_of(model: TableModel, X: np.ndarray, y: np.ndarray) -> Scores:
    """Accuracy, log-loss and AUC, or R², RMSE and MAE in the column's unit, of encoded rows."""
    outputs = model.outputs(X)
    if model.classifies:
        return class_scores(outputs, y)
    return value_scores(model.decode(outputs)["prediction"], in_units(model.encoder, y))


def baseline(model: TableModel, y_train: np.ndarray, y: np.ndarray) -> Scores:
    """The same scores of the best constant answer."""
    target = model.encoder.target
    if isinstance(target, Classes):
        shares = np.bincount(y_train, minlength=len(target.classes)) / len(y_train)
        return class_scores(np.broadcast_to(shares, (len(y), len(shares))), y)
    values = in_units(model.encoder, y)
    return value_scores(np.full(len(y), in_units(model.encoder, y_train).mean()), values)


def in_words(what: str, scores: Scores, constant: Scores) -> str:
    """The finer scores of some rows, in a line."""
    if "rmse" in scores:
        return (
            f"{what} RMSE {scores['rmse']:.4g}, MAE {scores['mae']:.4g}; the mean alone: "
            f"RMSE {constant['rmse']:.4g}, MAE {constant['mae']:.4g}"
        )
    return (
        f"{what} log-loss {scores['log_loss']:.4g}, AUC {scores['auc']:.3f}; the shares of the "
        f"classes alone: log-loss {constant['log_loss']:.4g}, accuracy "
        f"{100 * constant['accuracy']:.1f} %"
    )


def is_no_better(scores: Scores, constant: Scores) -> bool:
    """Whether the constant answers as well as the model."""
    name = "rmse" if "rmse" in scores else "log_loss"
    return not scores[name] < constant[name]  # also of NaN


def figures(scores: dict[str, Scores]) -> dict[str, Any]:
    """Scores by what they are of, by their names in a file of metrics."""
    return {f"{what}_{name}": v for what, each in scores.items() for name, v in each.items()}
