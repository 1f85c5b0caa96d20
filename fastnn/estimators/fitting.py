"""From encoded rows to a `TableModel`: folds, networks, and what rows held out tell."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.data.splits import k_fold
from fastnn.data.validation import as_array
from fastnn.estimators.bagging import Bag, Fold, Rows, fit_bag
from fastnn.estimators.calibration import best_temperature, best_threshold, with_temperature
from fastnn.estimators.conformal import Conformal
from fastnn.estimators.options import TableOptions
from fastnn.estimators.quantiles import fit_quantiles
from fastnn.estimators.scoring import (
    CLASS_SCORES,
    VALUE_SCORES,
    in_units,
    scores_of_outputs,
)
from fastnn.estimators.table_model import TableModel
from fastnn.metrics import OF_CLASSES, OF_VALUES
from fastnn.recipes import recipe
from fastnn.recipes.plan import CLASSIFICATION, REGRESSION, Problem, Recipe
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.messages import quoted
from fastnn.tabular.targets import Classes

_SHORTEST = 1e-3  # seconds
_SEVERAL = 5  # networks, beside which one more of quantiles takes little time
_HELD_OUT = 5  # one in so many rows validates a single network


def fit_model(
    encoder: TableEncoder,
    rows: Rows,
    options: TableOptions,
    validation: Rows | None = None,
    groups: Any = None,
) -> tuple[TableModel, Bag]:
    """Train networks on encoded rows.

    Parameters
    ----------
    encoder : TableEncoder
        That made the rows; it has a target.
    rows : Rows
    options : TableOptions
    validation : Rows, optional
        Rows of their own to validate with; by default each network leaves out a part of ``rows``.
    groups : array-like (n,), optional
        Rows of a group are never on both sides of a split.

    Raises
    ------
    ValueError
        A target of one class, too few rows, or a metric of another task.
    """
    chosen = recipe(options.recipe)
    problem = _problem(encoder, rows, options.metric, chosen)
    if options.threshold is not None and problem.outputs != 2:
        found = f"the target has {problem.outputs}" if problem.classifies else "not with numbers"
        raise ValueError(f"threshold goes with two classes; {found}")
    count = chosen.folds(len(rows)) if options.n_folds is None else options.n_folds
    folds = _folds(rows, problem, count, validation, groups, options.seed)
    wants_quantiles = not problem.classifies and _wants_quantiles(options, len(folds))
    share = len(folds) / (len(folds) + wants_quantiles)  # of the time
    deadline = None if options.time_limit is None else time.perf_counter() + options.time_limit
    seconds = None if options.time_limit is None else share * options.time_limit
    bag = fit_bag(chosen, problem, rows, folds, validation, options, seconds)
    model = TableModel(encoder, bag.ensemble, recipe=options.recipe)
    held_out = rows if validation is None else validation
    by_all = validation is not None or len(model.networks) == 1
    learn_from_held_out(model, held_out, bag.predictions, options, by_all)
    if wants_quantiles and not bag.interrupted:
        fold = folds[0] if validation is None else _folds(held_out, problem, 1, None, None, 0)[0]
        left = None if deadline is None else max(deadline - time.perf_counter(), _SHORTEST)
        try:
            model.quantiles, notes = fit_quantiles(
                chosen, problem, held_out, bag.predictions, fold, options, left
            )
            bag.notes += notes
        except KeyboardInterrupt:  # before it has learnt anything: the others are kept
            bag.interrupted = True
            bag.notes.append("interrupted: no quantiles were learnt")
    return model, bag


def _wants_quantiles(options: TableOptions, networks: int) -> bool:
    """By default where one more network takes little time beside the others."""
    return networks >= _SEVERAL if options.quantiles is None else options.quantiles


def _problem(encoder: TableEncoder, rows: Rows, metric: str | None, chosen: Recipe) -> Problem:
    target = encoder.target
    if isinstance(target, Classes):
        met = np.unique(rows.y)
        if len(met) < 2:
            raise ValueError(
                f"column {quoted(target.name)} has one class in all {len(rows):,} rows to train "
                f"on, {quoted(target.classes[int(met[0])])}: there is nothing to tell apart"
            )
    task = CLASSIFICATION if isinstance(target, Classes) else REGRESSION
    known = OF_CLASSES if task == CLASSIFICATION else OF_VALUES
    if metric is not None and metric not in known:
        raise ValueError(
            f"metric {metric!r} does not go with {task}; expected one of {', '.join(known)}"
        )
    return Problem(
        task,
        len(rows),
        encoder.inputs,
        encoder.n_numbers,
        tuple(encoder.cardinalities),
        encoder.outputs,
        chosen.metrics[task] if metric is None else metric,
    )


def _folds(
    rows: Rows,
    problem: Problem,
    count: int,
    validation: Rows | None,
    groups: Any,
    seed: int,
) -> Sequence[Fold]:
    n = len(rows)
    if validation is not None:
        if groups is not None:
            raise ValueError("groups go with folds, not with validation rows of their own")
        return [(np.arange(n), np.arange(0))] * count
    if n < 2:
        raise ValueError(f"a model needs at least 2 rows to train on and to validate with; got {n}")
    classes = rows.y if problem.classifies and groups is None else None
    groups, most = _checked_groups(groups, n)
    pieces = k_fold(n, min(most, count if count > 1 else _HELD_OUT), seed, classes, groups)
    folds = [(np.sort(training), np.sort(held_out)) for training, held_out in pieces]
    return folds[:count]


def _checked_groups(groups: Any, n: int) -> tuple[np.ndarray | None, int]:
    """Groups as numbers (n,), and the most folds that can be made."""
    if groups is None:
        return None, n
    array = as_array(groups, "groups")
    if array.shape != (n,):
        raise ValueError(f"groups has shape {array.shape}; expected ({n},), one for each row of X")
    if array.dtype.kind == "O":  # of several types, which have no order
        array = np.array([repr(value) for value in array])
    codes = np.unique(array, return_inverse=True)[1]
    if codes.max() == 0:
        raise ValueError(
            "groups has the same value in all rows; expected two different ones or more"
        )
    return codes, int(codes.max()) + 1


def learn_from_held_out(
    model: TableModel,
    rows: Rows,
    predictions: np.ndarray,
    options: TableOptions,
    by_all: bool = True,
) -> None:
    """Set temperature, threshold, conformal scores and figures, of rows that were held out.

    Parameters
    ----------
    model : TableModel
    rows : Rows
    predictions : ndarray (n, outputs)
        By networks that did not train on the row; NaN where there is none.
    options : TableOptions
    by_all : bool
        Whether each prediction is the average of all networks.
    """
    seen = np.isfinite(predictions).all(axis=1)
    if not seen.any():  # a network of huge numbers may predict none that is finite
        names = CLASS_SCORES if model.classifies else VALUE_SCORES
        model.scores = dict.fromkeys(names, float("nan"))
        return
    p, y = predictions[seen].astype(np.float64), rows.y[seen]
    w = np.ones(len(y)) if rows.weights is None else rows.weights[seen].astype(np.float64)
    if model.classifies:
        # With one network's answer for each row, the temperature of the average is not known.
        if options.calibrate and by_all:
            model.temperature = best_temperature(p, y, w)
            p = with_temperature(p, model.temperature)
        model.threshold = _threshold(model, p, y, w, options.threshold)
        model.conformal = Conformal.fit(1.0 - p[np.arange(len(y)), y], w)
    else:
        predicted = model.encoder.decode(p)["prediction"]
        model.conformal = Conformal.fit(np.abs(in_units(model.encoder, y) - predicted), w)
    model.scores = scores_of_outputs(model, p, y, w)


def _threshold(
    model: TableModel, p: np.ndarray, y: np.ndarray, w: np.ndarray, wanted: str | float | None
) -> float | None:
    if wanted is None:
        return None
    return best_threshold(p[:, 1], y, w, wanted) if isinstance(wanted, str) else float(wanted)
