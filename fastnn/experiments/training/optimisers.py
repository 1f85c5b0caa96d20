"""Optimisers on surfaces of two parameters: who overshoots, who crawls, and who leaves a saddle.

Source: ml4a, How neural networks are trained: "Momentum", "Adaptive methods" and "Adam, and a
comparison of updaters", with Alec Radford's two animations.

Expected: momentum and Nesterov's method overshoot, plain descent is slow, AdaGrad, AdaDelta,
RMSProp and Adam do neither; at the saddle plain descent sticks, and all others escape. Momentum is
z ← βz + ∇J(W), W ← W − αz, and plain descent with β = 0; Nesterov's takes the gradient ahead, at W
− αβz (the source leaves α out); AdaGrad is w ← w − α g/√(G + ε). The source has no figures. Rates
were chosen by trial so that each shows what it is known for: at five times its rate plain descent
leaves the saddle within these steps too, and at plain descent's rate Adam leaves it all the same.

The paths are those of the library's own update rules, on its own engine. A network whose output is
its weights w, with the cost ½‖w − t‖², has the gradient w − t. With the target t = w − ∇f(w) that
is ∇f(w), and one call of ``fit`` is one step of any optimiser on any surface f.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastnn.experiments.data import Data
from fastnn.experiments.result import ExperimentResult, at_least, at_most
from fastnn.network import Network
from fastnn.nn.layers import Dense
from fastnn.optim.optimizers import SGD, AdaDelta, AdaGrad, Adam, Optimizer, RMSProp

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROUNDING = 1e-10  # in float64, over some hundred steps
_MOMENTUM = 0.9
_PLAIN = "SGD"
_ADAPTIVE = ("AdaGrad", "AdaDelta", "RMSProp", "Adam")
_SOURCE = "ml4a, comparison of updaters"
_FRAMES = 40


def run(quick: bool, data: Data) -> ExperimentResult:
    """All of it is the same in quick mode, and no images are needed."""
    paths = {key: _paths(surface) for key, surface in _SURFACES.items()}
    ends = {name: float(_beale(*path[-1])) for name, path in paths["beale"].items()}
    # they come from above; the minimum lies at y = ½
    lowest = {name: float(path[:, 1].min()) for name, path in paths["beale"].items()}
    # 0 at the saddle, 1 at the minima
    heights = {name: float(abs(path[-1, 1])) for name, path in paths["saddle"].items()}
    checks = [
        *_formula_checks(paths["beale"]),
        at_least(
            "overshoot of momentum and Nesterov",
            f"{_SOURCE}, in words",
            1.0,
            0.5 - max(lowest["momentum"], lowest["Nesterov"]),
        ),
        at_most(
            "overshoot of the adaptive",
            f"{_SOURCE}, in words",
            1.0,
            0.5 - min(lowest[name] for name in _ADAPTIVE),
        ),
        at_least(
            "slowness: final f of SGD over the worst of the others",
            f"{_SOURCE}, in words",
            1.0,
            _behind(ends),
        ),
        at_most("saddle: how far SGD leaves it", f"{_SOURCE}, SGD sticks", 0.1, heights[_PLAIN]),
        *(
            at_least(
                f"saddle: how far {name} leaves it", f"{_SOURCE}, it escapes", 0.5, heights[name]
            )
            for name in heights
            if name != _PLAIN
        ),
    ]
    return ExperimentResult(
        checks,
        {"paths": paths, "final_f": ends, "lowest_y": lowest, "distance_from_saddle": heights},
    )


def draw(result: ExperimentResult) -> "Figure":
    """The paths over each surface, and f along them."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(2, 2, (13.0, 9.5))
    for row, (surface, paths) in zip(axes, _walked(result), strict=True):
        _draw_surface(row[0], surface, paths)
        lowest = min(surface.value(*path.T).min() for path in paths.values())
        heights = {name: surface.value(*path.T) - lowest + 1e-4 for name, path in paths.items()}
        plotting.lines(heights, None, "step", "f − lowest f + 10⁻⁴", log=True, ax=row[1])
        row[1].set(title=f"{surface.title}: the way down")
        row[0].get_legend().remove()
    return figure


def animate(result: ExperimentResult, path: str | os.PathLike[str]) -> None:
    """The paths as they grow, as an animated GIF."""
    from fastnn import plotting

    figure, axes = plotting.new_axes(1, 2, (10.0, 4.2))
    growing, handles = [], {}
    for ax, (surface, paths) in zip(axes, _walked(result), strict=True):
        _draw_surface(ax, surface, paths)
        # a path is drawn as its line, its start and its end
        lines, ends = ax.lines[::3], ax.lines[2::3]
        growing += [(line, end, line.get_xydata()) for line, end in zip(lines, ends, strict=True)]
        handles = dict(zip(paths, lines, strict=True))  # the same optimisers on each surface
        ax.get_legend().remove()
    figure.legend(
        list(handles.values()), list(handles), loc="outside right center", handlelength=2.8
    )

    def show(frame):
        for line, end, points in growing:
            walked = points[: 1 + round((len(points) - 1) * frame / (_FRAMES - 1))]
            line.set_data(*walked.T)
            end.set_data(*walked[-1:].T)

    plotting.save_animation(figure, show, _FRAMES, path)


def _walked(result):
    """Each surface with its paths as arrays."""
    for key, paths in result.series["paths"].items():
        yield _SURFACES[key], {name: np.asarray(path) for name, path in paths.items()}


