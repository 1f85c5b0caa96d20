"""\
The last hidden layer of a sigmoid network saturates at 0 early in training and holds up all others.

Source: Nielsen, Neural Networks and Deep Learning, chapter 5: "Other obstacles to deep learning",
which reports Glorot & Bengio 2010 (Understanding the difficulty of training deep feedforward neural
networks) and Sutskever, Martens, Dahl & Hinton 2013 (On the importance of initialization and
momentum in deep learning). As in the former: four hidden layers, weights from U(−1/√n_in, 1/√n_in),
zero biases, softmax, mini-batches of 10, 300 test images to watch; here layers of 100 units and η =
0.1.

Expected: the sigmoids of the last hidden layer soon become almost 0 for every input, those
before stay near ½, and nothing is learnt; after long training they leave saturation by themselves.
Tanh does not saturate so, and momentum gets the sigmoids out early. In a deep tanh network a good
initialisation and momentum each make much of the difference, and too much momentum harms.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.experiments.book import BOOK
from fastnn.experiments.data import Data
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most
from fastnn.network import Network
from fastnn.nn.layers import Dense
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNITS, _HIDDEN, _RATE, _BATCH = 100, 4, 0.1, 10
_STAGE = 5000  # images between two measurements of the activations
_WATCHED = 300
_COURSES = {
    "sigmoid": ("sigmoid", 0.0),
    "sigmoid, momentum 0.9": ("sigmoid", 0.9),
    "tanh": ("tanh", 0.0),
}
_ENDS = {"sigmoid": (0.05, 0.95), "tanh": (-0.9, 0.9)}  # outputs beyond these count as saturated
_LOW = 0.05
_INITS = ("normal", "uniform 1/√n", "glorot_normal", "orthogonal")
_MOMENTA, _DEEP, _DEEP_RATE = (0.0, 0.9, 0.99), 8, 0.003
_GLOROT, _SUTSKEVER = "Glorot & Bengio 2010", "Sutskever et al. 2013"
_CHANCE = 12.0


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's, and training is shorter.

    The sigmoids then stay saturated.
    """
    stages, deep_stages = (30, 5) if quick else (80, 10)
    courses = {name: _course(*settings, data, stages) for name, settings in _COURSES.items()}
    worst = int(courses["sigmoid"]["mean"][:, -1].argmin())
    grid = np.array(
        [
            [_deep_accuracy(init, momentum, data, deep_stages) for momentum in _MOMENTA]
            for init in _INITS
        ]
    )
    checks = _course_checks(courses, worst)
    checks += _deep_checks(grid)
    if not quick:
        plain = courses["sigmoid"]["mean"][:, -1]
        checks.append(
            at_least(
                "sigmoid: last hidden layer's mean at the end ÷ lowest",
                f"{_GLOROT}, leaves saturation",
                3.0,
                plain[-1] / plain[worst],
            )
        )
    deep = {
        "images": deep_stages * _STAGE,
        "momentum": _MOMENTA,
        "accuracy": dict(zip(_INITS, grid, strict=True)),
    }
    return ExperimentResult(checks, {"courses": courses, "worst": worst, "deep": deep})


def draw(result: ExperimentResult) -> "Figure":
    """Activations and accuracy over time, and what initialisation and momentum do."""
    from fastnn import plotting

    courses, worst = result.series["courses"], result.series["worst"]
    plain = courses["sigmoid"]
    figure, axes = plotting.new_axes(2, 2, size=(13, 9))
    stages = np.arange(len(plain["mean"]))
    means = {f"hidden layer {layer + 1}": plain["mean"][:, layer] for layer in range(_HIDDEN)}
    plotting.lines(
        means,
        stages,
        f"× {_STAGE:,} images",
        "activation, mean ± standard deviation",
        ax=axes[0, 0],
    )
    for layer in range(_HIDDEN):
        mean, spread = plain["mean"][:, layer], plain["std"][:, layer]
        axes[0, 0].fill_between(
            stages,
            mean - spread,
            mean + spread,
            color=plotting.COLOURS[layer],
            alpha=0.12,
            linewidth=0,
        )
    axes[0, 0].axvline(worst, color="black", linestyle=":", linewidth=0.8)
    axes[0, 0].set(title="Sigmoids: the last hidden layer goes to 0", ylim=(-0.05, 1.2))
    axes[0, 0].legend(frameon=False, ncols=2, handlelength=2.8)
    names = [f"hidden {layer}" for layer in range(1, _HIDDEN + 1)]
    plotting.activation_histograms(plain["activations"], names, ax=axes[0, 1])
    axes[0, 1].set_title("At the dotted line")
    accuracies = {name: course["accuracy"] for name, course in courses.items()}
    plotting.lines(accuracies, stages, f"× {_STAGE:,} images", "test accuracy, %", ax=axes[1, 0])
    axes[1, 0].set(title="Accuracy", ylim=(0, 103))
    shown = {
        "normal": "N(0, 0.01²)",
        "uniform 1/√n": "U(±1/√n)",
        "glorot_normal": "Glorot",
        "orthogonal": "orthogonal",
    }
    grid = {shown[init]: row for init, row in result.series["deep"]["accuracy"].items()}
    plotting.lines(
        grid, np.arange(len(_MOMENTA)), "Nesterov momentum", "test accuracy, %", ax=axes[1, 1]
    )
    axes[1, 1].set_xticks(np.arange(len(_MOMENTA)), [str(momentum) for momentum in _MOMENTA])
    axes[1, 1].set(
        title=f"{_DEEP} hidden layers of tanh after {result.series['deep']['images']:,} images",
        ylim=(0, 103),
    )
    return figure


