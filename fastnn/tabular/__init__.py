"""Tables as arrays for a network: reading, encoding, and predictions as columns."""

import importlib

TYPE_CHECKING = False

if TYPE_CHECKING:
    from fastnn.tabular.encoder import TableEncoder as TableEncoder

__all__ = ["TableEncoder"]


def __getattr__(name: str) -> object:
    if name != "TableEncoder":
        raise AttributeError(f"module 'fastnn.tabular' has no attribute {name!r}")
    return importlib.import_module("fastnn.tabular.encoder").TableEncoder
