"""The command ``fastnn experiment``."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from fastnn._utils import checks
from fastnn.experiments.data import mnist
from fastnn.experiments.registry import EXPERIMENTS, title
from fastnn.experiments.runner import Report, check_destination, run

_ALL = "all"
_DIFFERS = 1  # exit status with --strict
_WIDTH = 140  # of the table where output is no terminal


def _name(context: click.Context, argument: click.Argument, name: str | None) -> str | None:
    return name and checks.one_of("experiment", name, [*EXPERIMENTS, _ALL])


@click.command()
@click.argument("name", required=False, callback=_name)
@click.option("--list", "show", is_flag=True, help="Show what experiments there are, and run none.")
@click.option(
    "--quick",
    is_flag=True,
    help="Under 20 seconds each, on the sample of MNIST inside the package, with wider bounds.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default="experiments",
    help="Folder for NAME.json and NAME.png.",
)
@click.option(
    "--strict", is_flag=True, help=f"End with exit status {_DIFFERS} if a figure differs."
)
def experiment(name: str | None, show: bool, quick: bool, out: Path, strict: bool) -> int:
    """Repeat an experiment of the source documents, or all, and compare figures.

    Each writes its figures to NAME.json and a picture to NAME.png. A figure that differs is a
    result like any other: only --strict makes it a failure.
    """
    if show or name is None:
        for known in EXPERIMENTS:
            click.echo(f"{known:<20}{title(known)}")
        return 0
    chosen = EXPERIMENTS if name == _ALL else (name,)
    check_destination(out, chosen)
    data, reports = mnist(quick), []  # read once for all
    for number, each in enumerate(chosen, 1):
        click.echo(f"{number}/{len(chosen)} {each}: {title(each)}", err=True)
        report = run(each, quick, out, data)
        click.echo(
            f"    {report.agreeing} of {len(report.checks)} figures agree, {report.seconds:.1f} s",
            err=True,
        )
        reports.append(report)
    _print_table(reports)
    differing = sum(len(report.checks) - report.agreeing for report in reports)
    click.echo(
        f"{differing or 'no'} {'figure differs' if differing == 1 else 'figures differ'}; "
        f"written to {out}"
    )
    return _DIFFERS if strict and differing else 0


def _figure(value: float) -> str:
    """Four digits, or a whole number in full."""
    return f"{value:.0f}" if abs(value) < 1e7 and value == int(value) else f"{value:.4g}"


def _print_table(reports: Sequence[Report]) -> None:
    """Expected against measured, a line a figure."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "experiment",
        "figure",
        "expected",
        "measured",
        "",
        title="Quick mode" if reports[0].quick else None,
    )
    for report in reports:
        for i, check in enumerate(report.checks):
            expected = (
                check.expected if isinstance(check.expected, str) else _figure(check.expected)
            )
            verdict = "[green]agrees" if check.agrees else "[bold red]differs"
            table.add_row(
                "" if i else report.name, check.name, expected, _figure(check.measured), verdict
            )
        table.add_section()
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)