def _course_checks(courses, worst):
    """What the activations are in stage ``worst``, where the sigmoids' last mean is lowest."""
    plain = courses["sigmoid"]
    early = plain["mean"][worst]
    return [
        at_most(
            "sigmoid: lowest mean activation of the last hidden layer",
            f"{_GLOROT}, almost 0",
            _LOW,
            early[-1],
        ),
        at_least(
            "at that time: % of its activations saturated",
            _GLOROT,
            95.0,
            plain["saturated"][worst, -1],
        ),
        Check(
            "at that time: lowest mean of the layers before",
            _GLOROT,
            "0.4 to 0.8",
            early[:-1].min(),
            0.4,
            0.8,
        ),
        Check(
            "at that time: highest mean of the layers before",
            _GLOROT,
            "0.4 to 0.8",
            early[:-1].max(),
            0.4,
            0.8,
        ),
        at_most(
            "at that time: % accuracy", f"{BOOK}, slow learning", _CHANCE, plain["accuracy"][worst]
        ),
        at_most(
            "tanh at that time: % of the last layer's saturated",
            f"{_GLOROT}; our bound",
            50.0,
            courses["tanh"]["saturated"][worst, -1],
        ),
        at_least(
            "tanh: % accuracy at that time", _GLOROT, 90.0, courses["tanh"]["accuracy"][worst]
        ),
        at_least(
            "sigmoid, momentum 0.9: % accuracy at that time",
            _SUTSKEVER,
            85.0,
            courses["sigmoid, momentum 0.9"]["accuracy"][worst],
        ),
    ]


def _deep_checks(grid):
    """What initialisation and momentum do to a deep tanh network; accuracies (inits, momenta)."""
    poor = grid[_INITS.index("uniform 1/√n"), 0]
    return [
        at_least(
            "deep tanh: % gained by initialisation",
            _SUTSKEVER,
            20.0,
            grid[_INITS.index("glorot_normal"), 0] - poor,
        ),
        at_least(
            "deep tanh: % gained by momentum 0.9",
            _SUTSKEVER,
            20.0,
            grid[_INITS.index("uniform 1/√n"), 1] - poor,
        ),
        at_most(
            "deep tanh, N(0, 0.01²): highest % accuracy",
            _SUTSKEVER,
            _CHANCE,
            grid[_INITS.index("normal")].max(),
        ),
    ]


def _network(activation, hidden, init):
    """Hidden layers of `_UNITS` between the pixels and a softmax of 10 classes."""
    rng = np.random.default_rng(0)
    sizes = [784, *[_UNITS] * hidden, 10]
    layers = []
    for number, (n_in, units) in enumerate(pairwise(sizes)):
        start = (
            rng.uniform(-1, 1, (n_in, units)) / np.sqrt(n_in) if init == "uniform 1/√n" else init
        )
        layers.append(
            Dense(units, activation=activation if number < hidden else "linear", init=start)
        )
    return Network(layers, inputs=784, loss="softmax_cross_entropy")


def _course(activation, momentum, data, stages) -> dict[str, Any]:
    """Statistics of the activations, (stages + 1, layers), and accuracy as training goes on.

    Activations themselves are kept where the last mean is lowest.
    """
    (X, y), watched = data.train, data.test[0][:_WATCHED]
    low, high = _ENDS[activation]
    net, lowest = _network(activation, _HIDDEN, "uniform 1/√n"), np.inf
    course = {"mean": [], "std": [], "saturated": [], "accuracy": []}
    for stage in range(stages + 1):
        outputs = net.activations(watched)
        course["mean"].append([output.mean() for output in outputs])
        course["std"].append([output.std() for output in outputs])
        course["saturated"].append(
            [100.0 * np.mean((output < low) | (output > high)) for output in outputs]
        )
        course["accuracy"].append(100.0 * net.evaluate(*data.test)["accuracy"])
        if outputs[-1].mean() < lowest:
            lowest, course["activations"] = outputs[-1].mean(), [output[:20] for output in outputs]
        block = np.arange(stage * _STAGE, (stage + 1) * _STAGE) % len(X)
        net.fit(X[block], y[block], 1, _BATCH, SGD(_RATE, momentum=momentum), progress=False)
    return {
        name: values if name == "activations" else np.array(values)
        for name, values in course.items()
    }


def _deep_accuracy(init, momentum, data, stages):
    """% accuracy of a deep tanh network after some stages."""
    X, y = data.train
    block = np.arange(stages * _STAGE) % len(X)
    net = _network("tanh", _DEEP, init)
    net.fit(
        X[block],
        y[block],
        1,
        _BATCH,
        SGD(_DEEP_RATE, momentum=momentum, nesterov=momentum > 0),
        progress=False,
    )
    return 100.0 * net.evaluate(*data.test)["accuracy"]
