"""The only place that imports the CUDA target: numba-cuda, or its successor numba-cuda-mlir."""

from collections.abc import Callable

from fastnn._kernels.numba_cuda import available
from fastnn._kernels.numba_cuda.available import why_not

__all__ = ["SIMULATED", "cuda", "device", "dispatcher", "from_dtype", "int64", "why_not"]

_target = available.target()
if _target == available.NUMBA_CUDA:
    from numba import cuda

    if getattr(cuda, "implementation", None) != "NVIDIA":  # a file of numba-cuda that Python reads when it starts has not done its work
        raise ImportError("numba.cuda is Numba's own old CUDA target, though numba-cuda is installed: was Python started with -S?")
    from numba import int64
    from numba.cuda import dispatcher
    from numba.np.numpy_support import from_dtype
elif _target == available.MLIR:
    from numba_cuda_mlir import cuda
    from numba_cuda_mlir.numba_cuda import dispatcher
    from numba_cuda_mlir.numba_cuda.np.numpy_support import from_dtype
    from numba_cuda_mlir.types import int64
else:
    raise ImportError(available.why_not())

SIMULATED = available.simulated()


def device(function: Callable) -> Callable:
    """A function that kernels call: compiled into whoever calls it, or, in the simulator, run with the simulator's ``cuda``."""
    if SIMULATED:
        return cuda.jit(device=True)(function)
    return cuda.jit(device=True, forceinline=True)(function)
