"""The Numba engine: buffers, threads, and the calls into `steps`."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numba
import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Program, Samples, State, StepLog, aligned_zeros
from fastnn._kernels.numba_cpu import steps
from fastnn._kernels.numba_cpu.tile import NEEDS_BLAS
from fastnn._kernels.threads import num_threads

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_PREDICT_ROWS = 256  # rows a thread predicts at a time: a block of activations that stays in cache
# Multiplications in a step below which one thread is faster than two that meet; measured in benchmarks/README.md.
_OPERATIONS_PER_THREAD = 2e5

_NO_LABELS = np.zeros(0, np.int64)
_NO_RULE = np.zeros(1, opcodes.RULE)
_NO_RULE["code"] = opcodes.NO_UPDATE


class NumbaEngine:
    """The Numba engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        self.program = program
        self._gradient = program.new_vector()
        self._work = self._d_work = self._no_values = np.empty(0, program.dtype)
        self._zeros = np.zeros(int(program.ops["n_out"].max()), program.dtype)

    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        log, taken = self._differentiate(state, samples, chunk, training=True)
        state.step += taken
        state.optimizer_step += taken
        return log

    def gradients(self, state: State, samples: Samples, training: bool) -> tuple[StepLog, np.ndarray]:
        n = len(samples)
        whole = Chunk(np.arange(n), np.array([0, n]), np.zeros(1), _NO_RULE, n)
        log, _ = self._differentiate(state, samples, whole, training)
        return log, self._gradient.copy()

    def forward(self, state: State, X: np.ndarray) -> np.ndarray:
        n = len(X)
        threads = self._threads(n, n * self.program.n_parameters)
        rows = min(n, threads * _PREDICT_ROWS)
        raw = np.empty((n, self.program.n_outputs), self.program.dtype)
        blocks = np.append(np.arange(0, n, rows), n)
        chunk = Chunk(np.arange(n), blocks, np.zeros(len(blocks) - 1), _NO_RULE, rows)
        self._call(threads, state, Samples(X), chunk, False, False, np.zeros((3, 0)), raw.reshape(-1))
        return raw

    def _differentiate(self, state: State, samples: Samples, chunk: Chunk, training: bool) -> tuple[StepLog, int]:
        """Run a chunk with its way back; returns its log and the number of updates made."""
        threads = self._threads(chunk.batch_size, 3 * chunk.batch_size * self.program.n_parameters)
        log = np.zeros((3, len(chunk.rates)))
        written = self._call(threads, state, samples, chunk, training, True, log, self._no_values)
        losses, weight_sums, hits = log[:, :written]
        finite = bool(np.isfinite(losses[-1]))
        return StepLog(losses, weight_sums, hits, finite), written if finite else written - 1

    def _call(self, threads, state, samples, chunk, training, backward, log, raw) -> int:
        """One call of the kernel in each thread."""
        program = self.program
        capacity = self._reserve(chunk.batch_size, backward)
        arguments = (
            np.zeros(1, np.int64),
            _records(program.ops),
            _records(program.loss),
            _records(chunk.rule),
            state.theta,
            self._gradient,
            state.slots.reshape(-1),
            state.buffers,
            state.products,
            self._work,
            self._d_work,
            self._zeros,
            np.empty(threads * program.n_scratch, program.dtype),
            np.zeros((threads, 8)),  # a cache line each
            capacity,
            program.output,
            training,
            backward,
            _read_only(samples.X),
            _read_only(_NO_LABELS if samples.labels is None else samples.labels),
            _read_only(self._no_values[:, None] if samples.values is None else samples.values),
            _read_only(self._no_values if samples.weights is None else samples.weights),
            _read_only(chunk.order),
            _read_only(chunk.bounds),
            _read_only(chunk.rates),
            np.uint64(state.seed),
            state.step,
            state.optimizer_step,
            *log,
            raw,
        )
        return _run_threads(threads, lambda rank: steps.run(rank, threads, *arguments))

    def _reserve(self, rows: int, backward: bool) -> int:
        """Make the workspace large enough for mini-batches of ``rows``; returns its capacity, which puts every value on a cache line."""
        capacity = -(-rows // 16) * 16
        needed = capacity * self.program.n_columns
        if len(self._work) < needed:
            self._work = aligned_zeros(needed, self.program.dtype)
        if backward and len(self._d_work) < needed:
            self._d_work = aligned_zeros(needed, self.program.dtype)
        return capacity

    def _threads(self, rows: int, operations: float) -> int:
        """Threads worth using: none without rows to itself, none whose share of the work a meeting would cost."""
        if numba.config.DISABLE_JIT:
            return 1
        return max(1, min(num_threads(), rows, int(operations / _OPERATIONS_PER_THREAD)))


def _records(array: np.ndarray) -> "np.ndarray | list[SimpleNamespace]":
    """Records whose fields are attributes: in compiled code they are; without the JIT NumPy's are not."""
    if not numba.config.DISABLE_JIT:
        return array
    return [SimpleNamespace(**dict(zip(array.dtype.names, record.item(), strict=True))) for record in array]


def _read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view: one type for the compiler, whatever the user passed."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


# --- threads ------------------------------------------------------------------------------------------------------------------------


def _run_threads(n: int, run: Callable[[int], int]) -> int:
    """``run(rank)`` for ranks 0 … n − 1 side by side, rank 0 in the calling thread; returns what rank 0 returns."""
    with _single_threaded_blas() if NEEDS_BLAS else contextlib.nullcontext():
        if n == 1:
            return run(0)
        with _team:
            others = [_pool(os.getpid(), n - 1).submit(run, rank) for rank in range(1, n)]
            result = run(0)
            for other in others:
                other.result()
        return result


# Ranks wait for each other, so all of a chunk must be running: two chunks that share the helpers would wait for ever.
_team = threading.Lock()


@cache
def _pool(process: int, n: int) -> ThreadPoolExecutor:
    """Idle helpers, made anew in a forked child."""
    return ThreadPoolExecutor(n, thread_name_prefix="fastnn")


_blas_lock = threading.Lock()
_blas_users = 0
_blas_limits = None


@contextlib.contextmanager
def _single_threaded_blas() -> Iterator[None]:
    """While a chunk runs BLAS must not start threads of its own below ours; the setting found is put back after the last chunk."""
    global _blas_users, _blas_limits
    with _blas_lock:
        if _blas_users == 0:
            _blas_limits = _blas_libraries().limit(limits=1, user_api="blas")
        _blas_users += 1
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _blas_limits.restore_original_limits()


@cache
def _blas_libraries() -> "ThreadpoolController":
    """The BLAS libraries loaded; SciPy's, which `blas` has loaded by now, among them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
