"""A data file in memory: named columns of numbers, text or booleans."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from fastnn._utils import checks
from fastnn.tabular.messages import cell, quoted

NUMBER_KINDS = ("integer", "real")
NAME_KINDS = ("text", "boolean")
DATES = "dates or times"
UNREAD_DATES = "dates or times in another form than 2020-12-31 and 23:59"


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a data file.

    Attributes
    ----------
    name : str
    kind : str
        "integer" or "real", "text" or "boolean", or `DATES`; any other word is the type of a column
        that cannot be used.
    values : ndarray (n,)
        Numbers, NaN where one is missing; of dates and times seconds since 1970; of text and
        booleans the place of each row's string in ``categories``.
    categories : tuple of str
        The distinct strings of text and booleans, of the latter "true" and "false"; "" is a missing
        one.
    numeric : str
        "integer" or "boolean" where the names of text are such values, as in a Categorical of them.
    mixed : str
        Of Python's objects of several types, made text: the first of another type, in words.
    """

    name: str
    kind: str
    values: np.ndarray
    categories: tuple[str, ...] = ()
    numeric: str = ""
    mixed: str = ""

    @classmethod
    def of_names(cls, name: str, kind: str, names: Sequence[str]) -> Self:
        """A column of text or booleans from a string for each row."""
        places: dict[str, int] = {}
        codes = [places.setdefault(text, len(places)) for text in names]
        return cls(name, kind, np.array(codes, np.int64), tuple(places))

    def numbers(self) -> np.ndarray:
        """The column as float64, NaN where a number is missing; booleans are 1 and 0.

        It may be the column's own memory.

        Raises
        ------
        ValueError
            The column does not hold numbers, or an infinite one.
        """
        if self.kind == "boolean":
            as_number = {"true": 1.0, "false": 0.0}
            return np.array([as_number.get(name, np.nan) for name in self.categories])[self.values]
        if self.kind == "text":
            is_text = np.array([not is_number(name) for name in self.categories])
            row = first_row(is_text[self.values])
            raise ValueError(f"{cell(self.name, self.name_in(row), row)}; expected a number")
        self.check_usable()
        values = self.values.astype(np.float64, copy=False)
        if np.isinf(values).any():
            raise ValueError(
                f"column {quoted(self.name)} is infinite in row {first_row(np.isinf(values))}; "
                "every number must be finite"
            )
        return values

    def coded(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Each row's place in the tuple of the column's distinct strings, and that tuple.

        A missing value is "". Whole numbers have no decimal point, whatever their type.
        """
        if self.kind != DATES:
            self.check_usable()
        if self.kind in NAME_KINDS:
            return self.values, self.categories
        distinct = np.unique(self.values)  # its return_inverse would take five times the memory
        codes = np.searchsorted(distinct, self.values).astype(np.min_scalar_type(len(distinct)))
        return codes, tuple(map(self._name_of, distinct.tolist()))

    def as_text(self) -> Self:
        """The same column as one of names."""
        codes, names = self.coded()
        return type(self)(self.name, "text", codes, names)

    def names(self) -> np.ndarray:
        """The column as strings, as `coded` has them."""
        codes, names = self.coded()
        return np.array(names, object)[codes]

    def name_in(self, row: int) -> str:
        """The string in a row, counted from 1."""
        value = self.values[row - 1]
        return self.categories[value] if self.kind in NAME_KINDS else self._name_of(value.item())

    def _name_of(self, value: float) -> str:
        return _date_name(value) if self.kind == DATES else _number_name(value)

    def check_usable(self, advice: str = "convert it") -> None:
        """ValueError unless this is a column of numbers, text or booleans."""
        if self.kind not in (*NUMBER_KINDS, *NAME_KINDS):
            raise ValueError(
                f"column {quoted(self.name)} holds {self.kind}; "
                f"expected numbers, text or booleans: {advice}"
            )

    def check_complete(self) -> None:
        """ValueError where a value is missing, naming the first such row."""
        if self.kind in NUMBER_KINDS:
            missing = np.isnan(self.numbers())
        else:
            self.check_usable()
            missing = np.array([name == "" for name in self.categories])[self.values]
        if missing.all() and len(missing) > 1:
            raise ValueError(f"column {quoted(self.name)} is empty in every row")
        if missing.any():
            raise ValueError(
                f"column {quoted(self.name)} is empty in row {first_row(missing)}, "
                "or marked as missing; fill it in or drop the row"
            )


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a data file, all of the same length, in the file's order.

    Attributes
    ----------
    source : str
        What messages call it.
    columns : dict of str to Column
        Those that were read.
    names : list of str
        Of all columns of the file; by default those that were read.
    notes : list of str
        What may surprise about the way they were read.
    in_python : bool
        Whether messages name options as Python's arguments, and not as the command line's.
    """

    source: str
    columns: dict[str, Column]
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_python: bool = False

    def __post_init__(self) -> None:
        if not self.names:
            self.names.extend(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values) if self.columns else 0

    def __getitem__(self, name: str) -> Column:
        if name in self.columns:  # a table may have a hundred thousand
            return self.columns[name]
        return self.columns[checks.one_of("column", name, self.columns)]


def check_names(names: Sequence[str], source: str) -> None:
    """ValueError where two columns have the same name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{source} has two columns named {quoted(name)}")
        seen.add(name)


def is_number(text: str) -> bool:
    """Whether ``float`` reads the text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def first_row(mask: np.ndarray) -> int:
    """The number, counted from 1, of the first row where ``mask`` is true."""
    return int(mask.argmax()) + 1


def _number_name(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if value == value // 1 else repr(value)


def _date_name(seconds: float) -> str:
    if seconds != seconds:
        return ""
    moment = np.datetime64(0, "us") + np.timedelta64(round(seconds * 1e6), "us")
    return str(moment.astype("datetime64[s]") if seconds == seconds // 1 else moment)
