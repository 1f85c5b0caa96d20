"""Choosing the learning rate by ten-fold cross-validation, with the test set used once.

Source: ml4a, How neural networks are trained: "Cross-validation and hyperparameter selection".

Expected: 70–80 % of the samples train, and validation and test set share the rest. In
cross-validation ten subsets of equal size take turns as the validation set; the setting with the
best mean is trained on all ten and scored on the test set, once. That score is in line with the
mean over the folds. The source has no figures.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.data.splits import k_fold, train_validation_test_split
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_most, close
from fastnn.models import mlp
from fastnn.optim.optimizers import Adam

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOLDS = 10
_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # of Adam: what is to be chosen
_HIDDEN, _EPOCHS, _BATCH = 30, 20, 20
_SOURCE = "ml4a, Cross-validation"


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode chooses with 600 images instead of 3,000."""
    X, y = data.first(600 if quick else 3000)
    folds = k_fold(len(X), _FOLDS)
    accuracy = np.array(
        [
            [
                _train(X[rows], y[rows], rate).evaluate(X[held], y[held])["accuracy"]
                for rows, held in folds
            ]
            for rate in _RATES
        ]
    )
    means, spreads = accuracy.mean(axis=1), accuracy.std(axis=1, ddof=1)
    chosen = int(means.argmax())
    final = _train(X, y, _RATES[chosen]).evaluate(*data.test)["accuracy"]
    uncertainty = np.sqrt(spreads[chosen] ** 2 / _FOLDS + final * (1 - final) / len(data.test[0]))
    checks = [
        *_share_checks(X, y),
        *_fold_checks(folds, len(X)),
        close(
            "accuracy on the test set beside that over folds",
            "3 standard errors",
            means[chosen],
            final,
            absolute=3 * uncertainty,
        ),
    ]
    series = {
        "rates": _RATES,
        "accuracy": accuracy,
        "mean": means,
        "standard_error": spreads / np.sqrt(_FOLDS),
        "chosen": _RATES[chosen],
        "test_accuracy": final,
        "samples": len(X),
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """Accuracy of each setting over the folds, and that of the chosen one on the test set."""
    from fastnn import plotting

    series = result.series
    figure, ax = plotting.new_axes(size=(7.5, 4.6))
    places, accuracy = np.arange(len(series["rates"])), 100 * np.asarray(series["accuracy"])
    ax.plot(
        np.repeat(places, _FOLDS),
        accuracy.ravel(),
        "o",
        color="0.65",
        markersize=4,
        label="one fold",
    )
    means, errors = 100 * np.asarray(series["mean"]), 100 * np.asarray(series["standard_error"])
    ax.errorbar(
        places,
        means,
        errors,
        label="mean of ten folds ± standard error",
        marker="s",
        capsize=4,
        **plotting.line_style(0),
    )
    chosen = list(series["rates"]).index(series["chosen"])
    test = 100 * series["test_accuracy"]
    ax.plot(
        chosen,
        test,
        "*",
        color=plotting.COLOURS[1],
        markeredgecolor="black",
        markersize=16,
        zorder=5,
        label=f"test set, once: {test:.1f} %",
    )
    ax.set_xticks(places, [f"{rate:g}" for rate in series["rates"]])
    ax.set(
        title=f"Ten-fold cross-validation on {series['samples']:,} images",
        xlabel="learning rate",
        ylabel="accuracy in %",
    )
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    return figure


def _train(X, y, rate):
    net = mlp([X.shape[1], _HIDDEN, 10])
    net.fit(X, y, epochs=_EPOCHS, batch_size=_BATCH, optimizer=Adam(rate))
    return net


def _fold_checks(folds, n):
    """That the folds of ``n`` samples are of equal size, apart, and take turns."""
    sizes = [len(held) for _, held in folds]
    turns = _turns(folds, n)
    return [
        close("folds", f"{_SOURCE}, for example ten", _FOLDS, len(folds)),
        at_most(
            "largest fold less the smallest",
            f"{_SOURCE}, of equal size",
            1,
            max(sizes) - min(sizes),
        ),
        close(
            "times that each sample validates: most",
            f"{_SOURCE}, in turn",
            1,
            turns.max(),
        ),
        close(
            "times that each sample validates: fewest",
            f"{_SOURCE}, in turn",
            1,
            turns.min(),
        ),
        at_most(
            "samples in a fold's both parts",
            f"{_SOURCE}, apart",
            0,
            sum(len(np.intersect1d(*fold)) for fold in folds),
        ),
    ]


def _turns(folds, n):
    """How often each sample is held out."""
    return np.bincount(np.concatenate([held for _, held in folds]), minlength=n)


def _share_checks(X, y):
    """What `train_validation_test_split` makes of the samples by default."""
    train, validation, test = (len(part) / len(X) for part in train_validation_test_split(X, y)[:3])
    return [
        Check("share that trains", _SOURCE, "0.7 to 0.8", train, 0.7, 0.8),
        close(
            "share that validates over share that tests",
            f"{_SOURCE}, halves of the rest",
            1.0,
            validation / test,
            relative=0.01,
        ),
    ]
