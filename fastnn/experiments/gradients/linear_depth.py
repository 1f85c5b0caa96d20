"""A deep linear network with weights 1.5·I explodes, one with 0.5·I fades.

Source: "Exploding & vanishing gradient problems and residual connection" (a blog on residual
connections), after Andrew Ng's course: no biases, g(z) = z, every weight matrix 1.5·I or 0.5·I but
the last, so ŷ = w_L (1.5·I)^(L−1) x.

Expected: output and gradient grow as 1.5^(L−1), over 3,000 at L − 1 = 20, or fade as 0.5^(L−1).
Gradient descent does not converge with the one and hardly moves with the other.
"""

import contextlib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from fastnn.errors import DivergenceError
from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most, close
from fastnn.network import Network
from fastnn.nn.layers import Dense
from fastnn.optim.optimizers import SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = "blog on residual connections"
_FACTORS = (1.5, 1.0, 0.5)
_DEPTHS = np.arange(0, 31)  # L − 1
_DEEP, _EPOCHS, _RATE = 20, 1000, 0.01


def run(quick: bool, data: Data) -> ExperimentResult:
    """All of it is the same in quick mode."""
    outputs, gradients = ({factor: [] for factor in _FACTORS} for _ in range(2))
    for factor in _FACTORS:
        for depth in _DEPTHS:
            output, gradient = _flow(factor, depth)
            outputs[factor].append(output)
            gradients[factor].append(gradient)
    losses = {factor: _losses(factor) for factor in _FACTORS}
    checks = []
    for factor, what in ((1.5, "grows"), (0.5, "fades")):
        expected = factor ** _DEPTHS.astype(float)
        for name, values in (("output", outputs[factor]), ("gradient", gradients[factor])):
            error = np.max(np.abs(np.array(values) / expected - 1.0))
            checks.append(
                close(
                    f"{factor}·I: {name} {what} as {factor}^(L−1), largest relative error",
                    _SOURCE,
                    0.0,
                    error,
                    absolute=1e-12,
                )
            )
    checks += [
        at_least(
            f"1.5·I: output at L − 1 = {_DEEP}",
            f"{_SOURCE}, over 3,000",
            3000.0,
            outputs[1.5][_DEEP],
        ),
        at_least(
            f"1.5·I: gradient at L − 1 = {_DEEP}",
            f"{_SOURCE}, over 3,000",
            3000.0,
            gradients[1.5][_DEEP],
        ),
        close(
            f"0.5·I: output at L − 1 = {_DEEP}",
            _SOURCE,
            0.5**_DEEP,
            outputs[0.5][_DEEP],
            relative=1e-9,
        ),
        at_most(
            "1.5·I: epochs until training diverges",
            f"{_SOURCE}, no convergence",
            10.0,
            len(losses[1.5]),
        ),
        close(
            f"0.5·I: loss after {_EPOCHS} epochs ÷ before",
            f"{_SOURCE}, hardly moves",
            1.0,
            losses[0.5][-1] / losses[0.5][0],
            relative=0.01,
        ),
    ]
    return ExperimentResult(
        checks, {"depth": _DEPTHS, "output": outputs, "gradient": gradients, "loss": losses}
    )


def draw(result: ExperimentResult) -> "Figure":
    """Output and gradient by depth, and the loss in training."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(1, 3, size=(15, 4.4))
    depths, series = result.series["depth"], result.series
    labels = {
        "output": ("Output", "‖ŷ‖ ÷ ‖x‖"),
        "gradient": ("Gradient of the first layer", "‖∂C/∂w‖ ÷ ‖∂C/∂ŷ‖"),
    }
    for ax, (name, (title, ylabel)) in zip(axes, labels.items(), strict=False):
        plotting.lines(
            {f"{factor}·I": values for factor, values in series[name].items()},
            depths,
            "L − 1",
            ylabel,
            log=True,
            ax=ax,
        )
        ax.axvline(_DEEP, color="black", linewidth=0.8, linestyle=":")
        ax.set_title(title)
    for number, (factor, losses) in enumerate(series["loss"].items()):
        label = f"{factor}·I{', diverged' if len(losses) < _EPOCHS else ''}"
        marker = "o" if len(losses) < 20 else None
        axes[2].plot(
            np.arange(1, len(losses) + 1),
            losses,
            label=label,
            marker=marker,
            **plotting.line_style(number),
        )
    axes[2].set(
        title=f"Training at L − 1 = {_DEEP}",
        xlabel="epoch",
        ylabel="loss",
        xscale="log",
        yscale="log",
    )
    axes[2].legend(frameon=False, handlelength=2.8)
    return figure


def _network(factor, depth):
    """``depth`` layers of factor·I behind one of I, whose gradient is measured.

    The source's w_L is I and left out.
    """
    eye = np.eye(2)
    layers = [
        Dense(2, init=eye, bias=False),
        *(Dense(2, init=factor * eye, bias=False) for _ in range(depth)),
    ]
    return Network(layers, inputs=2, loss="quadratic", dtype="float64")


def _flow(factor, depth):
    """Norms of the output and of the first layer's gradient, for input and error of norm 1."""
    net, x, error = _network(factor, depth), np.array([[0.6, -0.8]]), np.array([[1.0, 0.0]])
    output = net.forward(x)
    _, gradients = net.gradients(x, output - error)
    return np.linalg.norm(output), np.linalg.norm(gradients["0.weight"])


def _losses(factor):
    """Loss of each epoch of gradient descent towards y = 2x, until it diverges."""
    X = np.random.default_rng(0).normal(size=(100, 2))
    losses = []
    note = SimpleNamespace(
        on_epoch_end=lambda training: losses.append(training.history["loss"][-1])
    )
    with contextlib.suppress(DivergenceError):
        _network(factor, _DEEP).fit(
            X, 2 * X, _EPOCHS, len(X), SGD(_RATE), callbacks=[note], progress=False
        )
    return losses
