"""The data that the commands train on, score and predict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from fastnn import datasets
from fastnn.cli.options import MNIST, SAMPLE, TrainOptions
from fastnn.cli.output import count, note
from fastnn.data.splits import train_test_split, train_validation_test_split
from fastnn.network import Network
from fastnn.tabular.encoder import Preprocessing, choose_task
from fastnn.tabular.formats import read_table
from fastnn.tabular.table import Column, Table

_SAMPLE_VALIDATION = 500  # of the sample's 5,000 training images
_MANY_CATEGORIES = 100  # more in one column look like names or numbers of the rows

Samples = tuple[np.ndarray, np.ndarray]


# --- for training ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """What a network is trained, validated and tested on; ``preprocessing`` is that of a file."""

    training: Samples
    validation: Samples
    test: Samples
    outputs: int
    classification: bool = True
    preprocessing: Preprocessing | None = None

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
        return _split_table(_read(options.data), options)
    if options.target is not None or options.ignore or options.task != "auto":
        raise click.UsageError(
            f"--target, --ignore and --task go with a data file, not with {options.data}",
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
    target = table[options.target or table.names[-1]]
    task = choose_task(target, options.task)
    classification = task == "classification"
    labels = target.names() if classification else target.values
    training, validation, test = train_validation_test_split(
        np.arange(len(table)), labels, seed=options.seed, stratify=classification
    )[:3]
    preprocessing = Preprocessing.fit(table, target.name, task, training, options.ignore)
    X, y = preprocessing.inputs(table, options.dtype), preprocessing.targets(table)
    outputs = preprocessing.outputs
    sets = TrainingSets(
        (X[training], y[training]),
        (X[validation], y[validation]),
        (X[test], y[test]),
        outputs,
        classification,
        preprocessing,
    )
    options.note(f"{table.source}: {sets.sizes()}; {count(len(preprocessing.features), 'column')}")
    options.note(
        f"target {target.name!r}{'' if options.target else ', the last column'}: "
        f"{f'{outputs} classes' if classification else 'a number'}"
    )
    _note_filled(preprocessing, table, options.note)
    for feature in preprocessing.features:
        if feature.width > _MANY_CATEGORIES:
            options.note(
                f"note: column {feature.name!r} has {feature.width:,} categories; "
                "if it only names the rows, --ignore it"
            )
    return sets


# --- for a trained model --------------------------------------------------------------------------


def preprocessing_of(net: Network) -> Preprocessing | None:
    """The preprocessing that a model file of ``fastnn train`` carries."""
    description = net.metadata.get("preprocessing")
    if description is None:
        return None
    preprocessing = Preprocessing.from_dict(description)
    inputs = sum(feature.width for feature in preprocessing.features)
    if (inputs, preprocessing.outputs) != (net.inputs, net.outputs):
        raise ValueError(
            f"the model's metadata 'preprocessing' makes {count(inputs, 'input')} and "
            f"{count(preprocessing.outputs, 'output')} of a table, but the network has "
            f"{net.inputs:,} and {net.outputs:,}"
        )
    return preprocessing


def evaluation_data(net: Network, data: str, target: str | None) -> Samples:
    """Inputs and targets of all rows of ``data``.

    Parameters
    ----------
    net : Network
    data : str
        A file, or `MNIST` or `SAMPLE` for their test images.
    target : str, optional
        The target column, for a network that was saved without preprocessing.
    """
    preprocessing = preprocessing_of(net)
    if data in (SAMPLE, MNIST):
        return _test_images(preprocessing, data)
    if preprocessing is None:
        table = _read(data)
        column = table[target or table.names[-1]]
        return _plain_inputs(table, column.name), _plain_numbers(column)
    if target not in (None, preprocessing.target.name):
        raise ValueError(
            f"--target is {target!r}, but the model was trained to predict "
            f"{preprocessing.target.name!r}"
        )
    table = _read(data, preprocessing.text_columns)
    X, y = preprocessing.inputs(table, net.dtype), preprocessing.targets(table)
    _note_filled(preprocessing, table, note)
    return X, y


def prediction_inputs(net: Network, preprocessing: Preprocessing | None, data: str) -> np.ndarray:
    """Inputs (n, features) of all rows of ``data``; a target column is left out."""
    if data in (SAMPLE, MNIST):
        return _test_images(preprocessing, data)[0]
    if preprocessing is not None:
        table = _read(data, preprocessing.text_columns)
        X = preprocessing.inputs(table, net.dtype)
        _note_filled(preprocessing, table, note)
        return X
    table = _read(data)
    if len(table.names) != net.inputs + 1:
        return _plain_inputs(table)
    note(
        f"the model takes {count(net.inputs, 'column')}; "
        f"the last one of {data}, {table.names[-1]!r}, is taken for the target"
    )
    return _plain_inputs(table, table.names[-1])


def _test_images(preprocessing: Preprocessing | None, data: str) -> Samples:
    if preprocessing is not None:
        raise ValueError(f"the model takes the columns of a table, not the images of {data}")
    return datasets.mnist()[2] if data == MNIST else datasets.mnist_sample()[1]


def _plain_inputs(table: Table, target: str | None = None) -> np.ndarray:
    """All columns but the target, for a network that was saved without preprocessing."""
    columns = [_plain_numbers(column) for column in table.columns.values() if column.name != target]
    return np.column_stack(columns) if columns else np.empty((len(table), 0))


def _plain_numbers(column: Column) -> np.ndarray:
    """The values of a complete column of numbers."""
    column.numbers()
    column.check_complete()
    return column.values  # not as floats: integers may be labels


# --- shared ---------------------------------------------------------------------------------------


def _read(data: str, text: Sequence[str] = ()) -> Table:
    """The table of a file; its columns ``text`` are read as text."""
    if not Path(data).suffix:
        raise click.UsageError(
            f"DATA is {data!r}; expected {SAMPLE} or {MNIST}, "
            "or a file that ends in .csv, .parquet or .npz",
            click.get_current_context(),
        )
    return read_table(data, text)


def _note_filled(preprocessing: Preprocessing, table: Table, say: Callable[[str], None]) -> None:
    filled = preprocessing.filled(table)
    if filled:
        counts = ", ".join(f"{missing:,} in {name!r}" for name, missing in filled.items())
        say(f"note: missing numbers are replaced by the mean of the training rows: {counts}")
