"""Looks for races in the simulator: two threads at the same element of memory, one of them writing,
and nothing that says who comes first.

What orders two threads of a block is a barrier; two blocks of a grid, a meeting (`blocks.meet`) or
the end of the launch. That depends on the program alone, not on how fast threads happen to run, so
a race is found although the simulator never shows its effect. Every access is compared with those
before it to the same address. Found besides: threads of a block that wait for each other at
different barriers, and indices that are negative or too large, which a GPU does not notice.
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
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.runtime.workspace import NAMES


def _arrivals(block: Any) -> list[int]:
    """How many barriers a block's threads had passed when it arrived at each meeting."""
    return block.__dict__.setdefault("arrivals", [])


class _Access(NamedTuple):
    block: Any
    thread: int
    barriers: int  # that the thread has passed
    meetings: int  # as well
    code: Any
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename.rpartition('/')[2]}:{self.line} {self.code.co_name}"

    def is_before(self, other: "_Access") -> bool:
        if self.block is other.block:
            return self.barriers < other.barriers or self.thread == other.thread
        # the first that this thread's barriers lead to
        return bisect.bisect_right(_arrivals(self.block), self.barriers) < other.meetings


class _Thread(simulated_blocks._Thread):
    """A thread that knows how many barriers and meetings it has passed, and checks that all of its
    block are at the same barrier.
    """

    barriers = meetings = 0

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
        self.meetings = len(_arrivals(self._manager))


class Watch:
    """The accesses of one launch."""

    def __init__(self, control: np.ndarray):
        address = control.__array_interface__["data"][0]
        self._barrier = address + fr.BARRIER * control.itemsize
        # all who write to that one write the same
        self._unordered = (self._barrier, address + fr.POISONED * control.itemsize)
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
            thread.meetings,
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

    def meets(self, address: int, increase: int) -> None:
        """Count a meeting of the calling thread's block, if that is what the change of an element
        means.
        """
        if address == self._barrier and increase > 0:
            thread = threading.current_thread()
            _arrivals(thread._manager).append(thread.barriers)


class _Watched:
    """An array, each access to which is noted."""

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
        self._watch.meets(place, value - self._array[index])
        self._watch.access(place, True)
        self._array[index] = value

    def _place(self, index: Any) -> int:
        if not 0 <= index < self.size:
            raise AssertionError(f"element {index} of {self.size}")
        return self._address + int(index) * self.dtype.itemsize


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """While inside, a launch in which threads race raises an AssertionError that names the
    lines.
    """
    launch, watches = SimulatedDevice.launch, []

    def watched_launch(device, what, arguments):
        watches.append(Watch(arguments[NAMES.index("control")].array))
        launch(device, what, arguments)
        races = watches.pop().races
        assert not races, f"races in {what.kernel}: {'; '.join(sorted(races))}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedDevice, "launch", watched_launch)
        patch.setattr(simulated_blocks, "as_seen", lambda array: _Watched(array, watches[-1]))
        patch.setattr(simulated_blocks, "_Thread", _Thread)
        yield
