"""What the commands share: options, checks of their values, and the arguments of ``train``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from fastnn import engines
from fastnn._kernels.threads import set_num_threads
from fastnn._utils import checks
from fastnn._utils.files import check_apart, check_writable, is_stdout
from fastnn.cli.output import note
from fastnn.tabular.reading.options import ReadOptions

SAMPLE, MNIST = "sample", "mnist"  # names of data sets that DATA may be instead of a file

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)
INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
NOT_NEGATIVE = click.FloatRange(0)
POSITIVE = click.FloatRange(0, min_open=True)


@dataclass(frozen=True)
class TrainOptions:
    """The arguments of ``fastnn train``, by the names of its options."""

    data: str
    target: str | None
    ignore: tuple[str, ...]
    keep: tuple[str, ...]
    text: tuple[str, ...]
    number: tuple[str, ...]
    delimiter: str | None
    decimal: str | None
    encoding: str | None
    task: str
    test: Path | None
    validation: Path | None
    all_rows: bool
    recipe: str | None
    folds: int | None
    time: float | None
    layers: list[int]
    activation: str
    dropout: float
    batch_norm: bool
    residual: bool
    l1: float
    l2: float
    epochs: int | None
    batch_size: int | None
    optimizer: str
    lr: float | None
    clip_norm: float | None
    patience: int | None
    backend: str
    dtype: str
    seed: int
    out: Path | None
    metrics: Path | None
    quiet: bool

    def reading(self) -> ReadOptions:
        """How to read the data file."""
        return ReadOptions(
            self.delimiter,
            self.decimal,
            self.encoding,
            text=self.text,
            coerce=self.number,
            ignore=self.ignore,
        )

    def note(self, line: str) -> None:
        """Print a line about the work, unless ``--quiet`` is given."""
        if not self.quiet:
            note(line)


def one_of(known: Sequence[str]) -> Callable[[click.Context, click.Parameter, Any], str]:
    """A check of an option's value that suggests the nearest known one."""
    return lambda context, option, value: checks.one_of(option.name or "", value, known)


def optional(check: Callable[..., Any]) -> Callable[..., Any]:
    """A check of an option that may be left out."""
    return lambda context, option, value: None if value is None else check(context, option, value)


def parse_widths(context: click.Context, option: click.Parameter, text: str) -> list[int]:
    """The widths in a text such as ``256,128``."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    known = [word.isdecimal() and len(word) < 20 and int(word) > 0 for word in words]
    if not all(known):
        raise click.BadParameter(
            f"{text[:200]!r} is not a list of widths, such as 256,128.", context, option
        )
    return [int(word) for word in words]


def _check_backend(context: click.Context, option: click.Parameter, name: str) -> str:
    return engines.check(name)


def _set_threads(context: click.Context, option: click.Parameter, n: int | None) -> None:
    if n is not None:
        set_num_threads(n)


def check_outputs(outputs: dict[str, Path | None], inputs: dict[str, str | Path]) -> bool:
    """Refuse outputs that cannot be written, or that name an input or each other, before any work.

    Returns
    -------
    bool
        Whether one of them goes to standard output, where nothing else may go then.
    """
    files = {name: path for name, path in inputs.items() if path not in (SAMPLE, MNIST)}
    check_apart(outputs, files)
    given = [path for path in outputs.values() if path is not None]
    for path in given:
        check_writable(path)
    return any(map(is_stdout, given))


def backend_option(command: _Command) -> _Command:
    """Give a command the option ``--backend``."""
    return click.option(
        "--backend",
        metavar="NAME",
        default="auto",
        callback=_check_backend,
        help=f"Engine: auto, {', '.join(engines.ENGINES)}.",
    )(command)


def threads_option(command: _Command) -> _Command:
    """Give a command the option ``--threads``, which takes effect at once."""
    return click.option(
        "--threads",
        metavar="N",
        type=click.IntRange(1),
        callback=_set_threads,
        expose_value=False,
        help="CPU threads.",
    )(command)


def reading_options(command: _Command) -> _Command:
    """Give a command the options that say how a CSV file is written."""
    for option in (
        click.option(
            "--encoding", metavar="NAME", help="Of a CSV file, such as utf-16.  [default: utf-8]"
        ),
        click.option(
            "--decimal",
            metavar="MARK",
            help="Decimal mark of numbers: . or a comma.  [default: .]",
        ),
        click.option(
            "--delimiter",
            metavar="MARK",
            callback=lambda context, option, mark: "\t" if mark in ("tab", r"\t") else mark,
            help="Between the columns of a CSV file, such as ; or tab.  [default: a comma]",
        ),
    ):
        command = option(command)
    return command
