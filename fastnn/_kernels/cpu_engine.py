"""What the compiled CPU engines share: workspace, threads, and the arguments of their kernels.

An engine is this class with a kernel ``run(rank, n_threads, arguments, X, linked, predictions)``;
`kernel_arguments` lists what ``arguments`` holds.
"""

import contextlib
import functools
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import (
    Chunk,
    Evaluation,
    Program,
    Samples,
    State,
    StepLog,
    aligned_zeros,
)
from fastnn._kernels.core_sharing import CoreSharing
from fastnn._kernels.kernel_arguments import KernelArguments
from fastnn._kernels.thread_pool import Run, run_in_threads
from fastnn._kernels.threads import num_threads

Kernel = Callable[..., int]

# Rows that a thread predicts at a time: a block of X and its activations stay in cache, and the
# block is whole tiles high.
_PREDICT_ROWS = 96
# Rows of shared products that a thread carries through an ensemble at a time, in training too.
_ENSEMBLE_ROWS = 128
# Multiplications that starting threads for one pass is worth, and those that one more thread costs
# in the barriers of a step: measured in benchmarks/README.md.
_OPERATIONS_PER_THREAD, _OPERATIONS_PER_BARRIER = 1.25e6, 0.11e6

_NO_LABELS, _NO_RATES = np.zeros(0, np.int64), np.zeros(0)
_NO_OPTIMIZER = np.zeros(1, opcodes.OPTIMIZER)
_NO_OPTIMIZER["code"] = opcodes.NO_UPDATE
_NO_CHUNK = Chunk(_NO_LABELS, _NO_LABELS, _NO_RATES, _NO_OPTIMIZER, 0)


@dataclass(frozen=True)
class _Mode:
    """What a run does, and in how many threads."""

    threads: int
    training: bool = False
    backward: bool = False
    evaluates: bool = False


