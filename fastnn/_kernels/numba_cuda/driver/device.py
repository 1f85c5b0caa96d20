"""The interface of a GPU to the engine, and opening it.

`driver` is a real GPU; `simulator` is NumPy memory and Numba's simulator. Work runs in order on one
stream, the *compute* stream. Methods return before the work is done, unless they say otherwise. A
second stream copies the next samples in the meantime.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.toolchain import available


class Buffer(Protocol):
    """A vector in the device's memory.

    It is freed once nothing holds it and no pending work may use it.
    """

    n: int
    dtype: np.dtype
    nbytes: int

    def view(self, offset: int, n: int) -> "Buffer":
        """Elements ``offset`` to ``offset + n`` of it; keeps all of it alive."""
        ...


class Event(Protocol):
    """A moment in a stream's work."""

    def synchronize(self) -> None:
        """Wait for it."""
        ...


class Graph(Protocol):
    """Recorded work. It uses the buffers that it was recorded with, and keeps them alive."""

    def launch(self, times: int = 1) -> None:
        """Do the work so many times in a row."""
        ...


class Device(Protocol):
    """A GPU. A device may be used by several threads."""

    name: str
    simulated: bool
    compute_capability: tuple[int, int]
    multiprocessors: int
    shared_per_block: int  # bytes of shared memory that a block can have
    memory: int  # bytes in all
    warp_block: int  # threads a block of the persistent kernel has
    cooperative: bool  # whether several blocks can run at once, as a grid barrier needs

    def free_memory(self) -> int:
        """Bytes that are free at the moment."""
        ...

    def empty(self, n: int, dtype: Any) -> Buffer:
        """A new buffer with arbitrary contents."""
        ...

    def zeros(self, n: int, dtype: Any) -> Buffer:
        """A new buffer of zeros."""
        ...

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        """Copy an array of the buffer's size and type to it; the array may change at once."""
        ...

    def download(self, buffer: Buffer, array: np.ndarray | None = None) -> np.ndarray:
        """Wait for all work so far; return the buffer's contents, in ``array`` if that is given."""
        ...

    def copy(self, target: Buffer, source: Buffer) -> None:
        """Copy from one buffer to another of the same size."""
        ...

    def fill_zero(self, buffer: Buffer) -> None:
        """Set a buffer to zeros."""
        ...

    def prepare(self, names: Iterable[str], dtype: Any) -> None:
        """Compile and load kernels. A kernel must be prepared before it is recorded."""
        ...

    def launch(self, launch: Launch, arguments: Sequence[Buffer]) -> None:
        """Launch a kernel, compiled for θ's dtype, on buffers in the order of `ARRAY_NAMES`."""
        ...

    def record(self, work: Callable[[], None]) -> Graph:
        """Record what ``work`` launches, copies and fills, to be repeated later.

        ``work`` may use the device for nothing else.
        """
        ...

    def synchronize(self) -> None:
        """Wait for all work."""
        ...

    def pinned(self, n: int, dtype: Any) -> np.ndarray:
        """A new array in pinned memory, which the GPU reads without the processor."""
        ...

    def upload_aside(self, buffer: Buffer, array: np.ndarray) -> Event:
        """Copy a pinned array to a buffer on the second stream.

        Until the event the array must not change.
        """
        ...

    def wait(self, event: Event) -> None:
        """Let the compute stream wait for the event."""
        ...

    def unowned_view(self, array: Any) -> Buffer:
        """An array that is already on this GPU, flattened, without a copy; it is kept alive.

        Raises
        ------
        ValueError
            If it is elsewhere, or not C-contiguous.
        """
        ...


_device: Device | None = None
_opening = threading.Lock()


def open_device() -> Device:
    """The process's device, the first that CUDA finds.

    Raises
    ------
    RuntimeError
        If there is none, with the reason; or if it was opened before this process was forked,
        which CUDA does not survive.
    """
    global _device
    with _opening:
        if _device is not None:
            return _device
        reason = available.unavailable_reason()
        if reason is not None:
            raise RuntimeError(reason)
        _device = opened = _open()
        return opened


def _open() -> Any:
    if available.simulated():
        from fastnn._kernels.numba_cuda.driver.simulator import SimulatedDevice

        return SimulatedDevice()
    from fastnn._kernels.numba_cuda.driver.driver import CudaDevice

    return CudaDevice()


def _forked() -> None:
    """Replace the lock, which another thread may have held at the fork.

    An open device stays: it answers every call with an error.
    """
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
