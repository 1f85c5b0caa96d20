"""The libraries that fastnn is measured beside, each written as somebody would who knows that
library well.

A module here has a class ``Training(workload, X, y, threads, seed)``, those for the GPU with one
argument more, ``device="cuda"``, and it has ``epoch()``, which trains one epoch, waits till that is
done and returns a training loss, and ``predict(X)``, which gives labels. Modules are imported only
when asked for: most take long.

To add one: a module, and a line in ``RIVALS`` or ``GPU``.
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
# engines of fastnn, beside each other: `engines`
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


def installed(rivals: dict[str, tuple[str, str]] = RIVALS) -> list[str]:
    """The names whose package is here."""
    return [name for name, (_, package) in rivals.items() if importlib.util.find_spec(package)]


def load(name: str, rivals: dict[str, tuple[str, str]] = RIVALS) -> ModuleType:
    """The module of a name."""
    return importlib.import_module(
        f"rivals.{BACKENDS[name] if name in BACKENDS else rivals[name][0]}"
    )
