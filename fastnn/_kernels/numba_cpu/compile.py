"""How kernels are compiled and where compiled ones are kept.

Numba's own cache stamps only the file of the cached function, so an edit of `scalars.py`, or an upgrade, could leave stale machine code in
use. The cache folder is therefore named by the version and by a hash of every kernel source; Numba itself adds its version and the CPU.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numba
from numba import njit

import fastnn
from fastnn._paths import cache_directory

# "numpy" division: the zero check of Python's stops loops from vectorising. Fastmath without nnan and ninf: divergence must stay visible.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "arcp", "nsz"}}

kernel = njit(**_OPTIONS)
# Merged into the caller before types are inferred: for pieces called from one place, and loops called with a constant that folds a chain
# of ifs. LLVM optimises a function anew in each caller's library, so every level of calls saved is compile time saved.
inline = njit(inline="always", **_OPTIONS)


def entry(function):
    """A kernel that Python calls: compiled once per dtype and machine, then loaded from the cache."""
    folder = kernel_cache()
    if folder is None:
        return kernel(function)
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)  # read when the function is decorated
    try:
        return njit(cache=True, **_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before


def specialised(function: Callable, arguments: tuple) -> Callable:
    """An entry, compiled for arguments of these very types: it no longer looks at their types, which for many takes a microsecond."""
    if numba.config.DISABLE_JIT:
        return function
    types = tuple(numba.typeof(argument) for argument in arguments)
    function.compile(types)
    return function.get_overload(types)


def kernel_cache() -> Path | None:
    """The folder of compiled kernels, made if need be; ``None`` where none can be written: each process then compiles anew."""
    base = Path(numba.config.CACHE_DIR) if numba.config.CACHE_DIR else cache_directory() / "kernels"
    folder = base / f"{fastnn.__version__}-{_source_hash()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _source_hash() -> str:
    """Of all that is compiled here: this folder, and what it takes from the one above."""
    folder, digest = Path(__file__).parent, hashlib.sha256()
    for path in [*sorted(folder.glob("*.py")), folder.parent / "opcodes.py", folder.parent / "scalars.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
