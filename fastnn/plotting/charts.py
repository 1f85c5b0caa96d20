"""Pictures of training: each function draws into ``ax``, or into a figure of its own, and returns
the axes.

Nothing here needs a display or touches pyplot. Colours are Okabe and Ito's, which the colour-blind
tell apart; line styles and markers tell the same in black and white. Keep a picture with `save`::

    ax = fastnn.plotting.learning_curves(history)
    fastnn.plotting.save(ax.figure, "curves.png")
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.network import Network
from fastnn.plotting.figures import (
    COLOURS,
    LINE_STYLES,
    MARKERS,
    as_axes,
    line_style,
    new_axes,
    save,
    save_animation,
)

# The lines above say what to install where those below would fail.
# isort: split
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.ticker import MaxNLocator

__all__ = [
    "COLOURS",
    "LINE_STYLES",
    "MARKERS",
    "activation_histograms",
    "cure_heatmap",
    "decision_surface",
    "gradient_flow",
    "layer_bars",
    "learning_curves",
    "line_style",
    "lines",
    "loss_surface",
    "neuron_bars",
    "new_axes",
    "save",
    "save_animation",
]

_GRID = 200  # points along each side of a surface
_MANY = 8  # from this many layers on, colours go by depth and a colour bar replaces the legend
_FLOWS = {  # figure of a GradientFlow record → label, whether the axis is logarithmic
    "learning_speed": ("learning speed ‖δ‖₂", True),
    "gradient_norm": ("gradient norm ‖∂C/∂W‖₂", True),
    "weight_norm": ("weight norm ‖W‖₂", True),
    "update_ratio": ("update ratio ‖ΔW‖₂ / ‖W‖₂", True),
    "activation_mean": ("mean of activations", False),
    "activation_variance": ("variance of activations", True),
    "dead": ("share of dead units", False),
    "saturated": ("share of saturated units", False),
}


# --- lines ----------------------------------------------------------------------------------------


def lines(
    series: Mapping[str, Any],
    x: Any = None,
    xlabel: str = "",
    ylabel: str = "",
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Lines with a legend.

    Parameters
    ----------
    series : mapping
        Label → values (n,); gaps where a value is NaN.
    x : array-like (n,), optional
        0, 1, 2, … where not given.
    xlabel, ylabel : str
    log : bool
        Whether the vertical axis is logarithmic.
    ax : Axes, optional
    """
    ax = as_axes(ax)
    for number, (label, values) in enumerate(series.items()):
        values = _vector(f"series[{label!r}]", values)
        places = np.arange(len(values)) if x is None else _vector("x", x)
        if len(places) != len(values):
            raise ValueError(f"x has {len(places)} values, but series[{label!r}] has {len(values)}")
        marker = MARKERS[number % len(MARKERS)] if len(values) <= 20 else None
        ax.plot(
            places,
            values,
            label=label,
            marker=marker,
            markersize=4,
            linewidth=1.6,
            **line_style(number),
        )
    if log:
        ax.set_yscale("log")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if len(series) > 1:
        ax.legend(frameon=False, handlelength=2.8)
    return ax


