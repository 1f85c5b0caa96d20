"""Estimators in scikit-learn's way: `fit` on a frame, then `predict`."""

import importlib

TYPE_CHECKING = False

if TYPE_CHECKING:
    from fastnn.estimators.tabular import TabularClassifier as TabularClassifier
    from fastnn.estimators.tabular import TabularRegressor as TabularRegressor

_HOME = {"TabularClassifier": "tabular", "TabularRegressor": "tabular"}

__all__ = ["TabularClassifier", "TabularRegressor"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fastnn.estimators' has no attribute {name!r}")
    return getattr(importlib.import_module(f"fastnn.estimators.{_HOME[name]}"), name)
