"""What `Network.fit` does once its data are checked: the mini-batch loop, or L-BFGS."""

import contextlib

import numpy as np

from fastnn.nn.protocol import NetworkProtocol
from fastnn.optim.optimizers import LBFGS, Optimizer
from fastnn.training import bin_edges, data_init
from fastnn.training.config import FitConfig
from fastnn.training.history import History
from fastnn.training.interrupts import ctrl_c_sets_flag
from fastnn.training.lbfgs import minimise
from fastnn.training.loop import MiniBatchLoop
from fastnn.training.samples import TrainingData
from fastnn.training.training import Training

_CHECKED_STEPS = 1 << 20  # of schedules, before anything is trained


def train(net: NetworkProtocol, data: TrainingData, config: FitConfig) -> History:
    """Train a network.

    Parameters
    ----------
    net : Network
    data : TrainingData
    config : FitConfig

    Raises
    ------
    ValueError, TypeError
        Bad arguments, before anything is trained.
    DivergenceError
        See `Network.fit`.
    """
    _check_optimizer(net, config.optimizer)
    _check_dropout(net, config, len(data.indices))
    training = Training(net, config, *data)
    with ctrl_c_sets_flag(training), contextlib.closing(training.display):
        training.call("on_fit_start")
        # From here on no argument is refused any more.
        net.use_optimizer(type(config.optimizer).__name__)
        bin_edges.set_missing(net, data)
        data_init.complete(net, data)
        try:
            if isinstance(config.optimizer, LBFGS):
                minimise(training, config.optimizer)
            else:
                MiniBatchLoop(training, config.optimizer).run()
        finally:
            training.call("on_fit_end")
    return training.history


def _check_dropout(net: NetworkProtocol, config: FitConfig, n: int) -> None:
    """ValueError where a scheduled rate of dropout leaves [0, 1) while n samples are trained on."""
    kept = net.optimizer_kind == type(config.optimizer).__name__
    first = net.state.optimizer_step if kept else 0
    steps = config.epochs * -(-config.samples_per_epoch(n) // config.batch_size)
    if isinstance(config.optimizer, LBFGS):  # which counts none
        steps = 1
    net.program.dropout_rates(first, min(steps, _CHECKED_STEPS))


def _check_optimizer(net: NetworkProtocol, optimizer: Optimizer | LBFGS) -> None:
    """ValueError where the network cannot be trained by this optimiser."""
    epsilon = getattr(optimizer, "epsilon", None)
    if epsilon is not None and epsilon < np.finfo(net.dtype).tiny:
        raise ValueError(f"epsilon of the optimizer is {epsilon:g}, which is 0 in {net.dtype}")
    if isinstance(optimizer, LBFGS) and net.program.ops["max_norm"].any():
        raise ValueError("LBFGS cannot keep max_norm; use another optimizer, or l2")
