"""More hidden layers do not help a sigmoid network trained by plain gradient descent.

Source: Nielsen, Neural Networks and Deep Learning, chapter 5: "The vanishing gradient problem".
Hidden layers of 30 sigmoids, cross-entropy, mini-batches of 10, η = 0.1, λ = 5, 30 epochs on 50,000
images; accuracy on the 10,000 validation images.

Expected: 96.48 % with one hidden layer, 96.90 % with two, 96.57 % with three and 96.53 % with four,
one run each. An independent reproduction over 8 seeds has 96.47 ± 0.17, 96.91 ± 0.14, 96.49 ± 0.17
and 96.29 ± 0.16 %.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.book import BOOK, network
from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most, close
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EPOCHS, _BATCH, _RATE = 30, 10, 0.1
# λ/n of the book, kept on fewer images: λ itself would weigh ten times as much on their few steps.
_L2 = 5.0 / 50_000
_BOOKS = {1: 96.48, 2: 96.90, 3: 96.57, 4: 96.53}
_REPRODUCED = {1: 96.47, 2: 96.91, 3: 96.49, 4: 96.29}
_SAMPLES_BOUND = 85.0  # % in quick mode: a tenth of the images


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's.

    No accuracy is published for these: a plain bound stands for the book's figures.
    """
    seeds = 3 if quick else 8
    curves = {
        depth: np.array([_accuracies(depth, seed, data) for seed in range(seeds)])
        for depth in _BOOKS
    }
    final = {depth: curve[:, -1].mean() for depth, curve in curves.items()}
    checks = [check for depth in _BOOKS for check in _accuracy_checks(quick, depth, final[depth])]
    gained, name = final[4] - final[2], "4 hidden layers against 2: % gained"
    books = _BOOKS[4] - _BOOKS[2]
    checks.append(
        at_most(name, f"{BOOK}, no help", 0.0, gained)
        if quick
        else close(name, BOOK, books, gained, absolute=0.5)
    )
    return ExperimentResult(
        checks,
        {
            depth: {"accuracy": curve.mean(axis=0), "final": curve[:, -1]}
            for depth, curve in curves.items()
        },
    )


def draw(result: ExperimentResult) -> "Figure":
    """Accuracy over epochs, and at the end by depth."""
    from fastnn import plotting

    figure, (left, right) = plotting.new_axes(1, 2)
    names = {depth: f"{depth} hidden layer{'s' if depth > 1 else ''}" for depth in result.series}
    curves = {names[depth]: series["accuracy"] for depth, series in result.series.items()}
    plotting.lines(curves, np.arange(1, _EPOCHS + 1), "epoch", "validation accuracy, %", ax=left)
    highest = max(curve.max() for curve in curves.values())
    left.set(title="Mean over seeds", ylim=(highest - 8, highest + 0.5))
    for depth, series in result.series.items():
        label = "a seed" if depth == 1 else None
        right.plot(
            np.full(len(series["final"]), depth),
            series["final"],
            "o",
            color=plotting.COLOURS[0],
            mfc="none",
            label=label,
        )
    means = [series["final"].mean() for series in result.series.values()]
    right.plot(list(result.series), means, color=plotting.COLOURS[0], label="mean")
    if highest > min(_BOOKS.values()) - 1:  # on all of MNIST
        right.plot(
            list(_BOOKS),
            list(_BOOKS.values()),
            "s--",
            color=plotting.COLOURS[1],
            label="the book's run",
        )
    right.set(
        title="After 30 epochs",
        xlabel="hidden layers",
        ylabel="validation accuracy, %",
        xticks=list(_BOOKS),
    )
    right.legend(frameon=False)
    return figure


def _accuracies(depth, seed, data):
    """% of the validation images after each epoch."""
    X, y = data.train
    net = network(depth, seed, l2=_L2)
    history = net.fit(X, y, _EPOCHS, _BATCH, SGD(_RATE), validation=data.validation, progress=False)
    return 100.0 * np.array(history["val_accuracy"])


def _accuracy_checks(quick, depth, mean):
    name = f"{depth} hidden layer{'s' if depth > 1 else ''}: % accuracy"
    if quick:
        return [
            at_least(
                f"{name} on the sample", "own bound for a tenth of the images", _SAMPLES_BOUND, mean
            )
        ]
    return [
        close(name, BOOK, _BOOKS[depth], mean, absolute=0.4),
        close(
            f"{name}, beside a reproduction",
            "reproduction over 8 seeds",
            _REPRODUCED[depth],
            mean,
            absolute=0.25,
        ),
    ]
