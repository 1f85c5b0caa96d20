"""The data that a trained model scores and predicts, and the reading of files."""

from pathlib import Path

import click
import numpy as np

from fastnn import datasets
from fastnn.cli.options import MNIST, SAMPLE
from fastnn.cli.output import count, note
from fastnn.ensemble import Ensemble
from fastnn.estimators.table_model import ENCODER, TableModel
from fastnn.network import Network
from fastnn.tabular.columns.matrix import by_rows
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.formats import read_table
from fastnn.tabular.messages import naming, quoted
from fastnn.tabular.preprocessing import Preprocessing
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Column, Table

_OLD = "preprocessing"  # key of the metadata of model files of version 0.1.0

Samples = tuple[np.ndarray, np.ndarray]
Model = Network | Ensemble
Encoder = TableEncoder | Preprocessing  # the latter of model files of version 0.1.0


# --- for a trained model --------------------------------------------------------------------------


def table_model(net: Model) -> TableModel | None:
    """The model of a table that a model file of ``fastnn train`` or of an estimator holds."""
    return None if net.metadata.get(ENCODER) is None else TableModel.of(net)


def encoder_of(net: Model) -> Encoder | None:
    """The encoder that a model file carries."""
    model = table_model(net)
    if model is not None:
        return model.encoder
    if net.metadata.get(_OLD) is None:
        return None
    encoder = Preprocessing.from_dict(net.metadata[_OLD])
    if (encoder.inputs, encoder.outputs) != (net.inputs, net.outputs):
        raise ValueError(
            f"the model's metadata {_OLD!r} makes {count(encoder.inputs, 'input')} and "
            f"{count(encoder.outputs, 'output')} of a table, but the network has "
            f"{net.inputs:,} and {net.outputs:,}"
        )
    return encoder


def evaluation_data(net: Model, data: str, target: str | None, options: ReadOptions) -> Samples:
    """Inputs and targets of all rows of ``data``.

    Parameters
    ----------
    net : Network or Ensemble
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
        table = read_file(data, options)
        column = table[target or table.names[-1]]
        return _plain_inputs(net, table, column.name), _plain_numbers(column)
    if target not in (None, encoder.target_name):
        raise ValueError(
            f"--target is {quoted(target)}, but the model was trained to predict "
            f"{quoted(encoder.target_name)}"
        )
    with naming(data):
        table = read_file(data, encoder.read_options(options, with_target=True))
        y = encoder.transform_target(table)
        return _inputs(net, encoder, table), y


def prediction_inputs(
    net: Model, encoder: Encoder | None, data: str, options: ReadOptions
) -> np.ndarray:
    """Inputs (n, features) of all rows of ``data``; a target column is left out."""
    if data in (SAMPLE, MNIST):
        return _test_images(encoder, data)[0]
    if encoder is not None:
        with naming(data):
            table = read_file(data, encoder.read_options(options, with_target=False))
            return _inputs(net, encoder, table)
    table = read_file(data, options)
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


def _plain_inputs(net: Model, table: Table, target: str | None = None) -> np.ndarray:
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


def read_file(data: str, options: ReadOptions) -> Table:
    """The table of a file."""
    if not Path(data).suffix:
        raise click.UsageError(
            f"DATA is {data!r}; expected {SAMPLE} or {MNIST}, "
            "or a file that ends in .csv, .parquet or .npz",
            click.get_current_context(),
        )
    return read_table(data, options)


def _inputs(net: Model, encoder: Encoder, table: Table) -> np.ndarray:
    """The inputs of a network that was trained on a table, and notes on what they leave out."""
    encoder.check_columns(table)
    for line in encoder.remarks(table):
        note(f"note: {line}")
    if isinstance(encoder, Preprocessing):
        return encoder.transform(table, dtype=net.dtype, consume=True)
    return encoder.transform(table, consume=True)
