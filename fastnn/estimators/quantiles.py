"""Quantiles of a value given a row: a network of its own for what the averaged prediction misses.

It learns quantiles of residuals of rows that were held out (pinball loss: Koenker & Bassett 1978),
so the centre stays that of all networks. A shift for each level makes as many residuals lie below
as the level says, on rows that it did not train on (Romano, Patterson & Candès 2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fastnn._utils import checks
from fastnn.estimators.bagging import BagOptions, Fold, Rows, fit_bag
from fastnn.network import Network
from fastnn.nn.losses import Loss
from fastnn.recipes.plan import Plan, Problem, Recipe

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
_FEWEST = 20  # residuals that quantiles can be learnt from


@dataclass(frozen=True, eq=False)
class QuantileModel:
    """Quantiles of the residual of a row.

    Attributes
    ----------
    network : Network
        Its outputs are those of `LEVELS`.
    scale : float
        Of the residuals it learnt, in units of the standardised target.
    shifts : tuple of float
        Added to each output.
    """

    network: Network
    scale: float
    shifts: tuple[float, ...]

    def predict(self, X: np.ndarray, centre: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """Standardised quantiles (n, levels) of encoded rows, around their predictions (n,).

        Between the levels that were learnt, and beyond them, they lie on a line over the normal
        distribution's quantiles.
        """
        from scipy.special import ndtri

        learnt = np.sort(self.network.predict(X).astype(np.float64) + self.shifts, axis=1)
        known, wanted = ndtri(LEVELS), ndtri(np.asarray(levels, np.float64))
        right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
        share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
        residuals = learnt[:, right - 1] * (1 - share) + learnt[:, right] * share
        return centre.astype(np.float64)[:, None] + self.scale * residuals

    def to_dict(self) -> dict[str, Any]:
        """All but the network, as plain data for a model file."""
        return {"scale": self.scale, "shifts": list(self.shifts)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], network: Network) -> Self:
        """The inverse of `to_dict`, checked."""
        shifts = [
            checks.number("shift", s, low=float("-inf"), low_open=True) for s in plain["shifts"]
        ]
        if (network.outputs, len(shifts)) != (len(LEVELS), len(LEVELS)):
            raise ValueError(f"a network of quantiles has {len(LEVELS)} outputs and shifts")
        return cls(network, checks.number("scale", plain["scale"]), tuple(shifts))


def fit_quantiles(
    recipe: Recipe, problem: Problem, rows: Rows, predictions: np.ndarray, options: BagOptions
) -> QuantileModel | None:
    """Learn from rows and what networks that did not train on them predict; None of too few rows.

    Parameters
    ----------
    recipe : Recipe
    problem : Problem
    rows : Rows
    predictions : ndarray (n, 1)
        NaN where there is none.
    options : BagOptions
    """
    seen = np.flatnonzero(np.isfinite(predictions[:, 0]))
    residuals = rows.y[seen] - predictions[seen, 0]
    scale = float(residuals.std()) if len(seen) else 0.0
    if len(seen) < _FEWEST or scale == 0:
        return None
    rows = replace(rows.take(seen), y=(residuals / scale).astype(rows.X.dtype))
    held_out = np.arange(len(rows)) % 5 == 0
    fold: Fold = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    several = replace(problem, outputs=len(LEVELS), metric="loss")
    options = replace(options, metric="loss", refit=False, progress=False)
    bag = fit_bag(_of_quantiles(recipe), several, rows, [fold], None, options)
    known = rows.y[fold[1]].astype(np.float64)[:, None] - bag.predictions[fold[1]]
    shifts = [float(np.quantile(known[:, i], level)) for i, level in enumerate(LEVELS)]
    return QuantileModel(bag.ensemble[0], scale, tuple(shifts))


def _of_quantiles(recipe: Recipe) -> Recipe:
    """The recipe with the pinball loss."""

    def plan(problem: Problem, epochs: int | None = None) -> Plan:
        return replace(recipe.plan(problem, epochs), loss=Loss("quantile", levels=LEVELS))

    return replace(recipe, plan=plan)
