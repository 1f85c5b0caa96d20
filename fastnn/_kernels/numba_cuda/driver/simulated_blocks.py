"""Thread blocks of Numba's CUDA simulator, with another scheduler than its own.

The simulator's main thread polls whether the others have reached a barrier, which takes most of the
time. It runs one block after the other, so that a grid barrier would never end. And two threads
that declare a shared array at the same moment may get an array each. Here threads wait at a
`threading.Barrier`, blocks can run at once, and each has its own shared memory, filled with NaN.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import types
from numba.cuda.simulator import kernel, kernelapi
from numba.np.numpy_support import as_dtype

_SECONDS = 300  # after which a barrier counts as a deadlock


class _Thread(kernel.BlockThread):
    """A thread of a block."""

    def syncthreads(self):
        self._manager.barrier.wait(_SECONDS)

    def run(self):
        super().run()
        if self.exception is not None:
            self._manager.barrier.abort()


class _Block(kernel.BlockManager):
    """One block.

    The simulator makes and runs a kernel's blocks in order. With ``at_once`` the blocks are joined
    when the last has been started.
    """

    at_once = False
    started: tuple["_Block", ...] = ()

    def __init__(self, function, grid_dim, block_dim, debug):
        super().__init__(function, grid_dim, block_dim, debug)
        self.barrier = threading.Barrier(int(np.prod(block_dim)))
        self._threads = []

    def run(self, grid_point, *args):
        for block_point in np.ndindex(*self._block_dim):
            self._threads.append(
                _Thread(lambda: self._f(*args), self, grid_point, block_point, self._debug)
            )
        for thread in self._threads:
            thread.start()
        _Block.started = (*(_Block.started if any(grid_point) else ()), self)
        is_last = all(i == n - 1 for i, n in zip(grid_point, self._grid_dim, strict=True))
        if is_last or not _Block.at_once:
            for block in _Block.started:
                block.wait()
            _Block.started = ()

    def wait(self):
        for thread in self._threads:
            thread.join()
        failed = [thread.exception for thread in self._threads if thread.exception is not None]
        # Barriers break as a consequence of the first error.
        failed.sort(key=lambda exception: isinstance(exception[0], threading.BrokenBarrierError))
        if failed:
            raise failed[0][0].with_traceback(failed[0][1])


def as_seen(array: np.ndarray) -> Any:
    """An array as kernels see it; tests replace this function to watch the accesses."""
    return array


class _Shared:
    """Shared memory: an array for each block and line of the source that declares one."""

    def __init__(self, size):
        self._size, self._arrays, self._lock = size, {}, threading.Lock()

    def array(self, shape, dtype, alignment=None):
        if isinstance(dtype, types.Type):
            dtype = as_dtype(dtype)
        thread: Any = threading.current_thread()
        block, caller = tuple(thread.blockIdx), sys._getframe(1)
        dynamic = np.ndim(shape) == 0 and shape == 0
        place = block if dynamic else (block, caller.f_code.co_filename, caller.f_lineno)
        with self._lock:
            if place not in self._arrays:
                shape = self._size // np.dtype(dtype).itemsize if dynamic else shape
                self._arrays[place] = np.full(
                    shape, np.nan if np.issubdtype(dtype, np.floating) else -1, dtype
                )
            return as_seen(self._arrays[place])


@contextlib.contextmanager
def blocks(at_once: bool) -> Iterator[None]:
    """While inside, kernels run this way; ``at_once``: with all blocks of a grid in parallel."""
    before = kernel.BlockManager, kernelapi.FakeCUDAShared
    kernel.BlockManager, kernelapi.FakeCUDAShared, _Block.at_once = _Block, _Shared, at_once
    try:
        yield
    finally:
        kernel.BlockManager, kernelapi.FakeCUDAShared = before
