"""Whether all numbers of a vector are finite, without bringing it to the host."""

from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def look(frame, index):
    """Set POISONED if what is given as θ, which may be any vector of the network's dtype, has a NaN
    or an infinity.
    """
    for p in range(cuda.grid(1), len(frame.theta), cuda.gridsize(1)):
        value = frame.theta[p]
        if value - value != 0:
            frame.control[fr.POISONED] = 1  # whoever writes it writes the same
