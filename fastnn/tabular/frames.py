"""Frames in memory as a `Table`: of pandas, Polars and pyarrow, dicts of arrays, 2-D arrays.

Columns are converted one by one, and numbers share the memory of the frame where they can. Nobody's
library is imported for a frame of another one. Text goes through the rules for text in files.
"""

import contextlib
import dataclasses
import numbers
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.data.validation import as_array
from fastnn.tabular.messages import naming, quoted
from fastnn.tabular.reading.arrow import pyarrow
from fastnn.tabular.reading.arrow_columns import column_maker
from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import DATES, NUMBER_KINDS, Column, Table, check_names

SOURCE = "the frame"  # what messages call it

_KINDS = {"i": "integer", "u": "integer", "f": "real"}  # of NumPy's numbers
_BLOCK = 1 << 16  # cells of an Arrow array that are converted at a time


def as_table(frame: Any, options: ReadOptions | None = None) -> Table:
    """A frame as a table.

    Parameters
    ----------
    frame : Table, DataFrame of pandas or Polars, Table of pyarrow, mapping, or 2-D array
        A mapping is from a name to values (n,). The columns of an array are called x0, x1, …, as
        those of an NPZ file. Names that are no text are taken as ``str`` writes them.
    options : ReadOptions, optional
        Which columns to take, and as what.

    Raises
    ------
    TypeError, ValueError
        Where this is no table, or naming the column that cannot be read.
    """
    if isinstance(frame, Table):
        return frame
    options, notes = options or ReadOptions(in_python=True), ReadNotes()
    pairs = [(str(name), values) for name, values in columns_of(frame)]
    names = [name for name, _ in pairs]
    if not names:
        raise ValueError(f"{SOURCE} has no columns")
    check_names(names, SOURCE)
    chosen, columns = set(options.chosen(names)), dict[str, Column]()
    with naming(SOURCE):
        for name, values in pairs:
            if name in chosen:
                columns[name] = as_column(values, name, options, notes)
                _check_length(columns[name], next(iter(columns.values())))
    table = Table(SOURCE, columns, names, notes.lines(), in_python=True)
    if columns and not len(table):
        raise ValueError(f"{SOURCE} has no rows")
    return table


def as_column(
    values: Any, name: str, options: ReadOptions | None = None, notes: ReadNotes | None = None
) -> Column:
    """Values (n,) of any library as a column.

    Parameters
    ----------
    values : Column, Series, Arrow array, array or list
    name : str
    options : ReadOptions, optional
        Whether the column is to hold names or numbers.
    notes : ReadNotes, optional
        Where to put what may surprise.
    """
    options = options or ReadOptions(in_python=True)
    column = _read(values, name, options, ReadNotes() if notes is None else notes)
    is_other = column.kind in (*NUMBER_KINDS, DATES)
    return column.as_text() if is_other and options.wanted(name) == "text" else column


def name_of(values: Any, default: str) -> str:
    """The name that a Series has."""
    name = getattr(values, "name", None)
    return default if name is None or callable(name) else str(name)


# --- frames ---------------------------------------------------------------------------------------


def columns_of(frame: Any) -> Iterator[tuple[Any, Any]]:
    """Names and values of the columns, none of which is copied."""
    if _is_of("pandas", "DataFrame", frame):
        yield from frame.items()
    elif _is_of("polars", "DataFrame", frame):
        yield from zip(frame.columns, frame.iter_columns(), strict=True)
    elif _is_of("pyarrow", "Table", frame) or _is_of("pyarrow", "RecordBatch", frame):
        yield from zip(frame.schema.names, frame.columns, strict=True)
    elif isinstance(frame, Mapping):
        yield from frame.items()
    elif _is_of("polars", "LazyFrame", frame):
        raise TypeError("the frame is a LazyFrame; collect it first")
    elif isinstance(frame, str | bytes):
        raise TypeError(f"the frame is text, {frame[:80]!r}; read a file first")
    else:
        array = as_array(frame, SOURCE)
        if array.ndim != 2:
            raise ValueError(f"the frame has shape {array.shape}; expected (n, columns)")
        yield from ((f"x{i}", array[:, i]) for i in range(array.shape[1]))


def _check_length(column: Column, first: Column) -> None:
    if len(column.values) != len(first.values):
        raise ValueError(
            f"column {quoted(column.name)} has {len(column.values):,} rows, "
            f"but {quoted(first.name)} has {len(first.values):,}"
        )


def _is_of(library: str, kind: str, value: Any) -> bool:
    """Whether a value is of a class of a library, which is not imported for that."""
    module = sys.modules.get(library)
    known = getattr(module, kind, None)
    return known is not None and isinstance(value, known)


# --- columns --------------------------------------------------------------------------------------


