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
from fastnn.estimators.bagging import Fold, Rows, fit_bag
from fastnn.estimators.options import TableOptions
from fastnn.network import Network
from fastnn.nn.losses import Loss
from fastnn.recipes.plan import Plan, Problem, Recipe

LEVELS = (0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975)
_FEWEST = 200  # residuals that a network can learn quantiles from


@dataclass(frozen=True, eq=False)
class QuantileModel:
    """Quantiles of the residual of a row.

    Attributes
    ----------
    network : Network or None
        Its outputs are those of `LEVELS`; with None the quantiles are the same in all rows.
    scale : float
        Of the residuals it learnt, in units of the standardised target.
    shifts : tuple of float
        Added to each output.
    """

    network: Network | None
    scale: float
    shifts: tuple[float, ...]

    def predict(self, X: np.ndarray, centre: np.ndarray, levels: Sequence[float]) -> np.ndarray:
        """Standardised quantiles (n, levels) of encoded rows, around their predictions (n,).

        Between the levels that were learnt, and beyond them, they lie on a line over the normal
        distribution's quantiles.
        """
        from scipy.special import ndtri

        raw = np.zeros((len(X), len(LEVELS)))
        if self.network is not None:
            raw += self.network.predict(X)
        learnt = np.sort(raw + self.shifts, axis=1)
        known, wanted = ndtri(LEVELS), ndtri(np.asarray(levels, np.float64))
        right = np.clip(np.searchsorted(known, wanted), 1, len(known) - 1)
        share = (wanted - known[right - 1]) / (known[right] - known[right - 1])
        residuals = learnt[:, right - 1] * (1 - share) + learnt[:, right] * share
        return centre.astype(np.float64)[:, None] + self.scale * residuals

    def to_dict(self) -> dict[str, Any]:
        """All but the network, as plain data for a model file."""
        return {"scale": self.scale, "shifts": list(self.shifts)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], network: Network | None) -> Self:
        """The inverse of `to_dict`, checked."""
        shifts = [
            checks.number("shift", s, low=float("-inf"), low_open=True) for s in plain["shifts"]
        ]
        outputs = len(LEVELS) if network is None else network.outputs
        if (outputs, len(shifts)) != (len(LEVELS), len(LEVELS)):
            raise ValueError(f"a network of quantiles has {len(LEVELS)} outputs and shifts")
        return cls(network, checks.number("scale", plain["scale"]), tuple(shifts))


def fit_quantiles(
    recipe: Recipe,
    problem: Problem,
    rows: Rows,
    predictions: np.ndarray,
    fold: Fold,
    options: TableOptions,
    seconds: float | None,
) -> tuple[QuantileModel | None, list[str]]:
    """Learn from rows and what networks that did not train on them predict.

    Parameters
    ----------
    recipe : Recipe
    problem : Problem
    rows : Rows
    predictions : ndarray (n, 1)
        NaN where there is none.
    fold : Fold
        Of these rows, to train the network on and to choose its epoch and the shifts.
    options : TableOptions
    seconds : float or None
        For the training.

    Returns
    -------
    QuantileModel or None
        Of few residuals the same quantiles for all rows; None of none.
    list of str
        Notes for the user.
    """
    seen = np.isfinite(predictions[:, 0])
    if not seen.any():
        return None, []
    residuals = np.where(seen, rows.y - predictions[:, 0], 0.0)
    weights = np.ones(len(rows)) if rows.weights is None else rows.weights.astype(np.float64)
    scale = float(residuals[seen].std()) or 1.0
    training, held_out = (part[seen[part]] for part in fold)
    if seen.sum() < _FEWEST or not (len(training) and len(held_out)):
        shifts = _shifts(residuals[seen, None] / scale, weights[seen])
        return QuantileModel(None, scale, shifts), []
    targets = (residuals / scale).astype(rows.X.dtype)
    chosen = replace(rows, y=targets).take(np.concatenate([training, held_out]))
    own = np.arange(len(training)), np.arange(len(training), len(chosen))
    several = replace(problem, outputs=len(LEVELS), metric="loss")
    options = replace(options, refit=False, progress=False)
    bag = fit_bag(_of_quantiles(recipe), several, chosen, [own], None, options, seconds)
    known = chosen.y[own[1]].astype(np.float64)[:, None] - bag.predictions[own[1]]
    shifts = _shifts(known, weights[held_out])
    return QuantileModel(bag.ensemble[0], scale, shifts), [f"quantiles: {n}" for n in bag.notes]


def _shifts(residuals: np.ndarray, w: np.ndarray) -> tuple[float, ...]:
    """For each level the residual (n, 1 or levels) that its share of the weight lies below.

    As one more row is to come, the outer ones are a little further out.
    """
    n, shifts = len(residuals), []
    for i, level in enumerate(LEVELS):
        column = residuals[:, min(i, residuals.shape[1] - 1)]
        order = np.argsort(column)
        shares = (np.cumsum(w[order]) - 0.5 * w[order]) / w.sum()
        outer = np.clip(0.5 + (level - 0.5) * (n + 1) / n, 0.0, 1.0)
        shifts.append(float(np.interp(outer, shares, column[order])))
    return tuple(shifts)


def _of_quantiles(recipe: Recipe) -> Recipe:
    """The recipe with the pinball loss."""

    def plan(problem: Problem, epochs: int | None = None) -> Plan:
        return replace(recipe.plan(problem, epochs), loss=Loss("quantile", levels=LEVELS))

    return replace(recipe, plan=plan)
