"""Columns from Arrow arrays, as a Parquet file or a frame in memory has them."""

import dataclasses
from typing import Any

import numpy as np

from fastnn.tabular.messages import quoted
from fastnn.tabular.reading.arrow import compute
from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.reading.text_columns import TextColumn
from fastnn.tabular.table import DATES, NUMBER_KINDS, Column


def column_maker(name: str, kind: Any, options: ReadOptions, rows: int) -> Any:
    """A column in the making, or None where its type cannot be used.

    Parameters
    ----------
    name : str
    kind : pyarrow.DataType
    options : ReadOptions
    rows : int
        As many as all that is added.

    Returns
    -------
    object with ``add(cells)``, an Arrow array of that type, and ``finish(notes)``
    """
    import pyarrow as arrow

    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_boolean(kind):
        return _Booleans(name, options, rows)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _Text(name, options, rows, keep_names=True)
    if types.is_date(kind) or types.is_timestamp(kind) or types.is_time(kind):
        return _Dates(name, kind, DATES, rows)
    if types.is_integer(kind):
        return _Numbers(name, kind, "integer", rows)
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return _Numbers(name, kind, "real", rows)
    return None


class _Text(TextColumn):
    """A column of strings of any of Arrow's types."""

    def add(self, cells: Any) -> None:
        super().add(_plain(cells).cast("string"))

    def finish(self, notes: ReadNotes) -> Column:
        column = super().finish(notes)
        if column.kind in NUMBER_KINDS and self.is_free:
            notes.add(
                "text that is numbers, taken as numbers "
                f"({self._options.option('categories')} takes it as names)",
                quoted(self.name),
            )
        return column


class _Booleans(TextColumn):
    """A column of booleans, which are not looked at for numbers or anything else."""

    def __init__(self, name: str, options: ReadOptions, rows: int):
        super().__init__(name, dataclasses.replace(options, text=[name]), rows)

    def add(self, cells: Any) -> None:
        super().add(_plain(cells).cast("string"))

    def finish(self, notes: ReadNotes) -> Column:
        return dataclasses.replace(super().finish(notes), kind="boolean")


class _Numbers:
    """A column of numbers."""

    def __init__(self, name: str, kind: Any, shown: str, rows: int):
        self._name = name
        self._kind = kind
        self._shown = shown
        self._values = np.empty(rows, _dtype(kind))
        self._rows = 0

    def add(self, cells: Any) -> None:
        import pyarrow as arrow

        cells = _plain(cells)
        if cells.null_count or not _is_exact(self._kind):
            cells = cells.cast(arrow.float64(), safe=False)
            self._values = self._values.astype(np.float64, copy=False)
        rows = slice(self._rows, self._rows + len(cells))
        self._values[rows] = cells.to_numpy(zero_copy_only=False)
        self._rows += len(cells)

    def finish(self, notes: ReadNotes) -> Column:
        return Column(self._name, self._shown, self._values)


class _Dates(_Numbers):
    """A column of dates, moments or times of day, as seconds since 1970 in UTC."""

    def __init__(self, name: str, kind: Any, shown: str, rows: int):
        import pyarrow as arrow

        super().__init__(name, arrow.float64(), shown, rows)
        is_time = arrow.types.is_time(kind)
        zone = kind.tz if arrow.types.is_timestamp(kind) else None
        self._microseconds = arrow.time64("us") if is_time else arrow.timestamp("us", zone)

    def add(self, cells: Any) -> None:
        whole = _plain(cells).cast(self._microseconds, safe=False).cast("int64")
        super().add(compute().divide(whole.cast("float64", safe=False), 1e6))


def _is_exact(kind: Any) -> bool:
    """Whether NumPy has the type."""
    import pyarrow as arrow

    return not arrow.types.is_decimal(kind) and not arrow.types.is_null(kind)


def _dtype(kind: Any) -> Any:
    return kind.to_pandas_dtype() if _is_exact(kind) else np.float64


def _plain(cells: Any) -> Any:
    """Without the dictionary of a categorical column."""
    import pyarrow as arrow

    is_coded = arrow.types.is_dictionary(cells.type)
    return cells.cast(cells.type.value_type) if is_coded else cells
