"""What the commands print, and the JSON files that they write."""

import unicodedata
from pathlib import Path
from typing import Any

import click

from fastnn._utils.files import write_atomically
from fastnn._utils.plain import strict_json

_LONGEST = 4000  # letters of a line
_JOINERS = "\u200c\u200d"  # parts of words in Persian or Hindi, and of emoji


def note(line: str) -> None:
    """Print a line about the work to standard error; results go to standard output."""
    click.echo(printable(line), err=True)


def printable(line: str) -> str:
    """``line`` without what a terminal may take for a command; text from files goes through here.

    It is `escaped`, and cut where it is longer than a screen.
    """
    if len(line) > _LONGEST:
        line = f"{line[:_LONGEST]}… ({len(line):,} letters)"
    return escaped(line)


def escaped(line: str) -> str:
    """``line`` with control characters and other invisible ones shown by their codes."""
    return line if line.isprintable() else "".join(map(_shown, line))


def _shown(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS:
        return letter
    if unicodedata.category(letter) == "Zs":  # a space, of whatever width
        return " "
    return letter.encode("unicode_escape").decode("ascii")


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


def finer(scores: dict[str, float]) -> str:
    """The other scores of a table in words."""
    if "rmse" in scores:
        return f"RMSE {scores['rmse']:.4g}, MAE {scores['mae']:.4g}"
    return f"log-loss {scores['log_loss']:.4g}, AUC {scores['auc']:.3f}"


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures to a JSON file; those that are not finite become null."""
    write_atomically(path, strict_json(figures, indent=1))
