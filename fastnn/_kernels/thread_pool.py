"""The thread pool of the compiled CPU engines: one kernel in several threads at once.

The workers are Python threads that drop the GIL in the kernel and stay idle between chunks. OpenMP
would bring a run-time library of its own into every process, one more beside those of PyTorch and
scikit-learn, and GNU's hangs in a forked child.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from operator import call
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def run_in_threads(
    n: int, run: Callable[..., int], arguments: tuple, calls_blas: bool
) -> list[int]:
    """``run(rank, n, *arguments)`` for ranks 0 … n − 1 at once, rank 0 in the calling thread.

    Returns what each returns.
    """
    if n == 1 and not calls_blas:
        return [run(0, 1, *arguments)]
    with (
        _single_threaded_blas() if calls_blas else contextlib.nullcontext(),
        _pool_lock if n > 1 else contextlib.nullcontext(),
    ):
        _ensure_workers(n - 1)
        done: SimpleQueue = SimpleQueue()
        starts: list[Callable[[], Any]] = [
            partial(_tasks.put, (done, partial(run, rank, n, *arguments))) for rank in range(1, n)
        ]
        # Ranks wait for each other, so all must start: within one call of C no interrupt can come
        # between the start of the first and of the last.
        *_, own = map(call, [*starts, partial(run, 0, n, *arguments)])
        return [own, *(_result_of(done) for _ in starts)]


# Ranks wait for each other at barriers, so all of a chunk must be running: two chunks that shared
# the workers would deadlock.
_pool_lock = threading.Lock()
_tasks: SimpleQueue = SimpleQueue()
_n_workers = 0


def _ensure_workers(n: int) -> None:
    """Start workers until there are n. A thread that cannot start raises here, before any waits."""
    global _n_workers
    while _n_workers < n:
        threading.Thread(target=_worker_loop, args=(_tasks,), name="fastnn", daemon=True).start()
        _n_workers += 1


def _worker_loop(tasks: SimpleQueue) -> None:
    while True:
        done, task = tasks.get()
        try:
            done.put((task(), None))
        except Exception as error:  # re-raised in the thread that waits for it
            done.put((None, error))
        del done, task  # or their arrays would live until the next task


def _result_of(done: SimpleQueue) -> int:
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
    return ThreadPoolExecutor(1, thread_name_prefix="fastnn-blas")


@cache
def _blas_libraries() -> "ThreadpoolController":
    """The BLAS libraries loaded; an engine that calls SciPy's has loaded it by now."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
