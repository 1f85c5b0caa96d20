"""The table of engines: which there are, whether they can run here, and how to make one.

To add an engine: a module in ``_kernels`` that keeps `fastnn._kernels.contract.Engine`, and a line here.
"""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from fastnn import _checks
from fastnn._kernels.contract import Engine, Program
from fastnn._kernels.cython_cpu import levels
from fastnn._kernels.numba_cpu import cache


@dataclass(frozen=True)
class EngineSpec:
    """Where an engine lives (``module:class``) and a function that tells why it cannot run here, or ``None``."""

    location: str
    why_not: Callable[[], str | None]


def _numba_missing() -> str | None:
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    try:
        importlib.import_module("numba")
    except (ImportError, OSError) as error:  # a NumPy too new for it, or a broken llvmlite
        return f"numba does not import: {error}"
    return None


ENGINES: dict[str, EngineSpec] = {
    "numpy": EngineSpec("fastnn._kernels.reference:ReferenceEngine", lambda: None),
    "numba": EngineSpec("fastnn._kernels.numba_cpu.engine:NumbaEngine", _numba_missing),
    "cython": EngineSpec("fastnn._kernels.cython_cpu.engine:CythonEngine", levels.why_not),
    "cuda": EngineSpec("", lambda: "this version of fastnn has no CUDA engine"),
}


def backends() -> dict[str, str]:
    """Each engine's name with "available" or "unavailable: reason"."""
    reasons = {name: spec.why_not() for name, spec in ENGINES.items()}
    return {name: "available" if reason is None else f"unavailable: {reason}" for name, reason in reasons.items()}


# --- backend="auto" -------------------------------------------------------------------------------------------------------------------

# Parameters from which on a step is faster on Numba than on Cython; measured in benchmarks/README.md.
NUMBA_FASTER_FROM = 50_000


def preference(compiled: bool, n_parameters: int) -> tuple[str, ...]:
    """What "auto" would have, the best first: an engine that can start at once; if all can, the fastest for a network of this size.

    Parameters
    ----------
    compiled : bool
        Whether Numba's kernels are compiled, so that using them waits for nothing.
    n_parameters : int
        Of the network.
    """
    if compiled and n_parameters >= NUMBA_FASTER_FROM:
        return "numba", "cython", "numpy"
    return "cython", "numba", "numpy"


def automatic(dtype: str, n_parameters: int) -> str:
    """The engine that "auto" takes for a network. Numba is not even loaded unless it comes to that."""
    return next(name for name in preference(cache.ready(dtype), n_parameters) if ENGINES[name].why_not() is None)


def explain(dtype: str) -> str:
    """What "auto" takes for this number type on this machine, and why, in words."""
    runs = [name for name in ("cython", "numba") if ENGINES[name].why_not() is None]
    compiled = cache.ready(dtype)
    if runs == ["cython", "numba"] and compiled:
        return f"numba from {NUMBA_FASTER_FROM:,} parameters on, cython below: the faster one, as measured"
    if runs == ["cython", "numba"]:
        return "cython, which starts at once: numba has yet to be compiled, which fastnn warmup does"
    if runs == ["numba"] and not compiled:
        return "numba, which the first training compiles, or fastnn warmup"
    return f"{runs[0]}, the only compiled engine that runs here" if runs else "numpy, as no compiled engine runs here"


def check(backend: str) -> str:
    """``backend`` if there is such an engine and it can run here, or "auto".

    Raises
    ------
    ValueError
        Unknown name (the known ones are listed).
    RuntimeError
        A named engine that cannot run here, with the reason.
    """
    _checks.one_of("backend", backend, ["auto", *ENGINES])
    reason = None if backend == "auto" else ENGINES[backend].why_not()
    if reason is not None:
        usable = [name for name, status in backends().items() if status == "available"]
        raise RuntimeError(f"backend {backend!r} cannot run here: {reason}; available: {', '.join(usable)}")
    return backend


def choose(backend: str, dtype: str, n_parameters: int) -> str:
    """The engine's name for a ``backend`` argument, checked, and a network of so many parameters of this number type."""
    return automatic(dtype, n_parameters) if check(backend) == "auto" else backend


def make_engine(name: str, program: Program) -> Engine:
    """The engine ``name`` for ``program``."""
    module, _, attribute = ENGINES[name].location.partition(":")
    return getattr(importlib.import_module(module), attribute)(program)
