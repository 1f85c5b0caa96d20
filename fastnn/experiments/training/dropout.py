"""Dropout: training and test accuracy for rates from 0 to 0.8.

Source: "Deep neural networks" (a blog on cures for vanishing and exploding gradients and
overfitting), dropout; ml4a, How neural networks are trained: "Dropout"; Srivastava et al. 2014.

Expected: while training, each unit is left out with the rate as its probability, on every pass
anew; the survivors are scaled by 1/(1 − rate), so that the mean stays and prediction needs no
scaling. Rates of 20–50 % are usual, and one of them gives the best test accuracy of a network that
overfits; training accuracy falls as the rate grows.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most, close
from fastnn.models import mlp
from fastnn.network import Network
from fastnn.nn.layers import Dense, Dropout
from fastnn.optim.optimizers import SGD, Adam

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RATES = np.arange(9) / 10
_HIDDEN = [200, 200]
_BATCH, _RATE = 50, 1e-3
_UNITS = 100_000  # on which masks are measured
_SOURCE = "ml4a, Dropout"


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode trains 3 seeds on 500 images for 40 epochs instead of 8 on 1,000 for 100.

    These are too few to name the best rate.
    """
    seeds, images, epochs = (3, 500, 40) if quick else (8, 1000, 100)
    X, y = data.first(images)
    accuracy = np.array(
        [[_train(X, y, data.test, rate, epochs, seed) for seed in range(seeds)] for rate in _RATES]
    )
    train, test = np.median(accuracy, axis=1).T  # a single run may stop at a spike of Adam's
    usual = (_RATES >= 0.2) & (_RATES <= 0.5)
    noise = 0.01 if quick else 0.0  # of the median of few runs, on few test images
    masks = {rate: _mask(rate) for rate in _RATES}
    shares = np.array([np.mean(mask == 0) for mask in masks.values()])
    means = np.array([mask.mean() for mask in masks.values()])
    checks = [
        *_mask_checks(shares, means),
        *(
            []
            if quick
            else [
                Check(
                    "rate of the best test accuracy",
                    f"{_SOURCE}, 20–50 %",
                    "0.2 to 0.5",
                    float(_RATES[test.argmax()]),
                    0.2,
                    0.5,
                )
            ]
        ),
        at_least(
            "test accuracy, best of 20–50 % less none",
            f"{_SOURCE}, in words",
            -noise,
            test[usual].max() - test[0],
        ),
        at_least(
            "training accuracy, none less 80 %",
            f"{_SOURCE}, in words; our bound",
            0.003,
            train[0] - train[-1],
        ),
    ]
    series = {
        "rates": _RATES,
        "train": train,
        "test": test,
        "each": accuracy,
        "images": images,
        "shares": shares,
        "means": means,
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """Accuracy by rate, the median over seeds among the single ones."""
    from fastnn import plotting

    series = result.series
    figure, (left, right) = plotting.new_axes(1, 2)
    for number, (ax, part) in enumerate(((left, "train"), (right, "test"))):
        each = 100 * np.asarray(series["each"])[:, :, number]
        ax.plot(
            series["rates"],
            each,
            ".",
            color="0.65",
            label=["one seed", *[None] * (each.shape[1] - 1)],
        )
        style = {
            "label": "median",
            "marker": plotting.MARKERS[number],
            **plotting.line_style(number),
        }
        ax.plot(series["rates"], 100 * np.asarray(series[part]), **style)
        ax.set(xlabel="dropout rate", ylabel="accuracy in %")
        ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    left.set(title=f"On the {series['images']:,} training images")
    right.axvspan(0.2, 0.5, color="0.94", zorder=0)
    right.set(title="On test images; shaded: the usual 20–50 %")
    return figure


def _train(X, y, test, rate, epochs, seed):
    """Accuracy on the training and on the test images."""
    net = mlp([X.shape[1], *_HIDDEN, 10], dropout=rate, seed=seed)
    net.fit(X, y, epochs=epochs, batch_size=_BATCH, optimizer=Adam(_RATE))
    return net.evaluate(X, y)["accuracy"], net.evaluate(*test)["accuracy"]


def _mask_checks(shares, means):
    """Shares of units left out, and means of the scaled masks, for each rate."""
    return [
        at_most(
            "share of units left out, less the rate: largest",
            f"{_SOURCE}, at random",
            0.01,
            np.abs(shares - _RATES).max(),
        ),
        close(
            "mean of the scaled masks: farthest from 1",
            "inverted dropout",
            1.0,
            means[np.abs(means - 1).argmax()],
            absolute=0.03,
        ),
        at_most(
            "units left out twice, beside chance",
            f"{_SOURCE}, anew on every pass",
            0.01,
            _repetition(),
        ),
    ]


def _masker(rate):
    """A network whose gradient is the mask.

    With weights of zero and the target −1, ∂C/∂wᵢ is the i-th input times its mask.
    """
    return Network(
        [Dropout(rate), Dense(1, init="zeros", bias=False)], inputs=_UNITS, loss="quadratic"
    )


def _mask(rate, passes=0):
    """The scaled mask of the next training pass, after so many."""
    net, X, y = _masker(rate), np.ones((1, _UNITS), np.float32), np.array([[-1.0]])
    for _ in range(passes):
        net.fit(X, y, optimizer=SGD(0.0))
    return net.gradients(X, y, training=True)[1]["1.weight"][:, 0]


def _repetition(rate=0.5):
    """How much more often than by chance a unit is left out in two passes in a row."""
    first, second = (_mask(rate, passes) == 0 for passes in (0, 1))
    return abs(np.mean(first & second) - rate**2)
