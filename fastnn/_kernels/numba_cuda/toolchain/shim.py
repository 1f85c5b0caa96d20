"""The only place that imports the CUDA target, which numba-cuda brings."""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace

from fastnn._kernels.numba_cuda.toolchain import available
from fastnn._kernels.numba_cuda.toolchain.available import why_not

if available.compiler_missing():
    raise ImportError(available.compiler_missing())

from numba import cuda, int64
from numba.np.numpy_support import from_dtype

# a file of numba-cuda that Python reads when it starts has not done its work
if getattr(cuda, "implementation", None) != "NVIDIA":
    raise ImportError(
        "numba.cuda is Numba's own old CUDA target, though numba-cuda is installed: was Python started with -S?"
    )

__all__ = ["SIMULATED", "cuda", "device", "from_dtype", "int64", "pretend", "why_not"]

SIMULATED = available.simulated()


def device(function: Callable) -> Callable:
    """A function that kernels call: compiled into whoever calls it, or, in the simulator, run with
    the simulator's ``cuda``.
    """
    if SIMULATED:
        return cuda.jit(device=True)(function)
    return cuda.jit(device=True, forceinline=True)(function)


@contextlib.contextmanager
def pretend(capability: tuple[int, int]) -> Iterator[None]:
    """While inside, the GPU for which the target compiles device functions is one of this compute
    capability, be there any or not.
    """
    from numba.cuda import dispatcher

    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before
