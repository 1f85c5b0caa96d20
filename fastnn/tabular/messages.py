"""Words of messages about a table: names and cells in quotes, lists cut short, the file's name."""

import contextlib
import os
import shlex
from collections.abc import Iterator, Sequence

_SHOWN = 5  # things of a list
_LETTERS = 80  # of a name or cell
_FLAGS = {"coerce": "number", "categories": "text"}  # where the command line has another word


def listed(items: Sequence[str], shown: int = _SHOWN) -> str:
    """The first of many things, and the number of the others."""
    more = len(items) - shown
    return ", ".join(items[:shown]) + (f" and {more:,} more" if more > 0 else "")


def quoted(text: str) -> str:
    """A name or the text of a cell in quotes; of a long one the first letters."""
    return repr(text) if len(text) <= _LETTERS else f"{text[:_LETTERS]!r}… ({len(text):,} letters)"


def cell(column: str, text: str, row: int) -> str:
    """The beginning of a message about one cell."""
    return f"column {quoted(column)} is {quoted(text)} in row {row}"


def option(name: str, column: str | None = None, in_python: bool = False) -> str:
    """How a user gives an option a column: as an argument in Python, or on the command line."""
    if in_python:
        return f"{name}=[{'…' if column is None else quoted(column)}]"
    return f"--{_FLAGS.get(name, name)} {'COLUMN' if column is None else shlex.quote(column)}"


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """A ValueError that is raised inside names the file, if it does not already."""
    try:
        yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
