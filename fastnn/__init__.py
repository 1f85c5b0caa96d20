"""fastnn: the fastest way to train deep feed-forward networks, and to see why they learn or not.

Names load on first use, so that ``import fastnn`` stays light.
"""

import importlib

TYPE_CHECKING = False  # type checkers know the name; typing takes ten times as long to import

if TYPE_CHECKING:  # The names of _NAMES and _SUBMODULES again: a test compares them.
    from fastnn import data as data
    from fastnn import datasets as datasets
    from fastnn import estimators as estimators
    from fastnn import experiments as experiments
    from fastnn import nielsen as nielsen
    from fastnn import plotting as plotting
    from fastnn import tabular as tabular
    from fastnn._kernels.threads import num_threads as num_threads
    from fastnn._kernels.threads import set_num_threads as set_num_threads
    from fastnn._version import __version__ as __version__
    from fastnn.callbacks import Checkpoint as Checkpoint
    from fastnn.callbacks import CSVLogger as CSVLogger
    from fastnn.callbacks import EarlyStopping as EarlyStopping
    from fastnn.callbacks import GradientFlow as GradientFlow
    from fastnn.callbacks import ReduceOnPlateau as ReduceOnPlateau
    from fastnn.callbacks import TimeLimit as TimeLimit
    from fastnn.diagnostics.cure_search import cures as cures
    from fastnn.diagnostics.gradient_check import check_gradients as check_gradients
    from fastnn.engines import backends as backends
    from fastnn.ensemble import Ensemble as Ensemble
    from fastnn.errors import DivergenceError as DivergenceError
    from fastnn.errors import ModelFileError as ModelFileError
    from fastnn.estimators.tabular import TabularClassifier as TabularClassifier
    from fastnn.estimators.tabular import TabularRegressor as TabularRegressor
    from fastnn.models import load as load
    from fastnn.models import mlp as mlp
    from fastnn.network import Network as Network
    from fastnn.nn.feature_layers import Embedding as Embedding
    from fastnn.nn.feature_layers import Periodic as Periodic
    from fastnn.nn.feature_layers import PiecewiseLinear as PiecewiseLinear
    from fastnn.nn.feature_layers import Scale as Scale
    from fastnn.nn.initializers import Initializer as Initializer
    from fastnn.nn.layer import Activation as Activation
    from fastnn.nn.layers import BatchEnsemble as BatchEnsemble
    from fastnn.nn.layers import BatchNorm as BatchNorm
    from fastnn.nn.layers import Dense as Dense
    from fastnn.nn.layers import Dropout as Dropout
    from fastnn.nn.layers import GaussianNoise as GaussianNoise
    from fastnn.nn.layers import Heads as Heads
    from fastnn.nn.layers import LayerNorm as LayerNorm
    from fastnn.nn.layers import Residual as Residual
    from fastnn.nn.losses import Loss as Loss
    from fastnn.optim.optimizers import LBFGS as LBFGS
    from fastnn.optim.optimizers import SGD as SGD
    from fastnn.optim.optimizers import AdaDelta as AdaDelta
    from fastnn.optim.optimizers import AdaGrad as AdaGrad
    from fastnn.optim.optimizers import Adam as Adam
    from fastnn.optim.optimizers import AdamW as AdamW
    from fastnn.optim.optimizers import NAdam as NAdam
    from fastnn.optim.optimizers import RMSProp as RMSProp
    from fastnn.optim.schedules import Constant as Constant
    from fastnn.optim.schedules import Cosine as Cosine
    from fastnn.optim.schedules import CosineLog as CosineLog
    from fastnn.optim.schedules import Exponential as Exponential
    from fastnn.optim.schedules import FlatCosine as FlatCosine
    from fastnn.optim.schedules import InverseTime as InverseTime
    from fastnn.optim.schedules import OneCycle as OneCycle
    from fastnn.optim.schedules import StepDecay as StepDecay
    from fastnn.optim.schedules import Warmup as Warmup
    from fastnn.training.history import History as History

_NAMES = {
    "network": ("Network",),
    "models": ("load", "mlp"),
    "nn.layer": ("Activation",),
    "nn.layers": (
        "BatchEnsemble",
        "BatchNorm",
        "Dense",
        "Dropout",
        "GaussianNoise",
        "Heads",
        "LayerNorm",
        "Residual",
    ),
    "nn.feature_layers": ("Embedding", "Periodic", "PiecewiseLinear", "Scale"),
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
        "CosineLog",
        "Exponential",
        "FlatCosine",
        "InverseTime",
        "OneCycle",
        "StepDecay",
        "Warmup",
    ),
    "callbacks": (
        "CSVLogger",
        "Checkpoint",
        "EarlyStopping",
        "GradientFlow",
        "ReduceOnPlateau",
        "TimeLimit",
    ),
    "ensemble": ("Ensemble",),
    "estimators.tabular": ("TabularClassifier", "TabularRegressor"),
    "training.history": ("History",),
    "diagnostics.gradient_check": ("check_gradients",),
    "diagnostics.cure_search": ("cures",),
    "engines": ("backends",),
    "_kernels.threads": ("num_threads", "set_num_threads"),
    "errors": ("DivergenceError", "ModelFileError"),
    "_version": ("__version__",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
_SUBMODULES = (
    "data",
    "datasets",
    "estimators",
    "experiments",
    "nielsen",
    "plotting",
    "tabular",
)
# Matplotlib may be missing; ``from fastnn import *`` works all the same.
_OPTIONAL = {"plotting"}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    *_HOME,
    *(name for name in _SUBMODULES if name not in _OPTIONAL),
]


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return importlib.import_module(f"fastnn.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastnn.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
