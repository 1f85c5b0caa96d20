"""The table of experiments.

To add one: a module here with a docstring (a title; ``Source:``, document and section;
``Expected:``, its figures), ``run(quick, data) -> Outcome`` and ``draw(outcome) -> Figure``, where
it moves also ``animate(outcome, path)``, and its name in ``EXPERIMENTS``.
"""

import importlib
from types import ModuleType

from fastnn._utils import checks

EXPERIMENTS = (
    "chain",
    "learning_speed",
    "neuron_bars",
    "depth",
    "linear_depth",
    "saturation",
    "residual",
    "cures",
    "initialisation",
    "normalisation",
    "linear_regression",
    "random_search",
    "batch_size",
    "optimisers",
    "overfitting",
    "cross_validation",
    "gradient_check",
    "dropout",
    "clipping",
)


def experiment(name: str) -> ModuleType:
    """The module of an experiment, loaded at first use; `ValueError` with the nearest known name
    where there is none.
    """
    return importlib.import_module(
        f"fastnn.experiments.{checks.one_of('experiment', name, EXPERIMENTS)}"
    )


def title(name: str) -> str:
    """What an experiment shows, in a line: the title of its docstring."""
    return experiment(name).__doc__.partition("\n")[0].rstrip(".")
