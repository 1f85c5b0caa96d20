"""The picture of a comparison."""

from collections.abc import Iterable
from pathlib import Path

from real_tables.comparison import Summary

_OURS, _OTHERS = "#c0392b", "#34495e"


def draw(summaries: dict[str, Summary], tables: Iterable[str], path: Path) -> None:
    """Mean rank and mean gap against CPU seconds; down and left is better.

    Parameters
    ----------
    summaries : dict
        `Summary` by contender.
    tables : iterable of str
        The names of the sets, for the title.
    path : Path
        Where the picture goes; its ending chooses the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
    for axis, key, title in zip(
        axes, ("rank", "gap"), ("mean rank", "mean normalised gap"), strict=True
    ):
        by_cpu = sorted(summaries.items(), key=lambda entry: entry[1].cpu)
        for number, (name, summary) in enumerate(by_cpu):
            colour = _OURS if name == "fastnn" else _OTHERS
            place = summary.cpu, getattr(summary, key)
            axis.plot(*place, "o", color=colour, markersize=8)
            # Above and below in turn, as neighbours in CPU time are often neighbours in rank.
            beside = (7, -13) if number % 2 else (7, 5)
            style = {"textcoords": "offset points", "color": colour}
            if name == "fastnn":  # to the left, as the next neighbours are to the right
                beside, style = (-7, -4), style | {"ha": "right"}
            axis.annotate(name, place, beside, **style)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(0.25, 0.12)
        axis.set_xlabel("CPU seconds of a fit, geometric mean over the sets")
        axis.set_ylabel(f"{title} (lower is better)")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Sets: {', '.join(tables)}")
    figure.savefig(path, dpi=150)
    plt.close(figure)
