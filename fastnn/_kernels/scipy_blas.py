"""SciPy's Cython interface to BLAS, without the rest of `scipy.linalg`.

Importing all of it takes 0.2 s, half of the time to a first step.
"""

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

THREAD_NAME = "fastnn"  # of the threads that the engines start
_PACKAGE, _MODULE = "scipy.linalg", "scipy.linalg.cython_blas"


@contextlib.contextmanager
def alone() -> Iterator[ModuleType]:
    """The module ``scipy.linalg.cython_blas``; an import inside gets it without its package.

    Afterwards all is as it was. It is the module that SciPy itself imports later: an extension
    module is made once in a process. Where another thread may be importing it at this moment, it is
    imported with its package, under Python's locks.
    """
    spec = None if _PACKAGE in sys.modules or _other_threads() else _find()
    if spec is None or spec.loader is None:
        yield importlib.import_module(_MODULE)
        return
    sys.modules[_MODULE] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.modules.pop(_MODULE, None)


def _other_threads() -> bool:
    """Whether there are threads beside this one; the engines' own import nothing."""
    me = threading.current_thread()
    return any(
        thread is not me and not thread.name.startswith(THREAD_NAME)
        for thread in threading.enumerate()
    )


def _find() -> ModuleSpec | None:
    """Where the module lies; ``None`` where SciPy is not installed as plain files."""
    import scipy

    package = PathFinder.find_spec(_PACKAGE, scipy.__path__)
    return package and PathFinder.find_spec(_MODULE, package.submodule_search_locations)
