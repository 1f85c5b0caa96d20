"""Batch normalisation makes a deep network learn where it did not, and learn faster where it did.

Source: "Deep neural networks" (a blog on cures for vanishing and exploding gradients and
overfitting), after Ioffe & Szegedy 2015: each column of a mini-batch becomes (x − μ)/√(σ² + ε), a
learned scale and shift follow; it is added as a layer of its own. Prediction uses moving averages
of μ and σ². Ba, Kiros & Hinton 2016 take μ and σ² over the units of a sample instead (layer
normalisation). Here: ten hidden layers of 64 units, normalised before the activation, plain
gradient descent; the rate is one of two that were tried.

Expected: training takes fewer epochs with BatchNorm. Sigmoids, which stay at chance without it,
learn. The cause: the spread over samples shrinks from layer to layer, while BatchNorm restores a
standard deviation of 1 over the samples in each. Normalising over units does not, and with sigmoids
LayerNorm stays at chance (our own finding). In prediction the output for a sample does not depend
on the samples beside it, and the moving averages stand for the statistics of a batch.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most, close
from fastnn.network import Network
from fastnn.nn.layers import Activation, BatchNorm, Dense, LayerNorm
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ACTIVATIONS = ("sigmoid", "tanh", "relu")
_NORMS = {"none": (), "BatchNorm": (BatchNorm(),), "LayerNorm": (LayerNorm(),)}
_HIDDEN, _UNITS, _RATE, _BATCH = 10, 64, 0.05, 64
_IMAGES = 1000  # of which statistics are taken
_CURES, _CHANCE = "blog on cures", 12.0


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's, with a lower bound on what they can teach."""
    epochs, seeds, bound = (10, 1, 70.0) if quick else (5, 3, 90.0)
    nets = {
        (activation, norm): [_network(activation, norm, seed) for seed in range(seeds)]
        for activation in _ACTIVATIONS
        for norm in _NORMS
    }
    curves = {
        key: np.mean([_accuracies(net, data, epochs) for net in copies], axis=0)
        for key, copies in nets.items()
    }
    spread = {norm: _spread(norm, data) for norm in _NORMS}
    checks = [
        *_learning_checks(curves, spread, bound),
        *_prediction_checks(nets["relu", "BatchNorm"][0], data),
    ]
    accuracy = {
        activation: {norm: curves[activation, norm] for norm in _NORMS}
        for activation in _ACTIVATIONS
    }
    return ExperimentResult(checks, {"accuracy": accuracy, "spread": spread})


def draw(result: ExperimentResult) -> "Figure":
    """Accuracy by epoch for each activation, and the spread over samples in each layer."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(2, 2, size=(13, 9))
    for ax, (activation, curves) in zip(
        axes.ravel(), result.series["accuracy"].items(), strict=False
    ):
        epochs = np.arange(1, 1 + len(curves["none"]))
        plotting.lines(curves, epochs, "epoch", "test accuracy, %", ax=ax)
        ax.set(title=f"{activation}, {_HIDDEN} hidden layers", ylim=(0, 103), xticks=epochs)
    layers = np.arange(1, _HIDDEN + 1)
    ylabel = "standard deviation over samples"
    plotting.lines(result.series["spread"], layers, "hidden layer", ylabel, log=True, ax=axes[1, 1])
    axes[1, 1].set(title="sigmoid, before the activation, at the start", xticks=layers)
    return figure


def _network(activation, norm, seed, layer=None):
    """`_HIDDEN` times Dense, normalisation and activation, and a softmax of 10 classes."""
    block = [Dense(_UNITS), *(_NORMS[norm] if layer is None else (layer,)), Activation(activation)]
    return Network(
        block * _HIDDEN + [Dense(10)], inputs=784, loss="softmax_cross_entropy", seed=seed
    )


def _accuracies(net, data, epochs):
    """% of the test images after each epoch."""
    history = net.fit(*data.train, epochs, _BATCH, SGD(_RATE), validation=data.test, progress=False)
    return 100.0 * np.array(history["val_accuracy"])


def _spread(norm, data):
    """Standard deviation over samples of what goes into each sigmoid, mean over units."""
    X, y = data.first(_IMAGES)
    net = _network("sigmoid", norm, 0, BatchNorm(momentum=1.0) if norm == "BatchNorm" else None)
    # moves the running averages only, here to the batch's own
    net.fit(X, y, 1, len(X), SGD(0.0), progress=False)
    before_activation = net.activations(X)[-2 :: -2 if norm == "none" else -3][::-1]
    return np.array([outputs.std(axis=0).mean() for outputs in before_activation])


def _learning_checks(curves, spread, bound):
    early = {
        activation: curves[activation, "BatchNorm"][0] - curves[activation, "none"][0]
        for activation in _ACTIVATIONS
    }
    return [
        at_most(
            "sigmoid, no normalisation: % accuracy",
            "Ioffe & Szegedy 2015",
            _CHANCE,
            curves["sigmoid", "none"][-1],
        ),
        at_least(
            "sigmoid, BatchNorm: highest % accuracy",
            "Ioffe & Szegedy 2015; own bound",
            bound,
            curves["sigmoid", "BatchNorm"].max(),
        ),
        at_most(
            "sigmoid, LayerNorm: % accuracy",
            "our own finding",
            _CHANCE,
            curves["sigmoid", "LayerNorm"][-1],
        ),
        *(
            at_least(
                f"{activation}: % gained by BatchNorm in the first epoch",
                f"{_CURES}, shorter training",
                1.0,
                early[activation],
            )
            for activation in _ACTIVATIONS
        ),
        close(
            "BatchNorm: deviation over samples in layer 10, at the start",
            _CURES,
            1.0,
            spread["BatchNorm"][-1],
            absolute=0.02,
        ),
        at_most(
            "no normalisation: the same, ÷ that of layer 1",
            "Ioffe & Szegedy 2015",
            0.01,
            spread["none"][-1] / spread["none"][0],
        ),
    ]


def _prediction_checks(net, data):
    X, y = data.first(_IMAGES)
    in_batch, alone = net.forward(X)[:50], np.vstack([net.forward(x[None]) for x in X[:50]])
    batch_loss, _ = net.gradients(X, y, training=True)
    running_loss = net.evaluate(X, y)["loss"]
    return [
        at_most(
            "prediction: largest relative difference alone and among 1,000",
            _CURES,
            1e-5,
            np.abs(in_batch - alone).max() / np.abs(in_batch).max(),
        ),
        close(
            "loss by moving averages ÷ by the batch's own statistics",
            _CURES,
            1.0,
            running_loss / batch_loss,
            absolute=0.25,
        ),
    ]
