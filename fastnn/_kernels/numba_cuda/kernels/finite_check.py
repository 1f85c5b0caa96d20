"""Whether all numbers of a vector are finite, without a copy to the host."""

from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def check_finite(ctx, index):
    """Set NONFINITE if the argument θ has a NaN or an infinity.

    The host passes any vector of the network's dtype in the place of θ.
    """
    for p in range(cuda.grid(1), len(ctx.theta), cuda.gridsize(1)):
        value = ctx.theta[p]
        if value - value != 0:
            ctx.control[control.NONFINITE] = 1  # several threads may write it, all the same value
