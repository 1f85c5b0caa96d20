"""A target that was given as values, beside the table."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastnn.tabular.frames import as_column, columns_of
from fastnn.tabular.messages import quoted
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import DATES, Column


def one_column(values: Any) -> Any:
    """The values (n,) of a target that may be given as a frame or array of one column.

    Raises
    ------
    ValueError
        There are more columns.
    """
    shape = getattr(values, "shape", ())
    if len(shape) != 2:
        return values
    if shape[1] != 1:
        raise ValueError(f"y must be one column, not {shape[1]:,}")
    return next(iter(columns_of(values)))[1]


def labels(values: Any, name: str, names: Iterable[str]) -> Column:
    """Values of a target; text among them stays text."""
    column = as_column(values, name)
    is_text = np.asarray(values).dtype.kind in "OSTU" and column.kind not in (DATES, "boolean")
    if column.numeric or not is_text or name not in set(names):
        return column
    first = next((v for v in np.asarray(values, object).ravel() if v is not None), None)
    return as_column(values, name, ReadOptions(text={name})) if isinstance(first, str) else column


@contextlib.contextmanager
def naming_argument(column: str) -> Iterator[None]:
    """A ValueError about the column that y was made to names y: the user has no such column."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error).replace(f"column {quoted(column)}", "y")) from error
