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
from fastnn._kernels.numba_cpu.compile import specialised
from fastnn._kernels.numba_cpu.measure import STRETCH
from fastnn._kernels.numba_cpu.tile import NEEDS_BLAS
from fastnn._kernels.threads import num_threads

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

_PREDICT_ROWS = 96  # a thread predicts at a time: a block of X and its activations that stay in cache, whole tiles high
# Multiplications in a step below which one thread is faster than two that meet; measured in benchmarks/README.md.
_OPERATIONS_PER_THREAD = 1.25e6


def _read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view: one type for the compiler, whatever the user passed."""
    view = np.asarray(array).view()
    view.setflags(write=False)
    return view


_NO_LABELS = _read_only(np.zeros(0, np.int64))
_NO_RULE = np.zeros(1, opcodes.RULE)
_NO_RULE["code"] = opcodes.NO_UPDATE
_NO_RATES = _read_only(np.zeros(0))


class NumbaEngine:
    """The Numba engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        self.program = program
        self._gradient = program.new_vector()
        self._work = self._d_work = self._parts = self._no_values = np.empty(0, program.dtype)
        self._no_weights, self._no_targets = _read_only(self._no_values), _read_only(self._no_values[:, None])
        self._ops, self._loss = _records(program.ops), _records(program.loss)
        self._predicting: tuple | None = None  # what predictions were prepared for; their arguments; the kernel
        self._zeros = np.zeros(int(program.ops["n_out"].max()), program.dtype)

    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        log, taken = self._differentiate(state, samples, chunk, training=True)
        state.step += taken
        state.optimizer_step += taken
        return log

    def gradients(self, state: State, samples: Samples, training: bool, measure: bool = False) -> tuple[StepLog, np.ndarray]:
        n = len(samples)
        whole = Chunk(np.arange(n), np.array([0, n]), np.zeros(1), _NO_RULE, n, every=1 if measure else 0)
        log, _ = self._differentiate(state, samples, whole, training)
        return log, self._gradient.copy()

    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        n = len(X)
        threads = self._threads(n, n * self.program.n_parameters)
        capacity = self._reserve(threads * min(n, _PREDICT_ROWS), backward=False)
        key = threads, capacity, id(state.theta), id(state.buffers), id(self._work)  # of arrays that the arguments keep alive
        if self._predicting is None or self._predicting[0] != key:
            nothing = Samples(self._no_targets), Chunk(_NO_LABELS, _NO_LABELS, _NO_RATES, _NO_RULE, 0), np.zeros((3, 0)), 0
            # The counter of the barrier is never used: rows are predicted without a meeting.
            arguments = np.zeros(1, np.int64), *self._arguments(threads, capacity, state, *nothing, False, False)
            example = 0, threads, *arguments, _read_only(X), True, self._no_values[:, None]
            self._predicting = key, arguments, specialised(steps.run, example)
        predictions = np.empty((n, self.program.n_outputs), self.program.dtype)
        _, arguments, run = self._predicting
        poisoned = _run_threads(threads, (*arguments, _read_only(X), bool(linked), predictions), run)
        return predictions, not any(poisoned)

    def _differentiate(self, state: State, samples: Samples, chunk: Chunk, training: bool) -> tuple[StepLog, int]:
        """Run a chunk with its way back; returns its log and the number of updates made."""
        threads = self._threads(chunk.batch_size, 3 * chunk.batch_size * self.program.n_parameters)
        log, recorded = np.zeros((3, len(chunk.rates))), chunk.recorded(state.step)
        capacity = self._reserve(chunk.batch_size, backward=True)
        arguments = self._arguments(threads, capacity, state, samples, chunk, log, len(recorded), training, True)
        rest = _read_only(samples.X), False, self._no_values[:, None]
        written, *_ = _run_threads(threads, (np.zeros(1, np.int64), *arguments, *rest))
        losses, weight_sums, hits = log[:, :written]
        finite = bool(np.isfinite(losses[-1]))
        taken = written if finite else written - 1
        statistics = arguments[-1][: np.count_nonzero(recorded < taken)].sum(axis=1)
        return StepLog(losses, weight_sums, hits, statistics, finite), taken

    def _arguments(self, threads, capacity, state, samples, chunk, log, records, training, backward) -> tuple:
        """The arguments of the kernel from ``ops`` to ``statistics``. Predictions keep them: making them takes longer than a small one."""
        program = self.program
        cuts = backward and threads > 1 and self._gains_by_features(chunk.batch_size, threads)
        if cuts and len(self._parts) < threads * capacity * program.ops[0]["n_out"]:
            self._parts = aligned_zeros(threads * capacity * int(program.ops[0]["n_out"]), program.dtype)
        return (
            self._ops,
            self._loss,
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
            self._parts if cuts else self._no_values,
            np.empty(threads * (program.n_columns + STRETCH) if records else 0, program.dtype),
            np.zeros((threads, 8)),  # a cache line each
            capacity,
            program.output,
            training,
            backward,
            _NO_LABELS if samples.labels is None else _read_only(samples.labels),
            self._no_targets if samples.values is None else _read_only(samples.values),
            self._no_weights if samples.weights is None else _read_only(samples.weights),
            _read_only(chunk.order),
            _read_only(chunk.bounds),
            _read_only(chunk.rates),
            np.uint64(state.seed),
            state.step,
            state.optimizer_step,
            *log,
            chunk.every,
            np.zeros((max(records, 1), threads, len(program.ops), opcodes.N_STATISTICS)),
        )

    def _reserve(self, rows: int, backward: bool) -> int:
        """Make the workspace large enough for mini-batches of ``rows``; returns its capacity, which puts every value on a cache line."""
        capacity = -(-rows // 16) * 16
        needed = capacity * self.program.n_columns
        if len(self._work) < needed:
            self._work = aligned_zeros(needed, self.program.dtype)
        if backward and len(self._d_work) < needed:
            self._d_work = aligned_zeros(needed, self.program.dtype)
        return capacity

    def _gains_by_features(self, rows: int, threads: int) -> bool:
        """Whether threads share the first product by features of X: it must be all that reads X, and its sums less than what would move.

        By rows, a thread fetches the weight and the columns of X that it does not own from the others' caches; by features, sums of z.
        """
        first, others = self.program.ops[0], self.program.ops[1:]
        alone = first["code"] == opcodes.DENSE and not any((others["x"] == opcodes.INPUT) | (others["skip"] == opcodes.INPUT))
        n_in, n_out = int(first["n_in"]), int(first["n_out"])
        return bool(alone and first["max_norm"] == 0 and rows * n_out < n_in * (n_out + rows / threads))

    def _threads(self, rows: int, operations: float) -> int:
        """Threads worth using: none without rows to itself, none whose share of the work a meeting would cost."""
        worth = min(rows, int(operations / _OPERATIONS_PER_THREAD))
        return 1 if worth <= 1 or numba.config.DISABLE_JIT else min(worth, num_threads())


def _records(array: np.ndarray) -> "np.ndarray | list[SimpleNamespace]":
    """Records whose fields are attributes: in compiled code they are; without the JIT NumPy's are not."""
    if not numba.config.DISABLE_JIT:
        return array
    return [SimpleNamespace(**dict(zip(array.dtype.names, record.item(), strict=True))) for record in array]


# --- threads ------------------------------------------------------------------------------------------------------------------------


def _run_threads(n: int, arguments: tuple, run: Callable = steps.run) -> list[int]:
    """The kernel as ranks 0 … n − 1 side by side, rank 0 in the calling thread; returns what each returns."""
    if n == 1 and not NEEDS_BLAS:
        return [run(0, 1, *arguments)]
    with _single_threaded_blas() if NEEDS_BLAS else contextlib.nullcontext(), _team if n > 1 else contextlib.nullcontext():
        others = [_pool(os.getpid(), n - 1).submit(run, rank, n, *arguments) for rank in range(1, n)]
        return [run(0, n, *arguments), *(other.result() for other in others)]


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
