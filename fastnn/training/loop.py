"""The training loop: epochs cut into chunks that an engine runs without Python in between.

Everything a user may want between mini-batches happens at chunk edges: progress, callbacks, Ctrl-C,
the check for divergence.
"""

import contextlib
import contextvars
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Chunk, Samples, StepLog
from fastnn._kernels.state import Snapshot
from fastnn._utils import checks, progress
from fastnn.callbacks import check_callbacks
from fastnn.diagnostics import gradient_flow as _gradient_flow
from fastnn.errors import DivergenceError
from fastnn.optim.optimizers import LBFGS, SGD, Optimizer
from fastnn.training.history import History

_CHUNK_SECONDS = 0.2
_BEYOND = 1e100  # a cost no line search accepts, where the loss is not finite
_FIRST_CHUNK_OPERATIONS = 5e8  # until the speed is known: well under a second on any machine


class Training:
    """One running call of `fit`; what callbacks see.

    Attributes
    ----------
    net : Network
    history : History
    epoch : int
        The current epoch of this call, from 1.
    epochs : int
        Epochs asked for.
    logged : tuple of str
        The keys that ``history`` will have.
    rate_factor : float
        Multiplies every learning rate; callbacks may change it.
    """

    def __init__(
        self,
        net: Any,
        samples: Samples,
        indices: np.ndarray,
        epochs: int,
        batch_size: int,
        optimizer: Optimizer | LBFGS,
        validation: Samples | None,
        shuffle: bool,
        callbacks: Sequence[Any],
        metrics: Sequence[str],
        show_progress: bool,
    ):
        self.net, self.samples, self.indices, self.epochs = net, samples, indices, epochs
        self.batch_size, self.optimizer, self.validation, self.shuffle = (
            min(batch_size, len(indices)),
            optimizer,
            validation,
            shuffle,
        )
        self.callbacks, self.metrics, self.history = check_callbacks(callbacks), metrics, History()
        self.history.optimizer, self.history.layers = optimizer, net.layers
        self.epoch, self.rate_factor, self.interrupted, self._every = 0, 1.0, False, 0
        self.logged = (
            "loss",
            *(("accuracy",) if net.loss.spec.classifies else ()),
            *(("val_loss", *(f"val_{name}" for name in metrics)) if validation is not None else ()),
            "lr",
            "seconds",
        )
        self._display = progress.display(show_progress, epochs, len(indices))
        # of parameters and running statistics whose loss was finite
        self._sound: Snapshot | None = None
        self._steps_per_chunk = max(
            1, int(_FIRST_CHUNK_OPERATIONS / (6 * net.program.n_parameters * self.batch_size))
        )

    def stop(self, reason: str) -> None:
        """End training after the current epoch."""
        self.history.stopped = self.history.stopped or reason

    def record_flow(self, every: int) -> None:
        """Fill ``history.gradient_flow`` at each step whose number is a multiple of ``every``; with
        L-BFGS a step is an epoch.
        """
        self._every = checks.integer("every", every)
        self._recorder = _gradient_flow.Recorder(self.net.program, self.samples)
        self.history.gradient_flow = self._recorder.flow

    def run(self) -> History:
        """Train, and return the history."""
        with _interrupt_sets(self), contextlib.closing(self._display):
            self._call("on_fit_start")
            # from here on nothing is refused any more
            self.net.use_optimizer(type(self.optimizer).__name__)
            try:
                if isinstance(self.optimizer, LBFGS):
                    _minimise(self)
                else:
                    with self._resident(self.samples):
                        self._descend()
            finally:
                self._call("on_fit_end")
        return self.history

    def _resident(self, samples: Samples) -> AbstractContextManager[None]:
        """While inside, the engine may have the network's state and all data on a device."""
        return self.net.engine.resident(
            self.net.state, samples, *(() if self.validation is None else (self.validation,))
        )

    def _descend(self) -> None:
        while self.epoch < self.epochs and self.history.stopped is None:
            started = time.perf_counter()
            self.epoch += 1
            totals = _Totals(self.net.penalty())
            for chunk in self._chunks(self._order()):
                totals.add(self._train(chunk, totals.steps))
                self._chunk_done(len(chunk.order))
                if self.interrupted:
                    break
            self.net.epochs += 1
            self._record(totals, chunk.rates[-1], started)

    def _order(self) -> np.ndarray:
        """The samples of this epoch in the order in which they are trained on."""
        n = len(self.indices)
        if not self.shuffle or self.batch_size == n:  # one batch is one batch in any order
            return self.indices
        order = philox.permutation(self.net.seed, opcodes.STREAM_SHUFFLE, self.net.epochs, n)
        return order if n == len(self.samples) else self.indices[order]

    def _chunks(self, order: np.ndarray) -> Iterator[Chunk]:
        """The epoch cut into chunks of about `_CHUNK_SECONDS`, as measured on the chunk before."""
        bounds = np.append(np.arange(0, len(order), self.batch_size), len(order))
        rule, first, steps = self.optimizer.record(), 0, len(bounds) - 1
        while first < steps:
            last = min(first + self._steps_per_chunk, steps)
            rates = self.rate_factor * self.optimizer.rates(
                self.net.state.optimizer_step, last - first
            )
            part = order[bounds[first] : bounds[last]]
            started = time.perf_counter()
            yield Chunk(
                part,
                bounds[first : last + 1] - bounds[first],
                rates,
                rule,
                self.batch_size,
                self._every,
            )
            speed = (last - first) / max(time.perf_counter() - started, 1e-9)
            self._steps_per_chunk = int(
                np.clip(speed * _CHUNK_SECONDS, 1, 4 * self._steps_per_chunk)
            )
            first = last

    def _train(self, chunk: Chunk, steps_before: int) -> StepLog:
        """Run a chunk; where it diverges, go back to the last parameters known to have a finite
        loss and say so.
        """
        state = self.net.state
        before, first = state.snapshot(), state.step
        log = self.net.engine.train_steps(state, self.samples, chunk)
        if self.history.first_loss is None:
            self.history.first_loss = float(log.losses[0]) + self.net.penalty()
        if len(log.statistics):
            recorded = chunk.recorded(first)[: len(log.statistics)]
            self._recorder.add(first + recorded, log.statistics, np.diff(chunk.bounds)[recorded])
        # the chunk's first loss, that of ``before``, is finite
        if log.finite or len(log.losses) > 1 or self._sound is None:
            self._sound = before
        if log.finite and state.is_finite():
            return log
        state.restore(self._sound)
        self.net.forget_optimizer()
        step = steps_before + len(log.losses)
        what = (
            f"the loss became {log.losses[-1]}"
            if not log.finite
            else "a parameter became infinite or NaN"
        )
        cure = f"Lower the learning rate (now {chunk.rates[len(log.losses) - 1]:g}), clip gradients (clip_norm=1.0) or standardise X"
        where = f"training diverged in epoch {self.epoch}, mini-batch {step}"
        self.stop(f"diverged in epoch {self.epoch}, mini-batch {step}")
        raise DivergenceError(
            f"{where}: {what}; the network keeps its last finite parameters. {cure}",
            self.epoch,
            step,
            self.history,
        )

    @property
    def records_flow(self) -> bool:
        return self._every > 0

    def record_iteration(self, statistics: np.ndarray, moved: np.ndarray, rows: int) -> None:
        """Record an iteration of L-BFGS: statistics of its end and the way that θ has moved."""
        if self.records_flow and self.net.epochs % self._every == 0:
            for i, op in enumerate(self.net.program.ops):
                if op["code"] == opcodes.DENSE:
                    change = moved[op["weight"] : op["weight"] + op["n_in"] * op["n_out"]]
                    statistics[0, i, opcodes.UPDATE] = np.square(change, dtype=np.float64).sum()
            self._recorder.add(np.array([self.net.epochs]), statistics, np.array([rows]))

    def _chunk_done(self, samples: int) -> None:
        self._display.advance(samples)
        self._call("on_chunk_end")

    def _record(self, totals: "_Totals", rate: float, started: float) -> None:
        """Enter an epoch's figures into the history and show them."""
        figures = {"loss": totals.loss, "accuracy": totals.accuracy, "lr": float(rate)}
        if self.validation is not None:
            scores = self.net.score(self.validation, self.metrics)
            figures.update({f"val_{name}": value for name, value in scores.items()})
        figures["seconds"] = time.perf_counter() - started
        for name in self.logged:
            self.history.setdefault(name, []).append(figures[name])
        self._display.epoch_done(self.epoch, {name: figures[name] for name in self.logged})
        self._call("on_epoch_end")
        if self.interrupted:
            self.stop("interrupted")

    def _call(self, hook: str) -> None:
        for callback in self.callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(self)


