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
from concurrent.futures import ThreadPoolExecutor
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
        threading.Thread(target=_worker_loop, args=(_tasks,), name=THREAD_NAME, daemon=True).start()
        _n_workers += 1


def _worker_loop(tasks: SimpleQueue) -> None:
    while True:
        done, task = tasks.get()
        try:
            done.put((task(), None))
        except Exception as error:  # re-raised in the thread that waits for it
            done.put((None, error))
        del done, task  # or their arrays would live until the next task


def _result_of(done: SimpleQueue) -> tuple[int, float]:
    result, error = done.get()
    if error is not None:
        raise error
    return result


_blas_lock = threading.Lock()
_blas_users = 0
_blas_limits: Any = None  # what threadpoolctl restores the setting from


def _start_anew() -> None:
    """Start afresh in a forked child: the threads that hold these locks are in the parent alone."""
    global _pool_lock, _tasks, _n_workers, _blas_lock, _blas_users, _blas_limits
    if _blas_limits is not None:
        _blas_limits.restore_original_limits()
    _pool_lock, _tasks, _n_workers = threading.Lock(), SimpleQueue(), 0
    _blas_lock, _blas_users, _blas_limits = threading.Lock(), 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


@contextlib.contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """Keep BLAS from starting threads of its own while a chunk runs.

    The setting found is restored after the last chunk.
    """
    global _blas_users, _blas_limits
    with _blas_lock:
        if _blas_users == 0:
            _blas_limits = (
                _setter(os.getpid())
                .submit(_blas_libraries().limit, limits=1, user_api="blas")
                .result()
            )
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _setter(os.getpid()).submit(_blas_limits.restore_original_limits).result()
                _blas_limits = None


@cache
def _setter(process: int) -> ThreadPoolExecutor:
    """The thread that sets BLAS.

    Once the main thread has set OpenBLAS, it ignores what other threads set.
    """
    return ThreadPoolExecutor(1, thread_name_prefix=f"{THREAD_NAME}-blas")


@cache
def _blas_libraries() -> "ThreadpoolController":
    """The BLAS libraries loaded; an engine that calls SciPy's has loaded it by now."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
