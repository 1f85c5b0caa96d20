"""From a kernel's Python function to PTX, the assembly that NVIDIA's driver takes.

No GPU is needed for it.
"""

import re
import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.compile_cache import version
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS
from fastnn._kernels.numba_cuda.kernels.op_table import OPERATION
from fastnn._kernels.numba_cuda.toolchain import available, ptx_cache

_RECORDS = {"ops": OPERATION, "loss": opcodes.LOSS, "optimizer": opcodes.OPTIMIZER}
_ENTRY = re.compile(r"\.visible\s+\.entry\s+([\w$]+)\s*\((.*?)\)", re.DOTALL)
_compiling = threading.RLock()


class Code(NamedTuple):
    """A kernel as the driver loads it."""

    ptx: str
    entry: str  # name in the PTX
    words: int  # parameters, of 8 bytes each


def load(name: str, dtype: str, capability: tuple[int, int]) -> Code:
    """The kernel ``name`` of `entry_points.KERNELS` from the cache, or compiled and cached."""
    with _compiling:
        text = ptx_cache.read(name, dtype, capability)
        if text is None:
            _check_compiler(name, dtype, capability)
            from fastnn._kernels.numba_cuda.kernels.entry_points import KERNELS  # loads Numba

            text = ptx(name, KERNELS[name], dtype, capability)
            ptx_cache.write(name, dtype, capability, text)
    return parse(text)


def _check_compiler(name: str, dtype: str, capability: tuple[int, int]) -> None:
    reason = available.compiler_missing()
    if reason is not None:
        raise RuntimeError(
            f"the CUDA kernel {name!r} for {dtype} and compute capability "
            f"{available.dotted(capability)} is not in {ptx_cache.place()}, "
            f"and cannot be compiled: {reason}"
        )


def keep(dtype: str, capability: tuple[int, int], names: Iterable[str] = ()) -> None:
    """Compile and cache these kernels, or all of them."""
    from fastnn._kernels.numba_cuda.kernels.entry_points import KERNELS

    for name in names or KERNELS:
        load(name, dtype, capability)
    if all(ptx_cache.read(name, dtype, capability) is not None for name in KERNELS):
        ptx_cache.write_manifest(dtype, capability, list(KERNELS))


def parse(text: str) -> Code:
    """PTX with the name of its entry point and the number of its parameters."""
    found = _ENTRY.findall(text)
    if len(found) != 1:
        raise ValueError(f"PTX of one kernel was expected, not of {len(found)}")
    entry, parameters = found[0]
    return Code(text, entry, parameters.count(".param"))


def ptx(name: str, function: Callable, dtype: str, capability: tuple[int, int]) -> str:
    """Compile a kernel for a number type and a compute capability such as (9, 0).

    The kernel is a plain Python function of `context.ARGUMENTS`.

    An attribute ``launch_bounds`` of the function, if there is one, has Numba's launch bounds by
    number type.
    """
    from fastnn._kernels.numba_cuda.toolchain.shim import cuda, pretend

    compiler: Any = cuda
    bounds = getattr(function, "launch_bounds", {}).get(dtype)
    with _compiling, pretend(capability):
        try:
            text, _ = compiler.compile_ptx(
                function, signature(dtype), cc=capability, launch_bounds=bounds
            )
        except Exception as error:
            raise RuntimeError(
                f"the CUDA kernel {name!r} for {dtype} does not compile with {_versions()}: {error}"
            ) from error
    # Numba's name holds the types of all arguments, 1,300 letters, and the name of each parameter
    # begins with it. Together they are most of the text.
    return text.replace(parse(text).entry, f"fastnn_{name}_{dtype}")


def _versions() -> str:
    """Versions of the compiler's packages, which its errors do not name."""
    packages = (("numba-cuda", "numba_cuda"), ("Numba", "numba"), ("NumPy", "numpy"))
    named = ", ".join(f"{name} {version(module)}" for name, module in packages)
    return f'{named} (pip install "fastnn[cuda]" brings versions that go together)'


def signature(dtype: str) -> tuple:
    """Numba's types of `context.ARGUMENTS`."""
    from fastnn._kernels.numba_cuda.toolchain.shim import from_dtype, int64

    kinds = {
        "real": np.dtype(dtype),
        "int64": np.dtype(np.int64),
        "float64": np.dtype(np.float64),
        **_RECORDS,
    }
    return tuple(
        int64 if kind == "scalar" else from_dtype(kinds[kind])[::1] for _, kind in ARGUMENTS
    )
