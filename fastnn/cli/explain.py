"""The command ``fastnn explain``."""

import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastnn._version import __version__
from fastnn.cli.data import read_file, table_model
from fastnn.cli.options import (
    FILE,
    MNIST,
    SAMPLE,
    backend_option,
    check_outputs,
    reading_options,
    threads_option,
)
from fastnn.cli.output import escaped, note, write_json
from fastnn.estimators.explanations.explanation import Explanation
from fastnn.estimators.explanations.explanation import explain as explain_model
from fastnn.models import load
from fastnn.tabular.formats import write_columns
from fastnn.tabular.messages import naming
from fastnn.tabular.reading.options import ReadOptions

_PICTURES = (".png", ".svg", ".pdf")
_SUFFIXES = (*_PICTURES, ".csv", ".json")


# Parameters: the command's options, which click passes by name.
@click.command()
@click.argument("model", type=FILE)
@click.argument("data")
@click.option(
    "-o",
    "--out",
    type=FILE,
    metavar="FILE",
    help=f"Write the figures or a picture, too: {', '.join(_SUFFIXES)}.",
)
@click.option(
    "--rows",
    metavar="N",
    default=2000,
    type=click.IntRange(1),
    help="Rows of DATA to score; of more so many are drawn.",
)
@click.option(
    "--repeats",
    metavar="N",
    default=5,
    type=click.IntRange(1),
    help="How often each column is shuffled.",
)
@click.option(
    "--seed",
    metavar="N",
    default=0,
    type=click.IntRange(0, 2**64 - 1),
    help="Of the rows that are drawn and of the shuffling.",
)
@reading_options
@backend_option
@threads_option
def explain(
    model: Path,
    data: str,
    out: Path | None,
    rows: int,
    repeats: int,
    seed: int,
    backend: str,
    delimiter: str | None,
    decimal: str | None,
    encoding: str | None,
) -> None:
    """Print which columns of DATA the predictions of MODEL depend on.

    The importance of a column is how much worse the predictions get when it is shuffled among the
    rows: the log-loss of classes, or the RMSE of values in their unit. DATA has the target, and
    best rows that the model did not train on.
    """
    on_stdout = check_outputs({"--out": out}, {"MODEL": model, "DATA": data})
    if out is not None:
        _check_suffix(out)
    net = load(model, backend)
    known = table_model(net)
    if known is None:
        raise click.UsageError(
            f"{model} has no encoder: expected a model that this version trained on a data file",
            click.get_current_context(),
        )
    if data in (SAMPLE, MNIST):
        raise click.UsageError(
            f"DATA is {data!r}; expected a file that ends in .csv, .parquet or .npz",
            click.get_current_context(),
        )
    options = ReadOptions(delimiter, decimal, encoding)
    with naming(data):
        table = read_file(data, known.encoder.read_options(options, with_target=True))
        y = known.encoder.transform_target(table)
        known.encoder.check_columns(table)
        for line in known.encoder.remarks(table):
            note(f"note: {line}")
        explanation = explain_model(known, table, y, None, repeats, rows, seed)
    if out is not None:
        _write(out, explanation, net.backend)
    click.echo("\n".join(map(escaped, str(explanation).split("\n"))), err=on_stdout)


def _check_suffix(out: Path) -> None:
    suffix = out.suffix.lower()
    if suffix not in _SUFFIXES:
        raise click.BadParameter(
            f"{str(out)!r} must end in one of {', '.join(_SUFFIXES)}.",
            click.get_current_context(),
            param_hint="--out",
        )
    if suffix in _PICTURES:
        import fastnn.plotting  # noqa: F401  (its error says what to install, before any work)


def _write(out: Path, explanation: Explanation, backend: str) -> None:
    suffix = out.suffix.lower()
    if suffix in _PICTURES:
        _draw(out, explanation)
    elif suffix == ".json":
        write_json(out, {"fastnn": __version__, "backend": backend, **explanation.to_dict()})
    else:
        write_columns(out, _columns(explanation))


def _draw(out: Path, explanation: Explanation) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explanation.plot(out)
    if any("missing from" in str(warning.message) for warning in caught):  # one for each letter
        note("note: Matplotlib finds no font for some letters; the picture has boxes there")


def _columns(explanation: Explanation) -> dict[str, Any]:
    slopes = explanation.sensitivity.astype(str)
    return {
        "column": np.array(explanation.columns),
        "importance": explanation.importance,
        "std": explanation.std,
        "sensitivity": np.where(np.isnan(explanation.sensitivity), "", slopes),
    }
