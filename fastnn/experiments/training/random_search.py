"""Guessing weights at random, beside a second of gradient descent.

Source: ml4a, How neural networks are trained: "A needle in a hyper-dimensional haystack" and
"n-dimensional space is a lonely place".

Expected: to try ten values of each of N weights takes 10^N samples, 100 for two weights and 1,000
for three. The network [784, 15, 10] has 784·15 + 15·10 = 11,910 weights and 25 biases, 11,935
parameters in all: 10^11935 samples, where the universe has 10^80 atoms.
"""

import time
from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most, close
from fastnn.models import mlp
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZES = [784, 15, 10]
_IMAGES = 1000  # each guess is scored on
_SECONDS = 1.0  # of gradient descent
_UNIVERSE = 4.35e17  # its age in seconds
_SOURCE = "ml4a, n-dimensional space"


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode makes 3,000 guesses instead of 50,000."""
    guesses = 3_000 if quick else 50_000
    started = time.perf_counter()
    accuracies, best = _guess(guesses, *data.first(_IMAGES))
    guessing = time.perf_counter() - started
    descent, trained = _descend(data)
    n = best.n_parameters
    guessed, learnt = (net.evaluate(*data.test)["accuracy"] for net in (best, trained))
    weights = sum(
        values.size for name, values in best.parameters.items() if name.endswith("weight")
    )
    checks = [
        close("weights of [784, 15, 10]", _SOURCE, 11_910, weights),
        close("parameters of [784, 15, 10]", _SOURCE, 11_935, n),
        at_most(
            f"test accuracy of the best of {guesses:,} guesses",
            "our bound: no digit reader",
            0.5,
            guessed,
        ),
        at_least("test accuracy after a second of gradient descent", "our bound", 0.85, learnt),
    ]
    records = np.flatnonzero(np.diff(np.maximum.accumulate(accuracies), prepend=-1.0))
    series = {
        "guess": [*records + 1, guesses],
        "best_accuracy": [*accuracies[records], accuracies.max()],
        "guesses_per_second": guesses / guessing,
        "guessing_seconds": guessing,
        "accuracies": np.histogram(accuracies, np.linspace(0, 0.5, 51))[0],
        "descent": descent,
        "test_accuracy": {"best guess": guessed, "gradient descent": learnt},
        "parameters": n,
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """The best guess so far beside a second of descent, and how long an exhaustive search takes."""
    from fastnn import plotting

    series = result.series
    figure, (left, right) = plotting.new_axes(1, 2)
    times = np.array(series["guess"]) / series["guesses_per_second"]
    left.step(
        times,
        series["best_accuracy"],
        where="post",
        label="best guess so far",
        linewidth=1.8,
        **plotting.line_style(0),
    )
    left.plot(
        series["descent"]["seconds"],
        series["descent"]["accuracy"],
        label="gradient descent",
        linewidth=1.8,
        **plotting.line_style(1),
    )
    left.axhline(0.1, color="black", linewidth=0.8, linestyle=":", label="chance")
    left.set(
        title=f"[784, 15, 10] on {_IMAGES:,} training images",
        xlabel="seconds",
        ylabel="accuracy",
        xscale="log",
        ylim=(0, 1.02),
    )
    left.legend(frameon=False)
    n = np.arange(1, 41)
    plotting.lines(
        {"measured rate": 10.0**n / series["guesses_per_second"]},
        n,
        "weights N",
        "seconds for 10ᴺ guesses",
        log=True,
        ax=right,
    )
    right.axhline(_UNIVERSE, color=plotting.COLOURS[1], linestyle="--")
    right.text(1, _UNIVERSE * 3, "age of the universe")
    right.set(title=f"Trying ten values of each weight; this network has {series['parameters']:,}")
    return figure


def _guess(guesses, X, y):
    """The accuracy of each guess, parameters from N(0, 1), and the network of the best."""
    accuracies = np.zeros(guesses)
    best = _random_network(0)
    for guess in range(guesses):
        net = _random_network(guess)
        accuracies[guess] = np.mean(net.forward(X).argmax(axis=1) == y)
        if accuracies[guess] >= accuracies.max():
            best = net
    return accuracies, best


def _random_network(seed):
    return mlp(_SIZES, activation="sigmoid", init="standard_normal", seed=seed)


class _Clock:
    """A callback that scores the network after each epoch and stops after `_SECONDS`."""

    def __init__(self, X, y):
        self._data, self.seconds, self.accuracy = (X, y), [], []

    def on_epoch_end(self, training):
        self.seconds.append(sum(training.history["seconds"]))
        self.accuracy.append(training.net.evaluate(*self._data)["accuracy"])
        if self.seconds[-1] >= _SECONDS:
            training.stop("time is up")


def _descend(data):
    net, clock = mlp(_SIZES, activation="sigmoid"), _Clock(*data.first(_IMAGES))
    net.fit(*data.train, epochs=10_000, batch_size=10, optimizer=SGD(0.3), callbacks=[clock])
    return {"seconds": clock.seconds, "accuracy": clock.accuracy}, net
