"""The command ``fastnn evaluate``."""

from pathlib import Path

import click

from fastnn._version import __version__
from fastnn.cli.data import evaluation_data, table_model
from fastnn.cli.options import (
    FILE,
    backend_option,
    check_outputs,
    reading_options,
    threads_option,
)
from fastnn.cli.output import count, finer, score, write_json
from fastnn.estimators.scoring import table_scores
from fastnn.models import load
from fastnn.tabular.reading.options import ReadOptions


@click.command()
@click.argument("model", type=FILE)
@click.argument("data")
@click.option(
    "--target",
    metavar="COLUMN",
    help="For a model that was not trained here: column to compare with.  [default: the last one]",
)
@reading_options
@backend_option
@threads_option
@click.option("--metrics", type=FILE, metavar="FILE.json", help="Write the figures to this file.")
def evaluate(
    model: Path,
    data: str,
    target: str | None,
    backend: str,
    metrics: Path | None,
    delimiter: str | None,
    decimal: str | None,
    encoding: str | None,
) -> None:
    """Score MODEL on all rows of DATA.

    DATA is a file as `fastnn train` takes it, or `mnist` or `sample` for their test images. Of a
    data file the loss is the log-loss, or the mean squared error of the standardised target.
    """
    on_stdout = check_outputs({"--metrics": metrics}, {"MODEL": model, "DATA": data})
    options = ReadOptions(delimiter, decimal, encoding)
    net = load(model, backend)
    X, y = evaluation_data(net, data, target, options)
    table = table_model(net)
    scores = net.evaluate(X, y) if table is None else table_scores(table, X, y)
    if metrics is not None:
        write_json(
            metrics, {"fastnn": __version__, "backend": net.backend, "rows": len(X), **scores}
        )
    click.echo(
        f"loss {scores['loss']:.4g}, {score(scores)} on {count(len(X), 'row')} "
        f"({net.backend}){'' if table is None else f'; {finer(scores)}'}",
        err=on_stdout,
    )
