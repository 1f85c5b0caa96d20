"""What ``fastnn train`` learns from: the sample of MNIST, MNIST, or a file, split."""

import itertools
import os
from dataclasses import dataclass, replace
from typing import Any

import click
import numpy as np

from fastnn import datasets
from fastnn._utils import checks
from fastnn.cli.data import read_file
from fastnn.cli.options import MNIST, TrainOptions
from fastnn.cli.output import count
from fastnn.data.splits import split_rows, train_test_split
from fastnn.estimators.options import TableOptions
from fastnn.tabular.encoder import TableEncoder
from fastnn.tabular.messages import naming, quoted
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Column, Table
from fastnn.tabular.targets import Task, choose_task

_SAMPLE_VALIDATION = 500  # of the sample's 5,000 training images
_HELD_OUT = 0.2  # share of a file's rows

Samples = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """What a network is trained, validated and tested on; ``encoder`` is that of a file.

    Without ``validation`` the training rows are to be held out in turn.
    """

    training: Samples
    validation: Samples | None
    test: Samples | None
    outputs: int
    classification: bool = True
    encoder: TableEncoder | None = None

    @property
    def inputs(self) -> int:
        """Features of a sample."""
        return self.training[0].shape[1]

    def sizes(self) -> str:
        """The number of rows of each set, in words."""
        n = f"{len(self.training[0]):,}"
        parts = [
            f"{n} to train on and to validate" if self.validation is None else f"{n} to train on"
        ]
        if self.validation is not None:
            parts.append(f"{len(self.validation[0]):,} to validate")
        if self.test is not None:
            parts.append(f"{len(self.test[0]):,} to test")
        return ", ".join(parts)


# --- images ---------------------------------------------------------------------------------------


def images(options: TrainOptions) -> TrainingSets:
    """The sample of MNIST, or all of it."""
    for_files = (options.target, options.test, options.validation, options.recipe, options.folds)
    if (
        any(value is not None for value in (*for_files, options.time))
        or options.all_rows
        or options.task != "auto"
        or options.reading() != ReadOptions()
    ):
        raise click.UsageError(
            "--target, --task, --recipe and the options of columns, rows and files go with a data "
            f"file, not with {options.data}",
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


# --- a file ---------------------------------------------------------------------------------------


def table_sets(options: TrainOptions, table_options: TableOptions, validates: bool) -> TrainingSets:
    """Read the data file that ``fastnn train`` names, and split its rows.

    Parameters
    ----------
    options : TrainOptions
    table_options : TableOptions
    validates : bool
        Whether rows are set aside to validate with, where no file is given for that.
    """
    with naming(options.data):
        table = read_file(options.data, options.reading())
        for name in (*options.ignore, *options.keep, *options.text, *options.number):
            checks.one_of("column", name, dict.fromkeys(table.names))
        target = table[options.target or next(reversed(table.columns), "")]
        task = choose_task(target, options.task)
        encoder, parts = _encoded(table, target, task, options, table_options, validates)
    sets = TrainingSets(
        training=parts["training"],
        validation=_other_file(options.validation, encoder, options) or parts.get("validation"),
        test=_other_file(options.test, encoder, options) or parts.get("test"),
        outputs=encoder.outputs,
        classification=task.name == "classification",
        encoder=encoder,
    )
    for line in (*encoder.notes, *_same_files(options)):
        options.note(f"note: {line}")
    options.note(f"{table.source}: {sets.sizes()}; {count(len(encoder.columns), 'column')}")
    for line in encoder.decisions.splitlines():
        options.note(f"  {line}")
    _describe_target(sets, task, options)
    return sets


def _encoded(
    table: Table,
    target: Column,
    task: Task,
    options: TrainOptions,
    table_options: TableOptions,
    validates: bool,
) -> tuple[TableEncoder, dict[str, Samples]]:
    """The encoder, and the rows of each part."""
    order, sizes = _parts(target, task.name == "classification", options, validates)
    encoder = table_options.encoder(
        keep=[name for name in options.keep if name in table.columns],
        coerce=[name for name in options.number if name in table.columns],
        task=task.name,
    ).fit(table, target.name, order[: len(order) - sizes.get("test", 0)])
    y = encoder.transform_target(table)[order]
    # One array in the order of the parts, so that they are views of it.
    X = encoder.transform(table, order, consume=True)
    ends = np.cumsum([0, *sizes.values()])
    pieces = zip(sizes, itertools.pairwise(ends), strict=True)
    return encoder, {name: (X[a:b], y[a:b]) for name, (a, b) in pieces}


def _parts(
    target: Column, by_class: bool, options: TrainOptions, validates: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """The rows in the order of the parts, and the sizes of these.

    Rows to train on come first; others are set aside where no file is given for that.
    """
    n = len(target.values)
    wanted = {
        "test": options.test is None and not options.all_rows,
        "validation": options.validation is None and validates,
    }
    least = 1 + wanted["test"] + (options.validation is None)
    if n < least:
        raise ValueError(
            f"there {'is 1 row' if n == 1 else f'are {n} rows'}, and at least {least} are needed "
            "to train, to validate and to test"
        )
    names = [name for name, is_wanted in wanted.items() if is_wanted]
    classes = _small_codes(target) if by_class else None
    rest, *parts = split_rows(n, [_HELD_OUT] * len(names), options.seed, classes)
    rows = {"training": rest, **dict(zip(reversed(names), reversed(parts), strict=True))}
    return np.concatenate(list(rows.values())), {name: len(part) for name, part in rows.items()}


def _small_codes(target: Column) -> np.ndarray:
    """The classes (n,) as numbers that take little memory."""
    codes, names = target.coded()
    return codes.astype(np.min_scalar_type(len(names)))


def _other_file(path: Any, encoder: TableEncoder, options: TrainOptions) -> Samples | None:
    """The rows of the file of ``--test`` or ``--validation``."""
    if path is None:
        return None
    with naming(str(path)):
        reading = replace(options.reading(), ignore=())
        table = read_file(str(path), encoder.read_options(reading, with_target=True))
        encoder.check_columns(table)
        y = encoder.transform_target(table)
        return encoder.transform(table, consume=True), y


def _same_files(options: TrainOptions) -> list[str]:
    """Remarks on files that are to hold other rows, and are the data file itself."""
    given = {"test": options.test, "validation": options.validation}
    return [
        f"--{name} is the data file itself: its rows are trained on, too, so that its scores "
        "tell nothing about new ones"
        for name, path in given.items()
        if path is not None and os.path.samefile(path, options.data)
    ]


def _describe_target(sets: TrainingSets, task: Task, options: TrainOptions) -> None:
    """Print what the target is taken for."""
    assert sets.encoder is not None
    options.note(
        f"target {quoted(sets.encoder.target_name)}"
        f"{'' if options.target else ', the last column'}: "
        f"{f'{sets.outputs} classes' if sets.classification else 'a number'}"
        f"{f' ({task.reason})' if task.reason else ''}"
    )
