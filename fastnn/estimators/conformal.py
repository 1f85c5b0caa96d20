"""Intervals and sets that hold the truth with a wanted frequency: split-conformal prediction.

Scores of rows that the networks did not train on say how far a prediction may be off (Vovk,
Gammerman & Shafer 2005; Lei et al. 2018). The score of a value is |y − ŷ|, that of a class 1 − its
probability.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastnn._utils import checks

_MOST = 2_000  # scores that are kept


@dataclass(frozen=True)
class Conformal:
    """The sorted scores of rows that were held out, or so many of them at equal distances.

    Attributes
    ----------
    rows : int
        That were held out.
    scores : tuple of float
    """

    rows: int
    scores: tuple[float, ...]

    @classmethod
    def fit(cls, scores: np.ndarray) -> Self:
        """Learn from the scores (n,) of rows that were held out."""
        ordered = np.sort(scores.astype(np.float64))
        if len(ordered) > _MOST:
            # Rounded up: a kept score stands for those below it.
            places = np.ceil(np.linspace(0, len(ordered) - 1, _MOST)).astype(np.int64)
            ordered = ordered[places]
        return cls(len(scores), tuple(ordered.tolist()))

    def radius(self, coverage: float) -> float:
        """The score that at least this share of new rows stays below.

        It is the ⌈(n + 1) · coverage⌉-th smallest of n.

        Raises
        ------
        ValueError
            ``coverage`` outside (0, 1), or more than so few rows can promise.
        """
        checks.number("coverage", coverage, 0.0, 1.0, low_open=True, high_open=True)
        rank = math.ceil((self.rows + 1) * coverage)
        if rank > self.rows:
            most = self.rows / (self.rows + 1)
            raise ValueError(
                f"coverage is {coverage:g}, but {self.rows:,} rows that were held out promise at "
                f"most {math.floor(most * 1000) / 1000:g}"
            )
        if len(self.scores) == 1:
            return self.scores[0]
        share = (rank - 1) / (self.rows - 1)
        return self.scores[math.ceil(share * (len(self.scores) - 1) - 1e-9)]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for a model file."""
        return {"rows": self.rows, "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, checked."""
        scores = [checks.number("score", s) for s in plain["scores"]]
        rows = checks.integer("rows", plain["rows"])
        if not scores or len(scores) > rows or sorted(scores) != scores:
            raise ValueError("scores must be at least one and at most as many as rows, sorted")
        return cls(rows, tuple(scores))


def sets(p: np.ndarray, radius: float) -> np.ndarray:
    """Which classes (n, classes) may be true; the likeliest is always among them."""
    may_be = 1.0 - p.astype(np.float64) <= radius
    may_be[np.arange(len(p)), p.argmax(axis=1)] = True
    return may_be
