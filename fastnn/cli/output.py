"""What the commands print, and the JSON files that they write."""

import json
from pathlib import Path
from typing import Any

import click

from fastnn._utils.files import write_atomically


def note(line: str) -> None:
    """Print a line about the work to standard error; results go to standard output."""
    click.echo(line, err=True)


def count(n: int, what: str) -> str:
    """A number of things in words: "1 epoch", "2 epochs"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def score(scores: dict[str, float]) -> str:
    """The score of `Network.evaluate` in words."""
    return (
        f"accuracy {100 * scores['accuracy']:.1f} %"
        if "accuracy" in scores
        else f"r2 {scores['r2']:.3f}"
    )


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures to a JSON file."""
    write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode())
