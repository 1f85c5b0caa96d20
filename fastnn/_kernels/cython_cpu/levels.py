"""Which compiled modules are installed, and which of them this processor can run.

Every module is one C file compiled for a number type and a level of processor
(`tools/build_kernels.py`): ``float32_v4`` needs AVX-512, ``float32_v3`` AVX2 with fused
multiply-add, ``float32_base`` nothing that its architecture may lack.
"""

import importlib
import importlib.util
import os
import platform
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np

from fastnn._kernels.loading import loading
from fastnn._kernels.vocabulary import vocabulary

# each runs wherever a later one does → the `PROCESSOR_LEVEL` that it needs, see processor.h
LEVELS = {"base": 0, "v3": 3, "v4": 4}
_NUMBER_TYPES = ("float32", "float64")


@cache
def built() -> tuple[str, ...]:
    """The levels that are installed, lowest first."""
    found = [
        level
        for level in LEVELS
        if all(importlib.util.find_spec(f"{__package__}.{name}_{level}") for name in _NUMBER_TYPES)
    ]
    # only that can be asked safely what the processor runs
    return tuple(found) if "base" in found else ()


def supported() -> tuple[str, ...]:
    """Those of the levels installed that this processor runs.

    Raises
    ------
    ImportError
        The module to ask does not load.
    """
    if not built():
        return ()
    processor = _load("float32_base").PROCESSOR_LEVEL
    return tuple(level for level in built() if processor >= LEVELS[level])


def best() -> str:
    """The highest level supported, or the one that the environment variable FASTNN_CPU_LEVEL names.

    Raises
    ------
    ImportError
        No level is installed.
    ValueError
        FASTNN_CPU_LEVEL names a level that is not installed, or that this processor does not run.
    """
    wanted = os.environ.get("FASTNN_CPU_LEVEL")
    if not built():
        raise ImportError(_not_built_reason())
    if not wanted:
        return supported()[-1]
    if wanted not in supported():
        there = f"installed: {', '.join(built())}; this processor runs: {', '.join(supported())}"
        raise ValueError(
            "FASTNN_CPU_LEVEL must name a level that is installed and runs here, "
            f"got {wanted!r}; {there}"
        )
    return wanted


def module(dtype: np.dtype) -> ModuleType:
    """The compiled kernels for ``dtype`` at the `best` level; raises as that does."""
    return _load(f"{np.dtype(dtype).name}_{best()}")


def unavailable_reason() -> str | None:
    """Why no kernels run here, or ``None``."""
    if not built():
        return _not_built_reason()
    try:
        for name in _NUMBER_TYPES:
            module(np.dtype(name))
    except ImportError as error:
        return f"its kernels do not load: {error}"
    return None


@cache
def _load(name: str) -> ModuleType:
    with loading:
        loaded = importlib.import_module(f"{__package__}.{name}")
    if vocabulary() != loaded.VOCABULARY:
        raise ImportError(
            f"{name} was compiled with another opcodes.py than is installed; install fastnn again"
        )
    return loaded


def _not_built_reason() -> str:
    """What the build left written, if it was one for this Python."""
    note = Path(__file__).with_name("unavailable_reason.txt")
    if note.exists():
        return note.read_text(encoding="utf-8").strip()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"its kernels are not compiled for {python}; install fastnn again"