class _Totals:
    """Sums over an epoch's chunks.

    The penalty is that of the parameters the epoch began with: a one-step epoch then reports
    exactly its cost, and no figure depends on where the clock happened to cut an epoch into chunks.
    """

    def __init__(self, penalty: float):
        self.steps, self._penalty = 0, penalty
        # of the chunks: a sum of sums would round as the chunks were cut
        self._figures: list[np.ndarray] = []

    def add(self, log: StepLog) -> None:
        """Add a chunk."""
        self.steps += len(log.losses)
        self._figures.append(np.stack([log.losses * log.weights, log.correct_weight, log.weights]))

    def _sums(self) -> np.ndarray:
        """Σ over mini-batches of loss · weight, hits and weights."""
        return np.concatenate(self._figures, axis=1).sum(axis=1)

    @property
    def loss(self) -> float:
        loss, _, weight = self._sums()
        return float(loss / weight) + self._penalty

    @property
    def accuracy(self) -> float:
        _, hits, weight = self._sums()
        return float(hits / weight)


def _minimise(training: Training) -> None:
    """L-BFGS on the flat parameter vector, one epoch an accepted iteration."""
    from scipy.optimize import minimize

    net, optimizer, epochs = training.net, training.optimizer, training.epochs
    state, dtype = net.state, net.program.dtype
    samples = (
        training.samples
        if len(training.indices) == len(training.samples)
        else training.samples.take(training.indices)
    )
    decay = optimizer.weight_decay * net.weight_mask()
    # the last iterate; the last point tried and its log
    accepted, evaluated = state.theta.copy(), None
    started = time.perf_counter()

    def cost(theta):
        nonlocal evaluated
        state.theta[:] = theta
        log, gradient = net.engine.gradients(
            state, samples, training=True, measure=training.records_flow
        )
        value = float(log.losses[0]) + net.penalty() + 0.5 * float(decay @ theta**2)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            if evaluated is None:
                message = f"L-BFGS met a loss of {value} at the parameters it began with"
                raise DivergenceError(message, training.epoch + 1, 1)
            # a trial step of the line search went too far: it will try a shorter one
            return _BEYOND, np.zeros_like(theta)
        evaluated = theta.copy(), log
        return value, gradient.astype(np.float64) + decay * theta

    def accept(theta):
        nonlocal accepted, started
        if not np.array_equal(theta, evaluated[0]):
            cost(theta)
        before, accepted = accepted, theta.astype(dtype)
        state.theta[:] = accepted
        training.record_iteration(evaluated[1].statistics, accepted - before, len(samples))
        training.epoch += 1
        net.epochs += 1
        if net.program.n_buffers:
            _refresh_running_statistics(training, samples)
        totals = _Totals(net.penalty())
        totals.add(evaluated[1])
        training._chunk_done(len(samples))
        training._record(totals, 1.0, started)
        started = time.perf_counter()
        if training.history.stopped is not None:
            raise StopIteration

    options = {
        "maxiter": epochs,
        "maxcor": optimizer.memory,
        "gtol": optimizer.tolerance,
        "ftol": 0.0,
    }
    try:
        with training._resident(samples):
            result = minimize(
                cost,
                state.theta.astype(np.float64),
                jac=True,
                method="L-BFGS-B",
                callback=accept,
                options=options,
            )
            if training.epoch == 0:  # nothing to gain: the one epoch is the starting point's
                with contextlib.suppress(StopIteration):
                    accept(result.x)
    finally:
        state.theta[:] = accepted  # not a trial point of the line search
    state.step += 1  # the next call of fit draws new masks
    if training.epoch < epochs:
        training.stop("converged" if result.success else f"L-BFGS stopped: {result.message}")


def _refresh_running_statistics(training: Training, samples: Samples) -> None:
    """One step at learning rate 0: moves BatchNorm's running averages as an epoch of one batch
    would, and nothing else.
    """
    state, n = training.net.state, len(samples)
    step, optimizer_step = state.step, state.optimizer_step
    training.net.engine.train_steps(
        state, samples, Chunk(np.arange(n), np.array([0, n]), np.zeros(1), SGD(0.0).record(), n)
    )
    state.step, state.optimizer_step = step, optimizer_step


@contextlib.contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """While inside, Ctrl-C raises `KeyboardInterrupt` out of `fit` too: for work of many trainings,
    none of which means anything alone.
    """
    token = _raises.set(True)
    try:
        yield
    finally:
        _raises.reset(token)


_raises = contextvars.ContextVar("fastnn.training.ctrl_c_raises", default=False)


@contextlib.contextmanager
def _interrupt_sets(training: Training) -> Iterator[None]:
    """While inside, the first Ctrl-C only sets ``training.interrupted``; a second one interrupts at
    once.
    """
    if threading.current_thread() is not threading.main_thread() or _raises.get():
        yield
        return
    previous = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def on_interrupt(number, frame):
        training.interrupted = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
