"""How weights start decides whether a signal gets through a deep network, and whether it learns.

Source: "Deep neural networks" (a blog on cures for vanishing and exploding gradients and
overfitting): Glorot for tanh, sigmoid and softmax, He for ReLU and its kin, LeCun for SELU. Notes
on Andrew Ng's course, on shallow networks: N(0, 1)·0.01 with zero biases; zero weights keep hidden
units identical for ever; stacked linear layers equal one. What the variances make of a signal is
from Glorot & Bengio 2010, He et al. 2015 and Klambauer et al. 2017.

Expected: in layers of n units the mean square of activations is multiplied by ½ n Var(w) each layer
with ReLU: 1 with He, ½ with Glorot, n·10⁻⁴/2 with N(0, 0.01²); by n·10⁻⁴ with N(0, 0.01²) and tanh;
with LeCun and SELU it stays 1. The recommended initialisation is beaten by chance at most, and
zeros and 0.01 leave a network of 20 layers at chance. Units that start equal stay equal, bit for
bit. Linear layers of any number compute what one computes, and score what one scores. Bounds on
accuracies are our own; depths and rates were chosen by trial so that initialisations differ.
"""

from typing import TYPE_CHECKING

import numpy as np

from fastnn.errors import DivergenceError
from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most, close
from fastnn.models import mlp
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INITS = {
    "zeros": "zeros",
    "normal": "N(0, 0.01²)",
    "glorot_normal": "Glorot",
    "he_normal": "He",
    "lecun_normal": "LeCun",
}
_FLOWS = ("tanh", "relu", "selu")
_WIDTH, _LAYERS, _SAMPLES, _SEEDS = 256, 20, 500, 2  # of the networks that a signal passes
# hidden layers, learning rate
_TRAINED = {"sigmoid": (3, 0.1), "tanh": (20, 0.01), "relu": (20, 0.003), "selu": (20, 0.001)}
_RECOMMENDED = {
    "sigmoid": "glorot_normal",
    "tanh": "glorot_normal",
    "relu": "he_normal",
    "selu": "lecun_normal",
}
_UNITS, _BATCH = 64, 32
_CURES, _NG, _CHANCE = "blog on cures", "notes on Ng's course", 12.0


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's and accuracies those of one seed.

    These may differ by more.
    """
    flow = {
        (activation, init): _mean_squares(activation, init)
        for activation in _FLOWS
        for init in _INITS
    }
    epochs, seeds, slack = (8, 1, 4.0) if quick else (3, 3, 1.5)
    accuracy = {
        activation: {init: _accuracy(activation, init, data, epochs, seeds) for init in _INITS}
        for activation in _TRAINED
    }
    checks = [
        *_flow_checks(flow),
        *_accuracy_checks(accuracy, slack),
        *_symmetry_checks(data),
        *_linear_checks(data),
    ]
    series = {
        activation: {init: flow[activation, init] for init in _INITS} for activation in _FLOWS
    }
    return ExperimentResult(checks, {"mean_square": series, "accuracy": accuracy})


def draw(result: ExperimentResult) -> "Figure":
    """Mean squares through depth, and a table of accuracies."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(2, 2, size=(13, 9))
    for ax, (activation, flow) in zip(
        axes.ravel(), result.series["mean_square"].items(), strict=False
    ):
        shown = {
            "N(0, 0.01²)": flow["normal"],
            "Glorot; LeCun, where layers are equally wide": flow["glorot_normal"],
            "He": flow["he_normal"],
        }
        plotting.lines(
            shown, np.arange(1, _LAYERS + 1), "layer", "mean square of activations", log=True, ax=ax
        )
        ax.set(title=f"{activation}, layers of {_WIDTH}", xticks=[1, 5, 10, 15, 20])
    table = result.series["accuracy"]
    values = np.array([list(row.values()) for row in table.values()])
    ax = axes[1, 1]
    ax.imshow(values, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "diverged" if np.isnan(value) else f"{value:.1f}"
        recommended = _RECOMMENDED[list(table)[row]] == list(_INITS)[column]
        weight = "bold" if recommended else "normal"
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color="white" if value < 60 else "black",
            weight=weight,
        )
    ax.set_xticks(np.arange(len(_INITS)), _INITS.values())
    ax.set_yticks(
        np.arange(len(table)),
        [f"{activation}\n{_TRAINED[activation][0]} hidden layers" for activation in table],
    )
    ax.grid(False)
    ax.set_title("Test accuracy, %; bold: recommended")
    return figure


# --- the signal -----------------------------------------------------------------------------------


def _mean_squares(activation, init):
    """Mean square of each layer's activations for N(0, 1) inputs, geometric mean over seeds."""
    if init == "zeros":
        return np.zeros(_LAYERS)
    X = np.random.default_rng(0).normal(size=(_SAMPLES, _WIDTH))
    nets = [
        mlp([_WIDTH] * (_LAYERS + 1) + [10], activation=activation, init=init, seed=seed)
        for seed in range(_SEEDS)
    ]
    squares = np.array(
        [
            [np.mean(np.square(output, dtype=np.float64)) for output in net.activations(X)]
            for net in nets
        ]
    )
    return np.exp(np.log(squares).mean(axis=0))


