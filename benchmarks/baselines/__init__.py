"""The baselines that fastnn is compared with, each written by the idioms of its library.

A module here has a class ``Training(workload, X, y, threads, seed)``; those for the GPU take one
more argument, ``device="cuda"``. Its method ``epoch()`` trains one epoch, waits for its end and
returns a training loss. Its method ``predict(X)`` returns labels. Modules are imported on demand,
as most take long.

A new baseline is a module, and a line in ``BASELINES`` or ``GPU``.
"""

import importlib
import importlib.util
from types import ModuleType

# name: (module of this package, package that it needs)
BASELINES = {
    "fastnn": ("fastnn_epochs", "fastnn"),
    "jax": ("jax_scan", "jax"),
    "torch": ("torch_eager", "torch"),
    "torch.compile": ("torch_compiled", "torch"),
    "sklearn": ("sklearn_mlp", "sklearn"),
}
# engines of fastnn, for `engines`
BACKENDS = {"cython": "fastnn_cython", "numba": "fastnn_numba"}
GPU = {
    "fastnn": ("fastnn_cuda", "fastnn"),
    "jax": ("jax_scan", "jax"),
    "torch": ("torch_eager", "torch"),
    "torch.graphs": ("torch_graphs", "torch"),
    "torch.compile": ("torch_compiled", "torch"),
}


class Unsupported(Exception):
    """The library cannot train this network."""


def installed(baselines: dict[str, tuple[str, str]] = BASELINES) -> list[str]:
    """The names whose package is installed."""
    return [name for name, (_, package) in baselines.items() if importlib.util.find_spec(package)]


def load(name: str, baselines: dict[str, tuple[str, str]] = BASELINES) -> ModuleType:
    """The module of a name."""
    return importlib.import_module(
        f"baselines.{BACKENDS[name] if name in BACKENDS else baselines[name][0]}"
    )
