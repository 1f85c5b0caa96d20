"""The table of experiments.

To add one: a module in ``gradients/`` or ``training/`` with a docstring (a title; ``Source:``,
document and section; ``Expected:``, its figures), ``run(quick, data) -> ExperimentResult`` and
``draw(result) -> Figure``, where it moves also ``animate(result, path)``, and its name here.
"""

import importlib
from types import ModuleType

from fastnn._utils import checks

_GRADIENTS = (
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
)
_TRAINING = (
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
EXPERIMENTS = (*_GRADIENTS, *_TRAINING)


def experiment(name: str) -> ModuleType:
    """The module of an experiment, loaded at first use.

    Raises
    ------
    ValueError
        No such experiment; the message names the nearest.
    """
    name = checks.one_of("experiment", name, EXPERIMENTS)
    subject = "gradients" if name in _GRADIENTS else "training"
    return importlib.import_module(f"fastnn.experiments.{subject}.{name}")


def title(name: str) -> str:
    """What an experiment shows, in a line: the title of its docstring."""
    return (experiment(name).__doc__ or "").partition("\n")[0].rstrip(".")
