"""How fast each neuron of two hidden layers learns, drawn as a bar beside it.

Source: Nielsen, Neural Networks and Deep Learning, chapter 5: "The vanishing gradient problem", the
picture of [784, 30, 30, 10] just initialised. A bar is |∂C/∂b|, the mean over the first 1,000
training images taken before the absolute value; the six uppermost neurons of each hidden layer are
shown. The book's own values are in its repository and in ``fastnn/_data/nielsen``.

Expected: neurons differ much, but most bars of the second hidden layer are longer than those of the
first: in the book's picture all six of their row, and 3.4 times in the mean.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.book import BOOK, figures, network
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IMAGES, _SHOWN, _SEEDS = 1000, 6, 40


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's."""
    X, y = data.first(_IMAGES)
    bars = np.array([_bars(seed, X, y) for seed in range(_SEEDS)])
    books = figures("initial_gradient")
    means = np.abs(bars).mean(axis=2)
    ratios = means[:, 1] / means[:, 0]
    books_ratio = np.divide(*np.abs(books).mean(axis=1)[::-1])
    below = 100.0 * np.mean(ratios < books_ratio)
    longer = 100.0 * float(np.mean(np.abs(bars[:, 1]) > np.abs(bars[:, 0])))
    checks = [
        Check(
            f"% of seeds whose second layer's bars are less than {books_ratio:.2f} times longer",
            BOOK,
            "2.5 to 97.5",
            below,
            2.5,
            97.5,
        ),
        Check(
            "second layer's bars ÷ first's, median of seeds",
            BOOK,
            books_ratio,
            np.median(ratios),
            books_ratio / 2,
            books_ratio * 2,
        ),
        at_least(
            "% of neurons of the second layer with a longer bar than their neighbour's",
            f"{BOOK}, most",
            75.0,
            longer,
        ),
    ]
    return ExperimentResult(checks, {"ours": bars[0], "book": books, "ratios": ratios})


def draw(result: ExperimentResult) -> "Figure":
    """Our network's bars beside the book's."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(1, 2, size=(11, 4.5))
    for ax, name, title in zip(
        axes, ("ours", "book"), ("This run, seed 0", "The book's run"), strict=True
    ):
        plotting.neuron_bars(result.series[name], ax=ax)
        ax.set_title(title)
    return figure


def _bars(seed, X, y):
    """∂C/∂b of the neurons shown, (layers, neurons)."""
    _, gradients = network(2, seed).gradients(X, y)
    return np.array([gradients[f"{layer}.bias"][:_SHOWN] for layer in (0, 1)])
