"""The only module that imports Numba's CUDA target, which numba-cuda provides."""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from fastnn._kernels.numba_cuda.toolchain import available

if available.compiler_missing():
    raise ImportError(available.compiler_missing())

from numba import cuda, int64
from numba.np.numpy_support import from_dtype

# numba-cuda replaces numba.cuda by a .pth file, which Python reads when it starts.
if getattr(cuda, "implementation", None) != "NVIDIA":
    raise ImportError(
        "numba.cuda is Numba's own old CUDA target, though numba-cuda is installed: "
        "was Python started with -S?"
    )

__all__ = ["SIMULATED", "cuda", "device", "from_dtype", "int64", "pretend"]

SIMULATED = available.simulated()


def device(function: Callable) -> Any:
    """A function that kernels call.

    It is inlined into its callers; in the simulator it runs with the simulator's ``cuda``.
    """
    if SIMULATED:
        return cuda.jit(device=True)(function)
    return cuda.jit(device=True, forceinline=True)(function)


@contextlib.contextmanager
def pretend(capability: tuple[int, int]) -> Iterator[None]:
    """While inside, device functions are compiled for this compute capability, without a GPU."""
    from numba.cuda import dispatcher as module

    dispatcher: Any = module
    before = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = before
