"""What the engine asks of a GPU, and opening it: `driver` is a real one, `simulator` is NumPy
memory and Numba's simulator.

All work is done in order, on one stream (the *compute* stream), and methods return before it is
done, but for those that say otherwise. A second stream (*aside*) copies what comes next while that
goes on.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.toolchain import available


class Buffer(Protocol):
    """A vector in the device's memory. It is freed once nothing holds it and no work is left that
    may use it.
    """

    n: int
    dtype: np.dtype
    nbytes: int

    def view(self, offset: int, n: int) -> "Buffer":
        """Elements ``offset`` to ``offset + n`` of it; keeps all of it alive."""


class Event(Protocol):
    """A moment in a stream's work."""

    def synchronize(self) -> None:
        """Wait until it has come."""


class Graph(Protocol):
    """Work that was recorded, on the buffers it was recorded with, which it keeps alive."""

    def launch(self, times: int = 1) -> None:
        """Do it all so many times, one after the other."""


class Device(Protocol):
    """A GPU. A device may be used by several threads."""

    name: str
    simulated: bool
    compute_capability: tuple[int, int]
    multiprocessors: int
    shared_per_block: int  # bytes of shared memory that a block can have
    memory: int  # bytes in all
    warp_block: int  # threads a block of the persistent kernel has
    can_meet: bool  # whether several blocks run at once

    def free_memory(self) -> int:
        """Bytes that nobody uses at the moment."""

    def empty(self, n: int, dtype: Any) -> Buffer:
        """A new buffer, whatever is in it."""

    def zeros(self, n: int, dtype: Any) -> Buffer:
        """A new buffer of zeros."""

    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        """Copy an array of the buffer's size and type to it. The array may be changed at once."""

    def download(self, buffer: Buffer, array: np.ndarray | None = None) -> np.ndarray:
        """The buffer's contents after all work so far, in ``array`` if that is given. Waits."""

    def copy(self, target: Buffer, source: Buffer) -> None:
        """Copy from one buffer to another of the same size."""

    def fill_zero(self, buffer: Buffer) -> None:
        """Set a buffer to zeros."""

    def prepare(self, names: Iterable[str], dtype: Any) -> None:
        """Compile and load kernels; what is recorded must be prepared."""

    def launch(self, launch: Launch, arguments: Sequence[Buffer]) -> None:
        """Launch a kernel on buffers in the order of `frame.ARGUMENTS`. It is the kernel for θ's
        dtype.
        """

    def record(self, work: Callable[[], None]) -> Graph:
        """What ``work`` launches, copies and fills, to be done later and often. It may do nothing
        else with the device.
        """

    def synchronize(self) -> None:
        """Wait for all work."""

    def pinned(self, n: int, dtype: Any) -> np.ndarray:
        """A new array in memory that the GPU copies from by itself."""

    def upload_aside(self, buffer: Buffer, array: np.ndarray) -> Event:
        """Copy a pinned array to a buffer on the second stream. Until the event the array must not
        be changed.
        """

    def wait(self, event: Event) -> None:
        """No more work is done until the event."""

    def borrow(self, array: Any) -> Buffer:
        """An array that is on this GPU already, flattened, without a copy; it is kept alive.

        Raises
        ------
        ValueError
            If it lies elsewhere, or its elements do not lie in C order without gaps.
        """


_device: Device | None = None
_opening = threading.Lock()


def open_device() -> Device:
    """The process's device, the first that CUDA finds.

    Raises
    ------
    RuntimeError
        If there is none, with the reason; or if it was opened before this process was forked: CUDA
        does not survive that.
    """
    global _device
    with _opening:
        if _device is None:
            reason = available.why_not()
            if reason is not None:
                raise RuntimeError(reason)
            if available.simulated():
                from fastnn._kernels.numba_cuda.driver.simulator import SimulatedDevice as kind
            else:
                from fastnn._kernels.numba_cuda.driver.driver import CudaDevice as kind
            _device = kind()
        return _device


def _forked() -> None:
    """A device that was opened before the fork answers every call with an error, so it stays; its
    lock may have been held, so that goes.
    """
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
