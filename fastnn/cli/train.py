"""The command ``fastnn train``."""

import sys
import time
from dataclasses import fields
from typing import Any

import click

from fastnn._kernels.contract import DTYPES
from fastnn._kernels.numba_cpu import cache
from fastnn._kernels.threads import num_threads
from fastnn._utils.plain import plain_data
from fastnn._version import __version__
from fastnn.callbacks import EarlyStopping
from fastnn.cli.data import TrainingSets, training_sets
from fastnn.cli.interrupts import InterruptShield
from fastnn.cli.layers import network_layers
from fastnn.cli.options import (
    FILE,
    NOT_NEGATIVE,
    SAMPLE,
    TrainOptions,
    backend_option,
    check_outputs,
    one_of,
    parse_widths,
    reading_options,
    threads_option,
)
from fastnn.cli.output import count, printable, score, write_json
from fastnn.cli.table_scores import figures as table_figures
from fastnn.cli.table_scores import in_words, is_no_better, table_scores
from fastnn.errors import DivergenceError, HistoryProtocol
from fastnn.network import Network
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.layers import Residual
from fastnn.optim.optimizers import LBFGS, OPTIMIZERS, Optimizer
from fastnn.tabular.targets import TASKS
from fastnn.training.history import History

_FOR_EVER = 1 << 62  # epochs


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
    default=10,
    type=click.IntRange(1),
    help="Passes over the training data.",
)
@click.option(
    "--batch-size", metavar="N", default=32, type=click.IntRange(1), help="Samples a step."
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
    """Train a network and test it.

    DATA is a CSV, Parquet or NPZ file, `mnist` for all of MNIST, or, by default, `sample` for the
    sample of MNIST inside the package. A file's rows are split at random: 70 % to train on, 15 % to
    validate, 15 % to test. Numbers are scaled, text becomes categories, dates numbers; the model
    file remembers how. Ctrl-C ends training early and keeps what was learnt.
    """
    options = TrainOptions(**arguments)
    optimizer = _make_optimizer(options)
    on_stdout = check_outputs(
        {"--out": options.out, "--metrics": options.metrics}, {"DATA": options.data}
    )
    sets = training_sets(options)
    net = _make_network(options, sets)
    if options.out is not None and sets.encoder is not None:
        # Here, as a name that cannot be saved is refused before training.
        net.metadata = plain_data(
            "what the model file remembers", {"encoder": sets.encoder.to_dict()}
        )
    _describe(net, options, sets)
    with InterruptShield() as shield:
        stopped = _train_and_save(net, options, sets, optimizer, shield, on_stdout)
    return shield.status(stopped == "interrupted")


def _train_and_save(
    net: Network,
    options: TrainOptions,
    sets: TrainingSets,
    optimizer: Optimizer | LBFGS,
    shield: InterruptShield,
    on_stdout: bool,
) -> str | None:
    """Train, score, write the files; returns why training stopped before its last epoch."""
    started = time.perf_counter()
    history, divergence = _fit(net, options, sets, optimizer)
    shield.trained = True
    seconds = time.perf_counter() - started
    if options.out is not None:
        net.save(options.out)
    scores = net.evaluate(*sets.test)
    beside = {} if sets.encoder is None else table_scores(net, sets)
    if options.metrics is not None:
        write_json(options.metrics, _figures(net, history, scores, seconds) | table_figures(beside))
    ending = f"; {history.stopped}" if history.stopped else ""
    saved = f"saved to {options.out}" if options.out else "not saved: --out MODEL does that"
    if divergence is not None:
        raise DivergenceError(f"{divergence}; {saved}", divergence.epoch, divergence.step, history)
    click.echo(
        printable(
            f"test {score(scores)} after {count(net.epochs, 'epoch')} in {seconds:.1f} s "
            f"({net.backend}{ending}); {saved}"
        ),
        err=on_stdout,
    )
    if beside:
        options.note(in_words(beside))
        if is_no_better(beside):
            options.note(
                "note: the network is no better than that: it has learnt nothing from the columns"
            )
    return history.stopped


def _fit(
    net: Network, options: TrainOptions, sets: TrainingSets, optimizer: Optimizer | LBFGS
) -> tuple[HistoryProtocol, DivergenceError | None]:
    """Train; a divergence is handed back, so that what was learnt before it is not lost."""
    callbacks = []
    if options.patience is not None or sets.encoder is not None:
        # The rows of a table are few: its best epoch is kept, whenever training ends.
        patience = _FOR_EVER if options.patience is None else options.patience
        callbacks.append(EarlyStopping(patience=patience))
    try:
        history = net.fit(
            *sets.training,
            options.epochs,
            options.batch_size,
            optimizer,
            sets.validation,
            callbacks=callbacks,
            progress=not options.quiet,
        )
    except DivergenceError as error:
        history = History() if error.history is None else error.history
        history.stopped = history.stopped or f"diverged in epoch {error.epoch}"
        return history, error
    return history, None


def _make_optimizer(options: TrainOptions) -> Optimizer | LBFGS:
    kind = OPTIMIZERS[options.optimizer]
    given: dict[str, Any] = {"lr": options.lr, "clip_norm": options.clip_norm}
    constants = {name: value for name, value in given.items() if value is not None}
    for name in constants:
        if name not in {field.name for field in fields(kind)}:
            raise click.UsageError(
                f"{options.optimizer} takes no --{name.replace('_', '-')}",
                click.get_current_context(),
            )
    return kind(**constants)


def _make_network(options: TrainOptions, sets: TrainingSets) -> Network:
    cardinalities = sets.encoder.cardinalities if sets.encoder else []
    return Network(
        network_layers(options, sets.inputs, sets.outputs, cardinalities),
        inputs=sets.inputs,
        loss="softmax_cross_entropy" if sets.classification else "mse",
        dtype=options.dtype,
        backend=options.backend,
        seed=options.seed,
    )


def _describe(net: Network, options: TrainOptions, sets: TrainingSets) -> None:
    """Print what is about to be trained, and what may surprise about it."""
    widths = "-".join(map(str, [sets.inputs, *options.layers, sets.outputs]))
    options.note(
        f"network {widths}, {net.n_parameters:,} parameters, {options.dtype}; {_engine(net)}"
    )
    if options.residual and not any(isinstance(layer, Residual) for layer in net.layers):
        options.note("note: --residual changes nothing, as no hidden layer is as wide as its input")
    must_compile = net.backend == "numba" and not cache.ready(net.dtype.name)
    if must_compile and sys.stderr.isatty():
        options.note("compiling for this machine, once: it takes about half a minute")


def _engine(net: Network) -> str:
    """The engine of a network and, where their number is set, its threads."""
    if net.backend in ("numpy", "cuda"):
        return net.backend
    return f"{net.backend}, {count(num_threads(), 'thread')}"


def _figures(
    net: Network, history: HistoryProtocol, scores: dict[str, float], seconds: float
) -> dict[str, Any]:
    """What ``--metrics`` writes."""
    curves = {
        ("epoch_seconds" if name == "seconds" else name): values for name, values in history.items()
    }
    return {
        "fastnn": __version__,
        "backend": net.backend,
        "parameters": net.n_parameters,
        "epochs": net.epochs,
        "stopped": history.stopped,
        "seconds": seconds,
        **curves,
        **{f"test_{name}": value for name, value in scores.items()},
    }
