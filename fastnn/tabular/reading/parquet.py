"""Reading a Parquet file, row group by row group."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.tabular.messages import quoted
from fastnn.tabular.reading.arrow import pyarrow
from fastnn.tabular.reading.arrow_columns import column_maker
from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Column, Table, check_names

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
    columns = {name: column_maker(name, schema.field(name).type, options, rows) for name in chosen}
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


def _pandas_index(schema: Any) -> set[str]:
    """The columns that were the index of a DataFrame, named or not."""
    found = {name for name in schema.names if name.startswith("__index_level_")}
    try:
        index = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        # An index that only counts rows is described by a mapping, and is no column.
        return found | {name for name in index if isinstance(name, str)}
    except (KeyError, TypeError, ValueError, RecursionError):
        return found  # not written by pandas
