"""Scores of a table's model beside those of the best constant answer, in words and as figures.

The constant is learnt from the training rows: the shares of the classes, or the mean.
"""

from typing import Any

import numpy as np

from fastnn.cli.output import finer
from fastnn.estimators.scoring import Scores, class_scores, in_units, value_scores
from fastnn.estimators.table_model import TableModel
from fastnn.tabular.targets import Classes

_LEAST_ROWS = 20  # fewer tell little


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
        return f"{what} {finer(scores)}; the mean alone: {finer(constant)}"
    return (
        f"{what} {finer(scores)}; the shares of the classes alone: log-loss "
        f"{constant['log_loss']:.4g}, accuracy {100 * constant['accuracy']:.1f} %"
    )


def remarks(scores: Scores, constant: Scores, rows: int) -> list[str]:
    """What there is to say where the constant answers as well as the model."""
    name = "rmse" if "rmse" in scores else "log_loss"
    if rows < _LEAST_ROWS or scores[name] < constant[name]:
        return []
    if name == "log_loss" and all(scores[n] > constant[n] for n in ("accuracy", "auc")):
        return [
            "the network's probabilities are too sure: its accuracy and AUC are better than "
            "those of the shares alone, but its log-loss is not"
        ]
    return ["the network is no better than that: it has learnt nothing from the columns"]


def figures(scores: dict[str, Scores]) -> dict[str, Any]:
    """Scores by what they are of, by their names in a file of metrics."""
    return {f"{what}_{name}": v for what, each in scores.items() for name, v in each.items()}
