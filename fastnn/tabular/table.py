"""A data file in memory: named columns of numbers, text or booleans."""

from dataclasses import dataclass

import numpy as np

from fastnn._utils import checks

NUMBER_KINDS = ("integer", "real")
NAME_KINDS = ("text", "boolean")


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
        """The column as float64, NaN where a number is missing.

        Raises
        ------
        ValueError
            The column does not hold numbers, or an infinite one.
        """
        if self.kind in NAME_KINDS:
            row = first_row(np.array([not is_number(value) for value in self.values]))
            raise ValueError(
                f"column {self.name!r} is {self.values[row - 1]!r} in row {row}; expected a number"
            )
        self.check_usable()
        values = self.values.astype(np.float64)
        if np.isinf(values).any():
            raise ValueError(
                f"column {self.name!r} is infinite in row {first_row(np.isinf(values))}; "
                "every number must be finite"
            )
        return values

    def names(self) -> np.ndarray:
        """The column as strings, "" where one is missing.

        Whole numbers have no decimal point, whatever their type.
        """
        if self.kind in NUMBER_KINDS:
            return np.array([_number_name(value) for value in self.values.tolist()], object)
        self.check_usable()
        return self.values

    def check_usable(self) -> None:
        """ValueError unless this is a column of numbers, text or booleans."""
        if self.kind not in (*NUMBER_KINDS, *NAME_KINDS):
            raise ValueError(
                f"column {self.name!r} holds {self.kind}; expected numbers, text or booleans: "
                "convert or ignore it"
            )

    def check_complete(self) -> None:
        """ValueError where a value is missing, naming the first such row."""
        missing = np.isnan(self.numbers()) if self.kind in NUMBER_KINDS else self.names() == ""
        if missing.any():
            raise ValueError(
                f"column {self.name!r} is empty in row {first_row(missing)}; "
                "fill it in or drop the row"
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


def is_number(text: str) -> bool:
    """Whether ``float`` reads the text."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def first_row(mask: np.ndarray) -> int:
    """The number, counted from 1, of the first row where ``mask`` is true."""
    return int(mask.argmax()) + 1


def _number_name(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if value == value // 1 else repr(value)
