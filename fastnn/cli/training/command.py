"""The command ``fastnn train``."""

from typing import Any

import click
from click.core import ParameterSource

from fastnn._kernels.contract import DTYPES
from fastnn._utils.plain import plain_data
from fastnn.cli.interrupts import InterruptShield
from fastnn.cli.options import (
    FILE,
    INPUT,
    MNIST,
    NOT_NEGATIVE,
    POSITIVE,
    SAMPLE,
    TrainOptions,
    backend_option,
    check_outputs,
    one_of,
    optional,
    parse_widths,
    reading_options,
    threads_option,
)
from fastnn.cli.training.data import TrainingSets, images, table_sets
from fastnn.cli.training.network import make_network, make_optimizer, train_network
from fastnn.cli.training.recipe import train_recipe
from fastnn.cli.training.result import report
from fastnn.estimators.options import TableOptions
from fastnn.estimators.table_model import ENCODER
from fastnn.nn.activations import ACTIVATIONS
from fastnn.optim.optimizers import OPTIMIZERS
from fastnn.recipes import RECIPES
from fastnn.tabular.targets import TASKS

# Options of a network of one's own, which recipe "plain" alone takes.
_OF_NETWORK = (
    *("layers", "activation", "dropout", "batch_norm", "residual", "l1", "l2"),
    *("optimizer", "lr", "clip_norm", "patience"),
)


