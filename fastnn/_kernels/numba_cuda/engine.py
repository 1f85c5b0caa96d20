"""The host side of the CUDA engine: it fills and reads the buffers of what `plan` launches."""

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Evaluation, Program, Samples, State, StepLog
from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.op_table import dropout_table
from fastnn._kernels.numba_cuda.runtime import cublaslt, sample_transfer
from fastnn._kernels.numba_cuda.runtime.device_state import DeviceState, StateBuffers
from fastnn._kernels.numba_cuda.runtime.launcher import Launcher
from fastnn._kernels.numba_cuda.runtime.plan import Limits, Plan
from fastnn._kernels.numba_cuda.runtime.sample_transfer import ResidentSamples, StreamedSamples
from fastnn._kernels.numba_cuda.runtime.workspace import NO_OPTIMIZER, Workspace
from fastnn._kernels.state import DEVICE_ARRAYS
from fastnn._kernels.step_rates import step_rates

_SECONDS = 1.0  # that a launch of the persistent kernel should last at most
_FIRST_OPERATIONS = 4e9  # of a launch until the speed is known: well under a second on any GPU
# Bytes of the predictions of a pass, and rows that a pass has whatever they take.
_PREDICTION_BYTES, _MIN_PREDICTION_ROWS = 64 << 20, 256
_N_LOSS_SUMS = 3  # of each block of an evaluation: Σ wℓ, Σ w, Σ w of correct samples

_Rows = ResidentSamples | StreamedSamples


def _one_at_a_time(method: Callable) -> Callable:
    """A method that uses the workspace.

    Another thread waits for its turn, because the same GPU does the work.
    """

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        with self._lock:
            return method(self, *args, **kwargs)

    return guarded