def _flow_checks(flow):
    expected = {
        ("relu", "he_normal"): (1.0, "He et al. 2015"),
        ("relu", "glorot_normal"): (0.5, "He et al. 2015"),
        ("relu", "normal"): (0.5 * _WIDTH * 1e-4, "He et al. 2015"),
        ("tanh", "normal"): (_WIDTH * 1e-4, "Glorot & Bengio 2010"),
        ("selu", "lecun_normal"): (1.0, "Klambauer et al. 2017"),
    }
    checks = []
    for (activation, init), (factor, source) in expected.items():
        squares = flow[activation, init]
        measured = (squares[-1] / squares[1]) ** (1 / (_LAYERS - 2))
        name = f"{activation}, {_INITS[init]}: factor of the mean square each layer"
        checks.append(close(name, source, factor, measured, relative=0.1))
    checks.append(
        close(
            "selu, LeCun: mean square in the last layer",
            "Klambauer et al. 2017",
            1.0,
            flow["selu", "lecun_normal"][-1],
            0.3,
        )
    )
    return checks


# --- learning -------------------------------------------------------------------------------------


def _accuracy(activation, init, data: Data, epochs, seeds):
    """% of the test images, mean over seeds; NaN where training diverges."""
    hidden, rate = _TRAINED[activation]
    scores = []
    for seed in range(seeds):
        net = mlp([784, *[_UNITS] * hidden, 10], activation=activation, init=init, seed=seed)
        try:
            net.fit(*data.train, epochs, _BATCH, SGD(rate, momentum=0.9), progress=False)
        except DivergenceError:
            return np.nan
        scores.append(100.0 * net.evaluate(*data.test)["accuracy"])
    return np.mean(scores)


def _accuracy_checks(accuracy, slack):
    checks = []
    for activation, scores in accuracy.items():
        lost = np.nanmax(list(scores.values())) - scores[_RECOMMENDED[activation]]
        checks.append(
            at_most(
                f"{activation}: % by which {_INITS[_RECOMMENDED[activation]]} is beaten",
                _CURES,
                slack,
                lost,
            )
        )
    relu = accuracy["relu"]
    checks.append(
        at_least(
            "relu, 20 layers: % gained by He over Glorot",
            "He et al. 2015",
            1.0,
            relu["he_normal"] - relu["glorot_normal"],
        )
    )
    small = max(accuracy[activation][init] for activation in _FLOWS for init in ("zeros", "normal"))
    checks.append(
        at_most("20 layers, zeros or 0.01: highest % accuracy", f"{_NG}, chance", _CHANCE, small)
    )
    return checks


def _symmetry_checks(data: Data):
    """What zeros do to 16 hidden units, beside N(0, 0.01²)."""
    scores, differences = {}, {}
    for init in ("zeros", "normal"):
        net = mlp([784, 16, 10], activation="sigmoid", init=init)
        net.fit(*data.train, 2, _BATCH, SGD(0.5), progress=False)
        weights = net.parameters["0.weight"]
        differences[init] = np.abs(weights - weights[:, :1]).max()
        scores[init] = 100.0 * net.evaluate(*data.test)["accuracy"]
    return [
        close(
            "zeros: largest difference between hidden units after training",
            f"{_NG}, identical for ever",
            0.0,
            differences["zeros"],
        ),
        at_least(
            "one hidden layer: % gained by N(0, 0.01²) over zeros",
            _NG,
            30.0,
            scores["normal"] - scores["zeros"],
        ),
    ]


def _linear_checks(data: Data):
    """Three linear layers beside the one that they equal, and beside three of ReLU."""
    X, _ = data.first(200)
    stack = mlp([784, 30, 20, 10], activation="linear", dtype="float64")
    weights, bias = np.eye(784), np.zeros(784)
    for layer in range(3):
        weight = stack.parameters[f"{layer}.weight"]
        weights, bias = weights @ weight, bias @ weight + stack.parameters[f"{layer}.bias"]
    outputs = stack.forward(X)
    error = np.abs(X @ weights + bias - outputs).max() / np.abs(outputs).max()
    scores = {}
    for name, sizes, activation in (
        ("one", [784, 10], "linear"),
        ("three", [784, 64, 64, 10], "linear"),
        ("relu", [784, 64, 64, 10], "relu"),
    ):
        net = mlp(sizes, activation=activation)
        net.fit(*data.train, 4, _BATCH, "adam", progress=False)
        scores[name] = 100.0 * net.evaluate(*data.test)["accuracy"]
    return [
        at_most("three linear layers beside one: largest relative difference", _NG, 1e-12, error),
        close(
            "% accuracy gained by linear layers",
            f"{_NG}, none",
            0.0,
            scores["three"] - scores["one"],
            absolute=2.0,
        ),
        at_least(
            "% accuracy gained by ReLU between them", _NG, 1.0, scores["relu"] - scores["three"]
        ),
    ]
