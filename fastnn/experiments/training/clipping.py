"""Gradient clipping: a network whose gradient explodes, with and without it.

Source: "Deep neural networks" (a blog on cures for vanishing and exploding gradients and
overfitting), gradient clipping; clipping by global norm from Pascanu, Mikolov & Bengio 2013.

Expected: weights from N(0, σ²) make the gradient of n ReLU units grow by σ√(n/2) a layer, backwards
(He et al. 2015), here by 1.5, where He's initialisation has 1. Plain descent then diverges within a
few steps. Clipped, no component of the gradient passes the threshold, or its norm does not and its
direction stays, and the network learns. The source has no figures.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.errors import DivergenceError
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most, close
from fastnn.models import mlp
from fastnn.nn.initializers import Initializer
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _DEPTH, _STD = 50, 10, 0.3
_BATCH, _RATE = 50, 0.3
_NORM, _VALUE = 1.0, 0.01
_RUNS = {
    "no clipping": {},
    f"clip_norm = {_NORM:g}": {"clip_norm": _NORM},
    f"clip_value = {_VALUE:g}": {"clip_value": _VALUE},
}
_ROUNDING = 1e-3  # of a difference of float32 parameters
_SOURCE = "blog on cures, gradient clipping"


def run(quick: bool, data: Data) -> ExperimentResult:
    """Quick mode has 4,500 images and 10 epochs instead of 50,000 and 3."""
    epochs = 10 if quick else 3
    speeds = _network(data).learning_speed(*data.first(1000))
    growth = float((speeds[0] / speeds[-1]) ** (1 / (_DEPTH - 1)))
    runs = {name: _train(data, epochs, clipping) for name, clipping in _RUNS.items()}
    plain, by_norm, by_value = runs.values()
    checks = [
        close(
            "growth of the learning speed a layer, backwards",
            "He et al. 2015, σ√(n/2)",
            1.5,
            growth,
            relative=0.15,
        ),
        Check(
            "steps to divergence, no clipping",
            f"{_SOURCE}, explodes",
            "within an epoch",
            _divergence(plain),
            1,
            len(data.train[0]) // _BATCH,
        ),
        at_most(
            "clip_norm: longest step over η · threshold",
            f"{_SOURCE}, threshold",
            1 + _ROUNDING,
            max(by_norm["length"]) / _NORM,
        ),
        at_least(
            "clip_norm: least cosine of step and gradient",
            "Pascanu et al. 2013",
            1 - _ROUNDING,
            min(by_norm["cosine"]),
        ),
        at_most(
            "clip_value: largest component over η · threshold",
            f"{_SOURCE}, threshold",
            1 + _ROUNDING,
            max(by_value["largest"]) / _VALUE,
        ),
        at_least(
            "clip_norm: test accuracy", f"{_SOURCE}, in words; our bound", 0.75, by_norm["accuracy"]
        ),
        at_least(
            "clip_value: test accuracy",
            f"{_SOURCE}, in words; our bound",
            0.75,
            by_value["accuracy"],
        ),
    ]
    return ExperimentResult(checks, {"learning_speed": speeds, "runs": runs})


def draw(result: ExperimentResult) -> "Figure":
    """Learning speeds at the start, and loss and gradient of each run by step."""
    from fastnn import plotting

    runs = result.series["runs"]
    figure, (left, middle, right) = plotting.new_axes(1, 3, (16.0, 4.4))
    plotting.layer_bars(result.series["learning_speed"], ylabel="learning speed ‖∂C/∂b‖₂", ax=left)
    left.set(title=f"At the start: weights from N(0, {_STD:g}²)", xlabel="hidden layer")
    for number, (name, run) in enumerate(runs.items()):
        ended = "" if run["accuracy"] is not None else f": diverged after {len(run['loss'])} steps"
        for ax, key in ((middle, "loss"), (right, "norm")):
            values = np.array(run[key])
            ax.plot(
                np.arange(1, 1 + len(values)),
                values,
                label=name + ended,
                linewidth=1.2,
                **plotting.line_style(number),
            )
            if ended:
                last = np.flatnonzero(np.isfinite(values))[-1]
                ax.plot(last + 1, values[last], "X", color=plotting.COLOURS[number], markersize=10)
            ax.set(xlabel="step", xscale="log", yscale="log")
    middle.set(title="Loss of the mini-batch", ylabel="loss")
    middle.legend(frameon=False)
    right.set(title="Its gradient, before clipping", ylabel="gradient norm")
    return figure


def _network(data):
    return mlp(
        [data.train[0].shape[1], *[_WIDTH] * _DEPTH, 10],
        activation="relu",
        init=Initializer("normal", std=_STD),
    )


def _train(data, epochs, clipping):
    """Loss, gradient and length of every step, and the test accuracy unless training diverged.

    Lengths and largest components are in units of η. One call of ``fit`` is one step, so that the
    parameters can be seen in between.
    """
    (X, y), net, optimizer = data.train, _network(data), SGD(_RATE, **clipping)
    record = {key: [] for key in ("loss", "norm", "length", "largest", "cosine")}
    order = np.random.default_rng(0)
    for _ in range(epochs):
        for rows in np.split(order.permutation(len(X)), range(_BATCH, len(X), _BATCH)):
            loss, gradients = net.gradients(X[rows], y[rows])
            gradient, before = _flat(gradients), _flat(net.parameters)
            norm = _norm(gradient)
            record["loss"].append(loss)
            record["norm"].append(norm)
            try:
                net.fit(X[rows], y[rows], batch_size=_BATCH, optimizer=optimizer)
            except DivergenceError:
                return {**record, "accuracy": None}
            step = (before - _flat(net.parameters)) / _RATE
            length = _norm(step)
            record["length"].append(length)
            record["largest"].append(np.abs(step).max())
            record["cosine"].append((step * gradient).sum() / (length * norm))
    return {**record, "accuracy": net.evaluate(*data.test)["accuracy"]}


def _norm(vector):
    """The 2-norm by a sum: after a dot product BLAS's threads spin and hold the engine's cores."""
    return np.sqrt(np.square(vector).sum())


def _flat(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()]).astype(np.float64)


def _divergence(run):
    """The number of steps until the loss was no number, or NaN where training came to its end."""
    return float(len(run["loss"])) if run["accuracy"] is None else np.nan
