"""The mini-batch loop: epochs cut into chunks that an engine runs without Python in between.

Progress, callbacks, Ctrl-C and the check for divergence act between chunks.
"""

import time
from collections.abc import Iterator

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Chunk, StepLog
from fastnn._kernels.state import Snapshot
from fastnn.errors import DivergenceError
from fastnn.nn.protocol import NetworkProtocol
from fastnn.optim.optimizers import Optimizer
from fastnn.training.epoch_totals import EpochTotals
from fastnn.training.training import Training

_CHUNK_SECONDS = 0.2
_FIRST_CHUNK_OPERATIONS = 5e8  # until the speed is known: well under a second on any machine


class MiniBatchLoop:
    """The loop of one training with an optimiser that steps once a mini-batch."""

    def __init__(self, training: Training, optimizer: Optimizer):
        self.training: Training = training
        self.net: NetworkProtocol = training.net
        self.optimizer: Optimizer = optimizer
        self.indices: np.ndarray = training.indices
        self.batch_size: int = min(training.config.batch_size, len(self.indices))
        # The last parameters and running statistics whose loss is known to be finite.
        self._last_finite: Snapshot | None = None
        work = 6 * self.net.program.n_parameters * self.batch_size
        self._steps_per_chunk = max(1, int(_FIRST_CHUNK_OPERATIONS / work))

    def run(self) -> None:
        """Train until the last epoch, or until a callback or Ctrl-C stops it."""
        training = self.training
        with training.resident(training.samples):
            while training.epoch < training.epochs and training.history.stopped is None:
                self._train_epoch()

    def _train_epoch(self) -> None:
        training, started, rate = self.training, time.perf_counter(), 0.0
        training.epoch += 1
        totals = EpochTotals(self.net.penalty())
        used = training.config.samples_per_epoch(len(self.indices))
        for chunk in self._chunks(self._order()[:used]):
            totals.add(self._train_chunk(chunk, totals.steps))
            rate = chunk.rates[-1]
            training.chunk_done(len(chunk.order))
            if training.ends_now:
                break
        self.net.epochs += 1
        training.epoch_done(totals, rate, started)

    def _order(self) -> np.ndarray:
        """The samples of this epoch in the order in which they are trained on."""
        n = len(self.indices)
        # One batch is one batch in any order.
        if not self.training.config.shuffle or self.batch_size == n:
            return self.indices
        order = philox.permutation(self.net.seed, opcodes.STREAM_SHUFFLE, self.net.epochs, n)
        return order if n == len(self.training.samples) else self.indices[order]

    def _chunks(self, order: np.ndarray) -> Iterator[Chunk]:
        """The epoch cut into chunks of about `_CHUNK_SECONDS`, as measured on the chunk before."""
        bounds = np.append(np.arange(0, len(order), self.batch_size), len(order))
        record, first, steps = self.optimizer.record(), 0, len(bounds) - 1
        while first < steps:
            last = min(first + self._steps_per_chunk, steps)
            steps_of_chunk = self.net.state.optimizer_step, last - first
            rates = self.optimizer.rates(*steps_of_chunk)
            started = time.perf_counter()
            yield Chunk(
                order=order[bounds[first] : bounds[last]],
                bounds=bounds[first : last + 1] - bounds[first],
                rates=self.training.rate_factor * rates,
                optimizer=record,
                batch_size=self.batch_size,
                every=self.training.flow_every,
                decays=self.optimizer.decays(*steps_of_chunk),
            )
            speed = (last - first) / max(time.perf_counter() - started, 1e-9)
            longest = 4 * self._steps_per_chunk
            self._steps_per_chunk = int(np.clip(speed * _CHUNK_SECONDS, 1, longest))
            first = last

    def _train_chunk(self, chunk: Chunk, steps_before: int) -> StepLog:
        """Run a chunk.

        Where it diverges, the network goes back to the last parameters known to have a finite loss.
        """
        state, history = self.net.state, self.training.history
        before, first, first_update = state.snapshot(), state.step, state.optimizer_step
        log = self.net.engine.train_steps(state, self.training.samples, chunk)
        if history.first_loss is None:
            history.first_loss = float(log.losses[0]) + self.net.penalty()
        if self.training.flow_recorder is not None and len(log.statistics):
            recorded = chunk.recorded(first)[: len(log.statistics)]
            rows = np.diff(chunk.bounds)[recorded]
            dropout = self.net.program.dropout_rates(first_update, len(chunk.rates))[recorded]
            self.training.flow_recorder.add(first + recorded, log.statistics, rows, dropout)
        # The first loss of the chunk is that of ``before``: here it is finite.
        if log.finite or len(log.losses) > 1 or self._last_finite is None:
            self._last_finite = before
        if log.finite and state.is_finite():
            return log
        what = self._what_diverged(log)
        state.restore(self._last_finite)
        self.net.forget_optimizer()
        raise self._divergence(chunk, what, len(log.losses), steps_before)

    def _what_diverged(self, log: StepLog) -> str:
        """What is not finite any more: the cause before its effect."""
        array, dtype = self.net.state.nonfinite(), self.net.dtype
        if array == "buffers":
            return f"the running mean or variance of a BatchNorm overflowed {dtype}"
        if array == "slots":
            name = type(self.optimizer).__name__
            return (
                f"the state of {name} overflowed {dtype}, which holds no square of so large a "
                "gradient: the targets, or X, are too large"
            )
        return (
            "a parameter became infinite or NaN"
            if log.finite
            else (f"the loss became {log.losses[-1]}")
        )

    def _divergence(
        self, chunk: Chunk, what: str, steps: int, steps_before: int
    ) -> DivergenceError:
        """The error that says where training diverged; also marks it in the history."""
        epoch, rate, step = self.training.epoch, chunk.rates[steps - 1], steps_before + steps
        self.training.stop(f"diverged in epoch {epoch}, mini-batch {step}")
        return DivergenceError(
            f"training diverged in epoch {epoch}, mini-batch {step}: {what}; the network keeps its "
            f"last finite parameters. Lower the learning rate (now {rate:g}), clip gradients "
            f"(clip_norm=1.0), standardise X, or scale targets of a regression",
            epoch,
            step,
            self.training.history,
        )
