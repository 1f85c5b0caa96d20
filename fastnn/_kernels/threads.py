"""How many threads the CPU engines use."""

import os
from functools import cache

_requested: int | None = None


def set_num_threads(n: int) -> None:
    """Use ``n`` threads in the CPU engines of this process, in place of ``FASTNN_NUM_THREADS`` or
    the number of usable cores.

    Results depend on the number of threads only by rounding; random numbers not at all.

    Raises
    ------
    ValueError, TypeError
        Unless ``n`` is an integer of at least 1.
    """
    global _requested
    _requested = _positive("n", n)


def num_threads() -> int:
    """The number of threads in force: `set_num_threads`, else ``FASTNN_NUM_THREADS``, else the
    cores this process may use.
    """
    if _requested is not None:
        return _requested
    from_environment = os.environ.get("FASTNN_NUM_THREADS")
    if from_environment:
        if not from_environment.isdecimal():
            raise ValueError(
                f"FASTNN_NUM_THREADS must be an integer of at least 1, not {from_environment!r}"
            )
        return _positive("FASTNN_NUM_THREADS", int(from_environment))
    return _usable_cores()


def _positive(name, n):
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be an integer of at least 1, not {n!r}")
    if n < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {n}")
    return n


def _usable_cores():
    """Cores, not hardware threads: two hardware threads share one core's multipliers.

    Linux says which hardware threads are siblings; elsewhere each processor counts as a core.
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return _count_cores(frozenset(os.sched_getaffinity(0)))


@cache
def _count_cores(cpus):
    cores = set()
    for cpu in cpus:
        try:
            with open(
                f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            ) as siblings:
                cores.add(siblings.read())
        except OSError:
            cores.add(cpu)
    return len(cores)
