"""The matrix of a network's inputs, from features and a table."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from fastnn.tabular.table import Column, Table

_BLOCK_BYTES = 1 << 22  # rows are put into their order in pieces of this size


class Feature(Protocol):
    """What becomes ``width`` inputs of the column that has its name."""

    @property
    def name(self) -> str: ...
    @property
    def width(self) -> int: ...

    def encode(self, column: Column, out: np.ndarray) -> None:
        """Write the inputs (n, width)."""
        ...


def encode(
    features: Sequence[Feature],
    table: Table,
    dtype: DTypeLike,
    rows: np.ndarray | None = None,
    consume: bool = False,
) -> np.ndarray:
    """The inputs (n, inputs) of a table.

    Parameters
    ----------
    features : sequence of Feature
        In the order of the inputs.
    table : Table
    dtype : dtype
    rows : ndarray of int, optional
        Their order; by default all as they come.
    consume : bool
        Whether to take the columns out of the table, so that their memory is free again while the
        inputs grow.
    """
    ends = np.cumsum([0, *(feature.width for feature in features)])
    last = {feature.name: i for i, feature in enumerate(features)}
    # Column by column: a page of memory is taken when its first number is written.
    X = np.empty((ends[-1], len(table)), dtype)
    for i, (feature, (start, end)) in enumerate(zip(features, pairwise(ends), strict=True)):
        is_used_up = consume and last[feature.name] == i
        column = table.columns.pop(feature.name) if is_used_up else table[feature.name]
        feature.encode(column, X[start:end].T)
    return by_rows(X, rows)


def by_rows(X: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
    """The transpose of X, C-contiguous, its rows in another order."""
    n = X.shape[1] if rows is None else len(rows)
    result = np.empty((n, len(X)), X.dtype)
    for part in _parts(n, len(X) * X.itemsize):
        result[part] = X[:, part if rows is None else rows[part]].T
    return result


def _parts(n: int, size: int) -> Iterator[slice]:
    step = max(1, _BLOCK_BYTES // max(1, size))
    return (slice(start, start + step) for start in range(0, n, step))
