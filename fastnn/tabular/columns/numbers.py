"""Columns of numbers, and numbers that a date has: each becomes one input, its gaps another."""

from dataclasses import dataclass

import numpy as np

from fastnn.tabular.columns.dates import PARTS, part_of, seconds_in
from fastnn.tabular.columns.scaling import SCALINGS, Scaling
from fastnn.tabular.table import DATES, Column

_BLOCK = 1 << 16  # numbers that are scaled at a time


@dataclass(frozen=True)
class Number:
    """A number, scaled; a missing one counts as ``fill``, the median of the training rows.

    ``coerce`` says that text which is no number counts as missing.
    """

    name: str
    fill: float
    scaling: Scaling
    coerce: bool = False

    @property
    def width(self) -> int:
        return 1

    def values(self, column: Column) -> np.ndarray:
        """The numbers as float64, NaN where one is missing."""
        return column.numbers()

    def encode(self, column: Column, out: np.ndarray) -> None:
        # In float64: rounded before, numbers like seconds since 1970 would coincide.
        values = self.values(column)
        for start in range(0, len(values), _BLOCK):
            block = values[start : start + _BLOCK]
            filled = np.where(np.isnan(block), self.fill, block)
            out[start : start + _BLOCK, 0] = self.scaling.apply(filled)


@dataclass(frozen=True)
class DatePart(Number):
    """A number that a date has: its year, month, …, or the time that has passed until then."""

    part: str = "time"

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, not {self.part!r}")

    def values(self, column: Column) -> np.ndarray:
        """The numbers as float64, NaN where a date is missing."""
        return part_of(seconds_in(column), self.part)


@dataclass(frozen=True)
class Gap:
    """Whether a number or date is missing: 1 where it is, else 0."""

    name: str

    @property
    def width(self) -> int:
        return 1

    def encode(self, column: Column, out: np.ndarray) -> None:
        is_date = column.kind == DATES
        out[:, 0] = np.isnan(seconds_in(column) if is_date else column.numbers())


def number_features(
    column: Column, rows: np.ndarray | slice, scaling: str, coerce: bool, keep: bool
) -> list[Number | Gap]:
    """A column of numbers as features; none where the training rows do not differ.

    Parameters
    ----------
    column : Column
    rows : ndarray of int, or slice
        Of training.
    scaling : str
        A name in `SCALINGS`.
    coerce : bool
        Whether text that is no number counts as missing.
    keep : bool
        Whether a number that is the same in every row is one, too.
    """
    known, has_gaps = _known(column.numbers()[rows])
    features: list[Number | Gap] = []
    if keep or _varies(known):
        features.append(Number(column.name, *_fitted(known, scaling), coerce=coerce))
    return [*features, Gap(column.name)] if has_gaps and known.size else features


def date_features(
    column: Column, rows: np.ndarray | slice, scaling: str, parts: tuple[str, ...], keep: bool
) -> list[Number | Gap]:
    """A column of dates as features: those of ``parts`` that vary, and whether one is missing."""
    seconds = seconds_in(column)[rows]
    features: list[Number | Gap] = []
    for part in parts:
        known, _ = _known(part_of(seconds, part))
        if _varies(known) or (keep and part == "time"):
            features.append(DatePart(column.name, *_fitted(known, scaling), part=part))
    missing = np.isnan(seconds)
    return [*features, Gap(column.name)] if missing.any() and not missing.all() else features


def _known(values: np.ndarray) -> tuple[np.ndarray, bool]:
    missing = np.isnan(values)
    return (values[~missing], True) if missing.any() else (values, False)


def _varies(known: np.ndarray) -> bool:
    return known.size > 0 and bool(known.min() < known.max())


def _fitted(known: np.ndarray, scaling: str) -> tuple[float, Scaling]:
    """The median and a scaling, of numbers that may all be missing."""
    if not known.size:
        known = np.zeros(1)
    middle = float(np.quantile(known / 4, 0.5)) * 4
    return middle, SCALINGS[scaling].fit(known)
