"""What the threads of a block do together, and the blocks of a grid: shares of work, sums, meetings.

Sums are taken in an order that depends on nothing but the number of threads, so that two runs agree bit for bit: no atomic additions of
floating-point numbers.
"""

import numpy as np

from fastnn._kernels.numba_cuda import frame as fr
from fastnn._kernels.numba_cuda.shim import cuda, device

MOST_THREADS = 256  # of a block
WARP = 32


@device
def share(n, worker, workers):
    """First and last + 1 of the things that ``worker`` of ``workers`` takes of n."""
    return n * worker // workers, n * (worker + 1) // workers


@device
def block_sum(value):
    """Σ of a float64 over the threads of the block, for all of them."""
    parts = cuda.shared.array(MOST_THREADS, np.float64)
    thread, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    cuda.syncthreads()  # the result of the call before has been read
    parts[thread] = value
    cuda.syncthreads()
    while half > 0:
        if thread < half:
            parts[thread] += parts[thread + half]
        cuda.syncthreads()
        half //= 2
    return parts[0]


@device
def block_maximum(value):
    """The largest value over the threads of the block, for all of them; a NaN may be lost."""
    parts = cuda.shared.array(MOST_THREADS, np.float64)
    thread, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    cuda.syncthreads()
    parts[thread] = value
    cuda.syncthreads()
    while half > 0:
        if thread < half and parts[thread + half] > parts[thread]:
            parts[thread] = parts[thread + half]
        cuda.syncthreads()
        half //= 2
    return parts[0]


@device
def meet(control, met):
    """Wait until all blocks of the grid are here; returns how often they have met. What any thread wrote before, all threads can read.

    One thread of a block waits for the others. Its fences make the block's writes visible, and drop what its multiprocessor has cached.
    """
    met += 1
    cuda.syncthreads()
    if cuda.gridDim.x > 1:
        if cuda.threadIdx.x == 0:
            cuda.threadfence()
            cuda.atomic.add(control, fr.BARRIER, 1)
            while cuda.atomic.add(control, fr.BARRIER, 0) < met * cuda.gridDim.x:
                pass
            cuda.threadfence()
        cuda.syncthreads()
    return met
