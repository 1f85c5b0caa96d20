"""Batch, stochastic and mini-batch gradient descent: one call, three values of batch_size.

Source: ml4a, How neural networks are trained: "Stochastic, batch, and mini-batch gradient descent".

Expected: with K = 1 it is stochastic descent, with K = n batch descent, between them mini-batch
descent. Batch descent is slow: data are redundant, so that a part of them gives nearly the whole
gradient. Mini-batches are smoother than single samples (the error of a mean of K samples falls as
1/√K) and, as products of matrices, cheaper a sample. The source has no figures.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most, close
from fastnn.models import mlp
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZES = [784, 30, 10]
_RATES = (0.1, 0.3, 1.0, 3.0)  # each size has the one of these that suits it best
_MINI = 32
_DRAWS = 100  # mini-batches from which the error of a gradient is estimated
_SOURCE = "ml4a, batch, stochastic and mini-batch"


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode has 4,500 images and 20 epochs instead of 50,000 and 10."""
    X, y = data.train
    epochs = 20 if quick else 10
    names = {
        "stochastic, K = 1": 1,
        f"mini-batch, K = {_MINI}": _MINI,
        f"batch, K = n = {len(X):,}": len(X),
    }
    # The first training of a process loads the engine, which is not to be timed.
    _train(X, y, _MINI, 1, _RATES[0])
    runs = {
        name: [_train(X, y, size, epochs, rate) for rate in _RATES] for name, size in names.items()
    }
    curves = {name: min(tried, key=lambda curve: curve["loss"][-1]) for name, tried in runs.items()}
    sizes = [1, 4, 16, 64, 256]
    errors = _gradient_errors(X, y, sizes)
    per_sample = {
        name: float(np.median(curve["seconds"])) / len(X) for name, curve in curves.items()
    }
    checks = _checks(X, y, curves, errors, per_sample)
    return ExperimentResult(
        checks,
        {
            "curves": curves,
            "n": len(X),
            "sizes": sizes,
            "errors": errors,
            "seconds_per_sample": per_sample,
        },
    )


def draw(result: ExperimentResult) -> "Figure":
    """Loss against samples and against seconds, and the error of a mini-batch's gradient."""
    from fastnn import plotting

    series = result.series
    figure, axes = plotting.new_axes(1, 3, (16.0, 4.4))
    for number, (name, curve) in enumerate(series["curves"].items()):
        style = {
            "label": f"{name}, η = {curve['rate']:g}",
            "linewidth": 1.8,
            **plotting.line_style(number),
        }
        epochs = np.arange(1, 1 + len(curve["loss"]))
        axes[0].plot(epochs * series["n"] / 1000, curve["loss"], **style)
        axes[1].plot(np.cumsum(curve["seconds"]), curve["loss"], **style)
    axes[0].set(
        title="Against samples seen",
        xlabel="thousands of samples",
        ylabel="training loss",
        yscale="log",
    )
    axes[1].set(title="Against time", xlabel="seconds", ylabel="training loss", yscale="log")
    axes[1].legend(frameon=False, handlelength=2.8)
    sizes, errors = np.array(series["sizes"]), np.array(series["errors"])
    noise = {"measured": errors, "∝ 1/√K": errors[1] * np.sqrt(sizes[1] / sizes)}
    plotting.lines(
        noise, sizes, "K", "‖gradient of K samples − of all‖ / ‖of all‖", log=True, ax=axes[2]
    )
    axes[2].set(title="Error of a mini-batch's gradient", xscale="log")
    axes[2].set_xticks(sizes, [str(size) for size in sizes])
    axes[2].set_xticks([], minor=True)
    return figure


def _checks(X, y, curves, errors, per_sample):
    stochastic, mini, batch = curves.values()
    return [
        at_most(
            "step with K = n against the gradient of all samples",
            f"{_SOURCE}, K = n",
            1e-6,
            _step_error(X, y),
        ),
        close(
            "fall of the gradient's error from K = 4 to K = 256",
            "1/√K of a mean",
            8.0,
            errors[1] / errors[4],
            relative=0.15,
        ),
        at_least(
            "loss after as many samples, K = n over K = 1",
            f"{_SOURCE}, in words",
            1.0,
            batch["loss"][-1] / stochastic["loss"][-1],
        ),
        at_least(
            "loss after as many samples, K = n over mini-batch",
            f"{_SOURCE}, in words",
            1.0,
            batch["loss"][-1] / mini["loss"][-1],
        ),
        at_least(
            "seconds a sample, K = 1 over mini-batch",
            f"{_SOURCE}, in words",
            1.0,
            _ratio(per_sample),
        ),
    ]


def _train(X, y, batch_size, epochs, rate):
    """The loss of all samples after each epoch, and the epoch's seconds."""
    net, losses = mlp(_SIZES, activation="sigmoid"), []
    scored = _Scorer(X, y, losses)
    history = net.fit(
        X, y, epochs=epochs, batch_size=batch_size, optimizer=SGD(rate), callbacks=[scored]
    )
    return {"rate": rate, "loss": losses, "seconds": history["seconds"]}


class _Scorer:
    """A callback that scores the network after each epoch.

    `History` has the mean over an epoch's mini-batches, which lags by half an epoch.
    """

    def __init__(self, X, y, losses):
        self._data, self._losses = (X, y), losses

    def on_epoch_end(self, training):
        self._losses.append(training.net.evaluate(*self._data)["loss"])


def _step_error(X, y):
    """Relative distance of a step with K = n and η = 1 from minus the gradient of all samples."""
    net = mlp(_SIZES, activation="sigmoid", dtype="float64")
    _, gradients = net.gradients(X, y)
    before = {name: values.copy() for name, values in net.parameters.items()}
    net.fit(X, y, batch_size=len(X), optimizer=SGD(1.0))
    return max(
        np.abs(net.parameters[name] - before[name] + gradient).max() / np.abs(gradient).max()
        for name, gradient in gradients.items()
    )


def _gradient_errors(X, y, sizes):
    """Root mean square of ‖gradient of K random samples − of all‖ / ‖of all‖, for each K."""
    net, rng = mlp(_SIZES, activation="sigmoid"), np.random.default_rng(0)
    whole = _flat(net.gradients(X, y))
    errors = np.zeros(len(sizes))
    for i, size in enumerate(sizes):
        draws = rng.integers(len(X), size=(_DRAWS, size))
        errors[i] = np.sqrt(
            np.mean(
                [np.sum((_flat(net.gradients(X[rows], y[rows])) - whole) ** 2) for rows in draws]
            )
        )
    return errors / np.linalg.norm(whole)


def _flat(loss_and_gradients):
    return np.concatenate([gradient.ravel() for gradient in loss_and_gradients[1].values()])


def _ratio(per_sample):
    stochastic, mini, _ = per_sample.values()
    return stochastic / mini
