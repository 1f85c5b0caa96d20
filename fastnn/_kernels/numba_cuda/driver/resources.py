"""Memory, events and graphs of the CUDA driver, which are freed when nothing holds them."""

import collections
from collections.abc import Callable
from typing import Any

import cuda.bindings.driver as driver
import numpy as np

from fastnn._kernels.numba_cuda.driver.calls import call

_REPEATS = (64, 8, 1)  # times that one launch of a graph can do its work
_NO_TIMING = int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)


class Owned:
    """A handle of the driver's that goes to a queue of released handles when nothing holds it."""

    __slots__ = ("_free", "_released", "handle")

    def __init__(self, handle: Any, free: Callable, released: collections.deque):
        self.handle, self._free, self._released = handle, free, released

    def __del__(self):
        self._released.append((self._free, self.handle))


class Buffer:
    """A vector in the GPU's memory at the address ``pointer``."""

    __slots__ = ("dtype", "n", "nbytes", "owner", "pointer")

    def __init__(self, pointer: int, n: int, dtype: np.dtype, owner: Any):
        self.pointer, self.n, self.dtype, self.owner = pointer, n, dtype, owner
        self.nbytes = n * dtype.itemsize

    def view(self, offset: int, n: int) -> "Buffer":
        if not 0 <= offset <= offset + n <= self.n:
            raise ValueError(f"elements {offset} to {offset + n} of a buffer of {self.n}")
        return Buffer(self.pointer + offset * self.dtype.itemsize, n, self.dtype, self.owner)

    def words(self) -> tuple[int, ...]:
        """As a kernel's argument in Numba's calling convention for arrays.

        The words are: two that are unused, elements, bytes of one, address, length, stride.
        """
        return 0, 0, self.n, self.dtype.itemsize, self.pointer, self.n, self.dtype.itemsize


class Event:
    """A moment in a stream's work; ``keep`` lives until then."""

    def __init__(self, device: Any, stream: driver.CUstream, keep: tuple):
        self._device, self._keep = device, keep
        handle = call(driver.cuEventCreate, _NO_TIMING)
        self.owned = Owned(handle, driver.cuEventDestroy, device.released)
        call(driver.cuEventRecord, self.owned.handle, stream)

    def synchronize(self) -> None:
        with self._device.current():
            call(driver.cuEventSynchronize, self.owned.handle)


class Graph:
    """Recorded work. One launch can do it several times, so that the host makes few calls."""

    def __init__(self, device: Any, graph: driver.CUgraph, keep: list):
        self._device, self._keep = device, keep
        self._graph = Owned(graph, driver.cuGraphDestroy, device.released)
        self._executables: dict[int, Owned] = {}  # by the number of repeats

    def launch(self, times: int = 1) -> None:
        with self._device.working():
            self._device.not_recorded("a graph")
            for repeats in _REPEATS:
                for _ in range(times // repeats):
                    executable = self._executable(repeats).handle
                    call(driver.cuGraphLaunch, executable, self._device.compute)
                times %= repeats

    def _executable(self, repeats: int) -> Owned:
        """The executable graph that does the work so many times."""
        if repeats not in self._executables:
            graph = self._graph if repeats == 1 else self._repeated(repeats)
            handle = call(driver.cuGraphInstantiate, graph.handle, 0)
            owned = Owned(handle, driver.cuGraphExecDestroy, self._device.released)
            self._executables[repeats] = owned
        return self._executables[repeats]

    def _repeated(self, repeats: int) -> Owned:
        """A graph of the graph, so many times in a row."""
        handle = call(driver.cuGraphCreate, 0)
        repeated = Owned(handle, driver.cuGraphDestroy, self._device.released)
        before: list = []
        for _ in range(repeats):
            arguments = repeated.handle, before, len(before), self._graph.handle
            before = [call(driver.cuGraphAddChildGraphNode, *arguments)]
        return repeated
