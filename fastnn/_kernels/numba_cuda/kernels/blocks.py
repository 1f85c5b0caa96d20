"""What the threads of a block do together, and the blocks of a grid: ranges, reductions, barriers.

Reductions add in an order that depends on nothing but the number of threads, so that two runs agree
bit for bit: there are no atomic additions of floating-point numbers.
"""

import numpy as np

from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.context import MAX_THREADS
from fastnn._kernels.numba_cuda.toolchain.shim import SIMULATED, cuda, device

WARP = 32
# Of every block. The simulator takes a thread of the processor for each.
THREADS = WARP if SIMULATED else MAX_THREADS

# Type of an index that is known not to be negative. Numba lets negative ones count from the end,
# which takes four instructions: half of all in the inner loops of matrix products.
at = np.uint64


@device
def divide(a, b):
    """Quotient and remainder of numbers from 0 to 2³² − 1.

    GPUs divide in software, and 64-bit numbers take several times as long.
    """
    quotient = np.int64(np.uint32(a) // np.uint32(b))
    return quotient, a - quotient * b


@device
def advance(r, c, stride, n):
    """Row and column of a thread's next element, ``stride`` rows and columns on in rows of n.

    A division would take longer.
    """
    r, c = r + stride[0], c + stride[1]
    if c >= n:
        r, c = r + 1, c - n
    return r, c


@device
def block_range(n, worker, workers):
    """First and last + 1 of the n items that block ``worker`` of ``workers`` takes."""
    return n * worker // workers, n * (worker + 1) // workers


@device
def block_sum(ctx, value):
    """Σ of a float64 over the threads of the block, for all of them."""
    partials = ctx.doubles
    thread, half = cuda.threadIdx.x, cuda.blockDim.x // 2
    cuda.syncthreads()  # the result of the previous call has been read
    partials[thread] = value
    cuda.syncthreads()
    while half > 0:
        if thread < half:
            partials[thread] += partials[thread + half]
        cuda.syncthreads()
        half //= 2
    return partials[0]


@device
def warp_leader_sum(ctx, value):
    """Σ of a float64 over the first lanes of the block's warps, for all threads."""
    partials, thread, total = ctx.doubles, cuda.threadIdx.x, 0.0
    cuda.syncthreads()
    if thread % WARP == 0:
        partials[thread // WARP] = value
    cuda.syncthreads()
    for warp in range(cuda.blockDim.x // WARP):
        total += partials[warp]
    return total


@device
def sum_over_warps(partials, value):
    """Σ of ``value`` over the threads of the block that have the same lane, for all of them.

    ``partials`` is the context's reals or doubles.
    """
    thread, lane = cuda.threadIdx.x, cuda.threadIdx.x % WARP
    cuda.syncthreads()
    partials[thread] = value
    cuda.syncthreads()
    total = partials[lane]
    for warp in range(1, cuda.blockDim.x // WARP):
        total += partials[warp * WARP + lane]
    return total


@device
def warp_sum(ctx, value):
    """Σ of ``value``, of the network's dtype, over the lanes of the warp, for all of them."""
    partials = ctx.reals
    thread, first = cuda.threadIdx.x, cuda.threadIdx.x // WARP * WARP
    cuda.syncthreads()
    partials[thread] = value
    cuda.syncthreads()
    total = partials[first]
    for lane in range(1, WARP):
        total += partials[first + lane]
    return total


@device
def warp_argmax(ctx, value, index):
    """The largest value of the warp's lanes, and the least index that has it; NaN is skipped."""
    values, indices = ctx.reals, ctx.indices
    thread, first = cuda.threadIdx.x, cuda.threadIdx.x // WARP * WARP
    cuda.syncthreads()
    values[thread], indices[thread] = value, index
    cuda.syncthreads()
    best, best_index = values[first], indices[first]
    for lane in range(first + 1, first + WARP):
        if values[lane] > best or (values[lane] == best and indices[lane] < best_index):
            best, best_index = values[lane], indices[lane]
    return best, best_index


@device
def grid_sync(control_array, n_syncs):
    """A barrier of all blocks; return the number of barriers so far.

    What any thread wrote before, all threads can read after. One thread of a block waits for the
    other blocks. Its fences make the block's writes visible and drop what its multiprocessor has
    cached.
    """
    n_syncs += 1
    cuda.syncthreads()
    if cuda.gridDim.x > 1:
        if cuda.threadIdx.x == 0:
            cuda.threadfence()
            cuda.atomic.add(control_array, control.BARRIER, 1)
            while cuda.atomic.add(control_array, control.BARRIER, 0) < n_syncs * cuda.gridDim.x:
                pass
            cuda.threadfence()
        cuda.syncthreads()
    return n_syncs
