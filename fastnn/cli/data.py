"""The data that the commands train on, score and predict."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from fastnn import datasets
from fastnn._utils import checks
from fastnn.cli.options import MNIST, SAMPLE, TrainOptions
from fastnn.cli.output import count, note
from fastnn.data.splits import train_test_split, train_validation_test_split
from fastnn.network import Network
from fastnn.tabular.columns.matrix import by_rows
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.formats import read_table
from fastnn.tabular.messages import naming, quoted
from fastnn.tabular.preprocessing import Preprocessing
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Column, Table
from fastnn.tabular.targets import Task, choose_task

_SAMPLE_VALIDATION = 500  # of the sample's 5,000 training images

Samples = tuple[np.ndarray, np.ndarray]
Encoder = TableEncoder | Preprocessing  # the latter of model files of version 0.1.0


# --- for training ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """What a network is trained, validated and tested on; ``encoder`` is that of a file."""

    training: Samples
    validation: Samples
    test: Samples
    outputs: int
    classification: bool = True
    encoder: TableEncoder | None = None

    @property
    def inputs(self) -> int:
        """Features of a sample."""
        return self.training[0].shape[1]

    def sizes(self) -> str:
        """The number of rows of each set, in words."""
        return (
            f"{len(self.training[0]):,} to train on, "
            f"{len(self.validation[0]):,} to validate, {len(self.test[0]):,} to test"
        )


def training_sets(options: TrainOptions) -> TrainingSets:
    """Read the data that ``fastnn train`` names, and split them."""
    if options.data not in (SAMPLE, MNIST):
        with naming(options.data):
            return _split_table(_read(options.data, options.reading()), options)
    if options.target is not None or options.task != "auto" or options.reading() != ReadOptions():
        raise click.UsageError(
            "--target, --task and the options of columns and files go with a data file, "
            f"not with {options.data}",
            click.get_current_context(),
        )
    if options.data == MNIST:
        name, sets = "MNIST", TrainingSets(*datasets.mnist(), outputs=10)
    else:
        whole, test = datasets.mnist_sample()
        X, Xv, y, yv = train_test_split(*whole, _SAMPLE_VALIDATION, options.seed, stratify=True)
        name, sets = "sample of MNIST", TrainingSets((X, y), (Xv, yv), test, outputs=10)
    options.note(f"{name}: {sets.sizes()}; 10 classes")
    return sets


def _split_table(table: Table, options: TrainOptions) -> TrainingSets:
    for name in (*options.ignore, *options.keep, *options.text, *options.number):
        checks.one_of("column", name, dict.fromkeys(table.names))
    target = table[options.target or next(reversed(table.columns), "")]
    task = choose_task(target, options.task)
    classification = task.name == "classification"
    order, ends = _split_rows(target, classification, options.seed)
    encoder = TableEncoder(
        keep=[name for name in options.keep if name in table.columns],
        coerce=[name for name in options.number if name in table.columns],
        task=task.name,
        dtype=options.dtype,
    ).fit(table, target.name, order[: ends[1]])
    for line in encoder.notes:
        options.note(f"note: {line}")
    y = encoder.transform_target(table)[order]
    # One array in the order of the sets, so that they are views of it.
    X = encoder.transform(table, order, consume=True)
    training, validation, test = ((X[a:b], y[a:b]) for a, b in itertools.pairwise(ends))
    sets = TrainingSets(training, validation, test, encoder.outputs, classification, encoder)
    options.note(f"{table.source}: {sets.sizes()}; {count(len(encoder.columns), 'column')}")
    for line in encoder.decisions.splitlines():
        options.note(f"  {line}")
    _describe_target(sets, task, options)
    return sets


def _split_rows(target: Column, by_class: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows in the order of the sets, and where each begins and ends."""
    n = len(target.values)
    parts = train_validation_test_split(
        np.arange(n, dtype=np.min_scalar_type(n)),
        target.coded()[0] if by_class else target.values,
        seed=seed,
        stratify=by_class,
    )[:3]
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


def _describe_target(sets: TrainingSets, task: Task, options: TrainOptions) -> None:
    """Print what the target is taken for."""
    assert sets.encoder is not None
    options.note(
        f"target {quoted(sets.encoder.target_name)}"
        f"{'' if options.target else ', the last column'}: "
        f"{f'{sets.outputs} classes' if sets.classification else 'a number'}"
        f"{f' ({task.reason})' if task.reason else ''}"
    )


# --- for a trained model --------------------------------------------------------------------------


