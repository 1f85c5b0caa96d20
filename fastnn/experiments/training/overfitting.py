"""Overfitting, and what holds it back: L2, L1, dropout, noise on the inputs, early stopping.

Source: ml4a, How neural networks are trained: "Overfitting", "Regularization" and "Dropout"; cures
for overfitting also in "Deep neural networks" (a blog on the vanishing gradient's cures).

Expected: with too few samples the training accuracy rises to 100 %, while that on other data
stops rising and their loss turns upwards; that is where to stop. A penalty on large weights (½λΣw²
or λΣ|w|), dropout of 20–50 % and noise on the inputs each keep the loss on other data lower. The
source has no figures: what is compared is each cure with none.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.callbacks import EarlyStopping
from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most
from fastnn.network import Network
from fastnn.nn.layers import Dense, Dropout, GaussianNoise
from fastnn.optim.optimizers import Adam

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HIDDEN, _EPOCHS, _BATCH, _RATE = 100, 100, 20, 1e-3
_PATIENCE = 5
_SOURCE = "ml4a, Overfitting and Regularization"
_CURES = {
    "none": {},
    "L2, λ = 0.005": {"l2": 5e-3},
    "L1, λ = 0.0005": {"l1": 5e-4},
    "dropout, 50 %": {"dropout": 0.5},
    "noise, σ = 0.5": {"noise": 0.5},
}
_STOPPED = "early stopping"


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode trains on 500 images instead of 1,000."""
    X, y = data.first(500 if quick else 1000)
    runs = {name: _train(X, y, data, **cure) for name, cure in _CURES.items()}
    runs[_STOPPED] = _train(X, y, data, callbacks=[EarlyStopping(patience=_PATIENCE)])
    none = runs["none"]
    checks = [
        at_least(
            "no cure: training accuracy",
            f"{_SOURCE}: no error on what was learnt by heart",
            0.999,
            none["train"]["accuracy"],
        ),
        at_least(
            "no cure: training less test accuracy",
            f"{_SOURCE}, in words",
            0.03,
            none["train"]["accuracy"] - none["test"]["accuracy"],
        ),
        at_least(
            "no cure: last validation loss over the lowest",
            f"{_SOURCE}, in words",
            1.05,
            none["val_loss"][-1] / min(none["val_loss"]),
        ),
        *(
            at_most(
                f"{name}: test loss over that without",
                f"{_SOURCE}, in words; our bound",
                0.97,
                other["test"]["loss"] / none["test"]["loss"],
            )
            for name, other in runs.items()
            if other is not none
        ),
    ]
    return ExperimentResult(checks, {"samples": len(X), "runs": runs})


def draw(result: ExperimentResult) -> "Figure":
    """Validation losses over epochs, and what is left at the end."""
    from fastnn import plotting

    runs = result.series["runs"]
    figure, (left, right) = plotting.new_axes(1, 2, (13.0, 4.6))
    longest = max(len(run["val_loss"]) for run in runs.values())
    padded = {
        name: run["val_loss"] + [np.nan] * (longest - len(run["val_loss"]))
        for name, run in runs.items()
    }
    plotting.lines(padded, np.arange(1, 1 + longest), "epoch", "validation loss", ax=left)
    left.plot(
        range(1, 1 + longest),
        runs["none"]["loss"],
        color="0.6",
        linewidth=1.0,
        label="training loss of none",
    )
    left.legend(frameon=False, handlelength=2.8, ncols=2)
    left.set(title=f"Trained on {result.series['samples']:,} images", ylim=(0, None))
    places = np.arange(len(runs))
    for number, (part, label) in enumerate((("train", "training images"), ("test", "test images"))):
        values = [100 * run[part]["accuracy"] for run in runs.values()]
        right.plot(
            places,
            values,
            plotting.MARKERS[number],
            color=plotting.COLOURS[number],
            label=label,
            markersize=8,
        )
        for place, value in zip(places, values, strict=True):
            right.annotate(
                f"{value:.1f}",
                (place, value),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
    right.set_xticks(places, [name.replace(", ", ",\n") for name in runs])
    right.set(title="At the end", ylabel="accuracy in %", ylim=(80, 102))
    right.legend(frameon=False, loc="lower center", ncols=2)
    return figure


def _train(X, y, data, l1=0.0, l2=0.0, dropout=0.0, noise=0.0, callbacks=()):
    """Losses by epoch, and loss without penalty and accuracy at the end."""
    layers = [Dense(_HIDDEN, activation="relu", l1=l1, l2=l2), Dense(10, l1=l1, l2=l2)]
    layers = [
        *([GaussianNoise(noise)] if noise else []),
        layers[0],
        *([Dropout(dropout)] if dropout else []),
        layers[1],
    ]
    net = Network(layers, inputs=X.shape[1], loss="softmax_cross_entropy")
    scorer = _Scorer(data.validation, (X, y))
    net.fit(
        X,
        y,
        epochs=_EPOCHS,
        batch_size=_BATCH,
        optimizer=Adam(_RATE),
        validation=data.validation,
        callbacks=[scorer, *callbacks],
    )
    return {**scorer.losses, "train": _scores(net, X, y), "test": _scores(net, *data.test)}


def _scores(net, X, y):
    """Accuracy, and the loss without penalties."""
    scores = net.evaluate(X, y)
    return {"loss": scores["loss"] - net.penalty(), "accuracy": scores["accuracy"]}


class _Scorer:
    """A callback that keeps losses without penalties, which `History` includes."""

    def __init__(self, validation, train):
        self._sets, self.losses = (
            {"val_loss": validation, "loss": train},
            {"val_loss": [], "loss": []},
        )

    def on_epoch_end(self, training):
        for name, samples in self._sets.items():
            self.losses[name].append(_scores(training.net, *samples)["loss"])
