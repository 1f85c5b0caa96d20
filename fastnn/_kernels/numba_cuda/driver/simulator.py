"""A device of Numba's CUDA simulator: NumPy memory, and a thread of the CPU for each of the GPU's.

Kernels get the arrays inside a tuple. The simulator would copy array arguments to and fro, and wrap
each so that every element read costs two calls of Python; it does not look into tuples.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fastnn._kernels.numba_cuda.driver import simulated_blocks
from fastnn._kernels.numba_cuda.driver.buffer_checks import as_contents, as_target
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.driver.simulated_blocks import blocks
from fastnn._kernels.numba_cuda.toolchain.shim import cuda


class Buffer:
    """A NumPy vector that stands for device memory."""

    def __init__(self, array: np.ndarray):
        self.array = array
        self.n, self.dtype, self.nbytes = len(array), array.dtype, array.nbytes

    def view(self, offset: int, n: int) -> "Buffer":
        if not 0 <= offset <= offset + n <= self.n:
            raise ValueError(f"elements {offset} to {offset + n} of a buffer of {self.n}")
        return Buffer(self.array[offset : offset + n])


class Event:
    """All work is done when a method returns, so there is nothing to wait for."""

    def synchronize(self) -> None:
        pass


class Graph:
    def __init__(self, work: Callable[[], None]):
        self._work = work

    def launch(self, times: int = 1) -> None:
        for _ in range(times):
            self._work()


class SimulatedDevice:
    """See `device.Device`. Sizes are those of a GPU with one multiprocessor."""

    name = "Numba's CUDA simulator"
    simulated = True
    compute_capability = (9, 0)
    multiprocessors = 1
    shared_per_block = 227 << 10
    memory = 1 << 30
    warp_block = 32
    cooperative = True

    def __init__(self):
        self._running = threading.RLock()  # the simulator runs one kernel at a time
        self._recording = False
        self._entries: dict[str, Any] = {}

    def free_memory(self) -> int:
        return self.memory

    def empty(self, n: int, dtype: Any) -> Buffer:
        array = np.empty(n, dtype)
        array.view(np.uint8).fill(0xFF)  # NaN or −1, so that reads of unwritten memory show
        return Buffer(array)

    def zeros(self, n: int, dtype: Any) -> Buffer:
        return Buffer(np.zeros(n, dtype))

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self._not_recorded("upload")
        buffer.array[:] = as_contents(buffer, array)

    def download(self, buffer: Buffer, array: np.ndarray | None = None) -> np.ndarray:
        self._not_recorded("download")
        array = as_target(buffer, array)
        array.reshape(-1)[:] = buffer.array
        return array

    def copy(self, target: Buffer, source: Buffer) -> None:
        if not self._recording:
            target.array[:] = as_contents(target, source.array)

    def fill_zero(self, buffer: Buffer) -> None:
        if not self._recording:
            buffer.array.view(np.uint8).fill(0)

    def prepare(self, names: Iterable[str], dtype: Any) -> None:
        for name in names:
            self._entry(name)

    def launch(self, launch: Launch, arguments: Sequence[Buffer]) -> None:
        entry = self._entry(launch.kernel)
        if self._recording:
            return
        arrays = tuple(_as_kernels_see(buffer.array) for buffer in arguments)
        with self._running, blocks(at_once=launch.cooperative):
            entry[launch.grid, launch.block, 0, launch.shared]((*arrays, launch.index))

    def record(self, work: Callable[[], None]) -> Graph:
        with self._running:
            self._recording = True
            try:
                work()  # shows mistakes, and does nothing else
            finally:
                self._recording = False
        return Graph(work)

    def synchronize(self) -> None:
        self._not_recorded("synchronize")

    def pinned(self, n: int, dtype: Any) -> np.ndarray:
        return np.empty(n, dtype)

    def upload_aside(self, buffer: Buffer, array: np.ndarray) -> Event:
        self.upload(buffer, array)
        return Event()

    def wait(self, event: Event) -> None:
        pass

    def unowned_view(self, array: Any) -> Buffer:
        """A NumPy array stands for one on the GPU."""
        if not array.flags.c_contiguous:
            raise ValueError("an array on the GPU must be C-contiguous")
        return Buffer(array.reshape(-1))

    def _entry(self, name: str) -> Any:
        with self._running:  # while a kernel runs, the simulator replaces the module ``cuda``
            if name not in self._entries:
                from fastnn._kernels.numba_cuda.kernels.entry_points import KERNELS

                self._entries[name] = _entry(KERNELS[name])
            return self._entries[name]

    def _not_recorded(self, what: str) -> None:
        if self._recording:
            raise RuntimeError(f"{what} cannot be recorded")


def _entry(function: Callable) -> Any:
    """The simulator's kernel around a plain function."""
    body: Any = cuda.jit(device=True)(function)

    def entry(arguments):
        # A GPU does not warn of an overflow. The setting belongs to the thread.
        with np.errstate(all="ignore"):
            body(*arguments)

    return cuda.jit(entry)


def _as_kernels_see(array: np.ndarray) -> Any:
    return simulated_blocks.as_seen(array) if array.dtype.names is None else _Records(array)


class _Records:
    """Records whose fields are attributes, as in compiled code.

    Attributes of NumPy's own records include methods such as ``std``.
    """

    def __init__(self, array: np.ndarray):
        self._array = array

    def __getitem__(self, index: int) -> "_Record":
        return _Record(self._array[index])

    def __len__(self) -> int:
        return len(self._array)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape

    @property
    def size(self) -> int:
        return self._array.size


class _Record:
    __slots__ = ("_record",)

    def __init__(self, record: np.void):
        self._record = record

    def __getattr__(self, field: str) -> Any:
        return self._record[field]

    def __getitem__(self, field: str) -> Any:
        return self._record[field]
