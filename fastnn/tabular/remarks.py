"""What may surprise about a table that a network is to predict: gaps, and names that are new."""

from collections.abc import Iterable, Mapping

import numpy as np

from fastnn.tabular.features import Unknown
from fastnn.tabular.messages import listed, quoted
from fastnn.tabular.table import Table


def gaps(columns: Iterable[tuple[str, np.ndarray]]) -> dict[str, int]:
    """The number of missing ones among the numbers of columns, by column with such."""
    counts = {name: int(np.isnan(numbers).sum()) for name, numbers in columns}
    return {name: count for name, count in counts.items() if count}


def unknown(
    table: Table, known: Mapping[str, tuple[str, ...]], many: Iterable[str] = ()
) -> dict[str, Unknown]:
    """The names that are not in ``known``, by column with such.

    In columns of ``many`` names it is no mistake that all of them are new.
    """
    many = set(many)
    found = {name: Unknown.find(table[name], names, name in many) for name, names in known.items()}
    return {name: one for name, one in found.items() if one is not None}


def remarks_on_gaps(counts: Mapping[str, int], middle: str) -> list[str]:
    """A line on the gaps that are filled with the mean or median, if there are any."""
    if not counts:
        return []
    shown = listed([f"{missing:,} in {quoted(name)}" for name, missing in counts.items()])
    return [f"missing numbers are replaced by the {middle} of the training rows: {shown}"]


def remarks_on_names(found: Mapping[str, Unknown]) -> list[str]:
    """A line on names that are new, if there are any."""
    if not found:
        return []
    counts = [
        f"{u.count:,} in {quoted(name)} ({quoted(u.text) if u.text else 'empty'} in row {u.row})"
        for name, u in found.items()
    ]
    shown = listed(counts)
    return [f"values that are no category of the training rows: {shown}"]
