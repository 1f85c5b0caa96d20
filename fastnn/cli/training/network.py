"""One network of the options' own layers, for images and for recipe "plain"."""

import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import click

from fastnn._kernels.numba_cpu import cache
from fastnn._kernels.threads import num_threads
from fastnn.callbacks import EarlyStopping, TimeLimit
from fastnn.cli.options import TrainOptions
from fastnn.cli.output import count
from fastnn.cli.training.data import TrainingSets
from fastnn.cli.training.result import Result
from fastnn.ensemble import Ensemble
from fastnn.errors import DivergenceError, HistoryProtocol
from fastnn.estimators.bagging import Rows
from fastnn.estimators.fitting import learn_from_held_out
from fastnn.estimators.options import TableOptions
from fastnn.estimators.table_model import TableModel
from fastnn.models import mlp_layers
from fastnn.network import Network
from fastnn.nn.feature_layers import Embedding
from fastnn.nn.layers import Layer, Residual
from fastnn.optim.optimizers import LBFGS, OPTIMIZERS, Optimizer
from fastnn.training.history import History

_EPOCHS, _BATCH_SIZE = 10, 32
_SIZE = 8  # numbers that are learnt for each category
_FOR_EVER = 1 << 62  # epochs


def make_optimizer(options: TrainOptions) -> Optimizer | LBFGS:
    """The optimiser that the options name; a constant that it lacks is an error."""
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


def make_network(options: TrainOptions, sets: TrainingSets) -> Network:
    """The network, which is described on standard error."""
    cardinalities = sets.encoder.cardinalities if sets.encoder else []
    net = Network(
        network_layers(options, sets.inputs, sets.outputs, cardinalities),
        inputs=sets.inputs,
        loss="softmax_cross_entropy" if sets.classification else "mse",
        dtype=options.dtype,
        backend=options.backend,
        seed=options.seed,
    )
    _describe(net, options, sets)
    return net


def train_network(
    net: Network, options: TrainOptions, sets: TrainingSets, optimizer: Optimizer | LBFGS
) -> Result:
    """Train; a divergence is handed back, so that what was learnt before it is not lost."""
    started = time.perf_counter()
    history, divergence = _fit(net, options, sets, optimizer)
    seconds = time.perf_counter() - started
    return Result(
        predictor=net,
        model=None if sets.encoder is None else _table_model(net, options, sets),
        histories=[history],
        stopped=history.stopped,
        seconds=seconds,
        after=f"after {count(net.epochs, 'epoch')}",
        divergence=divergence,
    )


def network_layers(
    options: TrainOptions, inputs: int, outputs: int, cardinalities: Sequence[int]
) -> list[Layer]:
    """The layers for so many inputs, the last of which are codes with these cardinalities."""
    first: list[Layer] = [Embedding(cardinalities, _SIZE)] if cardinalities else []
    width = inputs + (_SIZE - 1) * len(cardinalities)
    return first + mlp_layers(
        [width, *options.layers, outputs],
        activation=options.activation,
        dropout=options.dropout,
        batch_norm=options.batch_norm,
        residual=options.residual,
        l1=options.l1,
        l2=options.l2,
    )


def _fit(
    net: Network, options: TrainOptions, sets: TrainingSets, optimizer: Optimizer | LBFGS
) -> tuple[HistoryProtocol, DivergenceError | None]:
    callbacks: list[Any] = []
    if options.patience is not None or sets.encoder is not None:
        # The rows of a table are few: its best epoch is kept, whenever training ends.
        patience = _FOR_EVER if options.patience is None else options.patience
        callbacks.append(EarlyStopping(patience=patience))
    if options.time is not None:
        callbacks.append(TimeLimit(options.time))
    try:
        history = net.fit(
            *sets.training,
            options.epochs or _EPOCHS,
            options.batch_size or _BATCH_SIZE,
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


def _table_model(net: Network, options: TrainOptions, sets: TrainingSets) -> TableModel:
    """The network with its encoder, and what the validation rows tell."""
    assert sets.encoder is not None
    assert sets.validation is not None
    model = TableModel(sets.encoder, Ensemble([net]), recipe="plain")
    settings = TableOptions(calibrate=False, dtype=options.dtype)
    learn_from_held_out(model, Rows(*sets.validation), net.predict(sets.validation[0]), settings)
    net.metadata = model.metadata()
    return model


def _describe(net: Network, options: TrainOptions, sets: TrainingSets) -> None:
    """Print what is about to be trained, and what may surprise about it."""
    widths = "-".join(map(str, [sets.inputs, *options.layers, sets.outputs]))
    options.note(
        f"network {widths}, {net.n_parameters:,} parameters, {options.dtype}; "
        f"{engine_in_words(net.backend)}"
    )
    if options.residual and not any(isinstance(layer, Residual) for layer in net.layers):
        options.note("note: --residual changes nothing, as no hidden layer is as wide as its input")
    must_compile = net.backend == "numba" and not cache.ready(net.dtype.name)
    if must_compile and sys.stderr.isatty():
        options.note("compiling for this machine, once: it takes about half a minute")


def engine_in_words(backend: str) -> str:
    """An engine and, where their number is set, its threads."""
    return (
        backend if backend in ("numpy", "cuda") else f"{backend}, {count(num_threads(), 'thread')}"
    )
