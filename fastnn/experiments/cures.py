"""A deep sigmoid network that does not learn, and which of the cures makes it learn.

Source: "Deep neural networks" (a blog on cures for vanishing and exploding gradients and overfitting): Glorot, He and LeCun initialisation,
ReLU and its kin, batch normalisation, clipping, momentum, RMSProp and Adam; "Deep residual learning" (residual connections). The network is
that of Nielsen, Neural Networks and Deep Learning, chapter 5, with four hidden layers.

Expected: as it is the network stays near chance, 10 %, for want of gradient in its first layers; with another activation, initialisation,
normalisation or residual blocks it learns. Clipping, a cure for exploding gradients, does nothing for it. The sources have no figures.
"""

import numpy as np

from fastnn.cure_matrix import KEPT, CureTable, Variant, cures
from fastnn.experiments.data import Data
from fastnn.experiments.outcome import Check, Outcome, at_least, at_most
from fastnn.findings import Cure
from fastnn.network import mlp
from fastnn.optimizers import SGD

_SIZES = [784, 30, 30, 30, 30, 10]
_OPTIMIZER, _BATCH = SGD(0.1), 32
_SOURCE = "blog on cures, in words; our bound"


def run(quick: bool, data: Data) -> Outcome:
    """Quick mode searches for 8 seconds among 4,500 images instead of 60 among 50,000."""
    net = mlp(_SIZES, activation="sigmoid", init="nielsen")
    table = cures(net, *data.train, 8.0 if quick else 60.0, data.validation, _OPTIMIZER, _BATCH, progress=False)
    best = table.best.cure.apply(net)
    best.fit(*data.train, 5 if quick else 2, _BATCH, **table.best.cure.fit)
    checks = [
        at_most("accuracy as it is", "Nielsen, chapter 5; our bound", 0.35, table.baseline.score),
        at_least("accuracy of the best variant", _SOURCE, 0.85, table.best.score),
        at_least("test accuracy of the best, trained on", _SOURCE, 0.88 if quick else 0.95, best.evaluate(*data.test)["accuracy"]),
        *(at_least(f"best with another {factor}", _SOURCE, 0.7, _best(table, factor)) for factor in ("activation", "normalisation")),
        Check(
            "clipping alone less as it is",
            "clipping is for exploding gradients",
            0.0,
            _alone(table, "clipping") - table.baseline.score,
            -0.1,
            0.1,
        ),
    ]
    rows = [{**row.options, "score": row.score, "loss": row.loss, "steps": row.steps} for row in table]
    return Outcome(checks, {"metric": table.metric, "rows": rows})


def draw(outcome: Outcome):
    """The best score of pairs of options."""
    from fastnn import plotting

    factors = [name for name in outcome.series["rows"][0] if name not in ("score", "loss", "steps")]
    variants = [Variant({f: row[f] for f in factors}, Cure(""), row["score"], row["loss"], row["steps"]) for row in outcome.series["rows"]]
    table = CureTable(variants, outcome.series["metric"])
    figure, (left, right) = plotting.new_axes(1, 2, (14.0, 4.6))
    plotting.cure_heatmap(table, ax=left)
    plotting.cure_heatmap(table, "init", "optimizer", ax=right)
    left.set_title("Activation and normalisation")
    right.set_title("Initialisation and optimiser")
    figure.suptitle("784-30-30-30-30-10, sigmoid: accuracy of its variants")
    return figure


def _best(table, factor):
    """The best score among variants that change this factor."""
    return max(row.score for row in table if row.options[factor] != KEPT)


def _alone(table, factor):
    """The score of the variant that changes this factor and nothing else, NaN where it was not tried."""
    scores = [row.score for row in table if row.changes == 1 and row.options[factor] != KEPT]
    return scores[0] if scores else np.nan