def _read(values: Any, name: str, options: ReadOptions, notes: ReadNotes) -> Column:
    if isinstance(values, Column):
        return dataclasses.replace(values, name=name)
    if _is_of("pandas", "Categorical", values):
        return _of_categorical(values, name)
    if _is_of("pandas", "Series", values) or _is_of("pandas", "Index", values):
        if _is_of("pandas", "CategoricalDtype", values.dtype):
            return _of_categorical(values.array, name)
        if not isinstance(values.dtype, np.dtype):
            return _of_objects(values, name, options, notes)
        values = values.to_numpy()
    elif _is_of("polars", "Series", values):
        pyarrow("a frame of Polars")
        values = values.to_arrow()
    if _is_of("pyarrow", "Array", values) or _is_of("pyarrow", "ChunkedArray", values):
        return _of_arrow(values, name, options, notes)
    array = as_array(values, f"column {quoted(name)}")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"column {quoted(name)} has shape {array.shape}; expected (n,)")
    if isinstance(values, list | tuple) and array.dtype.kind in "SU":
        array = np.array(values, object)  # among text NumPy makes text of None, too
    return _of_array(array, name, options, notes)


def _of_array(array: np.ndarray, name: str, options: ReadOptions, notes: ReadNotes) -> Column:
    kind = array.dtype.kind
    if kind in _KINDS:
        return Column(name, _KINDS[kind], array)
    if kind == "b":
        return Column(name, "boolean", array.astype(np.uint8), ("false", "true"))
    if kind == "M":
        seconds = array.astype("datetime64[us]").astype(np.float64) / 1e6
        seconds[np.isnat(array)] = np.nan
        return Column(name, DATES, seconds)
    if kind in "OSTU":
        return _of_objects(array, name, options, notes)
    return Column(name, str(array.dtype), np.zeros(len(array), np.int8))


def _of_objects(values: Any, name: str, options: ReadOptions, notes: ReadNotes) -> Column:
    """Text, Python's objects, or an array of pandas that NumPy has no type for."""
    arrow = pyarrow("text and objects")
    if isinstance(values, np.ndarray) and values.dtype.kind != "U":
        values = values.astype(object)
    try:
        cells = arrow.array(values, from_pandas=True)
    except (arrow.ArrowException, OverflowError, TypeError, ValueError):
        cells = arrow.array([None if _is_missing(v) else str(v) for v in values], arrow.string())
        column = _of_arrow(cells, name, options, notes)
        return dataclasses.replace(column, mixed=_another_type(values))
    return _of_arrow(cells, name, options, notes)


def _another_type(values: Iterable[Any]) -> str:
    """The first value of another type than the first, in words; "" where there is none."""
    known = ((row, value) for row, value in enumerate(values, 1) if not _is_missing(value))
    first_row, first = next(known, (0, None))
    for row, value in known:
        if _type_of(value) != _type_of(first):
            return f"{_with_type(value)} in row {row}, but {_with_type(first)} in row {first_row}"
    return ""


def _type_of(value: Any) -> str:
    """Integers and reals are of one type, whatever library they are of."""
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, numbers.Number):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _with_type(value: Any) -> str:
    text = quoted(str(value))
    return f"{text if isinstance(value, str) else text[1:-1]} ({type(value).__name__})"


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, or the mark of pandas for a missing one."""
    with contextlib.suppress(TypeError, ValueError):  # what pandas.NA is compared with is unknown
        return value is None or bool(value != value)
    return True


def _of_arrow(cells: Any, name: str, options: ReadOptions, notes: ReadNotes) -> Column:
    import pyarrow as arrow

    if arrow.types.is_dictionary(cells.type):  # who made categories of numbers wants names
        options = dataclasses.replace(options, text={*options.text, name})
    chunks = cells.chunks if isinstance(cells, arrow.ChunkedArray) else [cells]
    maker = column_maker(name, cells.type, options, len(cells))
    if maker is None:
        return Column(name, str(cells.type), np.zeros(len(cells), np.int8))
    is_number = arrow.types.is_integer(cells.type) or arrow.types.is_floating(cells.type)
    if is_number and len(chunks) == 1 and not cells.null_count:
        kind = "integer" if arrow.types.is_integer(cells.type) else "real"
        return Column(name, kind, chunks[0].to_numpy())
    for chunk in chunks:
        for start in range(0, len(chunk), _BLOCK):
            maker.add(chunk.slice(start, _BLOCK))
    column = maker.finish(notes)
    if arrow.types.is_dictionary(cells.type) and arrow.types.is_integer(cells.type.value_type):
        return dataclasses.replace(column, numeric="integer")
    return column


def _of_categorical(values: Any, name: str) -> Column:
    """A Categorical of pandas, whose categories are names even if they are numbers."""
    used = np.unique(values.codes)
    used = used[used >= 0]
    kind = np.min_scalar_type(len(used))
    places = np.full(len(values.categories) + 1, len(used), kind)  # code -1 is a missing one
    places[used] = np.arange(len(used))
    codes = places[values.codes]
    categories = values.categories.tolist()
    met = [categories[code] for code in used.tolist()]
    names = tuple(map(_category_name, met))
    mixed = _another_type(values) if len(set(map(_type_of, met))) > 1 else ""
    if (codes == len(used)).any():
        names += ("",)
    return Column(name, "text", codes, names, _numeric(met), mixed)


def _numeric(categories: Sequence[Any]) -> str:
    """Whether all are booleans or whole numbers, as `Column` says it."""
    if all(isinstance(value, bool) for value in categories):
        return "boolean"
    return "integer" if all(map(_is_whole, categories)) else ""


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _category_name(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if _is_whole(value) else str(value)
