"""What `fit` of an estimator is given, as encoded rows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn.data.validation import as_array, as_sample_weight
from fastnn.estimators.bagging import Rows
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.frames import as_table
from fastnn.tabular.given import one_column
from fastnn.tabular.messages import listed
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Table
from fastnn.tabular.targets import Classes


def training_rows(
    encoder: TableEncoder, table: Table, y: Any, sample_weight: Any, groups: Any
) -> tuple[Rows, Any]:
    """Fit the encoder, and return the rows that count with their groups.

    A row of weight 0 is none: it neither scales a column nor has a say in a score.
    """
    weights, counted = None, None
    if sample_weight is not None:
        weights = as_sample_weight(sample_weight, len(table), encoder.dtype)
        counted = np.flatnonzero(weights)
        weights = weights[counted]
        if groups is not None:
            groups = as_array(groups, "groups")
            groups = groups[counted] if len(groups) == len(table) else groups
    encoder.fit(table, y, counted)
    target = target_of(encoder, table, y)
    target = target if counted is None else target[counted]
    return Rows(encoder.transform(table, counted), target, weights), groups


def validation_rows(encoder: TableEncoder, eval_set: Any) -> Rows:
    """The rows of ``eval_set``, encoded as the training rows."""
    if isinstance(eval_set, list) and len(eval_set) == 1:
        (eval_set,) = eval_set  # as gradient boosting takes it
    if not isinstance(eval_set, tuple | list) or len(eval_set) not in (2, 3):
        raise TypeError(
            f"eval_set must be (X, y), or (X, y, sample_weight), not {type(eval_set).__name__}"
        )
    frame, y, *weights = eval_set
    try:
        reading = encoder.read_options(ReadOptions(in_python=True), isinstance(y, str))
        table = as_table(frame, reading)
        target = target_of(encoder, table, y)
        if len(target) != len(table):
            raise ValueError(f"y has {len(target):,} values for {len(table):,} rows")
        w = as_sample_weight(weights[0], len(table), encoder.dtype) if weights else None
        return Rows(encoder.transform(table), target, w)
    except (ValueError, TypeError) as error:
        raise type(error)(f"eval_set: {error}") from error


def target_of(encoder: TableEncoder, X: Any, y: Any) -> np.ndarray:
    """Class numbers or standardised values (n,): of ``y``, or of X where y names its column."""
    if not isinstance(y, str):
        return encoder.transform_target(one_column(y))
    reading = encoder.read_options(ReadOptions(in_python=True), with_target=True)
    return encoder.transform_target(as_table(X, reading))


def numbered(class_weight: Any, encoder: TableEncoder) -> Any:
    """Weights by class as weights by class number; "balanced" stays."""
    target = encoder.target
    if not isinstance(class_weight, Mapping) or not isinstance(target, Classes):
        return class_weight
    labels = target.labels().tolist()
    for label in class_weight:
        if label not in labels:
            known = listed([repr(name) for name in labels])
            raise ValueError(f"class_weight names class {label!r}; the classes are {known}")
    return {labels.index(label): weight for label, weight in class_weight.items()}
