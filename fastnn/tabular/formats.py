"""Reading a `Table` from a CSV, Parquet or NPZ file, and writing columns to one."""

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._utils.files import check_writable, write_atomically
from fastnn.tabular.messages import naming
from fastnn.tabular.reading.arrow import pyarrow
from fastnn.tabular.reading.csv_file import read_csv
from fastnn.tabular.reading.npz import read_npz
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.reading.parquet import read_parquet
from fastnn.tabular.table import DATES, NUMBER_KINDS, Table

_ROWS = 1 << 14  # of a CSV file that are made text at a time
_READERS = {".csv": read_csv, ".parquet": read_parquet, ".npz": read_npz}


def read_table(path: str | os.PathLike[str], options: ReadOptions | None = None) -> Table:
    """Read a CSV, Parquet or NPZ file.

    CSV has a header line, commas and UTF-8, or what the options say. NPZ holds ``X`` (n, features),
    whose columns become x0, x1, …, and perhaps ``y`` (n,), which becomes the last column, y.

    Parameters
    ----------
    path : path-like
        Its extension decides on the format.
    options : ReadOptions, optional

    Raises
    ------
    FileNotFoundError
    ValueError
        Naming the file and what is wrong with it.
    ImportError
        CSV and Parquet need pyarrow.
    """
    path, options = Path(path), options or ReadOptions()
    _check_suffix(path, _READERS)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or a device, not a file")
    with naming(path):
        table = _READERS[path.suffix.lower()](path, options)
    if table.columns and not len(table):
        raise ValueError(f"{path} has no rows")
    for name in options.text:
        column = table.columns.get(name)
        if column is not None and column.kind in (*NUMBER_KINDS, DATES):
            table.columns[name] = column.as_text()
    return table


def check_destination(path: str | os.PathLike[str]) -> None:
    """Raise the error that a later `write_columns` to ``path`` would raise."""
    _check_suffix(Path(path), _WRITERS)
    check_writable(path)


def write_columns(path: str | os.PathLike[str], columns: Mapping[str, np.ndarray]) -> None:
    """Write arrays (n,) as the columns of a CSV, Parquet or NPZ file.

    Parameters
    ----------
    path : path-like
        Its extension decides on the format.
    columns : mapping
        Name → values (n,).

    Raises
    ------
    ValueError
        Another extension.
    OSError
        The file cannot be written.
    """
    check_destination(path)
    write_atomically(path, _WRITERS[Path(path).suffix.lower()](columns))


def to_csv(columns: Mapping[str, np.ndarray]) -> bytes:
    """Arrays (n,) as a CSV file with a header line."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    n = max(map(len, columns.values()), default=0)
    for start in range(0, n, _ROWS):  # the text of all would take many times the numbers' memory
        block = (column[start : start + _ROWS].astype(str) for column in columns.values())
        writer.writerows(zip(*block, strict=True))
    return text.getvalue().encode()


def _check_suffix(path: Path, known: Iterable[str]) -> None:
    if path.suffix.lower() not in known:
        raise ValueError(f"{path} must end in one of {', '.join(known)}")


def _to_parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    arrow = pyarrow("Parquet")
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(arrow.table(dict(columns)), file)
    return file.getvalue()


def _to_npz(columns: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **dict[str, Any](columns))
    return file.getvalue()


_WRITERS = {".csv": to_csv, ".parquet": _to_parquet, ".npz": _to_npz}
