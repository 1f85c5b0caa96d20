"""Detects races in the simulator: two threads access an element, one writes, and no order is sure.

A barrier orders two threads of a block; a grid barrier (`blocks.grid_sync`) or the end of the
launch orders two blocks. That depends on the program alone and not on how fast threads run, so a
race is found although the simulator never shows its effect. Every access is compared with earlier
ones to the same address. Two more mistakes are found: threads of a block that wait at different
barriers, and indices that are negative or too large, which a GPU does not notice.
"""

import bisect
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn._kernels.numba_cuda.driver import simulated_blocks
from fastnn._kernels.numba_cuda.driver.simulator import SimulatedDevice
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES


def _arrivals(block: Any) -> list[int]:
    """How many barriers a block's threads had passed when it arrived at each grid barrier."""
    return block.__dict__.setdefault("arrivals", [])


class _Access(NamedTuple):
    block: Any
    thread: int
    barriers: int  # that the thread has passed
    grid_barriers: int  # that it has passed
    code: Any
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename.rpartition('/')[2]}:{self.line} {self.code.co_name}"

    def is_before(self, other: "_Access") -> bool:
        if self.block is other.block:
            return self.barriers < other.barriers or self.thread == other.thread
        # Ordered by the first grid barrier that this thread's block arrives at afterwards.
        return bisect.bisect_right(_arrivals(self.block), self.barriers) < other.grid_barriers


class _Thread(simulated_blocks._Thread):
    """A thread that counts its barriers, and checks that its block waits at the same one."""

    barriers = grid_barriers = 0

    def syncthreads(self):
        frame, stack = sys._getframe(2), []
        while frame is not None and frame.f_code.co_name != "run":
            stack.append(f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}")
            frame = frame.f_back
        places = self._manager.__dict__.setdefault("places", {})
        place = places.setdefault(self.barriers, stack)
        if place != stack:
            raise AssertionError(
                f"a barrier for some threads of a block at {place}, for others at {stack}"
            )
        super().syncthreads()
        self.barriers += 1
        self.grid_barriers = len(_arrivals(self._manager))


class Watch:
    """The accesses of one launch."""

    def __init__(self, array: np.ndarray):
        address = array.__array_interface__["data"][0]
        self._barrier = address + control.BARRIER * array.itemsize
        # All threads that write NONFINITE write the same value.
        self._unordered = (self._barrier, address + control.NONFINITE * array.itemsize)
        self._writes: dict[int, _Access] = {}
        self._reads: dict[int, dict[tuple, _Access]] = {}
        self._lock, self.races = threading.Lock(), set()

    def access(self, address: int, writes: bool) -> None:
        """The calling thread reads or writes an element."""
        thread, caller = threading.current_thread(), sys._getframe(2)
        if address in self._unordered:
            return
        new = _Access(
            thread._manager,
            thread.thread_id,
            thread.barriers,
            thread.grid_barriers,
            caller.f_code,
            caller.f_lineno,
        )
        with self._lock:
            earlier = [self._writes[address]] if address in self._writes else []
            if writes:
                earlier += self._reads.pop(address, {}).values()
                self._writes[address] = new
            else:
                self._reads.setdefault(address, {})[id(new.block), new.thread] = new
            self.races.update(f"{old} and {new}" for old in earlier if not old.is_before(new))

    def arrives(self, address: int, increase: int) -> None:
        """Count a grid barrier of the calling thread's block, if the element is its counter."""
        if address == self._barrier and increase > 0:
            thread = threading.current_thread()
            _arrivals(thread._manager).append(thread.barriers)


class _Watched:
    """An array whose accesses are recorded."""

    def __init__(self, array: np.ndarray, watch: Watch):
        self._array, self._watch, self.dtype, self.shape, self.size = (
            array,
            watch,
            array.dtype,
            array.shape,
            array.size,
        )
        self._address = array.__array_interface__["data"][0]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Watched(self._array[index], self._watch)
        self._watch.access(self._place(index), False)
        return self._array[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        place = self._place(index)
        self._watch.arrives(place, value - self._array[index])
        self._watch.access(place, True)
        self._array[index] = value

    def _place(self, index: Any) -> int:
        if not 0 <= index < self.size:
            raise AssertionError(f"element {index} of {self.size}")
        return self._address + int(index) * self.dtype.itemsize


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While inside, a launch with a race raises an AssertionError that names the lines."""
    launch, watches = SimulatedDevice.launch, []

    def watched_launch(device, what, arguments):
        watches.append(Watch(arguments[ARRAY_NAMES.index("control")].array))
        launch(device, what, arguments)
        races = watches.pop().races
        assert not races, f"races in {what.kernel}: {'; '.join(sorted(races))}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedDevice, "launch", watched_launch)
        patch.setattr(simulated_blocks, "as_seen", lambda array: _Watched(array, watches[-1]))
        patch.setattr(simulated_blocks, "_Thread", _Thread)
        yield