class CudaEngine:
    """The CUDA engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        self.program = program
        self._device = open_device()
        self._plan = self._make_plan()
        self._lock = threading.RLock()
        self._store = sample_transfer.SampleStore(self._device)
        self._device_states: list[DeviceState] = []
        self._spare: list[StateBuffers] = []
        # Rows of a launch of the persistent kernel; adapted to the measured speed.
        multiplications = max(program.n_parameters * program.members, 1)
        self._rows_per_launch = max(1, int(_FIRST_OPERATIONS / (6 * multiplications)))
        self._launcher = Launcher(self._device, program)
        self._workspace = Workspace(
            self._device, program, self._plan, forget=self._launcher.forget_graphs
        )

    def __reduce__(self) -> tuple:
        """Copied and pickled as its program: it keeps nothing but workspace."""
        return type(self), (self.program,)

    @_one_at_a_time
    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        self._workspace.reserve(chunk.batch_size, backward=True)
        with self._on_device(state) as device_state:
            source = self._open(sample_transfer.parts_of(samples), chunk.batch_size)
            logs, pieces = [], self._pieces(chunk, source)
            piece = next(pieces)
            prefetched = source.prefetch(piece.order)
            while piece is not None:
                parts, places = source.acquire(prefetched)
                start, mu_products = self._prepare(
                    device_state, parts, replace(piece, order=places)
                )
                started, following = time.perf_counter(), None
                try:
                    start()
                    following = next(pieces, None)
                    if following is not None:  # while the device computes
                        prefetched = source.prefetch(following.order)
                finally:  # also after a Ctrl-C, as the device takes the steps all the same
                    logs.append(self._wait(device_state, piece, mu_products))
                self._adapt_rows_per_launch(len(piece.order), time.perf_counter() - started)
                piece = following if logs[-1].finite else None
        return StepLog(
            np.concatenate([log.losses for log in logs]),
            np.concatenate([log.weights for log in logs]),
            np.concatenate([log.correct_weight for log in logs]),
            np.concatenate([log.statistics for log in logs]),
            logs[-1].finite,
        )

    @_one_at_a_time
    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        n, every = len(samples), 1 if measure else 0
        whole = Chunk(np.arange(n), np.array([0, n]), np.zeros(1), NO_OPTIMIZER, n, every)
        self._workspace.reserve(n, backward=True)
        with self._on_device(state) as device_state:
            source = self._open(sample_transfer.parts_of(samples), n)
            parts, places = source.acquire(source.prefetch(whole.order))
            slots = {control.TRAINING: int(training), control.UPDATES_BUFFERS: 0}
            self._upload_chunk(replace(whole, order=places), state, slots)
            self._launcher.run(
                self._plan.train(NO_OPTIMIZER, n, every),
                self._workspace.arguments({**parts, **device_state.move_to_device().buffers}),
                self._workspace.capacity,
            )
            log, _ = self._read_log(whole, state)
            gradient = self._device.download(self._workspace["gradient"])
            return log, gradient if log.finite else np.full_like(gradient, np.nan)

    @_one_at_a_time
    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        predictions, finite, _ = self._predict(state, {"X": X}, linked)
        return predictions, finite

    @_one_at_a_time
    def evaluate(self, state: State, samples: Samples) -> Evaluation:
        parts = sample_transfer.parts_of(samples)
        # Of an ensemble metrics want the mean of the members' predictions.
        linked = self.program.members > 1
        outputs, _, sums = self._predict(state, parts, linked, evaluates=True)
        loss, weight, correct_weight = map(float, sums)
        return Evaluation(outputs, loss / weight if weight else 0.0, weight, correct_weight)

    @_one_at_a_time
    def is_finite(self, X: Any) -> bool:
        if not isinstance(X, GpuArray):
            return bool(np.isfinite(X).all())
        no_state = {
            name: self._device.empty(0, self.program.dtype)
            for name in ("theta", "buffers", "slots")
        }
        self._device.fill_zero(self._workspace["control"])
        self._launcher.check_finite(X.buffer, self._workspace.arguments(no_state))
        return not self._found_nonfinite()

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        return self._resident(state, samples)

    @contextlib.contextmanager
    def _resident(self, state: State, samples: Sequence[Samples]) -> Iterator[None]:
        with self._lock:
            own = (
                None
                if self._device_state_of(state)
                else DeviceState(self._device, self.program, state, self._lock, self._spare)
            )
            arrays = [
                array for part in samples for array in sample_transfer.parts_of(part).values()
            ]
            self._store.keep(arrays)
            if own is not None:
                self._device_states.append(own)
        try:
            yield
        finally:
            with self._lock:
                self._store.drop(arrays)
                if own is not None:
                    self._device_states.remove(own)
                    self._launcher.forget_graphs()
                    own.close()

    def _make_plan(self) -> Plan:
        """The program's plan.

        Wide networks, and those whose products may round, leave large products to cuBLASLt where
        that is installed.
        """
        device = self._device
        limits = Limits(
            device.multiprocessors, device.shared_per_block, device.warp_block, device.cooperative
        )
        plan = Plan(self.program, limits)
        gains = plan.path == "graph" or self.program.precision != "float32"
        if gains and not device.simulated and cublaslt.unavailable_reason() is None:
            return Plan(self.program, limits, cublaslt=True)
        return plan

    # --- states and samples on the device ---------------------------------------------------------

    @contextlib.contextmanager
    def _on_device(self, state: State) -> Iterator[DeviceState]:
        """The state's copy on the device; outside of `resident` it lasts for a single call."""
        known = self._device_state_of(state)
        with contextlib.nullcontext() if known else self.resident(state):
            device_state = known or self._device_states[-1]
            device_state.move_to_device()
            yield device_state

    def _device_state_of(self, state: State) -> DeviceState | None:
        return next((known for known in self._device_states if known.state is state), None)

    def _open(self, parts: dict[str, Any], min_rows: int) -> _Rows:
        """Samples on the device: resident or streamed."""
        return self._store.open(parts, self._memory_left, min_rows)

    def _memory_left(self) -> int:
        """Bytes of device memory that samples may take."""
        memories = [known.memory for known in self._device_states] + self._spare
        states = sum(memory.nbytes for memory in memories if memory is not None)
        taken = states + self._workspace.nbytes + self._store.nbytes
        return sample_transfer.memory_left(self._device, taken)

    # --- predictions ------------------------------------------------------------------------------

    def _predict(
        self, state: State, parts: dict[str, Any], linked: bool, evaluates: bool = False
    ) -> tuple[np.ndarray, bool, np.ndarray]:
        """Outputs, raw or linked, whether all rows were finite, and the loss sums.

        With ``evaluates`` the parts have targets, and the sums are Σ wℓ, Σ w and Σ w of samples
        classified rightly; else they are 0.
        """
        n, program = len(parts["X"]), self.program
        link = int(program.loss["link"][0]) if linked else opcodes.IDENTITY
        averages = linked and program.members > 1
        width = program.n_outputs * (1 if averages else program.members)
        predictions, sums = np.empty((n, width), program.dtype), np.zeros(_N_LOSS_SUMS)
        if n == 0:
            return predictions, True, sums
        per_row = width * program.dtype.itemsize
        at_once = max(_MIN_PREDICTION_ROWS, _PREDICTION_BYTES // per_row)
        at_once = min(self._plan.rows_per_pass(n), at_once)
        self._workspace.reserve(self._plan.workspace_rows(at_once), backward=False)
        with self._on_device(state) as device_state:
            self._workspace.make("predictions", at_once * width)
            n_sums = _N_LOSS_SUMS * self._plan.evaluation_blocks(at_once)
            if evaluates:
                self._device.fill_zero(self._workspace.make("sums", n_sums))
            source = self._open(parts, 1)
            rows = source.max_rows or n
            self._workspace.set_control({control.LINK: link, control.AVERAGES: averages}, state)
            pieces = [slice(first, min(first + rows, n)) for first in range(0, n, rows)]
            prefetched = source.prefetch(pieces[0])
            for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
                buffers, _ = source.acquire(prefetched)
                buffers = {**buffers, **device_state.move_to_device().buffers}
                for first in range(piece.start, piece.stop, at_once):
                    last = min(first + at_once, piece.stop)
                    self._start_pass(buffers, first - piece.start, last - first, evaluates)
                    if first == piece.start and following is not None:
                        prefetched = source.prefetch(following)  # while the device computes
                    outputs = self._workspace["predictions"].view(0, (last - first) * width)
                    self._device.download(outputs, predictions[first:last].reshape(-1))
            if evaluates:
                found = self._device.download(self._workspace["sums"].view(0, n_sums))
                sums = found.reshape(-1, _N_LOSS_SUMS).sum(axis=0)
            return predictions, not self._found_nonfinite(), sums

    def _start_pass(self, buffers: dict[str, Any], first: int, rows: int, evaluates: bool) -> None:
        """Start to predict rows of a piece of X."""
        place = np.array([first, rows])
        self._device.upload(self._workspace["control"].view(control.FIRST, 2), place)
        launches = self._plan.predict(rows, evaluates)
        arguments = self._workspace.arguments(buffers)
        self._launcher.run(launches, arguments, self._workspace.capacity)

    def _found_nonfinite(self) -> bool:
        """Whether a kernel has set NONFINITE."""
        slot = self._workspace["control"].view(control.NONFINITE, 1)
        return bool(self._device.download(slot)[0])

    # --- chunks -----------------------------------------------------------------------------------

    def _pieces(self, chunk: Chunk, source: _Rows) -> Iterator[Chunk]:
        """The chunk in pieces that neither last too long nor need too many samples at a time."""
        first, steps = 0, len(chunk.rates)
        while first < steps:
            most = steps
            if source.max_rows is not None:
                most = source.max_rows // chunk.batch_size
            elif self._plan.path == "persistent":
                most = self._rows_per_launch // chunk.batch_size
            last = min(first + max(1, most), steps)
            bounds = chunk.bounds[first : last + 1]
            order, rates = chunk.order[bounds[0] : bounds[-1]], chunk.rates[first:last]
            decays = None if chunk.decays is None else chunk.decays[first:last]
            bounds = bounds - bounds[0]
            yield replace(chunk, order=order, bounds=bounds, rates=rates, decays=decays)
            first = last

    def _adapt_rows_per_launch(self, rows: int, seconds: float) -> None:
        fitting = rows / max(seconds, 1e-9) * _SECONDS
        self._rows_per_launch = int(np.clip(fitting, 1, 4 * self._rows_per_launch))

    def _prepare(
        self, device_state: DeviceState, parts: dict[str, Any], piece: Chunk
    ) -> tuple[Callable[[], None], np.ndarray]:
        """Fill all buffers for a piece of a chunk.

        Returns what starts the device on it, and NAdam's products as `step_rates` gives them.
        """
        slots = {control.TRAINING: 1, control.UPDATES_BUFFERS: 1}
        mu_products = self._upload_chunk(piece, device_state.state, slots)
        memory, capacity = device_state.move_to_device(), self._workspace.capacity
        arguments = self._workspace.arguments({**parts, **memory.buffers})
        launches = self._plan.train(piece.optimizer, piece.batch_size, piece.every)
        graph = None
        if self._plan.path == "graph":
            graph = self._launcher.graph(launches, arguments, capacity, piece)

        def start():
            device_state.mark_changed()
            if graph is None:
                self._launcher.run(launches, arguments, capacity)
            else:
                graph.launch(len(piece.rates))
            for name in DEVICE_ARRAYS:
                if memory[name].n:
                    self._launcher.check_finite(memory[name], arguments)

        return start, mu_products

    def _wait(self, device_state: DeviceState, piece: Chunk, mu_products: np.ndarray) -> StepLog:
        """Wait for the piece, and count its steps in the state."""
        try:
            log, finite = self._read_log(piece, device_state.state)
        except KeyboardInterrupt:  # while it waited; the device takes the steps all the same
            log, finite = self._read_log(piece, device_state.state)
            self._count_steps(device_state, mu_products, log, finite)
            raise
        self._count_steps(device_state, mu_products, log, finite)
        return log

    @staticmethod
    def _count_steps(
        device_state: DeviceState, mu_products: np.ndarray, log: StepLog, finite: bool
    ) -> None:
        state, taken = device_state.state, len(log.losses) - (not log.finite)
        device_state.mark_changed(finite)
        state.mu_product[0] = mu_products[taken]
        state.step += taken
        state.optimizer_step += taken

    def _upload_chunk(self, chunk: Chunk, state: State, slots: dict[int, int]) -> np.ndarray:
        """Fill the buffers that describe a chunk; ``slots`` of ``control`` are the caller's.

        Returns NAdam's products as `step_rates` gives them.
        """
        steps, records = len(chunk.rates), len(chunk.recorded(state.step))
        done = state.optimizer_step, float(state.mu_product[0])
        of_steps = chunk.rates, chunk.weight_decays()
        rates, mu_products = step_rates(chunk.optimizer, *of_steps, *done)
        self._workspace.fill("order", chunk.order.astype(np.int64, copy=False))
        self._workspace.fill("bounds", chunk.bounds.astype(np.int64, copy=False))
        self._workspace.fill("rates", rates.reshape(-1))
        dropout = self.program.dropout_rates(state.optimizer_step, steps)
        self._workspace.fill("dropout", dropout_table(dropout.T).reshape(-1))
        self._device.upload(self._workspace["optimizer"], chunk.optimizer)
        self._workspace.make("log", 3 * steps)
        shape = self._record_shape(chunk.batch_size)
        self._workspace.make("statistics", records * math.prod(shape))
        if records:
            self._device.fill_zero(self._workspace["statistics"])
        given = {
            control.BACKWARD: 1,
            control.OPTIMIZER_STEP: state.optimizer_step,
            control.EVERY: chunk.every,
            control.STEPS: steps,
            **self._plan.control(chunk.batch_size),
        }
        self._workspace.set_control({**slots, **given}, state)
        return mu_products

    def _record_shape(self, rows: int) -> tuple[int, int, int]:
        """Shape of the statistics of one recorded step with so many rows."""
        blocks = self._plan.statistics_blocks(rows)
        return blocks, len(self.program.ops), opcodes.N_STATISTICS

    def _read_log(self, chunk: Chunk, state: State) -> tuple[StepLog, bool]:
        """What a chunk has written, and whether its losses and the state are all finite."""
        steps, recorded, device = len(chunk.rates), chunk.recorded(state.step), self._device
        values = device.download(self._workspace["control"])
        written, stopped = int(values[control.K]), bool(values[control.STOPPED])
        log = device.download(self._workspace["log"].view(0, 3 * steps))
        losses, weights, correct_weight = log.reshape(3, steps)[:, :written]
        n_records = int(np.count_nonzero(recorded < written - stopped))
        shape = (n_records, *self._record_shape(chunk.batch_size))
        sums = np.zeros(0)
        if n_records:
            sums = device.download(self._workspace["statistics"].view(0, math.prod(shape)))
        statistics = sums.reshape(shape).sum(axis=1)
        step_log = StepLog(losses, weights, correct_weight, statistics, not stopped)
        return step_log, not stopped and not values[control.NONFINITE]