def _draw_surface(ax, surface, paths):
    from fastnn import plotting

    named = {f"{name}, η = {surface.rates[name]:g}": path for name, path in paths.items()}
    plotting.loss_surface(surface.value, surface.xlim, surface.ylim, named, ax=ax)
    ax.set(title=f"{surface.title}: {surface.steps} steps", xlabel="x", ylabel="y")


# --- the surfaces ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Surface:
    """A function of two parameters, and how it is walked on."""

    title: str
    value: Callable
    gradient: Callable
    start: tuple[float, float]
    xlim: tuple[float, float]
    ylim: tuple[float, float]
    steps: int
    rates: dict[str, float]  # of each optimiser


def _beale(x, y):
    """Beale's test function, with its minimum 0 at (3, ½)."""
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def _beale_gradient(x, y):
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    return 2 * (a * (y - 1) + b * (y**2 - 1) + c * (y**3 - 1)), 2 * x * (
        a + 2 * b * y + 3 * c * y**2
    )


def _saddle(x, y):
    """A saddle at the origin between two minima of −¼ at (0, ±1)."""
    return 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4


def _saddle_gradient(x, y):
    return x, y**3 - y


_SURFACES = {
    "beale": _Surface(
        "Beale's function", _beale, _beale_gradient, (1.0, 1.5), (-0.5, 4.5), (-2.0, 2.2), 300,
        {"SGD": 0.003, "momentum": 0.003, "Nesterov": 0.003, "AdaGrad": 0.5, "AdaDelta": 7.0,
         "RMSProp": 0.03, "Adam": 0.1},
    ),
    "saddle": _Surface(
        "A saddle", _saddle, _saddle_gradient, (1.0, 1e-3), (-1.2, 1.2), (-0.4, 1.3), 120,
        {"SGD": 0.02, "momentum": 0.02, "Nesterov": 0.02, "AdaGrad": 0.1, "AdaDelta": 5.0,
         "RMSProp": 0.02, "Adam": 0.03},
    ),
}  # fmt: skip


# --- the optimisers -------------------------------------------------------------------------------


def _optimisers(rates: dict[str, float]) -> dict[str, Optimizer]:
    made = {
        _PLAIN: SGD,
        "momentum": lambda lr: SGD(lr, momentum=_MOMENTUM),
        "Nesterov": lambda lr: SGD(lr, momentum=_MOMENTUM, nesterov=True),
        "AdaGrad": AdaGrad,
        "AdaDelta": AdaDelta,
        "RMSProp": RMSProp,
        "Adam": Adam,
    }
    return {name: make(rates[name]) for name, make in made.items()}


def _descend(
    optimizer: Optimizer, gradient: Callable, start: tuple[float, float], steps: int
) -> np.ndarray:
    """The points (steps + 1, 2) that ``optimizer`` visits; see the module's docstring for how."""
    net = Network(
        [Dense(2, init=[list(start)], bias=False)], inputs=1, loss="quadratic", dtype="float64"
    )
    path = [np.array(start)]
    for _ in range(steps):
        net.fit([[1.0]], [path[-1] - gradient(*path[-1])], optimizer=optimizer)
        path.append(net.parameters["0.weight"][0].copy())
    return np.array(path)


def _paths(surface: _Surface) -> dict[str, np.ndarray]:
    optimisers = _optimisers(surface.rates)
    return {
        name: _descend(optimizer, surface.gradient, surface.start, surface.steps)
        for name, optimizer in optimisers.items()
    }


def _behind(ends):
    return ends[_PLAIN] / max(value for name, value in ends.items() if name != _PLAIN)


# --- the source's formulas ------------------------------------------------------------------------


def _formula_checks(paths):
    """Largest distance between a path and the one that the source's formula takes."""
    surface = _SURFACES["beale"]
    walks = {
        "SGD": _by_momentum(surface, surface.rates["SGD"], 0.0, ahead=False),
        "momentum": _by_momentum(surface, surface.rates["momentum"], _MOMENTUM, ahead=False),
        "Nesterov": _by_momentum(surface, surface.rates["Nesterov"], _MOMENTUM, ahead=True),
        "AdaGrad": _by_adagrad(surface, surface.rates["AdaGrad"]),
    }
    return [
        at_most(
            f"{name} beside its formula",
            "ml4a, Momentum; Adaptive methods",
            _ROUNDING,
            np.abs(walk - paths[name]).max(),
        )
        for name, walk in walks.items()
    ]


def _by_momentum(surface, rate, beta, ahead):
    """z ← βz + ∇J(W), W ← W − αz.

    With ``ahead`` the gradient is that at W − αβz, and so is the point that the library keeps.
    """
    w, z = np.array(surface.start), np.zeros(2)
    path = [w]
    for _ in range(surface.steps):
        z = beta * z + surface.gradient(*(w - rate * beta * z if ahead else w))
        w = w - rate * z
        path.append(w - rate * beta * z if ahead else w)
    return np.array(path)


def _by_adagrad(surface, rate, epsilon=1e-20):
    """w ← w − α g/√(G + ε)."""
    path, total = [np.array(surface.start)], np.zeros(2)
    for _ in range(surface.steps):
        g = np.array(surface.gradient(*path[-1]))
        total = total + g * g
        path.append(path[-1] - rate * g / np.sqrt(total + epsilon))
    return np.array(path)
