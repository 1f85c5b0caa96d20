"""Columns as the inputs of a network: numbers standardised, names one-hot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from fastnn.data.scalers import Standardizer
from fastnn.tabular.messages import cell, quoted
from fastnn.tabular.table import Column, first_row, is_number

_TRUTH = {
    **dict.fromkeys(("true", "yes", "y", "t", "on", "1", "1.0"), True),
    **dict.fromkeys(("false", "no", "n", "f", "off", "0", "0.0"), False),
}


@dataclass(frozen=True)
class Number:
    """A feature of numbers: (x − mean)/scale; a missing number becomes 0, the mean.

    ``coerce`` says that text which is no number counts as missing.
    """

    name: str
    mean: float
    scale: float
    coerce: bool = False

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray) -> Self:
        values = column.numbers()[rows]
        missing = np.isnan(values)
        known = values[~missing] if missing.any() else values
        if not known.size:
            return cls(column.name, 0.0, 1.0)
        scaler = Standardizer().fit(known[:, None])
        return cls(column.name, float(scaler.mean_[0]), float(scaler.scale_[0]))

    @property
    def width(self) -> int:
        return 1

    def encode(self, column: Column, out: np.ndarray) -> None:
        # In float64: rounded before, numbers like seconds since 1970 would coincide.
        with np.errstate(over="ignore"):  # the network names infinite inputs
            numbers = column.numbers() - self.mean
            numbers /= self.scale
            numbers[np.isnan(numbers)] = 0.0
            out[:, 0] = numbers


@dataclass(frozen=True)
class Category:
    """A feature of names, one-hot: a column for each category of the training rows.

    A category that is not among them is all zeros.
    """

    name: str
    categories: tuple[str, ...]

    @property
    def width(self) -> int:
        return len(self.categories)

    def encode(self, column: Column, out: np.ndarray) -> None:
        places = places_of(column, self.categories)
        known = np.flatnonzero(places >= 0)
        out[:] = 0
        out[known, places[known]] = 1


@dataclass(frozen=True)
class Unknown:
    """Values of a column that are no category: their number, and the first of them."""

    count: int
    row: int
    text: str

    @classmethod
    def find(cls, column: Column, known: Sequence[str], all_new: bool = False) -> Self | None:
        """None where every value is known.

        Raises
        ------
        ValueError
            As `check_known` does.
        """
        places = places_of(column, known)
        check_known(column, known, places, all_new)
        unknown = places < 0
        count = int(np.count_nonzero(unknown))
        if not count:
            return None
        row = first_row(unknown)
        return cls(count, row, column.name_in(row))


def check_known(
    column: Column, known: Sequence[str], places: np.ndarray, all_new: bool = False
) -> None:
    """ValueError where no value is known: the column means something else, or is spelt otherwise.

    Parameters
    ----------
    column : Column
    known : sequence of str
        The categories of the training rows.
    places : ndarray (n,)
        What `places_of` gives for them.
    all_new : bool
        Whether it is no surprise that all of several names are new, as among thousands it is none.
    """
    if not places.size or places.max() >= 0:
        return
    names = column.coded()[1]
    given = [name for name in names if name]
    turned = given and all(map(is_number, given)) and not any(map(is_number, known))
    if not turned and (all_new or len(given) < 2):
        return
    row = first_row(np.array([name != "" for name in names])[column.coded()[0]])
    shown = ", ".join(map(quoted, known[:5])) + (", …" if len(known) > 5 else "")
    number = ": it holds numbers now" if turned else ""
    raise ValueError(
        f"{cell(column.name, column.name_in(row), row)}, and none of its values is a "
        f"category that the model knows: {shown}{number}"
    )


def places_of(column: Column, known: Sequence[str]) -> np.ndarray:
    """For each row the place of its name in ``known``, or −1.

    Where no name is known and both sides are yes and no in other words, such as 1 and 0 for true
    and false, they are taken for the same.
    """
    codes, names = column.coded()
    places = {name: place for place, name in enumerate(known)}
    found = [places.get(name, -1) for name in names]
    if all(place < 0 for place, name in zip(found, names, strict=True) if name):
        truth = {_TRUTH.get(name.lower()): place for name, place in places.items() if name}
        asked = [_TRUTH.get(name.strip().lower()) for name in names if name]
        if None not in truth and None not in asked and len(truth) == sum(map(bool, known)):
            found = [
                truth.get(_TRUTH[name.strip().lower()], -1) if name else place
                for name, place in zip(names, found, strict=True)
            ]
    return np.array(found, np.int64)[codes]
