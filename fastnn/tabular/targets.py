"""The column that a network is to predict: classes or values, and its outputs as that again."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fastnn._utils import checks
from fastnn.tabular.features import Number, places_of
from fastnn.tabular.messages import cell, quoted
from fastnn.tabular.table import NAME_KINDS, NUMBER_KINDS, Column, first_row

TASKS = ("auto", "classification", "regression")

_ADVICE = "convert it, dates to numbers of days, for example"
_LONGEST_CLASS = 10_000  # letters; a longer one is a text, and predictions would repeat it
# Whole numbers are taken for classes where they are so few, and come so often each in the mean.
_MOST_CLASSES, _LEAST_ROWS = 10, 2


@dataclass(frozen=True)
class Task:
    """What a target asks for, and why."""

    name: str  # "classification" or "regression"
    reason: str = ""  # where the numbers decided, and another choice is possible


def choose_task(target: Column, task: str = "auto", in_python: bool = False) -> Task:
    """The task that a target column asks for.

    Text and booleans are classes. Numbers are quantities; but whole ones, written with a decimal
    point or not, are classes where there are at most ten different ones, each in two rows or more
    in the mean.

    Parameters
    ----------
    target : Column
    task : {"auto", "classification", "regression"}
        The user's choice, which "auto" leaves to the column.
    in_python : bool
        Whether messages name options as Python's arguments, and not as the command line's.

    Raises
    ------
    ValueError
        An unknown task; a column of another type or of several, with gaps, or of one value.
    """
    checks.one_of("task", task, TASKS)
    target.check_usable(_ADVICE if in_python else f"{_ADVICE}, or choose another --target")
    if target.mixed:  # as names, 1 and "1" would be the same
        raise ValueError(
            f"column {quoted(target.name)} is {target.mixed}; "
            "all values of a target must be of one type"
        )
    target.check_complete()
    names = _names_in(target)
    if len(names) == 1:
        raise ValueError(
            f"the target column {quoted(target.name)} is {quoted(names[0])} in every row; "
            "there is nothing to learn"
        )
    if task != "auto":
        return Task(task)
    if target.kind in NAME_KINDS:
        return Task("classification")
    if not _is_whole(target.values):
        return Task("regression")
    other = _task_option("classification", in_python)
    if len(names) > _MOST_CLASSES:
        reason = f"{len(names):,} different whole numbers; {other} for classes"
        return Task("regression", reason)
    if len(target.values) < _LEAST_ROWS * len(names):
        reason = f"most of its whole numbers come once; {other} for classes"
        return Task("regression", reason)
    other = _task_option("regression", in_python)
    return Task("classification", f"{', '.join(names)}; {other} for a quantity")


def _task_option(task: str, in_python: bool) -> str:
    return f"task={task!r}" if in_python else f"--task {task}"


def _names_in(column: Column) -> tuple[str, ...]:
    """The names that are in some row; a Categorical, for one, may have others, too."""
    codes, names = column.coded()
    return tuple(names[code] for code in np.unique(codes).tolist())


def _is_whole(values: np.ndarray) -> bool:
    return values.dtype.kind != "f" or bool((values == np.floor(values)).all())


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
                f"column {quoted(self.name)} has the class {quoted(longest)}; "
                f"the name of a class has at most {_LONGEST_CLASS:,}"
            )

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        if column.kind == "real" and not _is_whole(column.values):
            row = first_row(column.values != np.floor(column.values))
            raise ValueError(
                f"{cell(column.name, column.name_in(row), row)}; "
                "classification takes text, booleans or whole numbers"
            )
        kind = "integer" if column.kind in NUMBER_KINDS else column.numeric or column.kind
        names = _names_in(column)  # of all rows: a rare class counts, too
        return cls(column.name, kind, tuple(sorted(names, key=int if kind == "integer" else None)))

    def encode(self, column: Column) -> np.ndarray:
        """Class numbers (n,)."""
        column.check_complete()
        places = places_of(column, self.classes)
        if places.min() < 0:
            row = first_row(places < 0)
            known = ", ".join(self.classes[:20]) + (", …" if len(self.classes) > 20 else "")
            raise ValueError(
                f"{cell(column.name, column.name_in(row), row)}; the classes are {known}"
            )
        return places

    def decode(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """The likeliest class and all probabilities, by column name."""
        probabilities = {
            f"probability_{name}": p for name, p in zip(self.classes, output.T, strict=True)
        }
        return {"prediction": self.labels()[output.argmax(axis=1)], **probabilities}

    def labels(self) -> np.ndarray:
        if self.kind == "integer":
            return np.array([int(name) for name in self.classes])
        return (
            np.array(self.classes) == "true" if self.kind == "boolean" else np.array(self.classes)
        )


@dataclass(frozen=True)
class Value:
    """A target of numbers, standardised; of model files of version 0.1.0."""

    name: str
    mean: float
    scale: float

    def encode(self, column: Column) -> np.ndarray:
        """Standardised values (n,) of float64."""
        numbers = column.numbers()
        column.check_complete()
        with np.errstate(over="ignore"):  # the network names infinite targets
            return (numbers - self.mean) / self.scale

    def decode(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """The values in the column's own units, by column name.

        They are float64: seconds since 1970, for example, differ by less than float32 can tell.
        """
        return {"prediction": output[:, 0].astype(np.float64) * self.scale + self.mean}


@dataclass(frozen=True)
class BoundedValue(Value):
    """A target of numbers, standardised; predictions stay within the range of the training rows."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low must be at most high, not {self.low} and {self.high}")

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        number = Number.fit(column, rows)
        known = column.numbers()[rows]
        return cls(number.name, number.mean, number.scale, float(known.min()), float(known.max()))

    def decode(self, output: np.ndarray) -> dict[str, np.ndarray]:
        """The values in the column's own units, by column name."""
        values = super().decode(output)
        return {name: np.clip(value, self.low, self.high) for name, value in values.items()}