@click.command()
@click.argument("data", default=SAMPLE)
@click.option("--target", metavar="COLUMN", help="Column to predict.  [default: the last one]")
@click.option(
    "--ignore",
    metavar="COLUMN",
    multiple=True,
    help="Column to leave out, such as an identifier; may be repeated.",
)
@click.option(
    "--keep",
    metavar="COLUMN",
    multiple=True,
    help="Column that is never left out; may be repeated.",
)
@click.option(
    "--text",
    metavar="COLUMN",
    multiple=True,
    help="Column that holds names, even if they look like numbers; may be repeated.",
)
@click.option(
    "--number",
    metavar="COLUMN",
    multiple=True,
    help="Column that holds numbers; other text in it counts as missing; may be repeated.",
)
@reading_options
@click.option(
    "--task",
    metavar="NAME",
    default="auto",
    callback=one_of(TASKS),
    help=f"One of {', '.join(TASKS)}.",
)
@click.option(
    "--recipe",
    metavar="NAME",
    callback=optional(one_of(list(RECIPES))),
    help=f"How networks for a data file are built and trained: {', '.join(RECIPES)}.  "
    "[default: auto; plain with options of the network]",
)
@click.option(
    "--folds",
    metavar="N",
    type=click.IntRange(1),
    help="Networks that are averaged, each validated on other rows.  [default: the recipe's own]",
)
@click.option(
    "--time", metavar="SECONDS", type=POSITIVE, help="Longest time to train a data file's networks."
)
@click.option(
    "--test", type=INPUT, metavar="FILE", help="File to test on, instead of a part of DATA."
)
@click.option(
    "--validation",
    type=INPUT,
    metavar="FILE",
    help="File to validate on, instead of a part of DATA.",
)
@click.option(
    "--all-rows",
    is_flag=True,
    help="Hold no rows of DATA out to test; the score is that of validation.",
)
@click.option(
    "--layers",
    metavar="N,N,…",
    default="256,128",
    callback=parse_widths,
    help="Widths of the hidden layers.",
)
@click.option(
    "--activation",
    metavar="NAME",
    default="relu",
    callback=one_of(list(ACTIVATIONS)),
    help="Of the hidden layers.",
)
@click.option(
    "--dropout",
    metavar="X",
    default=0.0,
    type=click.FloatRange(0, 1, max_open=True),
    help="Rate after each hidden layer.",
)
@click.option("--batch-norm", is_flag=True, help="Normalise before each activation.")
@click.option(
    "--residual",
    is_flag=True,
    help="Shortcut around each hidden layer that is as wide as its input.",
)
@click.option(
    "--l1",
    metavar="X",
    default=0.0,
    type=NOT_NEGATIVE,
    help="Penalty on the weights' absolute values.",
)
@click.option(
    "--l2",
    metavar="X",
    default=0.0,
    type=NOT_NEGATIVE,
    help="Penalty on half the weights' squares.",
)
@click.option(
    "--epochs",
    metavar="N",
    type=click.IntRange(1),
    help="Passes over the training data.  [default: 10; a recipe's own]",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    help="Samples a step.  [default: 32; a recipe's own]",
)
@click.option(
    "--optimizer",
    metavar="NAME",
    default="adam",
    callback=one_of(list(OPTIMIZERS)),
    help=f"One of {', '.join(OPTIMIZERS)}.",
)
@click.option(
    "--lr", metavar="X", type=float, help="Learning rate.  [default: the optimizer's own]"
)
@click.option("--clip-norm", metavar="X", type=float, help="Longest gradient.")
@click.option(
    "--patience",
    metavar="N",
    type=click.IntRange(0),
    help="Stop after more epochs than this without a lower validation loss, and keep the best one. "
    "Of a data file the best one is kept in any case.",
)
@backend_option
@threads_option
@click.option(
    "--dtype",
    metavar="NAME",
    default="float32",
    callback=one_of(DTYPES),
    help=f"{' or '.join(DTYPES)}.",
)
@click.option(
    "--seed",
    metavar="N",
    default=0,
    type=click.IntRange(0, 2**64 - 1),
    help="Of the split, the initial weights and all that is random.",
)
@click.option("--out", type=FILE, metavar="MODEL", help="Save the network to this file.")
@click.option("--metrics", type=FILE, metavar="FILE.json", help="Write all figures to this file.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
def train(**arguments: Any) -> int:
    """Train on data, and test what was learnt.

    DATA is a CSV, Parquet or NPZ file, `mnist` for all of MNIST, or, by default, `sample` for the
    sample of MNIST inside the package. Of a file, a random 20 % of the rows are held out to test.
    On the others a recipe trains several networks, each validated on a part that it does not train
    on, and their predictions are averaged. Options of the network, such as --layers, train one
    network of that kind instead, validated on 20 % of the rows. Numbers are scaled, text becomes
    categories, dates numbers; the model file remembers how. Ctrl-C ends training early and keeps
    what was learnt.
    """
    options = TrainOptions(**arguments)
    optimizer = make_optimizer(options)
    inputs = {"DATA": options.data, "--test": options.test, "--validation": options.validation}
    on_stdout = check_outputs(
        {"--out": options.out, "--metrics": options.metrics},
        {name: path for name, path in inputs.items() if path is not None},
    )
    settings = _settings(options)
    has_images, is_plain = options.data in (SAMPLE, MNIST), settings.recipe == "plain"
    sets = images(options) if has_images else table_sets(options, settings, validates=is_plain)
    net = make_network(options, sets) if has_images or is_plain else None
    _check_what_is_saved(options, sets)
    with InterruptShield() as shield:
        if net is None:
            result = train_recipe(options, settings, sets)
        else:
            result = train_network(net, options, sets, optimizer)
        shield.trained = True
        if options.out is not None:
            result.predictor.save(options.out)
        report(result, sets, options, on_stdout)
    return shield.status(result.stopped == "interrupted")


def _settings(options: TrainOptions) -> TableOptions:
    """What the estimators would be given."""
    context = click.get_current_context()
    given = [
        name
        for name in _OF_NETWORK
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    ]
    recipe = options.recipe or ("plain" if given else "auto")
    if given and recipe != "plain":
        raise click.UsageError(
            f"--{given[0].replace('_', '-')} goes with --recipe plain, not with {recipe}", context
        )
    if recipe == "plain" and options.folds not in (None, 1):
        raise click.UsageError("--folds goes with the other recipes, not with plain", context)
    return TableOptions(
        recipe=recipe,
        n_folds=options.folds,
        epochs=options.epochs,
        batch_size=options.batch_size,
        time_limit=options.time,
        quantiles=False,
        seed=options.seed,
        dtype=options.dtype,
        backend=options.backend,
        progress=not options.quiet,
    )


def _check_what_is_saved(options: TrainOptions, sets: TrainingSets) -> None:
    """Refuse a name that cannot be saved before training."""
    if options.out is not None and sets.encoder is not None:
        plain_data("what the model file remembers", {ENCODER: sets.encoder.to_dict()})
