"""From a data file to the arrays that a network takes, and its predictions back into a file."""

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from fastnn._utils import checks
from fastnn._utils.files import check_writable, write_atomically
from fastnn.data.splits import Standardizer

TASKS = ("auto", "classification", "regression")

_NUMBER_KINDS = ("integer", "real")
_NAME_KINDS = ("text", "boolean")
_MOST_INTEGER_CLASSES = 20  # an integer target with more distinct values is taken for a quantity
_CSV_BLOCK = 1 << 26  # bytes; a row must fit into one


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a data file.

    Attributes
    ----------
    name : str
    kind : str
        "integer" or "real", "text" or "boolean"; any other word is the type of a column that cannot
        be used.
    values : ndarray (n,)
        Numbers, NaN where one is missing; or strings, of a boolean "true" and "false", and "" where
        one is missing.
    """

    name: str
    kind: str
    values: np.ndarray

    def numbers(self) -> np.ndarray:
        """The column as float64, NaN where a number is missing; ValueError where there are no
        numbers, or infinite ones.
        """
        if self.kind in _NAME_KINDS:
            row = _first(np.array([not _is_number(value) for value in self.values]))
            raise ValueError(
                f"column {self.name!r} is {self.values[row - 1]!r} in row {row}; expected a number"
            )
        self.check_usable()
        values = self.values.astype(np.float64)
        if np.isinf(values).any():
            raise ValueError(
                f"column {self.name!r} is infinite in row {_first(np.isinf(values))}; every number must be finite"
            )
        return values

    def names(self) -> np.ndarray:
        """The column as strings, "" where one is missing: whole numbers without a decimal point,
        whatever their type.
        """
        if self.kind in _NUMBER_KINDS:
            return np.array([_number_name(value) for value in self.values.tolist()], object)
        self.check_usable()
        return self.values

    def check_usable(self) -> None:
        """ValueError unless this is a column of numbers, text or booleans."""
        if self.kind not in (*_NUMBER_KINDS, *_NAME_KINDS):
            raise ValueError(
                f"column {self.name!r} holds {self.kind}; expected numbers, text or booleans: convert or ignore it"
            )

    def check_complete(self) -> None:
        """ValueError naming the first row where the value is missing, which only features may
        be.
        """
        missing = np.isnan(self.numbers()) if self.kind in _NUMBER_KINDS else self.names() == ""
        if missing.any():
            raise ValueError(
                f"column {self.name!r} is empty in row {_first(missing)}; fill it in or drop the row"
            )


@dataclass(frozen=True, eq=False)
class Table:
    """The columns of a data file, all of the same length, in the file's order."""

    source: str
    columns: dict[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)

    def __getitem__(self, name: str) -> Column:
        return self.columns[checks.one_of("column", name, self.columns)]

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.columns)


def read_table(path: str | os.PathLike, text: Iterable[str] = ()) -> Table:
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


def choose_task(target: Column, task: str = "auto") -> str:
    """The task that a target asks for: classification for text, booleans, and integers with few
    distinct values, else regression.
    """
    checks.one_of("task", task, TASKS)
    target.check_usable()
    target.check_complete()
    distinct = len(np.unique(target.values))
    if distinct == 1:
        raise ValueError(
            f"the target column {target.name!r} is {target.names()[0]} in every row; there is nothing to learn"
        )
    if task != "auto":
        return task
    few = target.kind == "integer" and distinct <= _MOST_INTEGER_CLASSES
    return "classification" if target.kind in _NAME_KINDS or few else "regression"


@dataclass(frozen=True)
class Number:
    """A feature of numbers: (x − mean)/scale, and 0, which is the mean, where a number is
    missing.
    """

    name: str
    mean: float
    scale: float

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        values = column.numbers()[rows]
        known = values[~np.isnan(values)]
        if not known.size:
            return cls(column.name, 0.0, 1.0)
        with np.errstate(over="ignore"):  # named below
            scaler = Standardizer().fit(known[:, None])
        if not np.isfinite([scaler.mean_[0], scaler.scale_[0]]).all():
            raise ValueError(
                f"column {column.name!r} holds numbers up to {np.abs(known).max():g}, too large to standardise"
            )
        return cls(column.name, float(scaler.mean_[0]), float(scaler.scale_[0]))

    @property
    def width(self) -> int:
        return 1

    def encode(self, column: Column, out: np.ndarray) -> None:
        numbers = column.numbers()
        with np.errstate(over="ignore"):  # the network names infinite inputs
            out[:, 0] = np.where(np.isnan(numbers), 0.0, (numbers - self.mean) / self.scale)


