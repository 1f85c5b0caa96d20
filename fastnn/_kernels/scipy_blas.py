"""SciPy's Cython interface to BLAS, without the rest of `scipy.linalg`.

Importing all of it takes 0.2 s, half of the time to a first step.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_PACKAGE, _MODULE = "scipy.linalg", "scipy.linalg.cython_blas"


@contextlib.contextmanager
def alone() -> Iterator[ModuleType]:
    """The module ``scipy.linalg.cython_blas``; an import inside gets it without its package.

    Afterwards all is as it was.

    It is the module that SciPy itself imports later: an extension module is made once in a process.
    """
    spec = None if _PACKAGE in sys.modules else _find()
    if spec is None or spec.loader is None:
        yield importlib.import_module(_MODULE)
        return
    sys.modules[_MODULE] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.modules.pop(_MODULE, None)


def _find() -> ModuleSpec | None:
    """Where the module lies; ``None`` where SciPy is not installed as plain files."""
    import scipy

    package = PathFinder.find_spec(_PACKAGE, scipy.__path__)
    return package and PathFinder.find_spec(_MODULE, package.submodule_search_locations)
