"""Encoding the columns of a table as the inputs and targets of a network, and decoding its outputs.

`Preprocessing` is learnt from the training rows and stored in the model file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike

from fastnn._utils import checks
from fastnn.data.scalers import Standardizer
from fastnn.tabular.table import NAME_KINDS, NUMBER_KINDS, Column, Table, first_row

TASKS = ("auto", "classification", "regression")

_LONGEST_CLASS = 10_000  # letters; a longer one is a text, and predictions would repeat it
_TARGET_KINDS = ("integer", *NAME_KINDS)  # of classes
_MOST_INTEGER_CLASSES = 20  # an integer target with more distinct values is taken for a quantity


def choose_task(target: Column, task: str = "auto") -> str:
    """The task that a target column asks for: "classification" or "regression".

    Text, booleans and integers with few distinct values are classes; other numbers are quantities.

    Parameters
    ----------
    target : Column
    task : {"auto", "classification", "regression"}
        The user's choice, which "auto" leaves to the column.

    Raises
    ------
    ValueError
        An unknown task; a column of another type, with gaps, or of one value.
    """
    checks.one_of("task", task, TASKS)
    target.check_usable()
    target.check_complete()
    distinct = len(np.unique(target.values))
    if distinct == 1:
        raise ValueError(
            f"the target column {target.name!r} is {target.names()[0]} in every row; "
            "there is nothing to learn"
        )
    if task != "auto":
        return task
    few = target.kind == "integer" and distinct <= _MOST_INTEGER_CLASSES
    return "classification" if target.kind in NAME_KINDS or few else "regression"


@dataclass(frozen=True)
class Number:
    """A feature of numbers: (x − mean)/scale; a missing number becomes 0, the mean."""

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
                f"column {column.name!r} holds numbers up to {np.abs(known).max():g}, too large to "
                "standardise"
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
    """A feature of names, one-hot: a column for each category of the training rows.

    A category that is not among them is all zeros.
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

    def __post_init__(self) -> None:
        longest = max(self.classes, key=len, default="")
        if len(longest) > _LONGEST_CLASS:
            raise ValueError(
                f"column {self.name!r} has a class of {len(longest):,} letters, "
                f"{longest[:20]!r}…; the name of a class has at most {_LONGEST_CLASS:,}"
            )

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        names = column.names()
        if column.kind == "real" and np.any(column.values != np.floor(column.values)):
            row = first_row(column.values != np.floor(column.values))
            raise ValueError(
                f"column {column.name!r} is {names[row - 1]} in row {row}; "
                "classification takes text, booleans or whole numbers"
            )
        numeric = column.kind in NUMBER_KINDS
        kind = "integer" if numeric else column.kind
        # of all rows: a rare class counts, too
        return cls(column.name, kind, tuple(sorted(set(names), key=int if numeric else None)))

    def encode(self, column: Column) -> np.ndarray:
        """Class numbers (n,)."""
        column.check_complete()
        codes = _codes(column, self.classes)
        if codes.min() < 0:
            row = first_row(codes < 0)
            known = ", ".join(self.classes)
            raise ValueError(
                f"column {column.name!r} is {column.names()[row - 1]!r} in row {row}; "
                f"the classes are {known}"
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
        with np.errstate(over="ignore"):  # the network names infinite targets
            return (numbers - self.mean) / self.scale

    def decode(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """The values in the column's own units, by column name."""
        return {
            "prediction": (output[:, 0] * np.float64(self.scale) + self.mean).astype(output.dtype)
        }


_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Number, Category, Classes, Value)}


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
        kinds = [Number if column.kind in NUMBER_KINDS else Category for column in columns]
        features = tuple(
            kind.fit(column, rows) for kind, column in zip(kinds, columns, strict=True)
        )
        return cls(
            features, (Classes if task == "classification" else Value).fit(table[target], rows)
        )

    @property
    def outputs(self) -> int:
        """Outputs that the network needs: one for each class, or one for values."""
        return len(self.target.classes) if isinstance(self.target, Classes) else 1

    @property
    def text_columns(self) -> list[str]:
        """Columns that `read_table` must not take for numbers."""
        # The reader recognises booleans itself: as text they might be True, TRUE or true.
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
        """The features (n, inputs) of a table.

        The order of its columns does not matter, nor do columns that are no features.
        """
        missing = [feature.name for feature in self.features if feature.name not in table.columns]
        if missing:
            raise ValueError(
                f"{table.source} lacks the columns {', '.join(missing)}; "
                f"it has {', '.join(table.names)}"
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
                f"{table.source} lacks the target column {self.target.name!r}; "
                f"it has {', '.join(table.names)}"
            )
        return self.target.encode(table[self.target.name])

    def filled(self, table: Table) -> dict[str, int]:
        """The number of gaps that `inputs` fills with the training mean, by column with gaps."""
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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                "the model's metadata 'preprocessing' is not what Preprocessing.to_dict gives "
                f"({error!r})"
            ) from error


def _codes(column: Column, names: tuple[str, ...]) -> np.ndarray:
    """For each row the index of its name in ``names``, or −1."""
    places = {name: place for place, name in enumerate(names)}
    return np.array([places.get(name, -1) for name in column.names()])


def _to_dict(part: Any) -> dict[str, Any]:
    plain = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in asdict(part).items()
    }
    return {"type": type(part).__name__, **plain}


def _from_dict(description: Mapping[str, Any]) -> Any:
    kind = _KINDS[description["type"]]
    types = {field.name: field.type for field in fields(kind)}
    constants = {key: value for key, value in description.items() if key != "type"}
    for key, value in constants.items():
        constants[key] = _constant(key, value, types[key])
    return kind(**constants)


def _constant(key: str, value: Any, kind: Any) -> Any:
    """A constant of a description, of the type that its field has; a file may hold anything."""
    if kind is float:
        low = 0.0 if key == "scale" else -float("inf")
        return checks.number(key, value, low, low_open=True)
    if kind is str:
        if not isinstance(value, str):
            raise TypeError(f"{key} must be text, not {type(value).__name__}")
        return checks.one_of(key, value, _TARGET_KINDS) if key == "kind" else value
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise TypeError(f"{key} must be a list of text")
    return tuple(value)
