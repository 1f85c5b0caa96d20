"""L-BFGS on the flat parameter vector, by SciPy; one epoch is one accepted iteration."""

import contextlib
import time

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk, StepLog
from fastnn.errors import DivergenceError
from fastnn.nn.penalties import decay_factors
from fastnn.optim.optimizers import LBFGS, SGD
from fastnn.training.epoch_totals import EpochTotals
from fastnn.training.training import Training

_REJECTED_LOSS = 1e100  # no line search accepts it; stands for a loss that is not finite


def minimise(training: Training, optimizer: LBFGS) -> None:
    """Train on all samples at once until converged, out of epochs or stopped."""
    from scipy.optimize import minimize

    net, epochs = training.net, training.epochs
    problem = _Problem(training, optimizer)
    options = {
        "maxiter": epochs,
        "maxcor": optimizer.memory,
        "gtol": optimizer.tolerance,
        "ftol": 0.0,
    }
    try:
        with training.resident(problem.samples):
            result = minimize(
                problem.cost,
                net.state.theta.astype(np.float64),
                jac=True,
                method="L-BFGS-B",
                callback=problem.accept,
                options=options,
            )
            if training.epoch == 0:  # Converged at the start: the epoch is the starting point's.
                with contextlib.suppress(StopIteration):
                    problem.accept(result.x)
    finally:
        net.state.theta[:] = problem.accepted  # not a trial point of the line search
    net.state.step += 1  # the next call of fit draws new masks
    if training.epoch < epochs:
        training.stop("converged" if result.success else f"L-BFGS stopped: {result.message}")


class _Problem:
    """The functions that SciPy calls.

    Attributes
    ----------
    samples : Samples
        All that is trained on.
    accepted : ndarray (n_parameters,)
        The last iterate.
    """

    def __init__(self, training: Training, optimizer: LBFGS):
        self.training, self.net = training, training.net
        self.samples = training.samples
        if len(training.indices) < len(training.samples):
            self.samples = training.samples.take(training.indices)
        self.accepted = self.net.state.theta.copy()
        self._decay = optimizer.weight_decay * decay_factors(self.net.program)
        # The last point with a finite cost, and its log.
        self._evaluated: tuple[np.ndarray, StepLog] | None = None
        self._started = time.perf_counter()

    def cost(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss, penalties and weight decay at θ, and their gradient."""
        net, state = self.net, self.net.state
        state.theta[:] = theta
        measure = self.training.flow_recorder is not None
        log, gradient = net.engine.gradients(state, self.samples, training=True, measure=measure)
        with np.errstate(over="ignore"):  # an infinite cost is rejected
            decay = 0.5 * float(theta @ (self._decay * theta))
        value = float(log.losses[0]) + net.penalty() + decay
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            if self._evaluated is None:
                message = f"L-BFGS met a loss of {value} at the parameters it began with"
                raise DivergenceError(message, self.training.epoch + 1, 1, self.training.history)
            # A trial step of the line search went too far: it will try a shorter one.
            return _REJECTED_LOSS, np.zeros_like(theta)
        self._evaluated = theta.copy(), log
        return value, gradient.astype(np.float64) + self._decay * theta

    def accept(self, theta: np.ndarray) -> None:
        """Make θ the parameters: the end of an epoch."""
        training, net = self.training, self.net
        if self._evaluated is None or not np.array_equal(theta, self._evaluated[0]):
            self.cost(theta)
        assert self._evaluated is not None
        if not np.array_equal(theta, self._evaluated[0]):
            # SciPy's own numbers overflowed, or it took a trial point of a huge loss.
            message = (
                "L-BFGS met numbers too large for its line search; the network keeps its last "
                "accepted parameters. Standardise X and y"
            )
            raise DivergenceError(message, training.epoch + 1, 1, training.history)
        log = self._evaluated[1]
        before, self.accepted = self.accepted, theta.astype(net.program.dtype)
        net.state.theta[:] = self.accepted
        self._record_flow(log.statistics, self.accepted - before)
        training.epoch += 1
        net.epochs += 1
        if net.program.n_buffers:
            self._refresh_running_statistics()
        totals = EpochTotals(net.penalty())
        totals.add(log)
        training.chunk_done(len(self.samples))
        training.epoch_done(totals, 1.0, self._started)
        self._started = time.perf_counter()
        if training.history.stopped is not None:
            raise StopIteration

    def _record_flow(self, statistics: np.ndarray, change: np.ndarray) -> None:
        """Record an iteration: statistics of its end, and the change of θ."""
        recorder, epoch = self.training.flow_recorder, self.net.epochs
        if recorder is None or epoch % self.training.flow_every != 0:
            return
        for i, op in enumerate(self.net.program.ops):
            if op["code"] == opcodes.DENSE:
                moved = change[op["weight"] : op["weight"] + op["n_in"] * op["n_out"]]
                statistics[0, i, opcodes.UPDATE] = np.square(moved, dtype=np.float64).sum()
        dropout = self.net.program.dropout_rates(self.net.state.optimizer_step, 1)
        recorder.add(np.array([epoch]), statistics, np.array([len(self.samples)]), dropout)

    def _refresh_running_statistics(self) -> None:
        """Move BatchNorm's running averages as an epoch of one batch would.

        It is a step at learning rate 0, which changes nothing else.
        """
        state, n = self.net.state, len(self.samples)
        before = state.snapshot()
        step, optimizer_step = state.step, state.optimizer_step
        bounds, record = np.array([0, n]), SGD(0.0).record()
        chunk = Chunk(np.arange(n), bounds, np.zeros(1), record, n)
        self.net.engine.train_steps(state, self.samples, chunk)
        state.step, state.optimizer_step = step, optimizer_step
        if not state.is_finite():
            state.restore(before)
            message = (
                f"the running mean or variance of a BatchNorm overflowed {self.net.dtype}: "
                "standardise X"
            )
            raise DivergenceError(message, self.training.epoch, 1, self.training.history)
