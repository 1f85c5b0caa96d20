"""Early layers of a deep sigmoid network learn slower than later ones, at the start and all along.

Source: Nielsen, Neural Networks and Deep Learning, chapter 5: "The vanishing gradient problem".
Learning speed of hidden layer l: ‖δˡ‖₂, δˡ the mean of ∂C/∂bˡ over the first 1,000 training images.
Curves: full-batch gradient descent on these for 500 epochs, η = 0.1, λ = 5; the book's own are in
its repository and in ``fastnn/_data/nielsen``.

Expected: at the start, the book's networks had 0.07, 0.31 with two hidden layers, 0.012, 0.060,
0.283 with three and 0.003, 0.017, 0.070, 0.285 with four. Seeds differ: medians of an independent
reproduction over 200 of them are 0.060, 0.294; 0.0118, 0.0567, 0.296; 0.0024, 0.0117, 0.0598,
0.298. With four, the first layer learns about 100 times slower than the last. The curves fall
steeply, the layers stay in order, and the median of 20 seeds is within a factor of 2 of the book's
one run at epochs 0, 10, 50, 100 and 499.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.book import BOOK, figures, network
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most, close
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IMAGES, _RATE, _LAMBDA = 1000, 0.1, 5.0
# at which speeds are measured
_EPOCHS = np.array([*range(11), *range(12, 50, 2), *range(50, 100, 5), *range(100, 500, 20), 499])
_SEEDS = 40  # for the speeds at the start
_AT = np.flatnonzero(np.isin(_EPOCHS, (0, 10, 50, 100, 499)))  # where curves are compared
_FALLEN = np.flatnonzero(_EPOCHS == 50)  # where the steep fall is over
_BOOKS_SPEEDS = {2: (0.07, 0.31), 3: (0.012, 0.060, 0.283), 4: (0.003, 0.017, 0.070, 0.285)}
_MEDIANS = {2: (0.060, 0.294), 3: (0.0118, 0.0567, 0.296), 4: (0.0024, 0.0117, 0.0598, 0.298)}


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's and the curves those of 5 seeds.

    A factor of 3 from the book's curves is then allowed.
    """
    X, y = data.first(_IMAGES)
    seeds, factor = (5, 3.0) if quick else (20, 2.0)
    checks, series = [], {}
    for depth in _BOOKS_SPEEDS:
        start = np.array([network(depth, seed).learning_speed(X, y) for seed in range(_SEEDS)])
        curves = np.array([_curve(depth, seed, X, y) for seed in range(seeds)])
        reference = figures(f"norms_during_training_{depth}_layers")[_EPOCHS]
        checks += _start_checks(depth, start) + _curve_checks(
            depth, np.median(curves, axis=0), reference, seeds, factor
        )
        low, median, high = np.percentile(curves, [2.5, 50, 97.5], axis=0)
        series[depth] = {
            "start": start,
            "median": median,
            "low": low,
            "high": high,
            "book": reference,
        }
    slowest = series[4]["start"][:, -1] / series[4]["start"][:, 0]
    checks.append(
        Check(
            "4 hidden layers: last layer's speed ÷ first's",
            f"{BOOK}, about 100",
            100.0,
            np.median(slowest),
            50.0,
            200.0,
        )
    )
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """Curves of the layers, ours and the book's, for each depth."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(1, len(result.series), size=(15, 4.6))
    for ax, (depth, series) in zip(axes, result.series.items(), strict=True):
        for layer in range(depth):
            style, marker = plotting.line_style(layer), plotting.MARKERS[layer]
            ax.fill_between(
                _EPOCHS,
                series["low"][:, layer],
                series["high"][:, layer],
                color=style["color"],
                alpha=0.12,
                linewidth=0,
            )
            label = f"hidden layer {layer + 1}"
            ax.plot(
                _EPOCHS,
                series["median"][:, layer],
                color=style["color"],
                marker=marker,
                markevery=12,
                markersize=5,
                label=label,
            )
            ax.plot(
                _EPOCHS,
                series["book"][:, layer],
                color=style["color"],
                linestyle="--",
                linewidth=1.0,
            )
        ax.plot([], [], color="black", linestyle="--", linewidth=1.0, label="the book's run")
        ax.set(
            title=f"{depth} hidden layers",
            xlabel="epoch",
            ylabel="learning speed ‖δ‖₂",
            yscale="log",
        )
        ax.legend(frameon=False, fontsize="small")
    figure.suptitle("Learning speed: median and 95 % band of seeds, beside the book's")
    return figure


def _curve(depth, seed, X, y):
    """Speeds after each number of epochs of `_EPOCHS`, (epochs, layers)."""
    net = network(depth, seed, l2=_LAMBDA / len(X))
    speeds = [net.learning_speed(X, y)]
    for before, after in pairwise(_EPOCHS):
        net.fit(X, y, int(after - before), batch_size=len(X), optimizer=SGD(_RATE), progress=False)
        speeds.append(net.learning_speed(X, y))
    return np.array(speeds)


def _start_checks(depth, start):
    checks = []
    for layer, (books, median) in enumerate(
        zip(_BOOKS_SPEEDS[depth], _MEDIANS[depth], strict=True)
    ):
        speeds, name = start[:, layer], f"{depth} hidden layers, layer {layer + 1}"
        below = 100.0 * np.mean(speeds < books)
        checks += [
            close(
                f"{name}: median speed at the start",
                "reproduction over 200 seeds",
                median,
                np.median(speeds),
                relative=0.25,
            ),
            Check(
                f"{name}: % of seeds below the book's {books}",
                BOOK,
                "2.5 to 97.5",
                below,
                2.5,
                97.5,
            ),
        ]
    return checks


def _curve_checks(depth, median, reference, seeds, factor):
    distance = np.exp(np.abs(np.log(median[_AT] / reference[_AT]))).max()
    ordered = (median[_AT, 1:] / median[_AT, :-1]).min()
    fall, books_fall = (
        np.exp(np.log(curve[0] / curve[_FALLEN]).mean()) for curve in (median, reference)
    )
    name, source = f"{depth} hidden layers", f"{BOOK}, its repository's curves"
    return [
        at_most(
            f"{name}: factor between median of {seeds} seeds and the book's curve",
            source,
            factor,
            distance,
        ),
        at_least(f"{name}: least ratio of a layer's speed to the one before", source, 1.0, ordered),
        Check(
            f"{name}: fall by epoch 50",
            source,
            books_fall,
            fall,
            books_fall / factor,
            books_fall * factor,
        ),
    ]
