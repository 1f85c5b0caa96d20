"""Reading a Parquet file, row group by row group."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.tabular.messages import quoted
from fastnn.tabular.reading.arrow import pyarrow
from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.reading.text_columns import TextColumn
from fastnn.tabular.table import NUMBER_KINDS, Column, Table, check_names

_BATCH_CELLS = 1 << 17  # a batch twice as large adds 20 MB to the peak
_BUFFER = 1 << 16  # bytes


def read_parquet(path: Path, options: ReadOptions) -> Table:
    """Read a Parquet file; an index that pandas stored in it is none of the data.

    Raises
    ------
    ValueError
        Naming the file, and where it can the column.
    ImportError
        Without pyarrow.
    """
    arrow = pyarrow("Parquet")
    from pyarrow import parquet

    try:
        with path.open("rb") as source, _open(parquet, source) as file:
            return _read(path, file, options)
    except (arrow.ArrowException, OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not Arrow's
            raise
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error


def _open(parquet: Any, source: Any) -> Any:
    """The file, read through a small buffer instead of column by column of a row group."""
    return parquet.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False)


def _read(path: Path, file: Any, options: ReadOptions) -> Table:
    schema = file.schema_arrow
    notes = ReadNotes()
    names = schema.names
    if not names:
        raise ValueError(f"{path} has no columns")
    check_names(names, str(path))
    index = _pandas_index(schema) & set(names)
    for name in sorted(index):
        notes.add("index of pandas, left out", quoted(name))
    names = [name for name in names if name not in index]
    chosen = options.chosen(names)
    rows = file.metadata.num_rows
    if rows < 0:
        raise ValueError(f"{path} is damaged: it says that it has {rows} rows")
    columns = {name: _column(name, schema.field(name).type, options, rows) for name in chosen}
    readable = [name for name in chosen if columns[name] is not None]
    size, seen = max(1, _BATCH_CELLS // max(1, len(readable))), 0
    for batch in file.iter_batches(size, columns=readable, use_threads=False) if readable else ():
        seen += batch.num_rows
        if seen > rows:
            break
        # Also columns inside a nested one may have come, which are named like one with a dot.
        cells = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in readable:
            columns[name].add(cells[name])
    if readable and seen != rows:
        raise ValueError(f"{path} is damaged: it has another number of rows than it says")
    pyarrow("Parquet").default_memory_pool().release_unused()
    finished: dict[str, Column] = {}
    for name in chosen:
        column = columns.pop(name)
        finished[name] = (
            Column(name, str(schema.field(name).type), np.zeros(rows, np.int8))
            if column is None
            else column.finish(notes)
        )
    return Table(str(path), finished, names, notes.lines())


def _column(name: str, kind: Any, options: ReadOptions, rows: int) -> Any:
    """A column in the making, or None where its type cannot be used."""
    import pyarrow as arrow

    types = arrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_boolean(kind):
        return _Booleans(name, options, rows)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _Text(name, options, rows, keep_names=True)
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
                "text that is numbers, taken as numbers (--text COLUMN takes it as names)",
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


def _pandas_index(schema: Any) -> set[str]:
    """The columns that were the index of a DataFrame, named or not."""
    found = {name for name in schema.names if name.startswith("__index_level_")}
    try:
        index = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        # An index that only counts rows is described by a mapping, and is no column.
        return found | {name for name in index if isinstance(name, str)}
    except (KeyError, TypeError, ValueError, RecursionError):
        return found  # not written by pandas
