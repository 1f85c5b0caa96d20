"""Columns of names: few are one-hot, many are codes for a layer that learns a vector for each."""

from dataclasses import dataclass

import numpy as np

from fastnn.tabular.features import check_known, places_of
from fastnn.tabular.table import Column


@dataclass(frozen=True)
class OneHot:
    """Names with an input each, 1 where a row has it; of two names one input, −1 or 1.

    A missing name and one that training did not meet are 0 in all of them. ``missing`` says that
    the training rows had gaps.
    """

    name: str
    categories: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        return 1 if len(self.categories) == 2 else len(self.categories)

    @property
    def known(self) -> tuple[str, ...]:
        """The names that are no surprise."""
        return (*self.categories, "") if self.missing else self.categories

    def encode(self, column: Column, out: np.ndarray) -> None:
        places = places_of(column, self.categories)
        check_known(column, self.categories, places)
        if len(self.categories) == 2:
            out[:, 0] = np.array([-1, 1, 0], np.int8)[places]  # the last is of place −1
            return
        known = np.flatnonzero(places >= 0)
        out[:] = 0
        out[known, places[known]] = 1


@dataclass(frozen=True)
class Codes:
    """Names as whole numbers: 1, 2, … by name, 0 for a rare one or one that training did not meet.

    A missing name has the last number where the training rows had gaps, else 0.
    """

    name: str
    categories: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        return 1

    @property
    def cardinality(self) -> int:
        """The number of different codes."""
        return 1 + len(self.known)

    @property
    def known(self) -> tuple[str, ...]:
        """The names with a code of their own."""
        return (*self.categories, "") if self.missing else self.categories

    def encode(self, column: Column, out: np.ndarray) -> None:
        places = places_of(column, self.known)
        check_known(column, self.known, places, all_new=True)
        out[:, 0] = places + 1


def name_feature(
    column: Column, rows: np.ndarray | slice, one_hot: int, min_count: int, keep: bool
) -> OneHot | Codes | None:
    """A column as a feature of names, or None where the training rows do not differ.

    Parameters
    ----------
    column : Column
    rows : ndarray of int, or slice
        Of training.
    one_hot : int
        The most different names, a missing one counted, that are one-hot.
    min_count : int
        Rows that a name must be in to have a code of its own.
    keep : bool
        Whether a single name makes a feature, too.
    """
    codes, names = column.coded()
    counts = np.bincount(codes[rows], minlength=len(names)).tolist()
    by_name = {name: 0 for name in names}
    for name, count in zip(names, counts, strict=True):
        by_name[name] += count
    missing = by_name.pop("", 0) > 0
    found = sorted(name for name, count in by_name.items() if count)
    if len(found) + missing < 2 and not (keep and found):
        return None
    if len(found) + missing <= one_hot:
        return OneHot(column.name, tuple(found), missing)
    common = tuple(name for name in found if by_name[name] >= min_count)
    if not keep and not common:
        return None
    return Codes(column.name, common, missing)
