"""How kernels are compiled, and loaded where they were compiled before; see `cache`."""

from collections.abc import Callable
from pathlib import Path

import numba
from numba import njit

from fastnn._kernels import scipy_blas
from fastnn._kernels.loading import loading
from fastnn._kernels.numba_cpu import cache

# "numpy" division: the zero check of Python's stops loops from vectorising. Fastmath without nnan
# and ninf: divergence must stay visible.
_OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}

kernel = njit(**_OPTIONS)
# Merged into the caller before types are inferred: for pieces called from one place, and loops
# called with a constant that folds a chain of ifs. LLVM optimises a function anew in each caller's
# library, so every level of calls saved is compile time saved.
inline = njit(inline="always", **_OPTIONS)

# Python reads the sources from here on: not what they were when a network was made
cache.environment.cache_clear()


def entry(function: Callable, name: str) -> Callable:
    """A kernel that Python calls, to be kept in the folder ``name`` of the cache."""
    folder = None if numba.config.DISABLE_JIT else cache.folder(name)
    if folder is None:
        return kernel(function)
    # read when the function is decorated
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        dispatcher = njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # Numba finds no place that it can write
        return kernel(function)
    finally:
        numba.config.CACHE_DIR = before
    # Or it takes another one, whose name says nothing of the environment.
    return dispatcher if _is_kept(dispatcher, name) else kernel(function)


def load(dispatcher: Callable, name: str, arguments: tuple) -> Callable:
    """An entry for arguments of these types, loaded from the cache, or compiled and cached.

    The result skips the type check, which takes a microsecond for many arguments. The entry itself
    is ready as well.
    """
    if numba.config.DISABLE_JIT:
        return dispatcher
    with loading, scipy_blas.alone():  # Numba asks whether there is a BLAS
        types = tuple(numba.typeof(argument) for argument in arguments)  # imports numpy.ma
        if _is_kept(dispatcher, name):
            _compile_and_keep(dispatcher, name, types)
        else:
            dispatcher.compile(types)
    return dispatcher.get_overload(types)


def _is_kept(dispatcher: Callable, name: str) -> bool:
    place = dispatcher.stats.cache_path
    return place is not None and Path(place).parent == cache.folder(name)


def _compile_and_keep(dispatcher, name, types):
    if types in dispatcher.signatures:
        return
    if not cache.ready(name):
        cache.empty(name)
    try:
        dispatcher.compile(types)
        if not cache.ready(name):
            cache.write_manifest(name)
    except OSError:  # a full disk: this process has its kernel all the same
        cache.empty(name)
    except BaseException:
        cache.empty(name)
        raise
