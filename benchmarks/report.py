"""Results of a run, written after every round: an interrupted run keeps its rounds."""

import importlib.metadata
import json
import statistics

from fastnn._utils.files import write_atomically


def write(path: str | None, figures: dict) -> None:
    """Write results as a JSON file, atomically; nothing without a path."""
    if path:
        write_atomically(path, (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(header: list[str], rows: list[list[str]]) -> str:
    """Aligned columns, the first one flush left."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def version(package: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def figure(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits, or a dash."""
    if value is None:
        return "–"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:.{max(digits - whole, 0)}f}"
