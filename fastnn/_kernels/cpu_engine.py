"""What the compiled CPU engines share: buffers, threads, and the arguments of the kernel that does
the work.

An engine is this class with a kernel. All kernels take the same arguments, which
`numba_cpu.steps.run` explains.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Program, Samples, State, StepLog, aligned_zeros
from fastnn._kernels.opcodes import STRETCH
from fastnn._kernels.thread_pool import run_side_by_side
from fastnn._kernels.threads import num_threads

# a thread predicts at a time: a block of X and its activations that stay in cache, whole tiles high
_PREDICT_ROWS = 96
# Multiplications that starting threads for one pass is worth, and those that one more thread costs
# all in meetings of a step: measured in benchmarks/README.md.
_OPERATIONS_PER_THREAD, _OPERATIONS_PER_MEETING = 1.25e6, 0.11e6


_NO_LABELS, _NO_RATES = np.zeros(0, np.int64), np.zeros(0)
_NO_RULE = np.zeros(1, opcodes.RULE)
_NO_RULE["code"] = opcodes.NO_UPDATE


def _one_at_a_time(method: Callable) -> Callable:
    """A method that uses the workspace. Where another thread is at it this one takes an engine of
    its own, for instance to predict.
    """

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        if not self._free.acquire(blocking=False):
            return getattr(type(self)(self.program), method.__name__)(*args, **kwargs)
        try:
            return method(self, *args, **kwargs)
        finally:
            self._free.release()

    return guarded


class CpuEngine:
    """An engine around ``run``, a kernel that drops the GIL; see `fastnn._kernels.contract.Engine`
    for what each method does.

    Parameters
    ----------
    program : Program
    run : callable
        The kernel for the program's dtype.
    calls_blas : bool
        Whether the kernel may call BLAS, which must then not start threads of its own.
    parallel : bool
        Whether the kernel can run in several threads.
    """

    def __init__(
        self, program: Program, run: Callable[..., int], calls_blas: bool, parallel: bool = True
    ):
        self.program = program
        self._run, self._calls_blas, self._parallel = run, calls_blas, parallel
        self._free = threading.Lock()  # held while the workspace is in use
        self._gradient = program.new_vector()
        self._work = self._d_work = self._parts = self._no_values = np.empty(0, program.dtype)
        self._no_targets = self._no_values[:, None]
        self._ops, self._loss = self._records(program.ops), self._records(program.loss)
        # what predictions were prepared for; their arguments; the kernel
        self._predicting: tuple | None = None
        self._zeros = np.zeros(int(program.ops["n_out"].max()), program.dtype)

    def __reduce__(self) -> tuple:
        """Copied and pickled as what it is made for: it keeps nothing but workspace."""
        return type(self), (self.program,)

    @_one_at_a_time
    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        # W/n + c n, the work of n threads and the cost of their meetings, is least where n =
        # √(W/c).
        work = 3 * chunk.batch_size * self.program.n_parameters / _OPERATIONS_PER_MEETING
        log, taken = self._differentiate(
            state, samples, chunk, True, self._threads(chunk.batch_size, math.sqrt(work))
        )
        state.step += taken
        state.optimizer_step += taken
        return log

    @_one_at_a_time
    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        n = len(samples)
        whole = Chunk(
            np.arange(n), np.array([0, n]), np.zeros(1), _NO_RULE, n, every=1 if measure else 0
        )
        threads = self._threads(n, 3 * n * self.program.n_parameters / _OPERATIONS_PER_THREAD)
        log, _ = self._differentiate(state, samples, whole, training, threads)
        return log, self._gradient.copy()

    @_one_at_a_time
    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        n = len(X)
        if n == 0:
            return np.empty((0, self.program.n_outputs), self.program.dtype), True
        threads = self._threads(n, n * self.program.n_parameters / _OPERATIONS_PER_THREAD)
        capacity = self._reserve(threads * min(n, _PREDICT_ROWS), backward=False)
        # of arrays that the arguments keep alive
        key = threads, capacity, id(state.theta), id(state.buffers), id(self._work)
        if self._predicting is None or self._predicting[0] != key:
            nothing = (
                Samples(self._no_targets),
                Chunk(_NO_LABELS, _NO_LABELS, _NO_RATES, _NO_RULE, 0),
                np.zeros((3, 0)),
                0,
            )
            # The counter of the barrier is never used: rows are predicted without a meeting.
            arguments = (
                np.zeros(1, np.int64),
                *self._arguments(threads, capacity, state, *nothing, False, False),
            )
            example = 0, threads, *arguments, self._data(X), True, self._no_targets
            self._predicting = key, arguments, self._specialised(example)
        predictions = np.empty((n, self.program.n_outputs), self.program.dtype)
        _, arguments, run = self._predicting
        poisoned = self._side_by_side(
            threads, run, (*arguments, self._data(X), bool(linked), predictions)
        )
        return predictions, not any(poisoned)

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _differentiate(
        self, state: State, samples: Samples, chunk: Chunk, training: bool, threads: int
    ) -> tuple[StepLog, int]:
        """Run a chunk with its way back; returns its log and the number of updates made."""
        log, recorded = np.zeros((3, len(chunk.rates))), chunk.recorded(state.step)
        capacity = self._reserve(chunk.batch_size, backward=True)
        arguments = self._arguments(
            threads, capacity, state, samples, chunk, log, len(recorded), training, True
        )
        rest = self._data(samples.X), False, self._no_targets
        written, *_ = self._side_by_side(
            threads, self._run, (np.zeros(1, np.int64), *arguments, *rest)
        )
        losses, weight_sums, hits = log[:, :written]
        finite = bool(np.isfinite(losses[-1]))
        taken = written if finite else written - 1
        statistics = arguments[-1][: np.count_nonzero(recorded < taken)].sum(axis=1)
        return StepLog(losses, weight_sums, hits, statistics, finite), taken

    def _arguments(
        self, threads, capacity, state, samples, chunk, log, records, training, backward
    ) -> tuple:
        """The arguments of the kernel from ``ops`` to ``statistics``. Predictions keep them: making
        them takes longer than a small one.
        """
        program = self.program
        cuts = backward and threads > 1 and self._gains_by_features(chunk.batch_size, threads)
        if cuts and len(self._parts) < threads * capacity * program.ops[0]["n_out"]:
            self._parts = aligned_zeros(
                threads * capacity * int(program.ops[0]["n_out"]), program.dtype
            )
        return (
            self._ops,
            self._loss,
            self._records(chunk.rule),
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
            self._data(_NO_LABELS if samples.labels is None else samples.labels),
            self._data(self._no_targets if samples.values is None else samples.values),
            self._data(self._no_values if samples.weights is None else samples.weights),
            self._data(chunk.order),
            self._data(chunk.bounds),
            self._data(chunk.rates),
            np.uint64(state.seed),
            state.step,
            state.optimizer_step,
            *log,
            chunk.every,
            np.zeros((max(records, 1), threads, len(program.ops), opcodes.N_STATISTICS)),
        )

    def _reserve(self, rows: int, backward: bool) -> int:
        """Make the workspace large enough for mini-batches of ``rows``; returns its capacity, which
        puts every value on a cache line.
        """
        capacity = -(-rows // 16) * 16
        needed = capacity * self.program.n_columns
        if len(self._work) < needed:
            self._work = aligned_zeros(needed, self.program.dtype)
        if backward and len(self._d_work) < needed:
            self._d_work = aligned_zeros(needed, self.program.dtype)
        return capacity

    def _gains_by_features(self, rows: int, threads: int) -> bool:
        """Whether threads share the first product by features of X: it must be all that reads X,
        and its sums less than what would move.

        By rows, a thread fetches the weight and the columns of X that it does not own from the
        others' caches; by features, sums of z.
        """
        first, others = self.program.ops[0], self.program.ops[1:]
        alone = first["code"] == opcodes.DENSE and not any(
            (others["x"] == opcodes.INPUT) | (others["skip"] == opcodes.INPUT)
        )
        n_in, n_out = int(first["n_in"]), int(first["n_out"])
        return bool(
            alone and first["max_norm"] == 0 and rows * n_out < n_in * (n_out + rows / threads)
        )

    def _threads(self, rows: int, worth: float) -> int:
        """Threads to use where so many are worth it: none without rows to itself."""
        wanted = min(rows, int(worth)) if self._parallel else 1
        # which takes longer to find out than a small network to predict
        return 1 if wanted <= 1 else min(wanted, num_threads())

    def _side_by_side(self, threads: int, run: Callable[..., int], arguments: tuple) -> list[int]:
        return run_side_by_side(threads, run, arguments, self._calls_blas)

    # --- what a kernel may want otherwise ---------------------------------------------------------

    def _records(self, array: np.ndarray) -> Any:
        """An array of records as the kernel takes it."""
        return array

    def _data(self, array: np.ndarray) -> np.ndarray:
        """An array that is only read as the kernel takes it."""
        return array

    def _specialised(self, arguments: tuple) -> Callable[..., int]:
        """The kernel for arguments of just these types, called many times."""
        return self._run
