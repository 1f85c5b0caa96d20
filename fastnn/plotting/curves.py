"""Curves over training: losses and accuracies by epoch, figures of layers by step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from fastnn._utils import checks
from fastnn.plotting.figures import MARKERS, as_axes, as_vector, line_style

_MANY = 8  # from this many layers on, colours go by depth and a colour bar replaces the legend
_FLOWS = {  # figure of a GradientFlow record → label, whether the axis is logarithmic
    "learning_speed": ("learning speed ‖δ‖₂", True),
    "gradient_norm": ("gradient norm ‖∂C/∂W‖₂", True),
    "weight_norm": ("weight norm ‖W‖₂", True),
    "update_ratio": ("update ratio ‖ΔW‖₂ / ‖W‖₂", True),
    "activation_mean": ("mean of activations", False),
    "activation_variance": ("variance of activations", True),
    "dead": ("fraction of dead units", False),
    "saturated": ("fraction of saturated units", False),
}


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
        values = as_vector(f"series[{label!r}]", values)
        places = np.arange(len(values)) if x is None else as_vector("x", x)
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
            "flow must be history.gradient_flow of a training with callbacks=[GradientFlow()], "
            f"not {type(flow).__name__}"
        )
    ylabel, log = _FLOWS[checks.one_of("what", what, _FLOWS)]
    table = np.asarray(getattr(flow, what), float)
    columns = {
        str(name): column
        for name, column in zip(flow.layers, table.T, strict=True)
        if not np.isnan(column).all()
    }
    log = log and bool((table > 0).any())
    if len(columns) < _MANY:
        return lines(columns, flow.steps, "step", ylabel, log, ax)
    ax = as_axes(ax)
    scale = ScalarMappable(Normalize(1, len(columns)), "cividis")
    for depth, column in enumerate(columns.values(), 1):
        ax.plot(flow.steps, column, color=scale.to_rgba(np.array(depth)), linewidth=1.2)
    if log:
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel=ylabel)
    ax.figure.colorbar(scale, ax=ax, label="layer, from the input", ticks=MaxNLocator(integer=True))
    return ax


def _quantity(key: str) -> str:
    """What a key of the history measures."""
    name = key.removeprefix("val_")
    return {"lr": "learning rate", "r2": "R²"}.get(name, name)


def _label(key: str) -> str:
    """What a key of the history measures, and on which data."""
    if key in ("lr", "seconds"):
        return _quantity(key)
    return f"{_quantity(key)}, {'validation' if key.startswith('val_') else 'training'}"
