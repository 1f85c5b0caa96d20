"""Contenders beside each other: means over splits, ranks, gaps, CPU seconds.

Results are kept as ``{set: {contender: {split: outcome}}}``. An outcome is what `tables.measure`
gives, or ``{"error": message}``.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.stats import rankdata

from real_tables.scores import FIRST, LOWER_IS_BETTER
from real_tables.sets import SETS

Results = dict[str, dict[str, dict[str, dict]]]
YARDSTICK = "catboost"  # whose CPU seconds are 1


@dataclass(frozen=True)
class Summary:
    """One contender over all sets that are compared.

    Attributes
    ----------
    rank : float
        Mean rank by the first score; 1 is the best.
    gap : float
        Mean of (score − best)/(worst − best), 0 for the best and 1 for the worst of a set.
    cpu : float
        Geometric mean of the CPU seconds of a fit.
    relative_cpu : float or None
        Geometric mean of the CPU seconds over those of `YARDSTICK`, where that took part.
    """

    rank: float
    gap: float
    cpu: float
    relative_cpu: float | None


def finished(outcomes: dict[str, dict]) -> dict[str, dict]:
    """The outcomes that are no errors, by split."""
    return {number: outcome for number, outcome in outcomes.items() if "error" not in outcome}


def mean(outcomes: Iterable[dict], *keys: str) -> float:
    """Mean of an entry of outcomes, such as ``"scores", "r2"``."""
    values = []
    for entry in outcomes:
        for key in keys:
            entry = entry[key]
        values.append(entry)
    return statistics.fmean(values)


def comparable(results: Results) -> dict[str, dict[str, list[dict]]]:
    """The outcomes of the splits that all contenders finished, by set and contender.

    A contender that finished nothing at all is left out first. Sets without a common split are
    left out then.
    """
    contenders = {
        name for row in results.values() for name, outcomes in row.items() if finished(outcomes)
    }
    found = {}
    for table, row in results.items():
        splits = {name: finished(row.get(name, {})) for name in sorted(contenders)}
        common = set.intersection(*map(set, splits.values())) if splits else set()
        if common:
            found[table] = {
                name: [outcomes[number] for number in sorted(common)]
                for name, outcomes in splits.items()
            }
    return found


def ranks(scores: dict[str, float], lower_is_better: bool) -> dict[str, float]:
    """The place of each contender, from 1; equal ones share the mean of their places."""
    sign = 1 if lower_is_better else -1
    places = rankdata([sign * value for value in scores.values()])
    return dict(zip(scores, map(float, places), strict=True))


def gaps(scores: dict[str, float], lower_is_better: bool) -> dict[str, float]:
    """(score − best)/(worst − best) of each contender; 0 where all are equal."""
    best, worst = min(scores.values()), max(scores.values())
    if not lower_is_better:
        best, worst = worst, best
    if best == worst:
        return dict.fromkeys(scores, 0.0)
    return {name: (value - best) / (worst - best) for name, value in scores.items()}


def summarise(results: Results) -> dict[str, Summary]:
    """A `Summary` of each contender over the sets of `comparable`, the lowest rank first."""
    rows = comparable(results)
    places, distances = {}, {}
    for table, row in rows.items():
        first = FIRST[SETS[table].task]
        scores = {name: mean(outcomes, "scores", first) for name, outcomes in row.items()}
        places[table] = ranks(scores, first in LOWER_IS_BETTER)
        distances[table] = gaps(scores, first in LOWER_IS_BETTER)
    seconds = {
        table: {name: mean(outcomes, "fit", "cpu") for name, outcomes in row.items()}
        for table, row in rows.items()
    }
    found = {}
    for name in next(iter(rows.values()), {}):
        relative = [row[name] / row[YARDSTICK] for row in seconds.values() if YARDSTICK in row]
        found[name] = Summary(
            statistics.fmean(row[name] for row in places.values()),
            statistics.fmean(row[name] for row in distances.values()),
            statistics.geometric_mean(row[name] for row in seconds.values()),
            statistics.geometric_mean(relative) if relative else None,
        )
    return dict(sorted(found.items(), key=lambda entry: entry[1].rank))
