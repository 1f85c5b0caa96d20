"""`Explanation`: which columns the predictions of a model of a table depend on, and how."""

import os
import unicodedata
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.estimators.explanations.partial_dependence import (
    PartialDependence,
    checked_points,
    inputs_of,
    partial_dependence,
    predictions,
)
from fastnn.estimators.explanations.sensitivity import prediction_gradients, sensitivities
from fastnn.estimators.fitting import in_units
from fastnn.estimators.table_model import TableModel
from fastnn.metrics import VALUE_METRICS
from fastnn.tabular.table import Column, Table

SHOWN = 20  # columns in text and pictures
_LETTERS = 32  # of a column's name there
_WORDS = {"log_loss": "log-loss", "rmse": "RMSE"}


@dataclass(frozen=True, eq=False)
class Explanation:
    """Which columns the predictions of a model depend on, the most important first.

    The importance of a column is how much worse the score of the rows gets when the column is
    shuffled among them, which breaks its tie with the target and leaves all else as it is (Breiman
    2001; for models of any kind Fisher, Rudin & Dominici 2019). Of columns that tell nearly the
    same each may have little, for the other stays; and shuffling makes rows that never occur. It
    says what the model uses, not what causes the target. Rows that the model did not train on tell
    what it has learnt; rows of training tell what it has remembered, too.

    Attributes
    ----------
    target : str
    metric : {"log_loss", "rmse"}
        Of classes or of values; the latter in the unit of the target.
    score : float
        Of the rows as they are.
    columns : tuple of str
        Those that the model takes.
    importance, std : ndarray (columns,)
        Mean and standard deviation, over the repeats, of the score after shuffling minus ``score``.
    sensitivity : ndarray (columns,)
        How far one standard deviation of a column's numbers moves the prediction by its slope: mean
        |∂p/∂x| times the standard deviation of x, in standard deviations of a target of values, or
        in probability that moves between classes. It depends on no unit. The numbers of a date add
        up; NaN where a column has no numbers.
    rows, repeats : int
        How many rows were scored, and how often each column was shuffled.
    """

    target: str
    metric: str
    score: float
    columns: tuple[str, ...]
    importance: np.ndarray
    std: np.ndarray
    sensitivity: np.ndarray
    rows: int
    repeats: int
    _model: TableModel = field(repr=False)
    _X: np.ndarray = field(repr=False)
    _weights: np.ndarray = field(repr=False)
    _table: dict[str, Column] = field(repr=False)

    # --- a closer look ----------------------------------------------------------------------------

    def partial_dependence(self, column: str, points: int = 20) -> PartialDependence:
        """The mean prediction over the rows when a column is set to each of some values.

        Friedman (2001). Where the column goes with others, some of these rows never occur.

        Parameters
        ----------
        column : str
        points : int
            The most values: of numbers and dates those at evenly spaced ranks, of names the most
            frequent ones.

        Raises
        ------
        ValueError
            A column that the model does not take, or that is empty in all rows.
        """
        checks.one_of("column", column, self.columns)
        points = checked_points(points)
        return partial_dependence(self._model, self._X, self._weights, self._table[column], points)

    def input_gradients(self) -> np.ndarray:
        """∂p_k/∂x_j (rows, outputs, numbers) of the model's outputs by its scaled numbers.

        Outputs are probabilities, or standardised values; numbers are the first inputs of
        ``encoder.transform``. They are exact: see `fastnn.diagnostics.input_gradients`.
        """
        return prediction_gradients(self._model, self._X)

    # --- showing it -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data; columns in their order, a missing sensitivity as None."""
        figures = zip(self.columns, self.importance, self.std, self.sensitivity, strict=True)
        return {
            "target": self.target,
            "metric": self.metric,
            "score": self.score,
            "rows": self.rows,
            "repeats": self.repeats,
            "columns": {
                name: {
                    "importance": float(mean),
                    "std": float(std),
                    "sensitivity": None if np.isnan(slope) else float(slope),
                }
                for name, mean, std, slope in figures
            },
        }

    def __str__(self) -> str:
        """A table of the most important columns."""
        names = [_short(name) for name in self.columns[:SHOWN]]
        figures = _aligned(self.importance[:SHOWN], self.std[:SHOWN])
        slopes = _aligned(self.sensitivity[:SHOWN])
        header = ("column", "importance", "std", "sensitivity")
        rows = [header, *zip(names, *figures, *slopes, strict=True)]
        widest = max(map(_width, (row[0] for row in rows)))
        widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)][1:]
        lines = [
            "  ".join([name + " " * (widest - _width(name)), *map(str.rjust, figures, widths)])
            for name, *figures in rows
        ]
        more = len(self.columns) - SHOWN
        return "\n".join([self._title(), *lines, *([f"and {more:,} more"] if more > 0 else [])])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Bars of the most important columns, with their standard deviations.

        It needs Matplotlib: ``pip install 'fastnn[plot]'``.

        Parameters
        ----------
        path : path-like, optional
            Where to write the picture; its suffix names the format.

        Returns
        -------
        Axes
        """
        from fastnn import plotting

        ax: Any = plotting.importance_bars(
            self.importance[:SHOWN],
            self.std[:SHOWN],
            [_short(name) for name in self.columns[:SHOWN]],
            f"increase of {_WORDS[self.metric]} when shuffled",
        )
        ax.set_title(f"target: {_short(self.target)}", parse_math=False)
        if path is not None:
            plotting.save(ax.figure, path)
        return ax

    def _title(self) -> str:
        times = "once" if self.repeats == 1 else f"{self.repeats:,} times"
        return (
            f"{_short(self.target)}: {_WORDS[self.metric]} {self.score:.4g} on {self.rows:,} rows; "
            f"importance is its increase when a column is shuffled ({times})"
        )


def explain(
    model: TableModel,
    table: Table,
    y: np.ndarray,
    weights: np.ndarray | None = None,
    repeats: int = 5,
    max_rows: int = 2000,
    seed: int = 0,
) -> Explanation:
    """Explain a model by rows whose target is known; see `TabularClassifier.explain`.

    Parameters
    ----------
    model : TableModel
    table : Table
        With the columns that the model takes.
    y : ndarray (n,)
        Class numbers or standardised values, as `TableEncoder.transform_target` gives them.
    weights : ndarray (n,), optional
    repeats, max_rows, seed : int
    """
    repeats = checks.integer("repeats", repeats)
    max_rows = checks.integer("max_rows", max_rows)
    rng = np.random.default_rng(checks.integer("seed", seed, least=0))
    encoder = model.encoder
    encoder.check_columns(table)
    if len(y) != len(table):
        raise ValueError(f"y has {len(y):,} values for the {len(table):,} rows of {table.source}")
    w = np.ones(len(y)) if weights is None else weights.astype(np.float64)
    rows = np.flatnonzero(w > 0)
    if len(rows) > max_rows:
        rows = np.sort(rng.choice(rows, max_rows, replace=False))
    X, y, w = encoder.transform(table, rows), y[rows], w[rows]
    score = _Score(model, y, w)
    before = score(X)
    columns = encoder.columns
    # The same orders for all columns, so that no column's figures depend on which others there are.
    orders = [rng.permutation(len(rows)) for _ in range(repeats)]
    increases = np.array([_shuffled(score, X, inputs_of(model, c), orders) for c in columns])
    increases -= before
    sensitivity = sensitivities(model, X, w)
    order = np.argsort(-increases.mean(axis=1), kind="stable")
    return Explanation(
        target=encoder.target_name,
        metric=score.metric,
        score=before,
        columns=tuple(columns[k] for k in order),
        importance=increases.mean(axis=1)[order],
        std=increases.std(axis=1)[order],
        sensitivity=np.array([sensitivity.get(columns[k], np.nan) for k in order]),
        rows=len(rows),
        repeats=repeats,
        _model=model,
        _X=X,
        _weights=w,
        _table={name: _take(table[name], rows) for name in columns},
    )


class _Score:
    """How bad the predictions of encoded rows are."""

    def __init__(self, model: TableModel, y: np.ndarray, weights: np.ndarray):
        self.metric = "log_loss" if model.classifies else "rmse"
        self._model, self._weights = model, weights
        if model.classifies:
            self._target = np.eye(model.encoder.outputs)[y]
        else:
            self._target = in_units(model.encoder, y)[:, None]

    def __call__(self, X: np.ndarray) -> float:
        p = predictions(self._model, X)
        return VALUE_METRICS[self.metric](p, self._target, self._weights)


def _shuffled(
    score: _Score, X: np.ndarray, inputs: np.ndarray, orders: list[np.ndarray]
) -> list[float]:
    """The score with the inputs of one column in each of some orders of the rows."""
    shuffled, scores = X.copy(), []
    for order in orders:
        shuffled[:, inputs] = X[np.ix_(order, inputs)]
        scores.append(score(shuffled))
    return scores


def _take(column: Column, rows: np.ndarray) -> Column:
    return Column(column.name, column.kind, column.values[rows], column.categories)


def _aligned(*columns: np.ndarray) -> list[list[str]]:
    """Figures with as many decimals as the largest needs for four digits; NaN is a dash."""
    known = np.abs(np.concatenate(columns))
    largest = float(known.max(initial=0.0, where=np.isfinite(known)))
    decimals = 3 - int(np.floor(np.log10(largest))) if largest > 0 else 4
    form = f".{max(decimals, 0)}f" if -3 <= decimals <= 8 else ".3e"
    return [["–" if np.isnan(x) else f"{x:{form}}" for x in column] for column in columns]


def _short(name: str) -> str:
    """A name as one line of text or a picture takes it."""
    shown = name if name.isprintable() else repr(name)[1:-1]
    if len(shown) <= _LETTERS:
        return shown
    return f"{shown[: _LETTERS // 2]}…{shown[1 - _LETTERS // 2 :]}"  # names may differ at their end


def _width(text: str) -> int:
    """The columns of a terminal that a text takes: letters of East Asia take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)
