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
_ROUNDING = 1e-6  # of probabilities in float32: those of equal rows are equal


@dataclass(frozen=True)
class Conformal:
    """The scores of rows that were held out.

    Attributes
    ----------
    rows : int
        That were held out.
    scores : tuple of float
        Sorted; the k-th of K is the score of the share k/K of the rows.
    """

    rows: int
    scores: tuple[float, ...]

    @classmethod
    def fit(cls, scores: np.ndarray, w: np.ndarray) -> Self:
        """Learn from the scores (n,) of rows that were held out, and their weights (n,).

        Rows of different weights count as so many as have the same effect, (Σw)²/Σw² (Kish 1965).
        """
        order = np.argsort(scores, kind="stable")
        ordered, w = scores[order].astype(np.float64), w[order].astype(np.float64)
        rows = max(1, int(w.sum() ** 2 / (w**2).sum() * (1 + 1e-9)))
        # A kept score stands for the share of the weight up to it.
        shares = np.arange(1, min(rows, _MOST) + 1) / min(rows, _MOST)
        places = np.searchsorted(np.cumsum(w) / w.sum(), shares - 1e-9)
        ordered = ordered[np.minimum(places, len(ordered) - 1)]
        return cls(rows, tuple(ordered.tolist()))

    def radius(self, coverage: float) -> float:
        """The score that this share of new rows stays below.

        It is the ⌈(n + 1) · coverage⌉-th smallest of n. This holds up to the choice of the epoch,
        which was made on the same rows.

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
        return self.scores[math.ceil(rank / self.rows * len(self.scores) - 1e-9) - 1]

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
    may_be = 1.0 - p.astype(np.float64) <= radius + _ROUNDING
    may_be[np.arange(len(p)), p.argmax(axis=1)] = True
    return may_be
