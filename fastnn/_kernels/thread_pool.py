"""The thread pool of the compiled CPU engines: one kernel in several threads at once.

The workers are Python threads that drop the GIL in the kernel and stay idle between chunks. OpenMP
would bring a run-time library of its own into every process, one more beside those of PyTorch and
scikit-learn, and GNU's hangs in a forked child.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from operator import call
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn._kernels.core_sharing import on_core
from fastnn._kernels.scipy_blas import THREAD_NAME

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


class Run(NamedTuple):
    """A kernel that has run."""

    results: list[int]  # by rank
    seconds: float
    cpu_seconds: float  # of all threads together


def run_in_threads(
    n: int, run: Callable[..., int], arguments: tuple, calls_blas: bool, core: int | None = None
) -> Run:
    """``run(rank, n, *arguments)`` for ranks 0 … n − 1 at once, rank 0 in the calling thread.

    With ``core`` all run on that one.
    """
    if n == 1 and not calls_blas:
        return Run([run(0, 1, *arguments)], 0.0, 0.0)  # nobody asks for its time
    with (
        _single_threaded_blas() if calls_blas else contextlib.nullcontext(),
        _pool_lock if n > 1 else contextlib.nullcontext(),
        on_core(core),
    ):
        _ensure_workers(n - 1)
        done: SimpleQueue = SimpleQueue()
        starts: list[Callable[[], Any]] = [
            partial(_tasks.put, (done, partial(_timed, core, run, rank, n, *arguments)))
            for rank in range(1, n)
        ]
        started, cpu_started = time.perf_counter(), time.thread_time()
        # Ranks wait for each other, so all must start: within one call of C no interrupt can come
        # between the start of the first and of the last.
        *_, own = map(call, [*starts, partial(run, 0, n, *arguments)])
        cpu_seconds = time.thread_time() - cpu_started
        others = [_result_of(done) for _ in starts]
        seconds = time.perf_counter() - started
    cpu_seconds += sum(each for _, each in others)
    return Run([own, *(result for result, _ in others)], seconds, cpu_seconds)


def _timed(core: int | None, run: Callable[..., int], *arguments: Any) -> tuple[int, float]:
    """What a worker thread runs: the result, and the seconds that it had a core."""
    with on_core(core):
        started = time.thread_time()
        result = run(*arguments)
        return result, time.thread_time() - started


# Ranks wait for each other at barriers, so all of a chunk must be running: two chunks that shared
# the workers would deadlock.
_pool_lock = threading.Lock()
_tasks: SimpleQueue = SimpleQueue()
_n_workers = 0


def _ensure_workers(n: int) -> None:
    """Start workers until there are n. A thread that cannot start raises here, before any waits."""
    global _n_workers
    while _n_workers < n:
        _start_thread(_tasks, THREAD_NAME)
        _n_workers += 1


def _start_thread(tasks: SimpleQueue, name: str) -> None:
    threading.Thread(target=_worker_loop, args=(tasks,), name=name, daemon=True).start()


def _worker_loop(tasks: SimpleQueue) -> None:
    while True:
        done, task = tasks.get()
        try:
            done.put((task(), None))
        except Exception as error:  # re-raised in the thread that waits for it
            done.put((None, error))
        del done, task  # or their arrays would live until the next task


def _result_of(done: SimpleQueue) -> Any:
    result, error = done.get()
    if error is not None:
        raise error
    return result


_setter_tasks: SimpleQueue = SimpleQueue()
_setter_lock = threading.Lock()
_setter_runs = False
_blas_users: set[object] = set()  # chunks that run, known to the setter alone
_blas_limits: Any = None  # what threadpoolctl restores the setting from


def _start_anew() -> None:
    """Start afresh in a forked child: the threads that hold these locks are in the parent alone."""
    global _pool_lock, _tasks, _n_workers
    global _setter_tasks, _setter_lock, _setter_runs, _blas_users, _blas_limits
    if _blas_limits is not None:
        _blas_limits.restore_original_limits()
    _pool_lock, _tasks, _n_workers = threading.Lock(), SimpleQueue(), 0
    _setter_tasks, _setter_lock, _setter_runs = SimpleQueue(), threading.Lock(), False
    _blas_users, _blas_limits = set(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@contextlib.contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Keep BLAS from starting threads of its own while a chunk runs.

    The setting found is restored after the last chunk. Ctrl-C may come at any moment: what changes
    is changed by another thread, which no signal interrupts, and giving back what was never taken
    does nothing.
    """
    chunk = object()
    try:
        _in_setter(partial(_limit_blas, chunk))
        yield
    finally:
        _in_setter(partial(_restore_blas, chunk))


def _limit_blas(chunk: object) -> None:
    global _blas_limits
    if not _blas_users:
        _blas_limits = _blas_libraries().limit(limits=1, user_api="blas")
    _blas_users.add(chunk)


def _restore_blas(chunk: object) -> None:
    global _blas_limits
    if chunk not in _blas_users:
        return
    _blas_users.remove(chunk)
    if not _blas_users:
        _blas_limits.restore_original_limits()
        _blas_limits = None


def _in_setter(task: Callable[[], Any]) -> None:
    """Run a task in the thread that sets BLAS, after those before it.

    Once the main thread has set OpenBLAS, it ignores what other threads set.
    """
    global _setter_runs
    with _setter_lock:
        if not _setter_runs:
            _start_thread(_setter_tasks, f"{THREAD_NAME}-blas")
            _setter_runs = True
    done: SimpleQueue = SimpleQueue()
    _setter_tasks.put((done, task))
    _result_of(done)


@cache
def _blas_libraries() -> "ThreadpoolController":
    """The BLAS libraries loaded; an engine that calls SciPy's has loaded it by now."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
