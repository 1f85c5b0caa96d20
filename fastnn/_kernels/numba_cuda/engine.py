"""The CUDA engine: the host's side of it. What launches a step takes `plan` says; here their
buffers are filled and read.
"""

import contextlib
import functools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, Program, Samples, State, StepLog
from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray
from fastnn._kernels.numba_cuda.driver.launch import Launch, Product
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.runtime import cublaslt, sample_transfer
from fastnn._kernels.numba_cuda.runtime.cublaslt_products import Library
from fastnn._kernels.numba_cuda.runtime.device_state import Memory, Residence
from fastnn._kernels.numba_cuda.runtime.plan import Limits, Plan
from fastnn._kernels.numba_cuda.runtime.workspace import NAMES, NO_RULE, Workspace
from fastnn._kernels.step_rates import mu_products, step_rates

_SECONDS = 1.0  # that a launch may last, about
_FIRST_OPERATIONS = 4e9  # of a launch until the speed is known: well under a second on any GPU
_GRAPHS = 8  # that are kept
# that predictions of a pass take, but for so many rows
_PREDICTION_BYTES, _LEAST_ROWS = 64 << 20, 256


def _one_at_a_time(method: Callable) -> Callable:
    """A method that uses the workspace. Another thread waits for its turn: it is the same GPU that
    does the work.
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
        self._store = sample_transfer.Store(self._device)
        self._residences: list[Residence] = []
        self._spare: list[Memory] = []
        # what was recorded: the graph, and its buffers
        self._graphs: OrderedDict[tuple, tuple] = OrderedDict()
        # of samples to train on
        self._rows_at_once = max(1, int(_FIRST_OPERATIONS / (6 * max(program.n_parameters, 1))))
        self._workspace = Workspace(self._device, program, self._plan, forget=self._graphs.clear)
        self._library = Library(self._device, program)

    def __reduce__(self) -> tuple:
        """Copied and pickled as what it is made for: it keeps nothing but workspace."""
        return type(self), (self.program,)

    @_one_at_a_time
    def train_steps(self, state: State, samples: Samples, chunk: Chunk) -> StepLog:
        self._workspace.lay_out(chunk.batch_size, backward=True)
        with self._at_hand(state) as residence:
            feed = self._feed(sample_transfer.parts_of(samples), chunk.batch_size)
            logs, pieces = [], self._pieces(chunk, feed)
            piece = next(pieces)
            ahead = feed.bring(piece.order)
            while piece is not None:
                parts, places = feed.use(ahead)
                start = self._prepare(residence, parts, replace(piece, order=places))
                started, following = time.perf_counter(), None
                try:
                    start()
                    following = next(pieces, None)
                    # while the device is at work
                    ahead = None if following is None else feed.bring(following.order)
                finally:  # also after a Ctrl-C what was done counts
                    logs.append(self._finish(residence, piece))
                self._learn_speed(len(piece.order), time.perf_counter() - started)
                piece = following if logs[-1].finite else None
        figures = ("losses", "weights", "hits", "statistics")
        return StepLog(
            *(np.concatenate([getattr(log, name) for log in logs]) for name in figures),
            logs[-1].finite,
        )

    @_one_at_a_time
    def gradients(
        self, state: State, samples: Samples, training: bool, measure: bool = False
    ) -> tuple[StepLog, np.ndarray]:
        n = len(samples)
        whole = Chunk(
            np.arange(n), np.array([0, n]), np.zeros(1), NO_RULE, n, every=1 if measure else 0
        )
        self._workspace.lay_out(n, backward=True)
        with self._at_hand(state) as residence:
            feed = self._feed(sample_transfer.parts_of(samples), n)
            parts, places = feed.use(feed.bring(whole.order))
            self._upload_chunk(replace(whole, order=places), state, training, learning=False)
            self._launch(
                self._plan.train(NO_RULE, n, whole.every),
                self._workspace.arguments({**parts, **residence.memory.buffers}),
            )
            log, _, _ = self._read_log(whole, state)
            return log, self._device.download(self._workspace["gradient"])

    @_one_at_a_time
    def forward(self, state: State, X: np.ndarray, linked: bool = False) -> tuple[np.ndarray, bool]:
        n, program = len(X), self.program
        predictions = np.empty((n, program.n_outputs), program.dtype)
        if n == 0:
            return predictions, True
        at_once = min(
            self._plan.rows_a_pass(n),
            max(_LEAST_ROWS, _PREDICTION_BYTES // (program.n_outputs * program.dtype.itemsize)),
        )
        self._workspace.lay_out(self._plan.rows_at_once(at_once), backward=False)
        with self._at_hand(state) as residence:
            self._workspace.make("predictions", at_once * program.n_outputs)
            feed = self._feed({"X": X}, 1)
            rows = feed.most_rows or n
            self._workspace.set_control(
                {fr.LINK: int(program.loss["link"][0]) if linked else opcodes.IDENTITY}, state
            )
            cuts = [slice(first, min(first + rows, n)) for first in range(0, n, rows)]
            ahead = feed.bring(cuts[0])
            for cut, following in zip(cuts, [*cuts[1:], None], strict=True):
                parts, _ = feed.use(ahead)
                arguments = self._workspace.arguments({**parts, **residence.memory.buffers})
                for first in range(cut.start, cut.stop, at_once):
                    last = min(first + at_once, cut.stop)
                    place = np.array([first - cut.start, last - first])
                    self._device.upload(self._workspace["control"].view(fr.FIRST, 2), place)
                    self._launch(self._plan.forward(last - first), arguments)
                    if first == cut.start and following is not None:
                        ahead = feed.bring(following)  # while the device is at work
                    found = self._workspace["predictions"].view(
                        0, (last - first) * program.n_outputs
                    )
                    self._device.download(found, predictions[first:last].reshape(-1))
            return predictions, not self._poisoned()

    @contextlib.contextmanager
    def _resident(self, state: State, samples: Sequence[Samples]) -> Iterator[None]:
        with self._lock:
            own = (
                None
                if self._residence_of(state)
                else Residence(self._device, self.program, state, self._lock, self._spare)
            )
            arrays = [
                array for part in samples for array in sample_transfer.parts_of(part).values()
            ]
            self._store.keep(arrays)
            if own is not None:
                self._residences.append(own)
        try:
            yield
        finally:
            with self._lock:
                self._store.drop(arrays)
                if own is not None:
                    self._residences.remove(own)
                    self._graphs.clear()  # they hold the samples' memory
                    own.leave()

    def resident(self, state: State, *samples: Samples) -> AbstractContextManager[None]:
        return self._resident(state, samples)

    def _make_plan(self) -> Plan:
        """Wide networks, and those that may round, leave large products to cuBLASLt where that is
        installed.
        """
        device = self._device
        limits = Limits(
            device.multiprocessors, device.shared_per_block, device.warp_block, device.can_meet
        )
        plan = Plan(self.program, limits)
        wants = (
            plan.path == "graph" or self.program.precision != "float32"
        ) and not device.simulated
        return (
            Plan(self.program, limits, library=True)
            if wants and cublaslt.available() is None
            else plan
        )

    # --- a state, and room for it -----------------------------------------------------------------

    @contextlib.contextmanager
    def _at_hand(self, state: State) -> Iterator[Residence]:
        """The state's residence, if need be one for a single call, with the state on the device."""
        with contextlib.nullcontext() if self._residence_of(state) else self.resident(state):
            residence = self._residence_of(state)
            residence.take()
            yield residence

    def _residence_of(self, state: State) -> Residence | None:
        return next((residence for residence in self._residences if residence.state is state), None)

    def _feed(
        self, parts: dict[str, Any], least_rows: int
    ) -> sample_transfer.Stay | sample_transfer.Stream:
        """Samples on the device: there, or as they come."""
        return self._store.feed(parts, self._memory_left, least_rows)

    def _memory_left(self) -> int:
        """Bytes of device memory that samples may take."""
        memories = [residence.memory for residence in self._residences] + self._spare
        taken = (
            sum(memory.nbytes for memory in memories if memory is not None)
            + self._workspace.nbytes
            + self._store.nbytes
        )
        return sample_transfer.memory_left(self._device, taken)

    # --- a chunk ----------------------------------------------------------------------------------

    def _pieces(
        self, chunk: Chunk, feed: sample_transfer.Stay | sample_transfer.Stream
    ) -> Iterator[Chunk]:
        """The chunk in pieces that neither last too long nor need more samples than there is room
        for.
        """
        first, steps = 0, len(chunk.rates)
        while first < steps:
            most = steps
            if feed.most_rows is not None:
                most = feed.most_rows // chunk.batch_size
            elif self._plan.path == "persistent":
                most = self._rows_at_once // chunk.batch_size
            last = min(first + max(1, most), steps)
            bounds = chunk.bounds[first : last + 1]
            order, rates = chunk.order[bounds[0] : bounds[-1]], chunk.rates[first:last]
            yield replace(chunk, order=order, bounds=bounds - bounds[0], rates=rates)
            first = last

    def _learn_speed(self, rows: int, seconds: float) -> None:
        self._rows_at_once = int(
            np.clip(rows / max(seconds, 1e-9) * _SECONDS, 1, 4 * self._rows_at_once)
        )

    def _prepare(
        self, residence: Residence, parts: dict[str, Any], piece: Chunk
    ) -> Callable[[], None]:
        """Fill all buffers for a piece of a chunk; returns what sets the device to work on it."""
        self._upload_chunk(piece, residence.state, training=True, learning=True)
        arguments = self._workspace.arguments({**parts, **residence.memory.buffers})
        launches = self._plan.train(piece.rule, piece.batch_size, piece.every)
        graph = None if self._plan.path == "persistent" else self._graph(launches, arguments, piece)

        def start():
            residence.changes()
            if graph is None:
                self._launch(launches, arguments)
            else:
                graph.launch(len(piece.rates))
            self._look(residence.memory["theta"], arguments)

        return start

    def _finish(self, residence: Residence, piece: Chunk) -> StepLog:
        """Wait for the piece, and count what was done of it."""
        try:
            found = self._read_log(piece, residence.state)
        # while it waited, as it does most of the time: the device has done the piece all the same
        except KeyboardInterrupt:
            self._count(residence, *self._read_log(piece, residence.state))
            raise
        return self._count(residence, *found)

    @staticmethod
    def _count(residence: Residence, log: StepLog, products: np.ndarray, finite: bool) -> StepLog:
        state, taken = residence.state, len(log.losses) - (not log.finite)
        residence.changes(finite)
        state.step += taken
        state.optimizer_step += taken
        state.products[0] = products[taken]
        return log

    def _upload_chunk(self, chunk: Chunk, state: State, training: bool, learning: bool) -> None:
        steps, records = len(chunk.rates), len(chunk.recorded(state.step))
        rates, _ = step_rates(
            chunk.rule, chunk.rates, state.optimizer_step, float(state.products[0])
        )
        self._workspace.fill("order", chunk.order.astype(np.int64, copy=False))
        self._workspace.fill("bounds", chunk.bounds.astype(np.int64, copy=False))
        self._workspace.fill("rates", rates.reshape(-1))
        self._device.upload(self._workspace["rule"], chunk.rule)
        self._workspace.make("log", 3 * steps)
        self._workspace.make("statistics", records * self._record_size(chunk.batch_size))
        if records:
            self._device.fill_zero(self._workspace["statistics"])
        figures = {
            fr.TRAINING: training,
            fr.BACKWARD: True,
            fr.LEARNING: learning,
            fr.OPTIMIZER_STEP: state.optimizer_step,
            fr.EVERY: chunk.every,
            fr.STEPS: steps,
            **self._plan.control(chunk.batch_size),
        }
        self._workspace.set_control(figures, state)

    def _record_size(self, rows: int) -> int:
        """Sums that a recorded step of so many rows has."""
        return self._plan.parts(rows) * len(self.program.ops) * opcodes.N_STATISTICS

    def _read_log(self, chunk: Chunk, state: State) -> tuple[StepLog, np.ndarray, bool]:
        """What a chunk has written, NAdam's product before each of its steps and after the last,
        and whether `_look` found all finite.
        """
        steps, recorded, device = len(chunk.rates), chunk.recorded(state.step), self._device
        control = device.download(self._workspace["control"])
        written, stopped = int(control[fr.K]), bool(control[fr.STOPPED])
        losses, weights, hits = device.download(self._workspace["log"].view(0, 3 * steps)).reshape(
            3, steps
        )[:, :written]
        kept = int(np.count_nonzero(recorded < written - stopped))
        shape = (
            kept,
            self._plan.parts(chunk.batch_size),
            len(self.program.ops),
            opcodes.N_STATISTICS,
        )
        sums = (
            device.download(self._workspace["statistics"].view(0, math.prod(shape)))
            if kept
            else np.zeros(0)
        )
        products = mu_products(chunk.rule, steps, state.optimizer_step, float(state.products[0]))
        log = StepLog(losses, weights, hits, sums.reshape(shape).sum(axis=1), not stopped)
        return log, products, not stopped and not control[fr.POISONED]

    # --- launches ---------------------------------------------------------------------------------

    def _launch(self, launches: Sequence[Launch | Product], arguments: list[Any]) -> None:
        for launch in launches:
            if isinstance(launch, Product):
                self._library.multiply(launch, arguments, self._workspace.capacity)
            else:
                self._device.launch(launch, arguments)

    def _graph(
        self, launches: Sequence[Launch | Product], arguments: list[Any], chunk: Chunk
    ) -> Any:
        """One step, recorded. Pointers are part of it, so it serves as long as they stay."""
        key = (chunk.rule.tobytes(), chunk.batch_size, chunk.every, *map(id, arguments))
        if key not in self._graphs:
            self._device.prepare(
                [launch.kernel for launch in launches if isinstance(launch, Launch)],
                self.program.dtype,
            )
            # Once before, which loads the library's code; what these products write a step writes
            # again before it reads it.
            self._launch([launch for launch in launches if isinstance(launch, Product)], arguments)
            self._graphs[key] = (
                self._device.record(lambda: self._launch(launches, arguments)),
                arguments,
            )
            if len(self._graphs) > _GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key][0]

    def _look(self, vector: Any, arguments: list[Any]) -> None:
        """Have the device note in its control whether a vector has numbers that are not finite."""
        block = self._device.warp_block
        grid = max(1, min(-(-vector.n // (4 * block)), 4 * self._device.multiprocessors))
        named = dict(zip(NAMES, arguments, strict=True)) | {"theta": vector}
        self._device.launch(Launch("finite", grid, block), [named[name] for name in NAMES])

    def _poisoned(self) -> bool:
        """Whether the device has noted a number that is not finite."""
        return bool(self._device.download(self._workspace["control"].view(fr.POISONED, 1))[0])

    @_one_at_a_time
    def is_finite(self, X: GpuArray) -> bool:
        """Whether all numbers of an array on the GPU, of the network's dtype, are finite."""
        nothing = {
            name: self._device.empty(0, self.program.dtype)
            for name in ("theta", "buffers", "slots")
        }
        self._device.fill_zero(self._workspace["control"])
        self._look(X.buffer, self._workspace.arguments(nothing))
        return not self._poisoned()
