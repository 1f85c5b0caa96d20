"""The table of engines: which there are, whether they can run here, and how to make one.

To add an engine: a module in ``_kernels`` with a class that satisfies
`fastnn._kernels.contract.Engine`, and a line here.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastnn._kernels.contract import PRECISIONS, Engine, Program
from fastnn._kernels.cython_cpu import levels
from fastnn._kernels.loading import loading
from fastnn._kernels.numba_cuda.toolchain import available
from fastnn._utils import checks


@dataclass(frozen=True)
class EngineSpec:
    """Where an engine is, and whether it can run here.

    Attributes
    ----------
    location : str
        ``module:class``.
    unavailable_reason : callable
        Why the engine cannot run here, or None.
    """

    location: str
    unavailable_reason: Callable[[], str | None]


def _numba_missing() -> str | None:
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    try:
        with loading:
            importlib.import_module("numba")
    except (ImportError, OSError) as error:  # a NumPy too new for it, or a broken llvmlite
        return f"numba does not import: {error}"
    return None


ENGINES: dict[str, EngineSpec] = {
    "numpy": EngineSpec("fastnn._kernels.reference_engine:ReferenceEngine", lambda: None),
    "numba": EngineSpec("fastnn._kernels.numba_cpu.engine:NumbaEngine", _numba_missing),
    "cython": EngineSpec(
        "fastnn._kernels.cython_cpu.engine:CythonEngine", levels.unavailable_reason
    ),
    "cuda": EngineSpec(
        "fastnn._kernels.numba_cuda.engine:CudaEngine", available.unavailable_reason
    ),
}


def backends() -> dict[str, str]:
    """Each engine's name with "available" or "unavailable: reason"."""
    reasons = {name: spec.unavailable_reason() for name, spec in ENGINES.items()}
    return {
        name: "available" if reason is None else f"unavailable: {reason}"
        for name, reason in reasons.items()
    }


# --- backend="auto" -------------------------------------------------------------------------------

# The fastest first, as measured at every size of network and every CPU level
# (benchmarks/README.md). They also start in this order: Cython at once, Numba when its kernels are
# compiled. "cuda" is not among them: whether a GPU is faster depends on the network, so the user
# names it.
PREFERENCE = ("cython", "numba", "numpy")


def automatic() -> str:
    """The engine that "auto" takes: the first that runs here.

    Later ones are not asked, so Numba is loaded only where Cython cannot run.
    """
    return next(name for name in PREFERENCE if ENGINES[name].unavailable_reason() is None)


def explain() -> str:
    """What "auto" takes on this machine, and why, in words."""
    name = automatic()
    missing = " and ".join(PREFERENCE[: PREFERENCE.index(name)])
    words = (
        f"{name}, as {missing} cannot run here"
        if missing
        else "cython, the fastest engine, which starts at once"
    )
    return (
        words
        if ENGINES["cuda"].unavailable_reason() is not None
        else f"{words}; cuda runs here where it is named"
    )


def check(backend: str) -> str:
    """``backend`` if there is such an engine and it can run here, or "auto".

    Raises
    ------
    ValueError
        Unknown name (the known ones are listed).
    RuntimeError
        A named engine that cannot run here, with the reason.
    """
    checks.one_of("backend", backend, ["auto", *ENGINES])
    reason = None if backend == "auto" else ENGINES[backend].unavailable_reason()
    if reason is not None:
        usable = [name for name, status in backends().items() if status == "available"]
        raise RuntimeError(
            f"backend {backend!r} cannot run here: {reason}; available: {', '.join(usable)}"
        )
    return backend


def choose(backend: str) -> str:
    """The engine's name for a ``backend`` argument, checked."""
    return automatic() if check(backend) == "auto" else backend


def make_engine(name: str, program: Program) -> Engine:
    """The engine ``name`` for ``program``."""
    module, _, attribute = ENGINES[name].location.partition(":")
    with loading:
        return getattr(importlib.import_module(module), attribute)(program)


def check_precision(precision: str, backend: str, dtype: np.dtype) -> None:
    """Refuse a precision in which an engine cannot multiply here.

    Raises
    ------
    ValueError, TypeError
        Unknown, or not for this engine and dtype.
    RuntimeError
        The library that does it is missing.
    """
    checks.one_of("precision", precision, PRECISIONS)
    if precision == "float32":
        return
    if precision_for(precision, backend, dtype) != precision:
        raise ValueError(
            f'precision {precision!r} is for backend "cuda" and dtype "float32", '
            f"not {backend!r} and {dtype.name!r}"
        )
    from fastnn._kernels.numba_cuda.runtime import cublaslt

    reason = cublaslt.unavailable_reason()
    if reason is not None:
        raise RuntimeError(f"precision {precision!r} cannot be had here: {reason}")


def precision_for(precision: str, backend: str, dtype: np.dtype) -> str:
    """``precision`` where an engine has it, else "float32", the only one of CPUs and float64."""
    return precision if backend == "cuda" and dtype == np.float32 else "float32"
