"""Whether the threads of a training share one core: on a busy machine that can be faster.

Threads that meet at barriers are as slow as the last of them. Where other processes want the cores
too, the scheduler seldom runs all of them at once: two threads then train slower than one. The
number of threads must not change, as results depend on it by rounding. Instead all threads are
confined to one core, where they take turns at every barrier: about as fast as one thread, and with
the same bits.

Which is faster is measured, chunk by chunk. On an idle machine nothing is tried.
"""

import contextlib
import os
from collections.abc import Iterator

# The share that threads get of the cores that they may use, below which the machine is busy.
_BUSY = 0.75
_CHUNKS_BETWEEN_TRIALS, _MOST_BETWEEN = 8, 64
# A thread spins for about 0.1 ms, what it may take to wake one, before it sleeps at a barrier.
# Where threads share a core, none can arrive while another spins.
_SPINS = 8192

_LOAD, _STATUS = "/proc/loadavg", "/proc/thread-self/stat"
# Linux, with its /proc
SUPPORTED = hasattr(os, "sched_setaffinity") and all(map(os.path.exists, (_LOAD, _STATUS)))


class CoreSharing:
    """Decides chunk by chunk, for one network.

    Attributes
    ----------
    shared : bool
        Whether the threads of the next chunk share a core.
    """

    def __init__(self) -> None:
        self.shared: bool = False
        self._speeds: dict[bool, float] = {}
        self._trial = False
        self._until_trial = 0
        self._between = _CHUNKS_BETWEEN_TRIALS

    @property
    def spins(self) -> int:
        """How often a thread looks whether the others have arrived, before it sleeps."""
        return 0 if self.shared else _SPINS

    def core(self) -> int | None:
        """The core that all threads of the next chunk run on; ``None`` where each may choose."""
        return _current_core() if self.shared else None

    def record(self, samples: int, threads: int, seconds: float, cpu_seconds: float) -> None:
        """What a chunk came to, and so how the next one runs.

        Parameters
        ----------
        samples : int
            That were trained on.
        threads : int
        seconds, cpu_seconds : float
            How long it took, and for how long its threads had a core, all together.
        """
        if not SUPPORTED:
            return
        self._speeds[self.shared] = samples / seconds
        on_cores = cpu_seconds / seconds / (1 if self.shared else threads)
        if self._trial:
            shared = self._speeds[True] > self._speeds[False]
            # What failed is tried less and less often.
            changed = shared == self.shared
            self._between = (
                _CHUNKS_BETWEEN_TRIALS if changed else min(2 * self._between, _MOST_BETWEEN)
            )
            self._trial, self._until_trial, self.shared = False, self._between, shared
            return
        self._until_trial -= 1
        if self.shared:
            # Where nobody else runs any more, the other cores are free.
            try_other = self._until_trial <= 0 or not _others_run(threads)
        else:
            try_other = self._until_trial <= 0 and on_cores < _BUSY and _others_run(threads)
        if try_other:
            self._trial, self.shared = True, not self.shared


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """While inside, this thread runs on one core; ``None`` means on any that it may use."""
    if core is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {core})
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _others_run(threads: int) -> bool:
    """Whether other processes want more cores than so many threads leave.

    In a first chunk threads may be late only because the scheduler began them on one core.
    """
    cores = os.cpu_count() or 1
    if len(os.sched_getaffinity(0)) < cores:
        return True  # the system does not say who wants these cores
    with open(_LOAD) as load:
        runnable = int(load.read().split()[3].partition("/")[0])  # this thread included
    return runnable - 1 + threads > cores


def _current_core() -> int:
    """The core that this thread runs on: the scheduler has put it where there is room."""
    with open(_STATUS, "rb") as status:
        # The name of the program, in brackets, may hold spaces.
        return int(status.read().rpartition(b")")[2].split()[36])
