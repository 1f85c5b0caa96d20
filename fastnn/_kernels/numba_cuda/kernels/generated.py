"""Functions whose parameters and fields are written from the tables of `context` and `records`.

Numba compiles positional signatures only: neither ``*args`` nor ``_replace`` of a named tuple. So
the few functions that name every field are made here from short templates.
"""

import linecache
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.context import (
    ARGUMENTS,
    ARRAY_NAMES,
    SHARED_ARRAYS,
    KernelContext,
)
from fastnn._kernels.numba_cuda.toolchain.shim import SIMULATED, cuda, device

# Bytes: a kernel reads four numbers at once. The simulator knows no alignment.
_ALIGNMENT = None if SIMULATED else 16
_DTYPES = {"real": "theta.dtype", "float64": "float64", "int64": "int64"}


def entry_point(stage: Callable) -> Callable:
    """The kernel that runs ``stage(ctx, index)``, with `context.ARGUMENTS` as its parameters.

    Once a loss was not finite, later launches do nothing.
    """
    parameters = ", ".join(name for name, _ in ARGUMENTS)
    values = [*ARRAY_NAMES, "theta", *(name for name, _, _ in SHARED_ARRAYS)]
    shared = "\n".join(
        f"        {name} = cuda.shared.array({size}, {_DTYPES[kind]}, alignment)"
        for name, size, kind in SHARED_ARRAYS
    )
    source = (
        f"def kernel({parameters}):\n"
        f"    if control[STOPPED] == 0:\n"
        f"{shared}\n"
        f"        stage(KernelContext({', '.join(values)}), index)\n"
    )
    return define(
        "kernel",
        source,
        cuda=cuda,
        stage=stage,
        alignment=_ALIGNMENT,
        float64=np.float64,
        int64=np.int64,
        STOPPED=control.STOPPED,
        KernelContext=KernelContext,
    )


def replacing(*names: str) -> Callable:
    """A device function that copies a context with other values of these fields."""
    values = [name if name in names else f"ctx.{name}" for name in KernelContext._fields]
    source = (
        f"def replaced(ctx, {', '.join(names)}):\n    return KernelContext({', '.join(values)})\n"
    )
    return device(define("replaced", source, KernelContext=KernelContext))


def define(name: str, source: str, **namespace: Any) -> Callable:
    """The function ``name`` that ``source`` defines, in a namespace; tracebacks show its lines."""
    file = f"<{__name__}.{name}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]
