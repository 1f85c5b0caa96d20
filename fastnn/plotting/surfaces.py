"""Functions of two variables: losses, decisions, and scores of pairs of options."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb

from fastnn._utils import checks
from fastnn.network import Network
from fastnn.plotting.figures import COLOURS, MARKERS, as_axes, line_style

_GRID = 200  # points along each side of a surface


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
            f"f must give a finite array of shape {x.shape} for two of them; "
            f"got one of shape {z.shape}"
        )
    ax = as_axes(ax)
    if np.ndim(levels) == 0:
        n_levels = checks.integer("levels", levels, least=2)
        heights = np.unique(np.quantile(z, np.linspace(0, 1, n_levels + 1)))
    else:
        heights = np.asarray(levels, float)
    ax.contourf(
        x, y, z, heights, colors=_pale(colormaps["cividis"](np.linspace(0, 1, len(heights) - 1)))
    )
    ax.contour(x, y, z, heights, colors="0.45", linewidths=0.4)
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
    """The predictions of a network of two inputs all over the plane, and the samples.

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
    outputs = net.predict(np.column_stack([first.ravel(), second.ravel()])).astype(float)
    if net.loss.spec.classifies:
        _draw_classes(ax, first, second, outputs, X, y)
    else:
        values = outputs.reshape(first.shape)
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
    outputs: np.ndarray,
    X: np.ndarray,
    y: np.ndarray,
) -> None:
    """Colour the plane by class, and mark where two classes are equally probable.

    ``outputs`` holds probabilities: (points, classes), or (points, 1) of the second of two classes.
    """
    probabilities = outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])
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
        others = np.delete(probabilities, label, axis=1).max(axis=1)
        lead = (probabilities[:, label] - others).reshape(first.shape)
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
        dark = np.isfinite(score) and np.asarray(image.norm(score)) < 0.55
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


def _pale(colours: Any) -> np.ndarray:
    """Colours (n, 3 or more channels) mixed with white, as a background for lines."""
    return 0.35 * np.asarray(colours)[:, :3] + 0.65
