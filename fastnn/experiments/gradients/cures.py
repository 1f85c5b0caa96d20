"""A deep sigmoid network that does not learn, and which of the cures makes it learn.

Source: "Deep neural networks" (a blog on cures for vanishing and exploding gradients and
overfitting): Glorot, He and LeCun initialisation, ReLU and its kin, batch normalisation, clipping,
momentum, RMSProp and Adam; "Deep residual learning" (residual connections). The network has six
hidden layers of 64 and starts as those of Nielsen, Neural Networks and Deep Learning, chapter 5;
with the book's four of 30 it learns in the end, after some thousand steps more.

Expected: as it is the network stays near chance, 10 %, for want of gradient in its first layers.
With ReLU and He's initialisation, with batch normalisation, with residual blocks or with Adam, and
nothing else changed, it learns. Glorot's initialisation alone does not help, as it reckons with a
slope of 1 where a sigmoid has ¼; nor does clipping, a cure for exploding gradients. The sources
have no figures.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.diagnostics.cure_search import FACTORS, KEPT, CureTable, Variant, cures, variant
from fastnn.diagnostics.findings import Cure
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least
from fastnn.models import mlp
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZES = [784, 64, 64, 64, 64, 64, 64, 10]
_OPTIMIZER, _BATCH = SGD(0.05), 32
_SOURCE = "blog on cures, in words; our bound"
_STUCK, _LEARNS = ("at most 0.2", (-np.inf, 0.2)), ("at least 0.5", (0.5, np.inf))
# Cures one at a time → (options of the cure matrix, what is expected).
_ALONE = {
    "as it is": ({}, *_STUCK),
    "ReLU with He's initialisation": ({"activation": "relu", "init": "auto"}, *_LEARNS),
    "BatchNorm": ({"normalisation": "BatchNorm"}, *_LEARNS),
    "residual blocks": ({"shortcuts": "Residual"}, *_LEARNS),
    "Adam": ({"optimizer": "Adam"}, *_LEARNS),
    "Glorot's initialisation": ({"init": "auto"}, *_STUCK),
    "clipping": ({"clipping": "clip_norm=1"}, *_STUCK),
}


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode has 4,500 images, 20 epochs of each cure and 5 seconds of search.

    The full run has 50,000 images, 2 epochs and 60 seconds.
    """
    net = mlp(_SIZES, activation="sigmoid", init="nielsen")
    epochs = 20 if quick else 2
    alone = {
        name: _accuracy(net, options, data, epochs) for name, (options, _, _) in _ALONE.items()
    }
    table = cures(
        net,
        *data.train,
        5.0 if quick else 60.0,
        data.validation,
        _OPTIMIZER,
        _BATCH,
        progress=False,
    )
    assert table.baseline is not None  # the first variant of every search
    checks = [
        *(
            Check(f"test accuracy, {name}", _SOURCE, words, alone[name], *bounds)
            for name, (_, words, bounds) in _ALONE.items()
        ),
        at_least("cure matrix: accuracy of the best variant", _SOURCE, 0.88, table.best.score),
        at_least(
            "cure matrix: gained over the network as it is",
            _SOURCE,
            0.5,
            table.best.score - table.baseline.score,
        ),
    ]
    rows = [
        {**row.options, "score": row.score, "loss": row.loss, "steps": row.steps} for row in table
    ]
    return ExperimentResult(checks, {"alone": alone, "metric": table.metric, "rows": rows})


def draw(result: ExperimentResult) -> "Figure":
    """The best score of pairs of options."""
    from fastnn import plotting

    factors = [name for name in result.series["rows"][0] if name not in ("score", "loss", "steps")]
    variants = [
        Variant({f: row[f] for f in factors}, Cure(""), row["score"], row["loss"], row["steps"])
        for row in result.series["rows"]
    ]
    table = CureTable(variants, result.series["metric"])
    figure, (left, right) = plotting.new_axes(1, 2, (14.0, 4.6))
    plotting.cure_heatmap(table, ax=left)
    plotting.cure_heatmap(table, "init", "optimizer", ax=right)
    left.set_title("Activation and normalisation")
    right.set_title("Initialisation and optimiser")
    figure.suptitle("Six hidden layers of 64, sigmoid: accuracy of its variants")
    return figure


def _accuracy(net, options, data, epochs):
    """On the test images, of the variant with these options, all others being kept."""
    cure = variant(net, _OPTIMIZER, {**dict.fromkeys(FACTORS, KEPT), **options}).cure
    changed = cure.apply(net)
    changed.fit(*data.train, epochs, _BATCH, **cure.fit)
    return changed.evaluate(*data.test)["accuracy"]
