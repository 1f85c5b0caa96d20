"""Figures in one style, their files, and what the charts share.

Colours are Okabe and Ito's, which the colour-blind can distinguish; line styles and markers make
the same distinctions in black and white.
"""

import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn._utils.files import check_writable, write_atomically

try:
    from matplotlib.animation import PillowWriter
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as _error:
    raise ImportError(
        f"fastnn.plotting needs Matplotlib ({_error}): pip install 'fastnn[plot]'"
    ) from _error

# Okabe & Ito (2008), without the yellow that white paper swallows.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINE_STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_DPI = 150


def new_axes(
    rows: int = 1, columns: int = 1, size: tuple[float, float] | None = None
) -> tuple[Figure, Any]:
    """A figure in the house style, and its axes.

    Parameters
    ----------
    rows, columns : int
    size : (float, float), optional
        Width and height in inches; 6 × 4 for each of the axes where it is not given.

    Returns
    -------
    Figure, Axes or ndarray of Axes
        One axes by itself, a row or a column as (n,), a grid as (rows, columns).
    """
    rows, columns = checks.integer("rows", rows), checks.integer("columns", columns)
    figure = Figure(figsize=size or (6.0 * columns, 4.0 * rows), layout="constrained")
    axes = figure.subplots(rows, columns)
    for ax in np.ravel(axes):
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
    return figure, axes


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all; the suffix names the format, without one it is PNG.

    Raises
    ------
    ValueError
        A suffix that Matplotlib cannot write, with those that it can.
    OSError
        The file cannot be written. An older one is then intact.
    """
    kind, known = (
        Path(path).suffix.removeprefix(".").lower() or "png",
        figure.canvas.get_supported_filetypes(),
    )
    if kind not in known:
        raise ValueError(
            f"path ends in .{kind}, which Matplotlib cannot write; known: "
            f"{', '.join(sorted(known))}"
        )
    check_writable(path)
    contents = io.BytesIO()
    figure.savefig(contents, format=kind, dpi=_DPI)
    write_atomically(path, contents.getvalue())


def save_animation(
    figure: Figure,
    update: Callable[[int], Any],
    frames: int,
    path: str | os.PathLike[str],
    fps: int = 20,
) -> None:
    """Write an animated GIF whole or not at all.

    Parameters
    ----------
    figure : Figure
    update : callable
        Changes the figure to frame i, for i from 0.
    frames : int
    path : str or path
    fps : int
        Frames a second.
    """
    check_writable(path)
    frames, writer = checks.integer("frames", frames), PillowWriter(fps=checks.integer("fps", fps))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "animation.gif")  # the writer takes a path only
        with writer.saving(figure, str(file), dpi=80):
            for frame in range(frames):
                update(frame)
                writer.grab_frame()
        write_atomically(path, file.read_bytes())


def line_style(number: int) -> dict[str, Any]:
    """Colour and line style of the n-th of several lines; 28 are distinct."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINE_STYLES[number % len(LINE_STYLES)],
    }


def as_axes(ax: Any) -> Axes:
    """``ax``, or the axes of a new figure."""
    if ax is None:
        return new_axes()[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one Matplotlib Axes, not {type(ax).__name__}")
    return ax


def as_vector(name: str, values: Any) -> np.ndarray:
    """``values`` as floats (n,), n > 0."""
    vector = np.asarray(values, float)
    if vector.ndim != 1 or not len(vector):
        raise ValueError(
            f"{name} must be a sequence of at least one number, not an array of shape "
            f"{vector.shape}"
        )
    return vector
