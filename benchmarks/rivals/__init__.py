"""The libraries that fastnn is measured beside, each written as somebody would who knows that library well.

A module here has a class ``Training(workload, X, y, threads, seed)`` with ``epoch()``, which trains one epoch, waits till that is done and
returns a training loss, and ``predict(X)``, which gives labels. Modules are imported only when asked for: most take long.

To add one: a module, and a line in ``RIVALS``.
"""

import importlib
import importlib.util
from types import ModuleType

# name: (module of this package, package that it needs)
RIVALS = {
    "fastnn": ("fastnn_epochs", "fastnn"),
    "jax": ("jax_scan", "jax"),
    "torch": ("torch_eager", "torch"),
    "torch.compile": ("torch_compiled", "torch"),
    "sklearn": ("sklearn_mlp", "sklearn"),
}
BACKENDS = {"cython": "fastnn_cython", "numba": "fastnn_numba"}  # engines of fastnn, beside each other: `engines`


class Unsupported(Exception):
    """The library cannot train this network."""


def installed() -> list[str]:
    """The names whose package is here."""
    return [name for name, (_, package) in RIVALS.items() if importlib.util.find_spec(package)]


def load(name: str) -> ModuleType:
    """The module of a name."""
    return importlib.import_module(f"rivals.{BACKENDS[name] if name in BACKENDS else RIVALS[name][0]}")
