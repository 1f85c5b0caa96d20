"""How important each of several things is: horizontal bars with their spread."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import get_font_names

from fastnn.plotting.figures import COLOURS, as_axes, as_vector, new_axes

# For letters that Matplotlib's own font lacks, where they are installed.
_OTHER_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "NanumGothic",
    "Microsoft YaHei",
    "Arial Unicode MS",
)
_BAR, _REST = 0.28, 1.2  # inches of height: of a bar, and of all else


def importance_bars(
    values: Any, errors: Any, labels: Sequence[str], xlabel: str = "", ax: Axes | None = None
) -> Axes:
    """A horizontal bar for each value, the first on top, with a line of ± its error.

    Parameters
    ----------
    values, errors : array-like (n,)
    labels : sequence of str
        Shown as they are, without formulas between dollar signs.
    xlabel : str
    ax : Axes, optional
        A new figure is as high as its bars need.
    """
    values, errors = as_vector("values", values), as_vector("errors", errors)
    if not len(values) == len(errors) == len(labels):
        raise ValueError(
            f"values, errors and labels must be equally many, not {len(values)}, {len(errors)} "
            f"and {len(labels)}"
        )
    if ax is None:
        _, ax = new_axes(size=(6.5, _REST + _BAR * max(len(values), 3)))
    ax, places = as_axes(ax), np.arange(len(values))
    ax.barh(places, values, color=COLOURS[0], height=0.7)
    ax.errorbar(values, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=2.5)
    ax.set_yticks(places, [str(label) for label in labels])
    for label in ax.get_yticklabels():
        label.set_parse_math(False)
        if not label.get_text().isascii():
            label.set_fontfamily([*label.get_fontfamily(), *_installed()])
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set(xlabel=xlabel)
    return ax


def _installed() -> list[str]:
    """Other fonts that are there; Matplotlib warns of those that are not."""
    known = set(get_font_names())
    return [name for name in _OTHER_FONTS if name in known]
