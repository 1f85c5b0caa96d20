"""How many threads the CPU engines use."""

import math
import os
from functools import cache
from pathlib import Path

_NO_QUOTA = 2**31  # cores, more than any machine has

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
    cores this process may use, which a container's CPU quota may limit.
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
    return min(_usable_cores(), _quota())


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


@cache
def _quota(root: Path = Path("/")) -> int:
    """Cores that the control groups of this process grant it, rounded up.

    A container's limit, such as ``docker run --cpus 2``: threads beyond it would be stopped for
    most of each period. Where groups are nested, the tightest limit counts.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return _NO_QUOTA
    quota = float(_NO_QUOTA)
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # A container sees its own group as the root, or under the path that the host knows.
        folder = base / path.lstrip("/")
        for each in (folder, *folder.parents):
            quota = min(quota, _quota_of(each))
            if each == base:
                break
    return max(1, math.ceil(quota))


def _quota_of(group: Path) -> float:
    """Cores that one control group grants: ``cpu.max`` of version 2, two files of version 1."""
    try:
        limit, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):  # none here, or empty
        try:
            limit, period = (
                (group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        except OSError:
            return math.inf
    return math.inf if limit in ("max", "-1") else int(limit) / int(period)
