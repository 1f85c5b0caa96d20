"""Columns of text, read block by block: whether one holds numbers, names, booleans or dates.

Numbers are kept as numbers and names as places in a list, so that no column takes more than eight
bytes a row. What a column holds is decided after its last block.
"""

from collections import Counter
from typing import Any

import numpy as np

from fastnn.tabular.messages import cell, quoted
from fastnn.tabular.reading.dates import are_dates, seconds_of
from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.numbers import (
    DECIMALS,
    has_ambiguous_comma,
    is_missing,
    narrowed,
    parse_number,
    read_numbers,
)
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import DATES, UNREAD_DATES, Column

_NEARLY_ALL = 0.9  # a column with this share of numbers was meant to hold numbers
_SURELY_NAMES = 1000  # after so many cells and no number, none is looked for
_BOOLEANS = {"true": 1.0, "false": 0.0}


class TextColumn:
    """A column in the making: `add` its blocks of text, then `finish`.

    Parameters
    ----------
    name : str
    options : ReadOptions
        Whether the column is to hold names or numbers; by default its cells decide.
    rows : int
        Not less than there are.
    keep_names : bool
        Whether to keep the names of every block, not only from the first that cannot be numbers.
    """

    def __init__(self, name: str, options: ReadOptions, rows: int, keep_names: bool = False):
        self.name = name
        self._options = options
        self._wanted = options.wanted(name)
        self._decimal = options.decimal or "."
        self._is_guess = options.decimal is None and options.delimiter not in (None, ",")
        self._keeps_names = keep_names
        self._most_rows = rows
        self._rows = self._blocks = 0
        self._values: np.ndarray | None = None  # while the column may hold numbers
        self._codes: list[np.ndarray] = []  # by block, from the first that may hold names
        self._places: dict[str, int] = {}  # of the distinct strings
        self._n_numbers = 0
        self._has_fractions = False
        self._missing: Counter[str] = Counter()  # by marker
        self._others: Counter[str] = Counter()  # by text that is no number
        self._other = self._zero = self._percent = (0, "")  # row and text of the first of its kind

    def add(self, cells: Any) -> None:
        """Take the next block, an Arrow array of strings."""
        if cells.null_count:
            cells = cells.fill_null("")
        if self._wanted == "text" or self._is_surely_names:
            self._keep_names(cells)
        else:
            self._keep_numbers(cells)
            if self._keeps_names or (self.is_free and self._is_names):
                self._keep_names(cells)
        self._rows += len(cells)
        self._blocks += 1

    def afresh(self) -> "TextColumn":
        """The same column before its first block."""
        return TextColumn(self.name, self._options, self._most_rows, self._keeps_names)

    @property
    def is_free(self) -> bool:
        """Whether the cells alone decide what the column holds."""
        return self._wanted == "auto"

    @property
    def lacks_names(self) -> bool:
        """Whether this turned out to hold names after blocks that only numbers were kept of."""
        return self._is_names and len(self._codes) < self._blocks

    def finish(self, notes: ReadNotes) -> Column:
        """The column.

        Raises
        ------
        ValueError
            Text where numbers are wanted, or in a column that is nearly all numbers.
        """
        if not self._is_names:
            return self._finished_numbers(notes)
        if self.is_free:
            self._check_decimal()
            self._check_others(notes)
        codes = np.concatenate(self._codes or [np.empty(0, np.uint8)])
        names = tuple(self._places)
        known = [name for name in names if name]
        if self.is_free and known:
            if all(name.lower() in _BOOLEANS for name in known):
                return _booleans(self.name, codes, names)
            if are_dates(names):
                return _dates(self.name, codes, names)
        return Column(self.name, "text", codes, names)

    # --- blocks -----------------------------------------------------------------------------------

    def _keep_numbers(self, cells: Any) -> None:
        block = read_numbers(cells, self._decimal)
        if block.zero is not None and not self._zero[0]:
            self._zero = (self._rows + block.zero + 1, cells[block.zero].as_py())
        self._n_numbers += len(cells)
        for text, where, number in block.rest:
            truth = None if self.is_free else _BOOLEANS.get(text.lower())
            if truth is None:
                self._examine(text, where, number)
            else:
                block.values[where] = truth
        self._has_fractions |= _has_fractions(block.values)
        if self._others and self.is_free:
            self._values = None
        else:
            self._store(block.values)

    def _store(self, values: np.ndarray) -> None:
        """Write numbers behind those of earlier blocks, in memory that is used as it fills."""
        dtype = values.dtype
        if self._values is None:
            self._values = np.empty(self._most_rows, dtype)
        elif dtype != self._values.dtype:
            # int64, which whole numbers beyond 2⁵³ need, holds neither fractions nor gaps.
            dtype = np.dtype(
                np.float64 if self._has_fractions or self._missing or self._others else np.int64
            )
            self._values = self._values.astype(dtype)
        self._values[self._rows : self._rows + len(values)] = values

    def _examine(self, text: str, where: np.ndarray, number: float | None) -> None:
        """Take account of the cells that hold a text that is no plain number."""
        row = self._rows + int(where[0]) + 1
        if number is None:
            kind = self._missing if is_missing(text) else self._others
            kind[text] += len(where)
            self._n_numbers -= len(where)
            if kind is self._missing:
                return
            if not self._other[0] or row < self._other[0]:
                self._other = (row, text)
        elif self._is_guess and has_ambiguous_comma(text):
            raise ValueError(
                f"{cell(self.name, text, row)}: is that more than a thousand, or "
                "a decimal comma? Say --decimal . or --decimal ,"
            )
        elif "%" in text and not self._percent[0]:
            self._percent = (row, f"{quoted(text)} in row {row} is {number}")

    def _keep_names(self, cells: Any) -> None:
        block = cells.dictionary_encode()
        distinct = block.dictionary.to_pylist()
        places = [self._places.setdefault(text, len(self._places)) for text in distinct]
        dtype = np.min_scalar_type(len(self._places))
        self._codes.append(np.array(places, dtype)[block.indices.to_numpy()])

    # --- decisions --------------------------------------------------------------------------------

    @property
    def _is_names(self) -> bool:
        if self._wanted != "auto":
            return self._wanted == "text"
        if self._others:
            return True
        # Numbers with leading zeros are codes, which would lose them; unless there are fractions.
        return bool(self._zero[0]) and not self._has_fractions

    @property
    def _is_surely_names(self) -> bool:
        return self.is_free and not self._n_numbers and self._others.total() > _SURELY_NAMES

    def _finished_numbers(self, notes: ReadNotes) -> Column:
        row, text = self._other
        if self._others and self._wanted == "number":
            self._check_decimal()
            raise ValueError(f"{cell(self.name, text, row)}; expected a number")
        if self._others:
            notes.add(
                "cells that are no numbers, taken as missing",
                f"{self._others.total():,} of {quoted(self.name)} ({quoted(text)} in row {row})",
            )
        markers = [quoted(text) for text in self._missing if text]
        if markers:
            shown = ", ".join(markers[:3]) + (", …" if len(markers) > 3 else "")
            n = self._missing.total() - self._missing[""]
            notes.add("markers of missing numbers", f"{n:,} in {quoted(self.name)} ({shown})")
        if self._percent[0]:
            notes.add("percentages", f"{quoted(self.name)} ({self._percent[1]})")
        values = np.empty(0) if self._values is None else self._values[: self._rows]
        self._values = None
        whole = self._n_numbers and not self._has_fractions
        return Column(self.name, "integer" if whole else "real", narrowed(values))

    def _check_decimal(self) -> None:
        """ValueError where the other decimal mark makes all cells numbers."""
        other = DECIMALS[1 - DECIMALS.index(self._decimal)]
        if self._others and all(parse_number(text, other) is not None for text in self._others):
            row, text = self._other
            is_taken = other == self._options.delimiter
            advice = f"--decimal '{other}'" + (" and another --delimiter" if is_taken else "")
            if self._options.in_python:
                advice = f"the decimal mark '{other}': convert the column to numbers"
            raise ValueError(f"{cell(self.name, text, row)}, which is a number with {advice}")

    def _check_others(self, notes: ReadNotes) -> None:
        """A note, or a ValueError, where names stand among numbers, or numbers have zeros ahead."""
        n, share = self._n_numbers, self._n_numbers / (self._n_numbers + self._others.total())
        row, text = self._other
        column, option = quoted(self.name), self._options.option
        if not self._others:
            row, text = self._zero
            notes.add(
                f"names, not numbers, for zeros in front ({option('coerce')} drops them)",
                f"{column} ({quoted(text)} in row {row})",
            )
        elif share >= _NEARLY_ALL:
            raise ValueError(
                f"{cell(self.name, text, row)}, while {n:,} of its cells are numbers: "
                f"correct it, or say {option('coerce', self.name)} to take such cells as missing, "
                f"{option('categories', self.name)} to take all as names, "
                f"or {option('ignore', self.name)}"
            )
        elif n:
            notes.add(
                f"names, not numbers ({option('coerce')} takes the others as missing)",
                f"{column} ({n:,} cells are numbers, {quoted(text)} in row {row} is none)",
            )


def _has_fractions(values: np.ndarray) -> bool:
    if values.dtype.kind != "f":
        return False
    known = values[~np.isnan(values)]
    return not (np.isfinite(known) & (known == np.floor(known))).all()


def _booleans(name: str, codes: np.ndarray, names: tuple[str, ...]) -> Column:
    """TRUE, True and true are one."""
    places: dict[str, int] = {}
    codes_by_name = [places.setdefault(text.lower(), len(places)) for text in names]
    return Column(name, "boolean", np.array(codes_by_name, np.uint8)[codes], tuple(places))


def _dates(name: str, codes: np.ndarray, names: tuple[str, ...]) -> Column:
    """Moments where each names its year first; else a column that cannot be used."""
    seconds = seconds_of(names)
    if seconds is None:
        return Column(name, UNREAD_DATES, codes, names)
    return Column(name, DATES, seconds[codes])
