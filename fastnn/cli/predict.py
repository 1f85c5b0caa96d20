"""The command ``fastnn predict``."""

import sys
from pathlib import Path

import click
import numpy as np

from fastnn.cli.data import encoder_of, prediction_inputs
from fastnn.cli.options import (
    FILE,
    backend_option,
    check_outputs,
    reading_options,
    threads_option,
)
from fastnn.cli.output import escaped
from fastnn.models import load
from fastnn.network import Network
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
@reading_options
@backend_option
@threads_option
def predict(
    model: Path,
    data: str,
    out: Path | None,
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
    encoder = encoder_of(net)
    X = prediction_inputs(net, encoder, data, options)
    columns = _plain_predictions(net, X) if encoder is None else encoder.decode(net.predict(X))
    if out is None:
        table = to_csv(columns)
        # Names from files reach another program as they are, but no terminal.
        if sys.stdout is not None and sys.stdout.isatty():
            table = "\n".join(map(escaped, table.decode().split("\n"))).encode()
        click.echo(table, nl=False)
    else:
        write_columns(out, columns)


def _plain_predictions(net: Network, X: np.ndarray) -> dict[str, np.ndarray]:
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
