"""Linear regression: the bowl of its mean squared error, and three ways to its bottom.

Source: ml4a, How neural networks are trained: "Linear regression", "Loss function" and "Gradient
descent". The equations of its three candidate lines stand in the picture of them only
(lin_reg_randomtries.png).

Expected: the three lines score 0.17, 0.08 and 0.02. These are halves of the mean squared error: an
earlier version of the chapter had MSE = 1/(2n) Σ(y − f(x))², and the scores stayed when the ½ went.
As the text now reads, f(x) = −0.11x + 2.5 has a mean squared error of about 0.17. The bowl over
slopes −2…4 and intercepts −6…8 has its bottom near (0.5, 1.0), judged by eye. Gradient descent,
L-BFGS and least squares find the same line.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_most, close
from fastnn.network import Network
from fastnn.nn.layers import Dense
from fastnn.optim.optimizers import LBFGS, SGD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_X = np.array([2.4, 2.8, 3.2, 3.6, 4.0, 4.2, 5.0])
_Y = np.array([1.7, 1.85, 1.79, 1.95, 2.1, 2.0, 2.7])
# and the score
_LINES = {
    "0.92x − 1.0": (0.92, -1.0, 0.17),
    "−0.11x + 2.5": (-0.11, 2.5, 0.08),
    "0.52x + 0.1": (0.52, 0.1, 0.02),
}
_SLOPES, _INTERCEPTS = (-2.0, 4.0), (-6.0, 8.0)
_START = (3.0, 6.0)  # slope and intercept, about where the source's arrow begins
_RATE = 0.03  # below 1/29.2, from where on the steepest direction would overshoot
_EPOCHS = 8000  # the flattest direction, 316 times less curved, shrinks by 0.28 % an epoch
_AGREEMENT = 1e-6
_SOURCE = "ml4a, Linear regression"


def run(quick: bool, data: Data) -> ExperimentResult:
    """All of it is the same in quick mode, and no images are needed."""
    best, *_ = np.linalg.lstsq(np.column_stack([_X, np.ones_like(_X)]), _Y, rcond=None)
    descent = _path(SGD(_RATE), _EPOCHS)
    quasi_newton = _path(LBFGS(tolerance=1e-12), 100)
    scores = {line: float(_mse(slope, intercept)) for line, (slope, intercept, _) in _LINES.items()}
    checks = [
        *(
            close(
                f"half the mean squared error of {line}",
                f"{_SOURCE}, three candidates",
                expected,
                scores[line] / 2,
                absolute=0.005,
            )
            for line, (_, _, expected) in _LINES.items()
        ),
        close(
            "mean squared error of −0.11x + 2.5",
            f"{_SOURCE}, as it now reads",
            0.17,
            scores["−0.11x + 2.5"],
            absolute=0.01,
        ),
        close("slope at the bottom", f"{_SOURCE}, by eye", 0.5, best[0], absolute=0.2),
        close("intercept at the bottom", f"{_SOURCE}, by eye", 1.0, best[1], absolute=0.2),
        at_most(
            "gradient descent beside least squares",
            "the same minimum",
            _AGREEMENT,
            np.abs(descent[-1] - best).max(),
        ),
        at_most(
            "L-BFGS beside least squares",
            "the same minimum",
            _AGREEMENT,
            np.abs(quasi_newton[-1] - best).max(),
        ),
    ]
    series = {
        "best": best,
        "descent": descent[: 1 + len(descent) // 2 : 10],
        "first_steps": descent[:10],
        "lbfgs": quasi_newton,
        "steps": {"gradient descent": len(descent) - 1, "L-BFGS": len(quasi_newton) - 1},
        "scores": scores,
    }
    return ExperimentResult(checks, series)


def draw(result: ExperimentResult) -> "Figure":
    """The lines, the bowl, and the paths over its contours."""
    from fastnn import plotting

    series = result.series
    figure, axes = plotting.new_axes(1, 3, (15.5, 4.6))
    _draw_lines(axes[0], series)
    axes[1].remove()
    slope, intercept = np.meshgrid(np.linspace(*_SLOPES, 60), np.linspace(*_INTERCEPTS, 60))
    bowl: Any = figure.add_subplot(1, 3, 2, projection="3d")
    bowl.plot_surface(slope, intercept, _mse(slope, intercept), cmap="cividis", linewidth=0)
    bowl.set(title="The bowl", xlabel="slope m", ylabel="intercept b", zlabel="mean squared error")
    bowl.view_init(20, -110)
    bowl.set_box_aspect(None, zoom=0.95)
    paths = (np.vstack([series["first_steps"], series["descent"][1:]]), series["lbfgs"])
    paths = {
        f"{name}, {steps:,} steps": path
        for (name, steps), path in zip(series["steps"].items(), paths, strict=True)
    }
    heights = np.geomspace(0.025, 420, 18)
    contours = plotting.loss_surface(
        _mse, _SLOPES, _INTERCEPTS, paths, [0.0, *heights, 1e3], ax=axes[2]
    )
    contours.plot(
        *series["best"],
        "*",
        color="white",
        markeredgecolor="black",
        markersize=13,
        zorder=6,
        label="least squares",
    )
    contours.set(
        title="Paths to the bottom, contours logarithmic", xlabel="slope m", ylabel="intercept b"
    )
    contours.legend(handlelength=2.8)
    return figure


def _draw_lines(ax, series):
    from fastnn import plotting

    ends = np.array([2.2, 5.2])
    best = "{:.3f}x + {:.3f}".format(*series["best"])
    lines = {line: (slope, intercept) for line, (slope, intercept, _) in _LINES.items()} | {
        best: series["best"]
    }
    named = {f"{line}: {_mse(*at):.3f}": at[0] * ends + at[1] for line, at in lines.items()}
    plotting.lines(named, ends, "x", "y", ax=ax)
    for line in ax.lines:
        line.set_marker("")
    ax.plot(_X, _Y, "o", color="black", label="data", zorder=4)
    ax.set(title="Candidates and the best line")
    ax.legend(title="line: mean squared error", frameon=False, handlelength=2.8)


def _mse(slope, intercept):
    """Mean squared error of a line, for arrays of slopes and intercepts."""
    return ((np.multiply.outer(slope, _X) + np.asarray(intercept)[..., None] - _Y) ** 2).mean(
        axis=-1
    )


def _path(optimizer, epochs):
    """Slope and intercept before training and after each full-batch epoch, (epochs + 1, 2)."""
    net = Network(
        [Dense(1, init=[[_START[0]]], bias_init=[_START[1]])], inputs=1, loss="mse", dtype="float64"
    )
    path = _Path(net)
    net.fit(
        _X[:, None], _Y, epochs=epochs, batch_size=len(_X), optimizer=optimizer, callbacks=[path]
    )
    return np.array(path.points)


class _Path:
    """A callback that keeps where the network has been."""

    def __init__(self, net):
        self.points = [self._parameters(net)]

    def on_epoch_end(self, training):
        self.points.append(self._parameters(training.net))

    @staticmethod
    def _parameters(net):
        return [net.parameters["0.weight"][0, 0], net.parameters["0.bias"][0]]
