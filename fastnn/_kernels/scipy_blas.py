"""SciPy's Cython interface to BLAS by itself: importing all of `scipy.linalg` with it takes 0.2 s, half of the way to a first step."""

import contextlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator

_PACKAGE, _MODULE = "scipy.linalg", "scipy.linalg.cython_blas"


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """While inside, ``import scipy.linalg.cython_blas`` finds that module without its package; afterwards all is as it was.

    It is the module that SciPy itself imports later: an extension module is made once in a process.
    """
    if _PACKAGE in sys.modules:
        yield
        return
    import scipy

    package = importlib.machinery.PathFinder.find_spec(_PACKAGE, scipy.__path__)
    spec = importlib.machinery.PathFinder.find_spec(_MODULE, package.submodule_search_locations)
    sys.modules[_MODULE] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield
    finally:
        sys.modules.pop(_MODULE, None)
