"""Limits of time and memory for work in this process."""

import contextlib
import resource
import signal
import sys
import time
from collections.abc import Iterator

from campaigns.running import check

_ADDRESS_SPACE = 4 << 30  # bytes beyond those in use: what asks for more gets a MemoryError
_KIB = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss
_HANGS = 60  # seconds


def peak() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB


def forbid_huge_memory() -> None:
    """Let allocations of gigabytes fail, so that a fault does not take the machine along."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


@contextlib.contextmanager
def within(seconds: float, megabytes: float) -> Iterator[None]:
    """Raise `Fault` where the work inside takes more time of the processor, or memory."""
    memory, started = peak(), time.process_time()
    previous = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_HANGS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    took = time.process_time() - started
    check(took <= seconds, f"took {took:.1f} s of processor time")
    more = (peak() - memory) / 1e6
    check(more <= megabytes, f"took {more:,.0f} MB")


def _give_up(number: int, frame: object) -> None:
    raise TimeoutError(f"not done after {_HANGS} s")
