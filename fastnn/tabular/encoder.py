"""`TableEncoder`: the columns of a table as a network's inputs and target, and its outputs back."""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from fastnn._utils import checks
from fastnn.tabular.columns.choice import (
    FEATURES,
    Feature,
    FeatureOptions,
    as_names,
    check_usable,
    choose,
    decisions,
    group,
)
from fastnn.tabular.columns.dates import seconds_in
from fastnn.tabular.columns.description import described, restored
from fastnn.tabular.columns.matrix import encode
from fastnn.tabular.columns.names import Codes, OneHot
from fastnn.tabular.columns.numbers import DatePart, Number
from fastnn.tabular.features import Unknown
from fastnn.tabular.frames import as_column, as_table, name_of
from fastnn.tabular.given import labels, naming_argument, one_column
from fastnn.tabular.messages import listed, naming, option, quoted
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.remarks import gaps, remarks_on_gaps, remarks_on_names, unknown
from fastnn.tabular.table import Column, Table
from fastnn.tabular.targets import TASKS, BoundedValue, Classes, choose_task

_TARGETS = {kind.__name__: kind for kind in (Classes, BoundedValue)}
_BOOLEANS = {"true", "false"}
_DTYPES = ("float32", "float64")


@dataclass(eq=False)
class TableEncoder(FeatureOptions):
    """Tables as arrays for a network, and its outputs as predictions.

    `fit` learns from the training rows what each column is; `transform` makes inputs of any table
    with these columns. The command line does the same with files. Columns of the matrix are first
    numbers, then gaps and one-hot columns, and last codes.

    Parameters
    ----------
    numbers : {"robust", "quantile", "standard"}
        How numbers are scaled. A missing one counts as the median, and where the training rows have
        gaps another column is 1 for a gap.
    one_hot : int
        The most different names of a column, a missing one counted, that become one-hot columns.
        A column of more becomes one of codes, for a layer that learns a vector for each.
    min_count : int
        Rows that a name must be in to have a code of its own; rarer ones share code 0 with names
        that training did not meet.
    categories : collection of str
        Columns to take as names, whatever they hold.
    keep : collection of str
        Columns that are never left out.
    dates : collection of str
        Numbers that a date becomes, those that vary: "year", "month", "day of year", "weekday",
        "hour", "time". With none, columns of dates are left out.
    coerce : collection of str
        Columns of numbers in which text that is no number counts as missing.
    ignore : collection of str
        Columns to leave out.
    task : {"auto", "classification", "regression"}
        What the target asks for. By default text, booleans and few whole numbers are classes.
    dtype : {"float32", "float64"}
        Of the inputs.

    Attributes
    ----------
    features : tuple
        Learnt from each column, in the order of the inputs.
    target : Classes, BoundedValue or None
    left_out : dict of str to str
        The reason, by column.
    notes : list of str
        What may surprise about the training table.
    """

    ignore: Collection[str] = ()
    task: str = "auto"
    dtype: str = "float32"
    features: tuple[Feature, ...] = field(default=(), init=False, repr=False)
    target: Classes | BoundedValue | None = field(default=None, init=False, repr=False)
    left_out: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    notes: list[str] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ignore = as_names("ignore", self.ignore)
        checks.one_of("task", self.task, TASKS)
        self.dtype = checks.one_of("dtype", np.dtype(self.dtype).name, _DTYPES)

    # --- learning ---------------------------------------------------------------------------------

    def fit(self, frame: Any, y: Any = None, rows: np.ndarray | None = None) -> Self:
        """Learn from a table; returns the encoder itself.

        Parameters
        ----------
        frame : DataFrame of pandas or Polars, Table of pyarrow, dict of arrays, or 2-D array
        y : str, array-like (n,) or (n, 1), frame of one column, or None
            The target: a column of the frame, by its name, or values.
        rows : ndarray of int, optional
            The rows to learn from; by default all.

        Raises
        ------
        TypeError, ValueError
            Naming the column, the row, the value and the option that helps.
        """
        table = as_table(frame, self.reading())
        with naming(table.source):
            self._check_names(table)
            target = self._target_column(table, y)
            skipped = {*self.ignore, *([target.name] if target and isinstance(y, str) else [])}
            columns = [column for name, column in table.columns.items() if name not in skipped]
            part = slice(None) if rows is None else rows
            check_usable(columns, table.in_python)
            features, left_out = choose(columns, part, self)
            if not features:
                raise ValueError(_nothing_left(table, target, left_out))
            self.target, notes = self._fitted_target(target, part, table.in_python, y)
            self.features, self.left_out = features, left_out
            filled = remarks_on_gaps(self.filled(table), "median")
            self.notes = [*table.notes, *notes, *filled]
        return self

    def reading(self) -> ReadOptions:
        """How `fit` reads a frame."""
        return ReadOptions(
            text=self.categories, coerce=self.coerce, ignore=self.ignore, in_python=True
        )

    def _check_names(self, table: Table) -> None:
        for name in (*self.categories, *self.keep, *self.coerce, *self.ignore):
            checks.one_of("column", name, dict.fromkeys(table.names))

    def _target_column(self, table: Table, y: Any) -> Column | None:
        if y is None or isinstance(y, str):
            return None if y is None else table[y]
        y = one_column(y)
        name = name_of(y, "y")
        # Labels that were given as text come back as text.
        names = set() if self.task == "regression" else {name}
        with naming_argument(name):
            column = labels(y, name, names)
        if len(column.values) != len(table):
            raise ValueError(
                f"y has {len(column.values):,} values for the {len(table):,} rows of {table.source}"
            )
        return column

    def _fitted_target(
        self, column: Column | None, rows: np.ndarray | slice, in_python: bool, y: Any
    ) -> tuple[Classes | BoundedValue | None, list[str]]:
        if column is None:
            return None, []
        with contextlib.nullcontext() if isinstance(y, str) else naming_argument(column.name):
            task = choose_task(column, self.task, in_python)
            kind = Classes if task.name == "classification" else BoundedValue
            chosen = rows if isinstance(rows, np.ndarray) else np.arange(len(column.values))
            target = kind.fit(column, chosen)
        return target, [f"target: {task.reason}"] if task.reason else []

    # --- using ------------------------------------------------------------------------------------

    def transform(
        self, frame: Any, rows: np.ndarray | None = None, consume: bool = False
    ) -> np.ndarray:
        """The inputs (n, inputs) of a table.

        The order of its columns does not matter, nor do columns that training left out.

        Parameters
        ----------
        frame : as `fit` takes it
        rows : ndarray of int, optional
            Their order; by default all as they come.
        consume : bool
            Whether to take the columns out of a `Table`, so that their memory is free again while
            the inputs grow.
        """
        table = self._table(frame)
        with naming(table.source):
            return encode(self.features, table, self.dtype, rows, consume)

    def transform_target(self, y: Any) -> np.ndarray:
        """Class numbers or standardised values (n,) of values, or of a table with the target.

        Parameters
        ----------
        y : array-like (n,) or (n, 1), frame of one column, or frame with the target
        """
        target = self._known_target()
        if not self._has_columns(y):
            with naming_argument(target.name):
                return target.encode(as_column(one_column(y), target.name, self._named_target()))
        table = as_table(y, replace(self._named_target(), only={target.name}))
        if target.name not in table.columns:
            raise ValueError(
                f"{table.source} lacks the target column {quoted(target.name)}; "
                f"it has {listed(table.names)}"
            )
        return target.encode(table[target.name])

    def _has_columns(self, y: Any) -> bool:
        """Whether y is a table, and not the target alone in one column of whatever name."""
        if isinstance(y, Table | Mapping):
            return True
        shape = getattr(y, "shape", ())
        return len(shape) == 2 and (shape[1] != 1 or name_of(one_column(y), "") in self.columns)

    def decode(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Predictions from a network's outputs (n, outputs), as `Network.predict` gives them.

        Returns
        -------
        dict of str to ndarray (n,)
            "prediction", and of classes "probability_…" of each. Values are in the unit of the
            target, and stay within the range of the training rows.
        """
        outputs = np.asarray(outputs)
        if outputs.ndim != 2 or outputs.shape[1] != self.outputs:
            raise ValueError(f"outputs have shape {outputs.shape}; expected (n, {self.outputs})")
        return self._known_target().decode(outputs)

    def filled(self, table: Table) -> dict[str, int]:
        """The number of gaps that `transform` fills with the training median, by column."""
        dates = {f.name: seconds_in for f in self.features if isinstance(f, DatePart)}
        values = {f.name: Column.numbers for f in self.features if type(f) is Number} | dates
        return gaps((name, read(table[name])) for name, read in values.items())

    def unknown(self, table: Table) -> dict[str, Unknown]:
        """The names that are no category, by column with such."""
        named = [f for f in self.features if isinstance(f, OneHot | Codes)]
        many = [f.name for f in named if isinstance(f, Codes)]
        return unknown(table, {f.name: f.known for f in named}, many)

    def remarks(self, frame: Any) -> list[str]:
        """What may surprise about a table that is to be predicted, a line for each thing."""
        table = self._table(frame)
        with naming(table.source):
            return [
                *table.notes,
                *remarks_on_gaps(self.filled(table), "median"),
                *remarks_on_names(self.unknown(table)),
            ]

    # --- what was learnt --------------------------------------------------------------------------

    @property
    def inputs(self) -> int:
        """Columns of the matrix."""
        return sum(feature.width for feature in self.features)

    @property
    def target_name(self) -> str:
        """The name of the target."""
        return self._known_target().name

    @property
    def outputs(self) -> int:
        """Outputs that the network needs: one for each class, or one for values."""
        target = self._known_target()
        return len(target.classes) if isinstance(target, Classes) else 1

    @property
    def n_numbers(self) -> int:
        """The number of leading columns that hold numbers, parts of dates included."""
        return sum(isinstance(feature, Number) for feature in self.features)

    @property
    def cardinalities(self) -> list[int]:
        """Of the trailing columns that hold codes, how many codes each has."""
        return [feature.cardinality for feature in self.features if isinstance(feature, Codes)]

    @property
    def columns(self) -> list[str]:
        """The columns of a table that the inputs come from."""
        return list(dict.fromkeys(feature.name for feature in self.features))

    @property
    def decisions(self) -> str:
        """What was decided about the columns, as a short table: a line for each kind."""
        return decisions(self.features, self.left_out)

    def read_options(self, options: ReadOptions, with_target: bool) -> ReadOptions:
        """How to read a file for the network: the columns that it takes, as what they were."""
        kinds: dict[str, set[str]] = {"text": set(), "number": set(), "coerce": set()}
        for feature in self.features:
            if type(feature) is Number:
                kinds["coerce" if feature.coerce else "number"].add(feature.name)
            elif isinstance(feature, OneHot | Codes) and not _BOOLEANS.issuperset(
                feature.categories  # which the reader recognises itself
            ):
                kinds["text"].add(feature.name)
        names = {feature.name for feature in self.features}
        if with_target:
            target = self._named_target()
            names.add(self._known_target().name)
            kinds["text"] |= set(target.text)
            kinds["number"] |= set(target.number)
        return replace(options, only=names, **kinds)

    def to_dict(self) -> dict[str, Any]:
        """What was learnt as plain data for a model file; the options are no part of it."""
        return {
            "dtype": self.dtype,
            "features": [described(feature) for feature in self.features],
            "target": None if self.target is None else described(self.target),
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`. Runs no code from the description."""
        try:
            encoder = cls(dtype=checks.one_of("dtype", description["dtype"], _DTYPES))
            encoder.features = tuple(restored(f, FEATURES) for f in description["features"])
            target = description["target"]
            encoder.target = None if target is None else restored(target, _TARGETS)
            encoder.left_out = _reasons(description["left_out"])
            groups = list(map(group, encoder.features))
            if groups != sorted(groups):
                raise ValueError("features are numbers, then others, then codes")
        except (
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            ValueError,
            RecursionError,
        ) as error:
            raise ValueError(
                f"the model's metadata 'encoder' is not what TableEncoder.to_dict gives ({error!r})"
            ) from error
        return encoder

    # --- shared -----------------------------------------------------------------------------------

    def _table(self, frame: Any) -> Table:
        """A frame that has all columns."""
        if not self.features:
            raise ValueError("this TableEncoder has not been fitted: call fit first")
        reading = self.read_options(ReadOptions(in_python=True), with_target=False)
        table = as_table(frame, reading)
        self.check_columns(table)
        return table

    def check_columns(self, table: Table) -> None:
        """ValueError unless the table has the columns that the inputs come from."""
        missing = [name for name in self.columns if name not in table.columns]
        if missing:
            raise ValueError(
                f"{table.source} lacks the columns {listed(missing)}; it has {listed(table.names)}"
            )

    def _known_target(self) -> Classes | BoundedValue:
        if self.target is None:
            raise ValueError("this TableEncoder has no target: call fit with y first")
        return self.target

    def _named_target(self) -> ReadOptions:
        """How to read the target: as what it was."""
        target = self._known_target()
        if isinstance(target, BoundedValue):
            return ReadOptions(number={target.name}, in_python=True)
        return ReadOptions(text={target.name} if target.kind == "text" else (), in_python=True)


def _nothing_left(table: Table, target: Column | None, left_out: Mapping[str, str]) -> str:
    """Why a table has no column to learn from."""
    beside = f" beside the target {quoted(target.name)}" if target else ""
    message = f"{table.source} has no column to learn from{beside}"
    if left_out:
        reasons = listed([f"{quoted(name)} is left out ({why})" for name, why in left_out.items()])
        return (
            f"{message}: {reasons}; {option('keep', None, table.in_python)} takes it all the same"
        )
    if len(table.names) == 1 and not table.in_python:
        return f"{message}; if its columns are not separated by commas, give --delimiter"
    return message


def _reasons(left_out: Any) -> dict[str, str]:
    if not isinstance(left_out, dict) or not all(
        isinstance(text, str) for pair in left_out.items() for text in pair
    ):
        raise TypeError("left_out must be a dict of text")
    return dict(left_out)
