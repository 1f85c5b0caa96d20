"""The command ``fastnn predict``."""

import sys
from pathlib import Path

import click
import numpy as np

from fastnn.cli.data import Model, encoder_of, prediction_inputs, table_model
from fastnn.cli.options import (
    FILE,
    backend_option,
    check_outputs,
    reading_options,
    threads_option,
)
from fastnn.cli.output import escaped
from fastnn.estimators.table_model import TableModel
from fastnn.models import load
from fastnn.tabular.formats import check_destination, to_csv, write_columns
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.targets import Classes


@click.command()
@click.argument("model", type=FILE)
@click.argument("data")
@click.option(
    "-o",
    "--out",
    type=FILE,
    metavar="FILE",
    help="CSV, Parquet or NPZ file.  [default: CSV to standard output]",
)
@click.option(
    "--coverage",
    metavar="X",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="How often the truth is to lie between the columns lower and upper, or among the classes "
    "that possible_… marks; such as 0.9.",
)
@reading_options
@backend_option
@threads_option
def predict(
    model: Path,
    data: str,
    out: Path | None,
    coverage: float | None,
    backend: str,
    delimiter: str | None,
    decimal: str | None,
    encoding: str | None,
) -> None:
    """Write MODEL's predictions for all rows of DATA.

    The column `prediction` holds classes or values, and `probability_…` the probability of each
    class. The order of DATA's columns does not matter, nor do columns that the model does not know.
    """
    check_outputs({"--out": out}, {"MODEL": model, "DATA": data})
    if out is not None:
        check_destination(out)
    options = ReadOptions(delimiter, decimal, encoding)
    net = load(model, backend)
    table = table_model(net)
    if coverage is not None and (table is None or table.conformal is None):
        raise click.UsageError(
            "--coverage goes with a model that this version trained on a data file",
            click.get_current_context(),
        )
    encoder = encoder_of(net)
    X = prediction_inputs(net, encoder, data, options)
    if table is not None:
        columns = _table_predictions(table, X, coverage)
    else:
        columns = _plain_predictions(net, X) if encoder is None else encoder.decode(net.predict(X))
    if out is None:
        table = to_csv(columns)
        # Names from files reach another program as they are, but no terminal.
        if sys.stdout is not None and sys.stdout.isatty():
            table = "\n".join(map(escaped, table.decode().split("\n"))).encode()
        click.echo(table, nl=False)
    else:
        write_columns(out, columns)


def _table_predictions(
    model: TableModel, X: np.ndarray, coverage: float | None
) -> dict[str, np.ndarray]:
    outputs = model.outputs(X)
    columns = model.decode(outputs)
    if coverage is None:
        return columns
    if isinstance(model.encoder.target, Classes):
        names, may_be = model.encoder.target.classes, model.sets(outputs, coverage)
        return columns | {f"possible_{name}": may_be[:, k] for k, name in enumerate(names)}
    lower, upper = model.intervals(outputs, coverage)
    return columns | {"lower": lower, "upper": upper}


def _plain_predictions(net: Model, X: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions of a network that was saved without an encoder; its classes are numbers."""
    output = net.predict(X)
    if not net.loss.spec.classifies:
        names = (
            ["prediction"] if net.outputs == 1 else [f"prediction_{i}" for i in range(net.outputs)]
        )
        return dict(zip(names, output.T, strict=True))
    if net.outputs == 1:
        output = np.hstack([1 - output, output])
    return Classes("y", "integer", tuple(map(str, range(output.shape[1])))).decode(output)
