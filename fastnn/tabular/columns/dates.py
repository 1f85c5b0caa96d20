"""What a moment has that a network can learn from, as numbers."""

from collections.abc import Callable

import numpy as np

from fastnn.tabular.messages import cell, quoted
from fastnn.tabular.table import DATES, NUMBER_KINDS, Column

_DAY, _HOUR = 86400, 3600


def _year(days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[Y]").astype(np.int64) + 1970


def _month(days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return days.astype("datetime64[M]").astype(np.int64) % 12 + 1


def _day_of_year(days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return (days - days.astype("datetime64[Y]")).astype(np.int64) + 1


def _weekday(days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return (days.astype(np.int64) + 3) % 7  # Monday is 0, and 1970 began on a Thursday


def _hour(days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return (seconds % _DAY) // _HOUR


def _time(days: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    return seconds  # since when does not matter: scaling takes the median off


PARTS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "year": _year,
    "month": _month,
    "day of year": _day_of_year,
    "weekday": _weekday,
    "hour": _hour,
    "time": _time,
}


def part_of(seconds: np.ndarray, part: str) -> np.ndarray:
    """A part of moments in seconds since 1970 as float64; NaN stays NaN."""
    missing = np.isnan(seconds)
    known = np.where(missing, 0.0, seconds)
    days = np.floor(known / _DAY).astype(np.int64).astype("datetime64[D]")
    values = PARTS[part](days, known).astype(np.float64)
    values[missing] = np.nan
    return values


def seconds_in(column: Column) -> np.ndarray:
    """The moments of a column of dates, which may lack all of them.

    Raises
    ------
    ValueError
        The column holds something else.
    """
    if column.kind == DATES:
        return column.values
    if column.kind in NUMBER_KINDS and np.isnan(column.values).all():
        return column.values.astype(np.float64)
    if column.kind not in (*NUMBER_KINDS, "text", "boolean"):
        raise ValueError(f"column {quoted(column.name)} holds {column.kind}; expected dates")
    _, names = column.coded()
    row = next(i for i in range(1, len(column.values) + 1) if column.name_in(i) or not any(names))
    raise ValueError(f"{cell(column.name, column.name_in(row), row)}; expected a date or time")
