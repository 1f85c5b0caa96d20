"""Data, networks and callbacks that tests of training share."""

import numpy as np
from network_cases import raises as raises

import fastnn as fnn
from fastnn._kernels.tables import OPTIMIZERS

STEPPING = list(OPTIMIZERS)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
LABELS = X[:, :3].argmax(axis=1)
WRONG = (LABELS + 1) % 3  # the better the network learns LABELS, the worse it scores on these
VALUES = X @ RNG.normal(size=(4, 2)) + 1 + 0.1 * RNG.normal(size=(40, 2))


def network(layers=None, loss="softmax_cross_entropy", **options):
    return fnn.Network(
        layers or [fnn.Dense(3)], 4, loss, **{"dtype": "float64", "backend": "numpy", **options}
    )


def noisy(**options):
    """A network with everything that has a state of its own or draws random numbers."""
    return network(
        [
            fnn.Dense(6, "tanh"),
            fnn.BatchNorm(),
            fnn.Dropout(0.3),
            fnn.GaussianNoise(0.1),
            fnn.Dense(3, l2=0.01),
        ],
        **options,
    )


def record_orders(net):
    """The samples in the order in which they are trained on, one list per call of the engine."""
    orders, train = [], net.engine.train_steps
    net.engine.train_steps = lambda state, samples, chunk: (
        orders.append(chunk.order.tolist()) or train(state, samples, chunk)
    )
    return orders


class Recorder:
    """Keeps the hooks called, and the parameters after each epoch."""

    def __init__(self):
        self.hooks, self.parameters = [], []

    def on_fit_start(self, training):
        self.hooks.append("start")

    def on_chunk_end(self, training):
        self.hooks.append("chunk")

    def on_epoch_end(self, training):
        self.hooks.append(f"epoch {training.epoch}")
        self.parameters.append(training.net.state.theta.copy())

    def on_fit_end(self, training):
        self.hooks.append("end")


class At:
    """A callback of one hook: calls ``act(training)`` there."""

    def __init__(self, hook, act):
        setattr(self, hook, act)
