"""fastnn: the fastest way to train deep feed-forward networks, and to see why they learn or not.

Names load on first use, so that ``import fastnn`` stays light.
"""

import importlib
from typing import Any

from fastnn._version import __version__

_NAMES = {
    "network": ("Network",),
    "models": ("load", "mlp"),
    "nn.layers": (
        "Activation",
        "BatchNorm",
        "Dense",
        "Dropout",
        "GaussianNoise",
        "LayerNorm",
        "Residual",
    ),
    "nn.initializers": ("Initializer",),
    "nn.losses": ("Loss",),
    "optim.optimizers": (
        "LBFGS",
        "SGD",
        "AdaDelta",
        "AdaGrad",
        "Adam",
        "AdamW",
        "NAdam",
        "RMSProp",
    ),
    "optim.schedules": (
        "Constant",
        "Cosine",
        "Exponential",
        "InverseTime",
        "OneCycle",
        "StepDecay",
        "Warmup",
    ),
    "callbacks": ("CSVLogger", "Checkpoint", "EarlyStopping", "GradientFlow", "ReduceOnPlateau"),
    "training.history": ("History",),
    "diagnostics.gradient_check": ("check_gradients",),
    "diagnostics.cure_search": ("cures",),
    "engines": ("backends",),
    "_kernels.threads": ("num_threads", "set_num_threads"),
    "errors": ("DivergenceError", "ModelFileError"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
_SUBMODULES = ("data", "datasets", "experiments", "nielsen", "plotting")
# what it needs may be missing; ``from fastnn import *`` works all the same
_OPTIONAL = {"plotting"}

__all__ = ["__version__", *_HOME, *(name for name in _SUBMODULES if name not in _OPTIONAL)]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"fastnn.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastnn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