@dataclass(frozen=True)
class Category:
    """A feature of names: one column of 0 and 1 for each category met in training; all 0 for
    another one.
    """

    name: str
    categories: tuple[str, ...]

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        return cls(column.name, tuple(sorted(set(column.names()[rows]))))

    @property
    def width(self) -> int:
        return len(self.categories)

    def encode(self, column: Column, out: np.ndarray) -> None:
        codes = _codes(column, self.categories)
        known = np.flatnonzero(codes >= 0)
        out[:] = 0
        out[known, codes[known]] = 1


@dataclass(frozen=True)
class Classes:
    """A target of classes, sorted; ``kind`` is that of the column."""

    name: str
    kind: str
    classes: tuple[str, ...]

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        names = column.names()
        if column.kind == "real" and np.any(column.values != np.floor(column.values)):
            row = _first(column.values != np.floor(column.values))
            raise ValueError(
                f"column {column.name!r} is {names[row - 1]} in row {row}; classification takes text, booleans or whole numbers"
            )
        numeric = column.kind in _NUMBER_KINDS
        kind = "integer" if numeric else column.kind
        # of all rows: a rare class counts, too
        return cls(column.name, kind, tuple(sorted(set(names), key=int if numeric else None)))

    def encode(self, column: Column) -> np.ndarray:
        """Class numbers (n,)."""
        column.check_complete()
        codes = _codes(column, self.classes)
        if codes.min() < 0:
            row = _first(codes < 0)
            known = ", ".join(self.classes)
            raise ValueError(
                f"column {column.name!r} is {column.names()[row - 1]!r} in row {row}; the classes are {known}"
            )
        return codes

    def decode(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """The likeliest class and all probabilities, by column name."""
        probabilities = {
            f"probability_{name}": p for name, p in zip(self.classes, output.T, strict=True)
        }
        return {"prediction": self._labels()[output.argmax(axis=1)], **probabilities}

    def _labels(self):
        if self.kind == "integer":
            return np.array([int(name) for name in self.classes])
        return (
            np.array(self.classes) == "true" if self.kind == "boolean" else np.array(self.classes)
        )


@dataclass(frozen=True)
class Value:
    """A target of numbers, standardised."""

    name: str
    mean: float
    scale: float

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        return cls(**asdict(Number.fit(column, rows)))

    def encode(self, column: Column) -> np.ndarray:
        """Standardised values (n,)."""
        numbers = column.numbers()
        column.check_complete()
        return (numbers - self.mean) / self.scale

    def decode(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """The values in the column's own units, by column name."""
        return {
            "prediction": (output[:, 0] * np.float64(self.scale) + self.mean).astype(output.dtype)
        }


_KINDS = {kind.__name__: kind for kind in (Number, Category, Classes, Value)}


@dataclass(frozen=True)
class Preprocessing:
    """How a table becomes a network's inputs and targets, learnt from the training rows.

    Attributes
    ----------
    features : tuple of Number and Category
        In the order of the network's inputs.
    target : Classes or Value
    """

    features: tuple[Number | Category, ...]
    target: Classes | Value

    @classmethod
    def fit(
        cls, table: Table, target: str, task: str, rows: np.ndarray, ignore: Iterable[str] = ()
    ) -> Self:
        """Learn from the rows that the index array ``rows`` picks.

        Parameters
        ----------
        table : Table
        target : str
            Column to predict; all others but those of ``ignore`` are features.
        task : {"classification", "regression"}
        rows : ndarray of int
        ignore : iterable of str
        """
        left_out = {target, *(table[name].name for name in ignore)}
        columns = [column for name, column in table.columns.items() if name not in left_out]
        if not columns:
            hint = "; CSV files need commas between columns" if len(table.names) == 1 else ""
            raise ValueError(
                f"{table.source} has no column to learn from beside the target {target!r}{hint}"
            )
        for column in columns:
            column.check_usable()
        kinds = [Number if column.kind in _NUMBER_KINDS else Category for column in columns]
        features = tuple(
            kind.fit(column, rows) for kind, column in zip(kinds, columns, strict=True)
        )
        return cls(
            features, (Classes if task == "classification" else Value).fit(table[target], rows)
        )

    @property
    def text_columns(self) -> list[str]:
        """Columns that `read_table` must not take for numbers."""
        # Booleans are left to be recognised: as text they might be True, TRUE or true.
        names = [
            f.name
            for f in self.features
            if isinstance(f, Category) and not set(f.categories) <= {"true", "false", ""}
        ]
        return (
            [*names, self.target.name]
            if isinstance(self.target, Classes) and self.target.kind == "text"
            else names
        )

    def inputs(self, table: Table, dtype: DTypeLike = np.float64) -> np.ndarray:
        """Features (n, inputs). Other columns of the table, and the order of columns, do not
        matter.
        """
        missing = [feature.name for feature in self.features if feature.name not in table.columns]
        if missing:
            raise ValueError(
                f"{table.source} lacks the columns {', '.join(missing)}; it has {', '.join(table.names)}"
            )
        ends = np.cumsum([0, *(feature.width for feature in self.features)])
        X = np.empty((len(table), ends[-1]), dtype)
        for feature, start, end in zip(self.features, ends, ends[1:], strict=False):
            feature.encode(table[feature.name], X[:, start:end])
        return X

    def targets(self, table: Table) -> np.ndarray:
        """Class numbers or standardised values (n,)."""
        if self.target.name not in table.columns:
            raise ValueError(
                f"{table.source} lacks the target column {self.target.name!r}; it has {', '.join(table.names)}"
            )
        return self.target.encode(table[self.target.name])

    def filled(self, table: Table) -> dict[str, int]:
        """How many missing numbers `inputs` replaces by the training rows' mean, by column; columns
        without any are left out.
        """
        names = [feature.name for feature in self.features if isinstance(feature, Number)]
        counts = {name: int(np.isnan(table[name].numbers()).sum()) for name in names}
        return {name: count for name, count in counts.items() if count}

    def to_dict(self) -> dict[str, Any]:
        """As plain data for a model file."""
        return {
            "features": [_to_dict(feature) for feature in self.features],
            "target": _to_dict(self.target),
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        try:
            return cls(
                tuple(_from_dict(feature) for feature in description["features"]),
                _from_dict(description["target"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"the model's metadata 'preprocessing' is not what Preprocessing.to_dict gives ({error!r})"
            ) from error


def check_destination(path: str | os.PathLike) -> None:
    """Raise the error that a later `write_columns` to ``path`` would meet, before any work is
    lost.
    """
    _check_suffix(Path(path), _WRITERS)
    check_writable(path)


def write_columns(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Write arrays (n,) as the columns of a CSV, Parquet or NPZ file, by the extension of
    ``path``.
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
            f"column {names.index('') + 1} of {path} has no name; pandas writes such a column unless index=False"
        )
    if all(map(_is_number, names)) and names != [str(i) for i in range(len(names))]:
        raise ValueError(
            f"the first line of {path} holds numbers ({', '.join(names[:3])}, …); expected column names"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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
    np.savez(file, **columns)
    return file.getvalue()


_WRITERS = {".csv": to_csv, ".parquet": _to_parquet, ".npz": _to_npz}


# --- pieces ---------------------------------------------------------------------------------------


def _first(mask: np.ndarray) -> int:
    """The number, counted from 1, of the first row where ``mask`` is true."""
    return int(mask.argmax()) + 1


def _number_name(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if value == value // 1 else repr(value)


def _codes(column: Column, names: tuple[str, ...]) -> np.ndarray:
    """For each row the place of its name in ``names``, or −1."""
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(name, -1) for name in column.names()])


def _to_dict(part: Any) -> dict[str, Any]:
    plain = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(part).items()
    }
    return {"type": type(part).__name__, **plain}


def _from_dict(description: Mapping[str, Any]) -> Any:
    constants = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in description.items()
        if key != "type"
    }
    return _KINDS[description["type"]](**constants)
