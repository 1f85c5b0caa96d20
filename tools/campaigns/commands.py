"""Command lines of fastnn, in this process or in one of their own, and what they may print."""

import contextlib
import io
import warnings
from pathlib import Path

from campaigns import children
from campaigns.running import check
from fastnn.cli import main
from fastnn.cli.interrupts import INTERRUPTED

_LONGEST = 4200  # letters of an error message


def command(*arguments: str, folder: Path, process: bool = False) -> tuple[int, str, str]:
    """Exit status, standard output and error of a command; in a process of its own if asked.

    In this process the working folder must be ``folder`` already. A warning of Python's is an error
    there: on a user's terminal it would be lines of code.
    """
    if process:
        return children.run("-m", "fastnn", *arguments, folder=folder)
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        status = main(list(arguments))
    if status == INTERRUPTED:  # the campaign is meant
        raise KeyboardInterrupt
    out.flush()
    return status, out.buffer.getvalue().decode(), err.getvalue()


def check_ending(arguments: tuple[str, ...], status: int, err: str, good: tuple[int, ...]) -> None:
    """Raise `Fault` unless a command ended well, or in one line that says why not."""
    what = f"`fastnn {' '.join(arguments)}` ended with {status}: {_short(err)}"
    check("Traceback" not in err and "Warning:" not in err, what)
    check(status in (*good, 0, 2), what)
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith("fastnn: ")]
    check(len(errors) == (status != 0) and (not errors or lines[-1] == errors[0]), what)
    check(not errors or 10 < len(errors[0]) < _LONGEST, what)
    check(err.replace("\n", "").isprintable(), f"control characters on the terminal: {what!r}")


def _short(text: str) -> str:
    return text if len(text) < 1000 else f"{text[:500]} … {text[-500:]}"
