"""One network's layers and neurons side by side: bars and histograms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fastnn.plotting.figures import COLOURS, as_axes, as_vector


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
    values, ax = as_vector("values", values), as_axes(ax)
    labels = _labels(labels, len(values))
    places = np.arange(len(values))
    log = log and (values > 0).any()
    bottom = values[values > 0].min() / 3 if log else 0.0
    heights = np.maximum(values, bottom) if log else values
    bars = ax.bar(places, heights, color=COLOURS[0], width=0.7)
    if len(values) <= 12:
        ax.bar_label(bars, [f"{value:.2g}" for value in values], padding=2, fontsize="small")
        ax.margins(y=0.1)
    if log:  # a bar that has no logarithm stays empty
        ax.set_yscale("log")
        ax.set_ylim(bottom=bottom)
    _name_places(ax.xaxis, labels)
    ax.grid(False, axis="x")
    ax.set(xlabel="layer", ylabel=ylabel)
    return ax


def neuron_bars(gradients: Sequence[Any], ax: Axes | None = None) -> Axes:
    """Layers side by side, in each a column of neurons with bars as long as their |∂C/∂b|.

    The picture is Nielsen's, of chapter 5.

    Parameters
    ----------
    gradients : sequence of arrays
        ∂C/∂b of the neurons of each layer, as many of them as shall be drawn, the uppermost first.
    ax : Axes, optional
    """
    layers = [
        np.abs(as_vector(f"gradients[{number}]", layer)) for number, layer in enumerate(gradients)
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
        as_vector(f"activations[{number}]", np.ravel(layer))
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
