"""What the threads of a block do together, and the blocks of a grid: shares of work, sums,
meetings.

Sums are taken in an order that depends on nothing but the number of threads, so that two runs agree
bit for bit: no atomic additions of floating-point numbers.
"""

import numpy as np

from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.frame import MOST_THREADS
from fastnn._kernels.numba_cuda.toolchain.shim import SIMULATED, cuda, device

WARP = 32
# of every block; the simulator takes a thread of the processor for each
THREADS = WARP if SIMULATED else MOST_THREADS

# An index that is known not to be negative. Numba lets signed ones count from the end, which takes
# four instructions: in the inner loops of products, half of all.
at = np.uint64


@device
def divide(a, b):
    """Quotient and remainder of numbers from 0 to 2³² − 1. GPUs divide by hand, and numbers of 64
    bits take several times as long.
    """
    quotient = np.int64(np.uint32(a) // np.uint32(b))
    return quotient, a - quotient * b


@device
def advance(r, c, stride, n):
    """Row and column of the element that a thread takes next, ``stride`` rows and columns on in
    rows of n. A division would take longer.
    """
    r, c = r + stride[0], c + stride[1]
    if c >= n:
        r, c = r + 1, c - n
    return r, c


@device
def share(n, worker, workers):
    """First and last + 1 of the things that ``worker`` of ``workers`` takes of n."""
    return n * worker // workers, n * (worker + 1) // workers


@device
def block_sum(frame, value):
    """Σ of a float64 over the threads of the block, for all of them."""
    parts = frame.doubles
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
def leader_sum(frame, value):
    """Σ of a float64 over the first lanes of the block's warps, for all threads."""
    parts, thread, total = frame.doubles, cuda.threadIdx.x, 0.0
    cuda.syncthreads()
    if thread % WARP == 0:
        parts[thread // WARP] = value
    cuda.syncthreads()
    for warp in range(cuda.blockDim.x // WARP):
        total += parts[warp]
    return total


@device
def lane_sum(parts, value):
    """Σ of ``value`` over the threads of the block that have the same lane, for all of them.
    ``parts`` is the frame's reals or doubles.
    """
    thread, lane = cuda.threadIdx.x, cuda.threadIdx.x % WARP
    cuda.syncthreads()
    parts[thread] = value
    cuda.syncthreads()
    total = parts[lane]
    for warp in range(1, cuda.blockDim.x // WARP):
        total += parts[warp * WARP + lane]
    return total


@device
def row_sum(frame, value):
    """Σ of ``value``, of the network's dtype, over the lanes of the thread's warp; for all of
    them.
    """
    parts = frame.reals
    thread, first = cuda.threadIdx.x, cuda.threadIdx.x // WARP * WARP
    cuda.syncthreads()
    parts[thread] = value
    cuda.syncthreads()
    total = parts[first]
    for lane in range(1, WARP):
        total += parts[first + lane]
    return total


@device
def row_largest(frame, value, index):
    """The largest of the values that the lanes of the thread's warp bring, and the least index that
    has it. A NaN is passed over.
    """
    values, indices = frame.reals, frame.places
    thread, first = cuda.threadIdx.x, cuda.threadIdx.x // WARP * WARP
    cuda.syncthreads()
    values[thread], indices[thread] = value, index
    cuda.syncthreads()
    best, place = values[first], indices[first]
    for lane in range(first + 1, first + WARP):
        if values[lane] > best or (values[lane] == best and indices[lane] < place):
            best, place = values[lane], indices[lane]
    return best, place


@device
def meet(control, met):
    """Wait until all blocks of the grid are here; returns how often they have met. What any thread
    wrote before, all threads can read.

    One thread of a block waits for the others. Its fences make the block's writes visible, and drop
    what its multiprocessor has cached.
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
