"""Which columns tell a network nothing: repeats of another, and identifiers of the rows."""

import hashlib
from collections.abc import Iterable

import numpy as np

from fastnn.tabular.messages import quoted
from fastnn.tabular.table import DATES, NUMBER_KINDS, Column

IDENTIFIER = "looks like an identifier"

_NEARLY_ALL = 0.95  # of the rows have names of their own
_FEW = 10  # rows in which anything may look like an identifier
_BLOCK = 1 << 16  # values that are looked at together


def repeats(columns: Iterable[Column]) -> dict[str, str]:
    """The reason against each column that repeats an earlier one in every row, by name."""
    first: dict[bytes, str] = {}
    reasons = {}
    for column in columns:
        earlier = first.setdefault(_digest(column), column.name)
        if earlier != column.name:
            reasons[column.name] = f"repeats {quoted(earlier)}"
    return reasons


def counts_rows(column: Column) -> bool:
    """Whether a column holds whole numbers that go up by one from row to row."""
    values = column.values
    if column.kind not in NUMBER_KINDS or len(values) <= _FEW:
        return False
    first, last = values[0].item(), values[-1].item()
    if last - first != len(values) - 1 or first != first // 1:  # false of NaN
        return False
    return all(_rises(values[i : i + _BLOCK + 1]) for i in range(0, len(values) - 1, _BLOCK))


def names_rows(column: Column) -> bool:
    """Whether a column of text has a different value in nearly every row."""
    if column.kind != "text" or len(column.values) <= _FEW:
        return False
    counts = np.bincount(column.values, minlength=len(column.categories))
    counts[[i for i, name in enumerate(column.categories) if not name]] = 0
    distinct = np.count_nonzero(counts)
    return bool(distinct > _FEW and distinct >= _NEARLY_ALL * counts.sum())


def _rises(values: np.ndarray) -> bool:
    is_whole = values.dtype.kind != "f" or bool((values == np.floor(values)).all())
    return is_whole and bool((values[1:] > values[:-1]).all())


def _digest(column: Column) -> bytes:
    """What two columns have in common if, and but for chance only if, their rows are the same."""
    digest = hashlib.blake2b(digest_size=16)
    if column.kind in (*NUMBER_KINDS, DATES):
        kind, as_numbers = DATES if column.kind == DATES else "numbers", None
    else:
        kind, as_numbers = "names", np.array([hash(name) for name in column.categories], np.int64)
    digest.update(kind.encode())
    for start in range(0, len(column.values), _BLOCK):
        block = column.values[start : start + _BLOCK]
        block = block.astype(np.float64) + 0.0 if as_numbers is None else as_numbers[block]
        digest.update(block.tobytes())
    return digest.digest()