def learning_curves(
    history: Mapping[str, Any], keys: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """Figures of a `History` over epochs.

    Parameters
    ----------
    history : History
    keys : sequence of str, optional
        Which figures; the losses where not given.
    ax : Axes, optional

    Raises
    ------
    ValueError
        A key that the history does not have, with those that it has.
    """
    keys = (
        [key for key in ("loss", "val_loss") if key in history] or ["loss"]
        if keys is None
        else list(keys)
    )
    keys = [checks.one_of("key", key, history) for key in keys]
    quantities = dict.fromkeys(_quantity(key) for key in keys)
    epochs = np.arange(1, 1 + max(len(history[key]) for key in keys))
    ax = lines(
        {_label(key): history[key] for key in keys}, epochs, "epoch", " / ".join(quantities), ax=ax
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def gradient_flow(flow: Any, what: str = "learning_speed", ax: Axes | None = None) -> Axes:
    """One figure of every layer over training steps.

    Parameters
    ----------
    flow : GradientFlow record
        With ``steps`` (n,), ``layers`` and an (n, layers) array by the name of ``what``; a layer
        that has no such figure (all NaN) is left out.
    what : str
        learning_speed, gradient_norm, weight_norm, update_ratio, activation_mean,
        activation_variance, dead or saturated.
    ax : Axes, optional
    """
    if not hasattr(flow, "steps"):
        raise TypeError(
            f"flow must be history.gradient_flow of a training with callbacks=[GradientFlow()], not {type(flow).__name__}"
        )
    ylabel, log = _FLOWS[checks.one_of("what", what, _FLOWS)]
    table = np.asarray(getattr(flow, what), float)
    columns = {
        str(name): column
        for name, column in zip(flow.layers, table.T, strict=True)
        if not np.isnan(column).all()
    }
    log = log and (table > 0).any()
    if len(columns) < _MANY:
        return lines(columns, flow.steps, "step", ylabel, log, ax)
    ax = as_axes(ax)
    scale = ScalarMappable(Normalize(1, len(columns)), "cividis")
    for depth, column in enumerate(columns.values(), 1):
        ax.plot(flow.steps, column, color=scale.to_rgba(depth), linewidth=1.2)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel=ylabel)
    ax.figure.colorbar(scale, ax=ax, label="layer, from the input", ticks=MaxNLocator(integer=True))
    return ax


# --- layers and neurons ---------------------------------------------------------------------------


def layer_bars(
    values: Any,
    labels: Sequence[str] | None = None,
    ylabel: str = "",
    log: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """A bar for each layer, with its figure on top.

    Parameters
    ----------
    values : array-like (layers,)
    labels : sequence of str, optional
        1, 2, 3, … where not given.
    ylabel : str
    log : bool
        Whether the axis is logarithmic; where no value is positive it is linear all the same.
    ax : Axes, optional
    """
    values, ax = _vector("values", values), as_axes(ax)
    labels = _labels(labels, len(values))
    places = np.arange(len(values))
    log = log and (values > 0).any()
    floor = values[values > 0].min() / 3 if log else 0.0
    bars = ax.bar(places, np.maximum(values, floor) if log else values, color=COLOURS[0], width=0.7)
    if len(values) <= 12:
        ax.bar_label(bars, [f"{value:.2g}" for value in values], padding=2, fontsize="small")
        ax.margins(y=0.1)
    if log:  # a bar that has no logarithm stays empty
        ax.set_yscale("log")
        ax.set_ylim(bottom=floor)
    _name_places(ax.xaxis, labels)
    ax.grid(False, axis="x")
    ax.set(xlabel="layer", ylabel=ylabel)
    return ax


def neuron_bars(gradients: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Nielsen's picture: layers side by side, in each a column of neurons, at each neuron a bar as
    long as its |∂C/∂b|.

    Parameters
    ----------
    gradients : sequence of arrays
        ∂C/∂b of the neurons of each layer, as many of them as shall be drawn, the uppermost first.
    ax : Axes, optional
    """
    layers = [
        np.abs(_vector(f"gradients[{number}]", layer)) for number, layer in enumerate(gradients)
    ]
    if not layers:
        raise ValueError("gradients must hold at least one layer")
    longest = np.nanmax(np.concatenate(layers))
    ax = as_axes(ax)
    for column, layer in enumerate(layers):
        rows = np.arange(1, 1 + len(layer))
        ax.barh(
            rows,
            0.75 * layer / (longest or 1.0),
            left=column,
            height=0.45,
            color=COLOURS[1],
            zorder=3,
        )
        ax.plot(
            np.full(len(rows), column),
            rows,
            "o",
            color="white",
            markeredgecolor="black",
            markersize=11,
            clip_on=False,
            zorder=4,
        )
    ax.set_xlim(-0.25, len(layers) - 0.1)
    ax.set_ylim(max(len(layer) for layer in layers) + 0.7, 0.3)
    ax.set_xticks(
        np.arange(len(layers)) + 0.35,
        [f"hidden layer {column}" for column in range(1, 1 + len(layers))],
    )
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.set(ylabel="neuron", xlabel=f"bars: |∂C/∂b|, the longest is {longest:.3g}")
    return ax


def activation_histograms(
    activations: Sequence[Any], labels: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """How the activations of each layer are distributed, layer above layer, the input side on top.

    Parameters
    ----------
    activations : sequence of arrays
        Values of any shape, one array a layer. All share their bins; each histogram is as high as
        its row.
    labels : sequence of str, optional
        1, 2, 3, … where not given.
    ax : Axes, optional
    """
    layers = [
        _vector(f"activations[{number}]", np.ravel(layer))
        for number, layer in enumerate(activations)
    ]
    if not layers:
        raise ValueError("activations must hold at least one layer")
    labels, ax = _labels(labels, len(layers)), as_axes(ax)
    low, high = min(layer.min() for layer in layers), max(layer.max() for layer in layers)
    edges = np.linspace(low, high, 61) if high > low else np.array([low - 0.5, high + 0.5])
    for row, layer in enumerate(layers):
        counts, _ = np.histogram(layer, edges)
        ax.stairs(
            row - 0.85 * counts / counts.max(),
            edges,
            baseline=row,
            fill=True,
            color=COLOURS[0],
            alpha=0.35,
        )
        ax.stairs(
            row - 0.85 * counts / counts.max(), edges, baseline=row, color=COLOURS[0], linewidth=1.2
        )
    ax.set_ylim(len(layers) - 0.8, -1.0)
    _name_places(ax.yaxis, labels)
    ax.grid(False, axis="y")
    ax.set(xlabel="activation", ylabel="layer")
    return ax


# --- surfaces -------------------------------------------------------------------------------------


def loss_surface(
    f: Callable[[np.ndarray, np.ndarray], np.ndarray],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    paths: Mapping[str, Any] | None = None,
    levels: int | Sequence[float] = 24,
    ax: Axes | None = None,
) -> Axes:
    """Contours of a function of two parameters, and paths of descent over them.

    Parameters
    ----------
    f : callable
        f(x, y) of arrays of equal shape.
    xlim, ylim : (float, float)
    paths : mapping, optional
        Name → points (n, 2). A circle marks where a path begins, its own marker where it ends.
    levels : int or sequence of float
        How many contours, each with as much area as the next below it, or their heights.
    ax : Axes, optional
    """
    x, y = np.meshgrid(np.linspace(*xlim, _GRID), np.linspace(*ylim, _GRID))
    z = np.asarray(f(x, y), float)
    if z.shape != x.shape or not np.isfinite(z).all():
        raise ValueError(
            f"f must give a finite array of shape {x.shape} for two of them; got one of shape {z.shape}"
        )
    ax = as_axes(ax)
    if np.ndim(levels) == 0:
        levels = np.unique(
            np.quantile(z, np.linspace(0, 1, checks.integer("levels", levels, least=2) + 1))
        )
    ax.contourf(
        x, y, z, levels, colors=_pale(colormaps["cividis"](np.linspace(0.0, 1.0, len(levels) - 1)))
    )
    ax.contour(x, y, z, levels, colors="0.45", linewidths=0.4)
    for number, (name, path) in enumerate((paths or {}).items()):
        path = np.asarray(path, float)
        if path.ndim != 2 or path.shape[1] != 2:
            raise ValueError(f"paths[{name!r}] must have shape (n, 2), not {path.shape}")
        style = line_style(number)
        ax.plot(*path.T, label=name, linewidth=1.8, **style)
        ax.plot(*path[0], "o", color="white", markeredgecolor="black", markersize=7, zorder=4)
        ax.plot(
            *path[-1],
            MARKERS[number % len(MARKERS)],
            color=style["color"],
            markeredgecolor="black",
            markersize=7,
            zorder=5,
        )
    ax.set(xlabel="$w_1$", ylabel="$w_2$", xlim=xlim, ylim=ylim)
    ax.grid(False)
    if paths and len(paths) > 1:
        ax.legend(handlelength=2.8)
    return ax


def decision_surface(net: Network, X: Any, y: Any, ax: Axes | None = None) -> Axes:
    """What a network of two inputs answers all over the plane, and the samples.

    A classifier's plane is coloured by the class it predicts, with the boundary where two are
    level; a regression's by its value.

    Parameters
    ----------
    net : Network
        With two inputs; a regression has one output.
    X : array-like (n, 2)
    y : array-like (n,)
        Class labels, or values.
    ax : Axes, optional

    Raises
    ------
    ValueError
        A network of other than two inputs, or a regression of several outputs; X of another shape,
        or a y of another length.
    """
    X, y = np.asarray(X, float), np.asarray(y)
    if net.inputs != 2:
        raise ValueError(f"net must have 2 inputs, not {net.inputs}")
    if X.ndim != 2 or X.shape[1] != 2 or y.shape != (len(X),):
        raise ValueError(f"X must have shape (n, 2) and y (n,); got {X.shape} and {y.shape}")
    if not net.loss.spec.classifies and net.outputs > 1:
        raise ValueError(f"net must have 1 output to draw a regression, not {net.outputs}")
    ax = as_axes(ax)
    margin = 0.1 * np.ptp(X, axis=0)
    sides = np.linspace(X.min(axis=0) - margin, X.max(axis=0) + margin, _GRID)
    first, second = np.meshgrid(*sides.T)
    answers = net.predict(np.column_stack([first.ravel(), second.ravel()])).astype(float)
    if net.loss.spec.classifies:
        _draw_classes(ax, first, second, answers, X, y)
    else:
        values = answers.reshape(first.shape)
        norm = Normalize(min(values.min(), y.min()), max(values.max(), y.max()))
        surface = ax.contourf(first, second, values, 24, cmap="cividis", norm=norm)
        ax.scatter(*X.T, c=y, cmap="cividis", norm=norm, edgecolors="white", linewidths=0.8, s=24)
        ax.figure.colorbar(surface, ax=ax, label="value")
    ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=sides[[0, -1], 0], ylim=sides[[0, -1], 1])
    ax.grid(False)
    return ax


def _draw_classes(
    ax: Axes,
    first: np.ndarray,
    second: np.ndarray,
    answers: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
) -> None:
    """``answers`` holds probabilities: (points, classes), or (points, 1) of the second of two
    classes.
    """
    probabilities = answers if answers.shape[1] > 1 else np.hstack([1 - answers, answers])
    winners = probabilities.argmax(axis=1).reshape(first.shape)
    n = probabilities.shape[1]
    if not np.isin(y, np.arange(n)).all():
        raise ValueError(
            f"y must be class labels 0 … {n - 1}; got {np.setdiff1d(y, np.arange(n))[0]!r}"
        )
    colours = [COLOURS[label % len(COLOURS)] for label in range(n)]
    ax.contourf(
        first,
        second,
        winners,
        np.arange(n + 1) - 0.5,
        colors=_pale([to_rgb(colour) for colour in colours]),
    )
    for label in range(n):
        rivals = np.delete(probabilities, label, axis=1).max(axis=1)
        lead = (probabilities[:, label] - rivals).reshape(first.shape)
        if lead.min() < 0 < lead.max():
            ax.contour(first, second, lead, [0.0], colors="black", linewidths=1.0)
        mine, marker = X[y == label], MARKERS[label % len(MARKERS)]
        ax.scatter(
            *mine.T,
            color=colours[label],
            marker=marker,
            edgecolors="black",
            linewidths=0.6,
            s=26,
            label=f"class {label}",
        )
    ax.legend()


def cure_heatmap(
    table: Any, rows: str = "activation", columns: str = "normalisation", ax: Axes | None = None
) -> Axes:
    """The best score of every pair of options of two factors of a cure matrix.

    Parameters
    ----------
    table : CureTable
        What `fastnn.cures` returns.
    rows, columns : str
        Factors: activation, init, normalisation, shortcuts, optimizer, clipping.
    ax : Axes, optional
    """
    down, across, scores = table.heatmap(rows, columns)
    ax = as_axes(ax)
    image = ax.imshow(scores, cmap="cividis", aspect="auto")
    ax.set_facecolor("0.9")  # pairs that were not tried, or diverged
    for (i, j), score in np.ndenumerate(scores):
        dark = np.isfinite(score) and image.norm(score) < 0.55
        ax.text(
            j,
            i,
            f"{score:.3f}" if np.isfinite(score) else "–",
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    ax.set_xticks(np.arange(len(across)), across)
    ax.set_yticks(np.arange(len(down)), down)
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(
        image,
        ax=ax,
        label=f"best {'R²' if table.metric == 'r2' else table.metric} on validation data",
    )
    ax.set(xlabel=columns, ylabel=rows)
    return ax


# --- shared ---------------------------------------------------------------------------------------


def _vector(name: str, values: Any) -> np.ndarray:
    """``values`` as floats (n,), n > 0."""
    vector = np.asarray(values, float)
    if vector.ndim != 1 or not len(vector):
        raise ValueError(
            f"{name} must be a sequence of at least one number, not an array of shape {vector.shape}"
        )
    return vector


def _labels(labels: Sequence[str] | None, n: int) -> list[str]:
    labels = (
        [str(number) for number in range(1, n + 1)]
        if labels is None
        else [str(label) for label in labels]
    )
    if len(labels) != n:
        raise ValueError(f"labels must be {n} names, one a layer; got {len(labels)}")
    return labels


def _name_places(axis: Any, labels: list[str]) -> None:
    """Name the places 0, 1, 2, … of an axis; of many, every k-th."""
    every = -(-len(labels) // 20)
    axis.set_ticks(np.arange(0, len(labels), every), labels[::every])


def _quantity(key: str) -> str:
    """What a key of the history measures."""
    name = key.removeprefix("val_")
    return {"lr": "learning rate", "r2": "R²"}.get(name, name)


def _label(key: str) -> str:
    """What a key of the history measures, and on which data."""
    if key in ("lr", "seconds"):
        return _quantity(key)
    return f"{_quantity(key)}, {'validation' if key.startswith('val_') else 'training'}"


def _pale(colours: Any) -> np.ndarray:
    """Colours (n, 3 or more channels) mixed with white, for a background that lines stand out
    on.
    """
    return 0.35 * np.asarray(colours)[:, :3] + 0.65
