"""A table, and estimators that learn it quickly."""

import numpy as np

import fastnn as fnn

ROWS = 240


def table(seed=0, n=ROWS):
    """Numbers with gaps, names, and a target that depends on both."""
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(size=n), rng.choice(["red", "green", "blue"], n)
    frame = {"size": np.where(rng.random(n) < 0.05, np.nan, size), "colour": colour}
    value = 3 * size + 2.0 * (colour == "red") + 0.3 * rng.normal(size=n) + 10
    return frame, value


FRAME, VALUE = table()
LABEL = np.where(VALUE > 10.5, "high", "low")
QUICK = {"n_folds": 2, "epochs": 8, "backend": "numpy"}
# Recipes whose networks are too large for many epochs of the reference engine.
LARGE = {name: {"epochs": 8, "backend": "auto"} for name in ("tabm", "tabm-mini")}


def classifier(**options):
    return fnn.TabularClassifier(**QUICK | options)


def regressor(**options):
    return fnn.TabularRegressor(**QUICK | {"epochs": 30} | options)
