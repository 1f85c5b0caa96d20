"""Partial dependence: the mean prediction where one column is the same in all rows."""

from dataclasses import dataclass

import numpy as np

from fastnn._utils import checks
from fastnn.estimators.table_model import TableModel
from fastnn.tabular.columns.dates import seconds_in
from fastnn.tabular.columns.matrix import encode
from fastnn.tabular.columns.names import Codes, OneHot
from fastnn.tabular.columns.numbers import DatePart
from fastnn.tabular.messages import quoted
from fastnn.tabular.table import DATES, Column, Table
from fastnn.tabular.targets import Classes


@dataclass(frozen=True, eq=False)
class PartialDependence:
    """The mean prediction at some values of a column.

    Attributes
    ----------
    column : str
    grid : ndarray (points,)
        Numbers, or text: names by their frequency, the most frequent first, a missing one as "";
        dates in their order.
    classes : tuple of str
        Empty where the target is a number.
    mean : ndarray (points, classes) or (points,)
        Probabilities, or values in the unit of the target.
    """

    column: str
    grid: np.ndarray
    classes: tuple[str, ...]
    mean: np.ndarray


def inputs_of(model: TableModel, name: str) -> np.ndarray:
    """The places in the matrix of all inputs that a column becomes."""
    features = model.encoder.features
    owners = np.repeat([feature.name for feature in features], [f.width for f in features])
    return np.flatnonzero(owners == name)


def partial_dependence(
    model: TableModel, X: np.ndarray, weights: np.ndarray, column: Column, points: int
) -> PartialDependence:
    """See `Explanation.partial_dependence`.

    Parameters
    ----------
    model : TableModel
    X : ndarray (n, inputs)
        Encoded rows.
    weights : ndarray (n,)
    column : Column
        What the rows have in it.
    points : int
    """
    features = [f for f in model.encoder.features if f.name == column.name]
    if any(isinstance(f, OneHot | Codes) for f in features):
        chosen, grid = _frequent_names(column, points)
    elif any(isinstance(f, DatePart) for f in features):
        chosen = Column(column.name, DATES, _quantiles(column.name, seconds_in(column), points))
        grid = chosen.names().astype(str)
    else:
        grid = _quantiles(column.name, column.numbers(), points)
        chosen = Column(column.name, "real", grid)
    encoded = encode(features, Table("the grid", {column.name: chosen}), X.dtype)
    places, changed, means = inputs_of(model, column.name), X.copy(), []
    for inputs in encoded:
        changed[:, places] = inputs
        means.append(np.average(predictions(model, changed), axis=0, weights=weights))
    target = model.encoder.target
    classes = target.classes if isinstance(target, Classes) else ()
    mean = np.array(means)
    return PartialDependence(column.name, grid, classes, mean if classes else mean[:, 0])


def predictions(model: TableModel, X: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes), or values (n, 1) in the unit of the target; float64."""
    outputs = model.outputs(X)
    if model.classifies:
        return outputs.astype(np.float64)
    return model.encoder.decode(outputs)["prediction"][:, None].astype(np.float64)


def _frequent_names(column: Column, points: int) -> tuple[Column, np.ndarray]:
    codes, names = column.coded()
    counts = np.bincount(codes, minlength=len(names))
    order = np.argsort(-counts, kind="stable")[:points]
    order = order[counts[order] > 0]
    chosen = Column(column.name, "text", order, names)
    return chosen, chosen.names().astype(str)


def _quantiles(name: str, values: np.ndarray, points: int) -> np.ndarray:
    """Numbers that occur, spread evenly over the ranks; each once."""
    known = values[~np.isnan(values)]
    if not known.size:
        raise ValueError(f"column {quoted(name)} is empty in all rows that are explained")
    distinct = np.unique(known)
    if len(distinct) <= points:
        return distinct
    return np.unique(np.quantile(known, np.linspace(0, 1, points), method="inverted_cdf"))


def checked_points(points: int) -> int:
    """At least 2 points make a line."""
    return checks.integer("points", points, least=2)
