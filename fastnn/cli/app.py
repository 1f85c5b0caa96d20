"""The command ``fastnn``: its sub-commands, exit statuses and one-line error messages."""

import io
import sys
from collections.abc import Sequence

import click

from fastnn._version import __version__
from fastnn.cli.evaluate import evaluate
from fastnn.cli.experiment import experiment
from fastnn.cli.explain import explain
from fastnn.cli.info import info
from fastnn.cli.interrupts import INTERRUPTED
from fastnn.cli.output import printable
from fastnn.cli.predict import predict
from fastnn.cli.training.command import train
from fastnn.cli.warmup import warmup
from fastnn.errors import DivergenceError

_DIVERGED, _BAD_INPUT = 1, 2  # exit statuses


@click.group(
    invoke_without_command=True,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def fastnn(context: click.Context) -> None:
    """Train deep feed-forward networks, fast.

    Start with `fastnn train`, which learns to read handwritten digits from a sample of MNIST.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (train, evaluate, predict, explain, info, experiment, warmup):
    fastnn.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    A mistake of the user ends in one line on standard error, never in a traceback.

    Parameters
    ----------
    argv : sequence of str, optional
        Words of the command line; those of the process by default.

    Returns
    -------
    int
        0 on success, 1 where training diverged or a strict experiment differs, 2 on bad input,
        130 after Ctrl-C, 143 after SIGTERM.
    """
    _replace_what_a_console_lacks()
    try:
        return fastnn.main(argv, prog_name="fastnn", standalone_mode=False) or 0
    except click.Abort:
        return _complain("interrupted", INTERRUPTED)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "fastnn"
        return _complain(f"{error.format_message()} (see {command} --help)", _BAD_INPUT)
    except DivergenceError as error:
        return _complain(error, _DIVERGED)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}", _BAD_INPUT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", _BAD_INPUT)
    except (
        click.ClickException,
        ValueError,
        TypeError,
        OverflowError,
        RuntimeError,
        ImportError,
    ) as error:
        return _complain(error, _BAD_INPUT)


def _replace_what_a_console_lacks() -> None:
    """A console that cannot show a letter shows its code: no work is lost over a message."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _complain(message: object, status: int) -> int:
    # A message may quote a damaged file.
    click.echo(f"fastnn: {printable(' '.join(str(message).split()))}", err=True)
    return status