def _one_at_a_time(method: Callable) -> Callable:
    """A method that uses the workspace.

    While another thread uses it, the call runs on an engine of its own, with its own workspace: a
    callback may predict while a training runs.
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
    """An engine around a kernel that drops the GIL; `contract.Engine` describes its methods.

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

    def __init__(self, program: Program, run: Kernel, calls_blas: bool, parallel: bool = True):
        self.program = program
        self._run, self._calls_blas, self._parallel = run, calls_blas, parallel
        self._free = threading.Lock()  # held while the workspace is in use
        self._gradient = program.new_vector()
        self._work = self._d_work = self._partials = self._no_values = np.empty(0, program.dtype)
        self._no_targets = self._no_values[:, None]
        self._ops, self._loss = self._records(program.ops), self._records(program.loss)
        self._multiplications = program.n_parameters * program.members  # of a row, about
        of_ensemble = max(1, _ENSEMBLE_ROWS // program.members)
        self._predict_rows = of_ensemble if program.members > 1 else _PREDICT_ROWS
        has_batch_norm = (program.ops["code"] == opcodes.BATCH_NORM).any()  # which needs all rows
        self._block_rows = of_ensemble if program.members > 1 and not has_batch_norm else 0
        # Key of the last prediction, its kernel arguments, the kernel for arguments of these types.
        self._prepared: tuple[tuple, KernelArguments, Kernel] | None = None
        self._core_sharing = CoreSharing()
        self._zeros = np.zeros(int(program.ops["n_out"].max()), program.dtype)

    def __reduce__(self) -> tuple:
        """Copied and pickled as its program: an engine holds nothing else but workspace."""
        return type(self), (self.program,)

    @_one_at_a_time
    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        # W/n + c n, the work of n threads and the cost of their barriers, is least at n = √(W/c).
        work = 3 * chunk.batch_size * self._multiplications / _OPERATIONS_PER_BARRIER
        threads = self._threads(chunk.batch_size, math.sqrt(work))
        log, taken = self._differentiate(state, samples, chunk, _Mode(threads, True, True))
        state.step += taken
        state.optimizer_step += taken
        return log

    @_one_at_a_time
    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        n, every = len(samples), 1 if measure else 0
        whole = Chunk(np.arange(n), np.array([0, n]), np.zeros(1), _NO_OPTIMIZER, n, every)
        threads = self._threads(n, 3 * n * self._multiplications / _OPERATIONS_PER_THREAD)
        log, _ = self._differentiate(state, samples, whole, _Mode(threads, training, True))
        # The kernel stops at a loss that is not finite.
        return log, self._gradient.copy() if log.finite else np.full_like(self._gradient, np.nan)

    @_one_at_a_time
    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        width = self.program.n_outputs * (1 if linked else self.program.members)
        predictions = np.empty((len(X), width), self.program.dtype)
        if len(X) == 0:
            return predictions, True
        threads = self._prediction_threads(len(X))
        capacity = self._reserve(threads * min(len(X), self._predict_rows), backward=False)
        # Ids of arrays that the arguments keep alive. Making arguments takes longer than a small
        # prediction.
        key = threads, capacity, id(state.theta), id(state.buffers), id(self._work)
        if self._prepared is None or self._prepared[0] != key:
            samples = Samples(self._no_targets)
            arguments = self._arguments(_Mode(threads), capacity, state, samples, _NO_CHUNK)
            example = 0, threads, arguments, self._data(X), True, self._no_targets
            self._prepared = key, arguments, self._specialised(example)
        _, arguments, run = self._prepared
        call = arguments, self._data(X), bool(linked), predictions
        nonfinite = self._in_threads(threads, run, call).results
        return predictions, not any(nonfinite)

    @_one_at_a_time
    def evaluate(self, state: State, samples: Samples) -> Evaluation:
        n = len(samples)
        outputs = np.empty((n, self.program.n_outputs), self.program.dtype)
        mode = _Mode(self._prediction_threads(n), evaluates=True)
        capacity = self._reserve(mode.threads * min(n, self._predict_rows), backward=True)
        bounds = np.array([0, n])
        chunk = Chunk(np.arange(n), bounds, _NO_RATES, _NO_OPTIMIZER, n)
        arguments = self._arguments(mode, capacity, state, samples, chunk)
        # Of an ensemble metrics want the mean of the members' predictions.
        call = arguments, self._data(samples.X), self.program.members > 1, outputs
        self._in_threads(mode.threads, self._run, call)
        loss, correct_weight = arguments.thread_sums[:, :2].sum(axis=0)
        weight = n if samples.weights is None else samples.weights.sum(dtype=np.float64)
        return Evaluation(outputs, float(loss), float(weight), float(correct_weight))

    def is_finite(self, X: Any) -> bool:
        return bool(np.isfinite(X).all())

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _differentiate(
        self, state: State, samples: Samples, chunk: Chunk, mode: _Mode
    ) -> tuple[StepLog, int]:
        """Run a chunk forward and backward; returns its log and the number of updates made."""
        recorded = chunk.recorded(state.step)
        capacity = self._reserve(chunk.batch_size, backward=True)
        arguments = self._arguments(mode, capacity, state, samples, chunk, len(recorded))
        call = arguments, self._data(samples.X), False, self._no_targets
        core = self._core_sharing.core()
        done = self._in_threads(mode.threads, self._run, call, core)
        if mode.threads > 1:
            times = done.seconds, done.cpu_seconds
            self._core_sharing.record(len(chunk.order), mode.threads, *times)
        written = done.results[0]
        losses = arguments.losses[:written]
        finite = bool(np.isfinite(losses[-1]))
        taken = written if finite else written - 1
        statistics = arguments.statistics[: np.count_nonzero(recorded < taken)].sum(axis=1)
        sums = arguments.weight_sums[:written], arguments.correct_weights[:written]
        return StepLog(losses, *sums, statistics, finite), taken

    def _arguments(
        self,
        mode: _Mode,
        capacity: int,
        state: State,
        samples: Samples,
        chunk: Chunk,
        records: int = 0,
    ) -> KernelArguments:
        """The arguments of the kernel, with room for the statistics of so many recorded steps."""
        program, threads, steps = self.program, mode.threads, len(chunk.rates)
        splits_k = mode.backward and threads > 1 and self._gains_by_split_k(chunk, threads)
        values = self._no_targets if samples.values is None else samples.values
        stats_columns = program.n_columns + opcodes.SUM_BLOCK if records else 0
        return KernelArguments(
            barrier=np.array([0, 0, self._core_sharing.spins]),
            ops=self._ops,
            loss=self._loss,
            optimizer=self._records(chunk.optimizer),
            theta=state.theta,
            gradient=self._gradient,
            slots=state.slots,
            buffers=state.buffers,
            mu_product=state.mu_product,
            work=self._work,
            d_work=self._d_work,
            zeros=self._zeros,
            scratch=np.empty((threads, program.n_scratch), program.dtype),
            split_k_partials=self._split_k_partials(threads, capacity if splits_k else 0),
            stats_scratch=np.empty((threads, stats_columns), program.dtype),
            thread_sums=np.zeros((threads, 8)),
            capacity=capacity,
            block_rows=self._block_rows,
            output=program.output,
            training=mode.training,
            backward=mode.backward,
            updates=int(chunk.optimizer["code"][0]) != opcodes.NO_UPDATE,
            evaluates=mode.evaluates,
            labels=self._data(_NO_LABELS if samples.labels is None else samples.labels),
            targets=self._data(values),
            weights=self._data(self._no_values if samples.weights is None else samples.weights),
            order=self._data(chunk.order),
            bounds=self._data(chunk.bounds),
            rates=self._data(chunk.rates),
            decays=self._data(chunk.weight_decays()),
            dropout=self._data(program.dropout_rates(state.optimizer_step, steps)),
            seed=np.uint64(state.seed),
            step=state.step,
            optimizer_step=state.optimizer_step,
            losses=np.zeros(steps),
            weight_sums=np.zeros(steps),
            correct_weights=np.zeros(steps),
            every=chunk.every,
            statistics=np.zeros((max(records, 1), threads, len(program.ops), opcodes.N_STATISTICS)),
        )

    def _reserve(self, rows: int, backward: bool) -> int:
        """Make the workspace large enough for mini-batches of ``rows``.

        Returns its capacity in rows, a multiple of 16: every value begins on a cache line.
        """
        capacity = -(-rows // 16) * 16
        needed = capacity * self.program.n_columns
        if len(self._work) < needed:
            self._work = aligned_zeros(needed, self.program.dtype)
        if backward and len(self._d_work) < needed:
            self._d_work = aligned_zeros(needed, self.program.dtype)
        return capacity

    def _split_k_partials(self, threads: int, capacity: int) -> np.ndarray:
        """Room for each thread's partial sums of the first GEMM, (threads, capacity · n_out)."""
        columns = capacity * int(self.program.ops[0]["n_out"])
        if len(self._partials) < threads * columns:
            self._partials = aligned_zeros(threads * columns, self.program.dtype)
        return self._partials[: threads * columns].reshape(threads, columns)

    def _gains_by_split_k(self, chunk: Chunk, threads: int) -> bool:
        """Whether threads share the first GEMM by features of X instead of rows: split-K.

        It must be all that reads X. By rows, a thread fetches the weight and the columns of X that
        it does not own from the others' caches; by features, partial sums of z. The smaller
        transfer wins.
        """
        first, others = self.program.ops[0], self.program.ops[1:]
        read_again = (others["x"] == opcodes.INPUT) | (others["skip"] == opcodes.INPUT)
        if first["code"] != opcodes.DENSE or read_again.any() or first["max_norm"] != 0:
            return False
        rows, n_in, n_out = chunk.batch_size, int(first["n_in"]), int(first["n_out"])
        return rows * n_out < n_in * (n_out + rows / threads)

    def _prediction_threads(self, n: int) -> int:
        return self._threads(n, n * self._multiplications / _OPERATIONS_PER_THREAD)

    def _threads(self, rows: int, worth: float) -> int:
        """Threads to use where so many are worth it: none without rows to itself."""
        wanted = min(rows, int(worth)) if self._parallel else 1
        # Finding out the number of threads takes longer than a small network takes to predict.
        return 1 if wanted <= 1 else min(wanted, num_threads())

    def _in_threads(
        self, threads: int, run: Kernel, arguments: tuple, core: int | None = None
    ) -> Run:
        return run_in_threads(threads, run, arguments, self._calls_blas, core)

    # --- hooks: how a kernel takes its arguments --------------------------------------------------

    def _records(self, array: np.ndarray) -> Any:
        """An array of records as the kernel takes it."""
        return array

    def _data(self, array: np.ndarray) -> np.ndarray:
        """An array that is only read as the kernel takes it."""
        return array

    def _specialised(self, arguments: tuple) -> Kernel:
        """The kernel for arguments of just these types, called many times."""
        return self._run