def encoder_of(net: Network) -> Encoder | None:
    """The encoder that a model file of ``fastnn train`` carries."""
    kinds: dict[str, type[Encoder]] = {"encoder": TableEncoder, "preprocessing": Preprocessing}
    key = next((key for key in kinds if net.metadata.get(key) is not None), None)
    if key is None:
        return None
    encoder = kinds[key].from_dict(net.metadata[key])
    if encoder.target is None:
        raise ValueError(f"the model's metadata '{key}' has no target")
    if (encoder.inputs, encoder.outputs) != (net.inputs, net.outputs):
        raise ValueError(
            f"the model's metadata '{key}' makes {count(encoder.inputs, 'input')} and "
            f"{count(encoder.outputs, 'output')} of a table, but the network has "
            f"{net.inputs:,} and {net.outputs:,}"
        )
    return encoder


def evaluation_data(net: Network, data: str, target: str | None, options: ReadOptions) -> Samples:
    """Inputs and targets of all rows of ``data``.

    Parameters
    ----------
    net : Network
    data : str
        A file, or `MNIST` or `SAMPLE` for their test images.
    target : str, optional
        The target column, for a network that was saved without an encoder.
    options : ReadOptions
        How the file is written.
    """
    encoder = encoder_of(net)
    if data in (SAMPLE, MNIST):
        return _test_images(encoder, data)
    if encoder is None:
        table = _read(data, options)
        column = table[target or table.names[-1]]
        return _plain_inputs(net, table, column.name), _plain_numbers(column)
    if target not in (None, encoder.target_name):
        raise ValueError(
            f"--target is {quoted(target)}, but the model was trained to predict "
            f"{quoted(encoder.target_name)}"
        )
    with naming(data):
        table = _read(data, encoder.read_options(options, with_target=True))
        y = encoder.transform_target(table)
        return _inputs(net, encoder, table), y


def prediction_inputs(
    net: Network, encoder: Encoder | None, data: str, options: ReadOptions
) -> np.ndarray:
    """Inputs (n, features) of all rows of ``data``; a target column is left out."""
    if data in (SAMPLE, MNIST):
        return _test_images(encoder, data)[0]
    if encoder is not None:
        with naming(data):
            table = _read(data, encoder.read_options(options, with_target=False))
            return _inputs(net, encoder, table)
    table = _read(data, options)
    if len(table.names) != net.inputs + 1:
        return _plain_inputs(net, table)
    note(
        f"the model takes {count(net.inputs, 'column')}; "
        f"the last one of {data}, {quoted(table.names[-1])}, is taken for the target"
    )
    return _plain_inputs(net, table, table.names[-1])


def _test_images(encoder: Encoder | None, data: str) -> Samples:
    if encoder is not None:
        raise ValueError(f"the model takes the columns of a table, not the images of {data}")
    return datasets.mnist()[2] if data == MNIST else datasets.mnist_sample()[1]


def _plain_inputs(net: Network, table: Table, target: str | None = None) -> np.ndarray:
    """All columns but the target, for a network that was saved without an encoder.

    They are taken out of the table, so that it and the inputs need not both be in memory.
    """
    names = [name for name in table.columns if name != target]
    X = np.empty((len(names), len(table)), net.dtype)
    for values, name in zip(X, names, strict=True):
        with naming(table.source), np.errstate(over="ignore"):  # the network names infinite inputs
            values[:] = _plain_numbers(table.columns.pop(name))
    return by_rows(X)


def _plain_numbers(column: Column) -> np.ndarray:
    """The values of a complete column of numbers."""
    column.numbers()
    column.check_complete()
    return column.values  # not as floats: integers may be labels


# --- shared ---------------------------------------------------------------------------------------


def _read(data: str, options: ReadOptions) -> Table:
    """The table of a file."""
    if not Path(data).suffix:
        raise click.UsageError(
            f"DATA is {data!r}; expected {SAMPLE} or {MNIST}, "
            "or a file that ends in .csv, .parquet or .npz",
            click.get_current_context(),
        )
    return read_table(data, options)


def _inputs(net: Network, encoder: Encoder, table: Table) -> np.ndarray:
    """The inputs of a network that was trained on a table, and notes on what they leave out."""
    encoder.check_columns(table)
    for line in encoder.remarks(table):
        note(f"note: {line}")
    if isinstance(encoder, Preprocessing):
        return encoder.transform(table, dtype=net.dtype, consume=True)
    return encoder.transform(table, consume=True)
