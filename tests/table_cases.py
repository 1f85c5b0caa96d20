"""A table that tests of `TableEncoder` share."""

import numpy as np

from fastnn.tabular import TableEncoder

N = 40
RNG = np.random.default_rng(0)
SIZE = RNG.normal(size=N).round(3)
GAPS = np.where(np.arange(N) % 8 == 3, np.nan, RNG.normal(size=N))
FLAG = RNG.random(N) > 0.5
KIND = RNG.choice(["a", "b", "c"], N)
TOWN = np.array([f"town {i % 13}" for i in range(N)])
DAY = np.datetime64("2024-01-29") + 37 * np.arange(N)
LABEL = np.where(SIZE > 0, "yes", "no")
COLUMNS = {"size": SIZE, "gaps": GAPS, "flag": FLAG, "kind": KIND, "town": TOWN, "day": DAY}


def fit(columns, y=None, **options):
    return TableEncoder(**options).fit(columns, y)
