"""Reading a `Table` from a CSV, Parquet or NPZ file, and writing columns to one."""

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastnn._utils.files import check_writable, write_atomically
from fastnn.tabular.table import Column, Table, is_number

_CSV_BLOCK = 1 << 26  # bytes; a row must fit into one


def read_table(path: str | os.PathLike[str], text: Iterable[str] = ()) -> Table:
    """Read a CSV, Parquet or NPZ file.

    CSV has a header line, commas, and UTF-8. NPZ holds ``X`` (n, features), whose columns become
    x0, x1, …, and perhaps ``y`` (n,), which becomes the last column, y.

    Parameters
    ----------
    path : path-like
        Its extension decides on the format.
    text : iterable of str
        Columns of a CSV file to read as text even if they look like numbers.

    Raises
    ------
    FileNotFoundError
    ValueError
        Naming the file and what is wrong with it.
    ImportError
        CSV and Parquet need pyarrow.
    """
    path = Path(path)
    readers = {
        ".csv": lambda: _read_csv(path, text),
        ".parquet": lambda: _read_parquet(path),
        ".npz": lambda: _read_npz(path),
    }
    _check_suffix(path, readers)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    columns = readers[path.suffix.lower()]()
    if not columns[0].values.size:
        raise ValueError(f"{path} has no rows")
    return Table(str(path), {column.name: column for column in columns})


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
    writer.writerows(zip(*(column.astype(str) for column in columns.values()), strict=True))
    return text.getvalue().encode()


# --- formats --------------------------------------------------------------------------------------


def _read_csv(path: Path, text: Iterable[str]) -> list[Column]:
    arrow = _pyarrow("CSV")
    from pyarrow import csv as arrow_csv

    try:
        with path.open("rb") as file:
            table = arrow_csv.read_csv(
                file,
                # one thread knows the number of a bad row
                read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(text, arrow.string())
                ),
            )
        names = table.column_names
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not encoded in UTF-8") from error
    except arrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable CSV file: {error}") from error
    if any(arrow.types.is_binary(kind) for kind in table.schema.types):
        raise ValueError(f"{path} is not encoded in UTF-8")
    _check_header(names, path)
    return _arrow_columns(table, path)


def _read_parquet(path: Path) -> list[Column]:
    arrow = _pyarrow("Parquet")
    from pyarrow import parquet

    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file).read()
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not Arrow's
            raise
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    # pandas stores the index of a selection of rows as a column; it is none of the data.
    return _arrow_columns(
        table.select(
            [
                i
                for i, name in enumerate(table.column_names)
                if not name.startswith("__index_level_")
            ]
        ),
        path,
    )


def _read_npz(path: Path) -> list[Column]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ("X", "y")}
            found = file.files
    # NotImplementedError is zipfile's, of a kind of compression that it does not know.
    except (
        ValueError,
        EOFError,
        TypeError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} is damaged, or not an NPZ file of numbers, text or booleans"
        ) from error
    if "X" not in arrays:
        raise ValueError(
            f"{path} has no array 'X' (n, features); it has {', '.join(found) or 'none'}"
        )
    X, y = arrays["X"], arrays.get("y")
    if X.ndim != 2 or not X.shape[1]:
        raise ValueError(f"X of {path} has shape {X.shape}; expected (n, features)")
    if y is not None and y.shape not in ((len(X),), (len(X), 1)):
        raise ValueError(
            f"y of {path} has shape {y.shape}; expected ({len(X)},), one target for each row of X"
        )
    columns = [_numpy_column(f"x{i}", values) for i, values in enumerate(X.T)]
    return columns if y is None else [*columns, _numpy_column("y", y.reshape(-1))]


def _pyarrow(wanted_for: str) -> ModuleType:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            f'reading {wanted_for} needs pyarrow: pip install "fastnn[data]"'
        ) from error
    return pyarrow


def _check_suffix(path: Path, known: Iterable[str]) -> None:
    if path.suffix.lower() not in known:
        raise ValueError(f"{path} must end in one of {', '.join(known)}")


def _check_header(names: list[str], path: Path) -> None:
    """ValueError where the first line cannot be a header."""
    if "" in names:
        raise ValueError(
            f"column {names.index('') + 1} of {path} has no name; "
            "pandas writes such a column unless index=False"
        )
    if all(map(is_number, names)) and names != [str(i) for i in range(len(names))]:
        raise ValueError(
            f"the first line of {path} holds numbers ({', '.join(names[:3])}, …); "
            "expected column names"
        )


def _arrow_columns(table: Any, path: Path) -> list[Column]:
    names = table.column_names
    if not names:
        raise ValueError(f"{path} has no columns")
    twice = (
        [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    )
    if twice:
        raise ValueError(f"{path} has two columns named {twice[0]!r}")
    return [_arrow_column(name, column) for name, column in zip(names, table.columns, strict=True)]


def _arrow_column(name: str, column: Any) -> Column:
    import pyarrow as arrow

    types = arrow.types
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_boolean(kind)
    ):
        names = column.cast(arrow.string()).fill_null("").to_numpy()
        return Column(name, "boolean" if types.is_boolean(kind) else "text", names)
    if types.is_integer(kind) and not column.null_count:
        return Column(name, "integer", column.to_numpy())
    if (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_null(kind)
    ):
        return Column(
            name,
            "integer" if types.is_integer(kind) else "real",
            column.cast(arrow.float64(), safe=False).to_numpy(),
        )
    return Column(name, str(kind), np.zeros(len(column)))


def _numpy_column(name: str, values: np.ndarray) -> Column:
    kind = {"b": "boolean", "i": "integer", "u": "integer", "f": "real", "U": "text"}.get(
        values.dtype.kind, str(values.dtype)
    )
    if kind == "boolean":
        return Column(name, kind, np.where(values, "true", "false").astype(object))
    return Column(name, kind, values.astype(object) if kind == "text" else values)


def _to_parquet(columns: Mapping[str, np.ndarray]) -> bytes:
    arrow = _pyarrow("Parquet")
    from pyarrow import parquet

    file = io.BytesIO()
    parquet.write_table(arrow.table(dict(columns)), file)
    return file.getvalue()


def _to_npz(columns: Mapping[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **dict[str, Any](columns))
    return file.getvalue()


_WRITERS = {".csv": to_csv, ".parquet": _to_parquet, ".npz": _to_npz}
