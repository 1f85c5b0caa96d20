"""The command ``fastnn``: train, evaluate, predict and experiment from a terminal."""

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import numpy as np

from fastnn import datasets, engines, serialization
from fastnn._kernels.contract import DTYPES
from fastnn._kernels.cython_cpu import levels
from fastnn._kernels.numba_cpu import cache
from fastnn._kernels.numba_cuda.toolchain import available
from fastnn._kernels.numba_cuda.toolchain import ptx_cache as cuda_cache
from fastnn._kernels.threads import num_threads, set_num_threads
from fastnn._utils import checks
from fastnn._utils.files import cache_directory, check_writable, write_atomically
from fastnn._version import __version__
from fastnn.callbacks import EarlyStopping
from fastnn.cli.experiment import experiment
from fastnn.cli.warmup import warmup
from fastnn.data.splits import train_test_split, train_validation_test_split
from fastnn.errors import DivergenceError
from fastnn.network import Network, load, mlp
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.layers import Residual
from fastnn.optim.optimizers import OPTIMIZERS, Optimizer
from fastnn.tabular.table import (
    TASKS,
    Classes,
    Column,
    Preprocessing,
    Table,
    check_destination,
    choose_task,
    read_table,
    to_csv,
    write_columns,
)
from fastnn.training.history import History

_SAMPLE, _MNIST = "sample", "mnist"  # words that stand for data sets
_SAMPLE_VALIDATION = 500  # of the sample's 5,000 training images
_MANY_CATEGORIES = 100  # more in one column look like names or numbers of the rows
_BAD_INPUT, _DIVERGED, _INTERRUPTED = 2, 1, 130  # exit statuses; 130 is the shell's own for Ctrl-C

Samples = tuple[np.ndarray, np.ndarray]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: the process's own) and return the exit status.

    Whatever the user may have got wrong ends in one line on standard error.
    """
    try:
        return fastnn.main(argv, prog_name="fastnn", standalone_mode=False) or 0
    except click.Abort:
        return _complain("interrupted", _INTERRUPTED)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "fastnn"
        return _complain(f"{error.format_message()} (see {command} --help)", _BAD_INPUT)
    except DivergenceError as error:
        return _complain(error, _DIVERGED)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}", _BAD_INPUT)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", _BAD_INPUT)
    except (click.ClickException, ValueError, TypeError, RuntimeError, ImportError) as error:
        return _complain(error, _BAD_INPUT)


def _complain(message: object, status: int) -> int:
    line = " ".join(str(message).split())
    # a message may quote a broken file
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    click.echo(f"fastnn: {printable}", err=True)
    return status


# --- options --------------------------------------------------------------------------------------


def _one_of(known: Sequence[str]) -> Callable:
    """A check of an option's value that suggests the nearest known one."""
    return lambda context, option, value: checks.one_of(option.name, value, known)


def _widths(context: click.Context, option: click.Option, text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(
            f"{text!r} is not a list of widths, such as 256,128.", context, option
        )
    return [int(word) for word in words]


def _engine(context: click.Context, option: click.Option, name: str) -> str:
    return engines.check(name)


def _threads(context: click.Context, option: click.Option, n: int | None) -> None:
    if n is not None:
        set_num_threads(n)


_backend_option = click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    callback=_engine,
    help=f"Engine: auto, {', '.join(engines.ENGINES)}.",
)
_threads_option = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(1),
    callback=_threads,
    expose_value=False,
    help="CPU threads.",
)
_file = click.Path(path_type=Path)
_not_negative = click.FloatRange(0)


@click.group(
    invoke_without_command=True,
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def fastnn(context: click.Context) -> None:
    """Train deep feed-forward networks, fast.

    Start with `fastnn train`, which learns to read handwritten digits from a sample of MNIST.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@fastnn.command()
@click.argument("data", default=_SAMPLE)
@click.option("--target", metavar="COLUMN", help="Column to predict.  [default: the last one]")
@click.option(
    "--ignore",
    metavar="COLUMN",
    multiple=True,
    help="Column to leave out, such as an identifier; may be repeated.",
)
@click.option(
    "--task",
    metavar="NAME",
    default="auto",
    callback=_one_of(TASKS),
    help=f"One of {', '.join(TASKS)}.",
)
@click.option(
    "--layers",
    metavar="N,N,…",
    default="256,128",
    callback=_widths,
    help="Widths of the hidden layers.",
)
@click.option(
    "--activation",
    metavar="NAME",
    default="relu",
    callback=_one_of(list(ACTIVATIONS)),
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
    type=_not_negative,
    help="Penalty on the weights' absolute values.",
)
@click.option(
    "--l2",
    metavar="X",
    default=0.0,
    type=_not_negative,
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
    callback=_one_of(list(OPTIMIZERS)),
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
    help="Stop after more epochs than this without a lower validation loss; keep the best.",
)
@_backend_option
@_threads_option
@click.option(
    "--dtype",
    metavar="NAME",
    default="float32",
    callback=_one_of(DTYPES),
    help=f"{' or '.join(DTYPES)}.",
)
@click.option(
    "--seed",
    metavar="N",
    default=0,
    type=click.IntRange(0, 2**64 - 1),
    help="Of the split, the initial weights and all that is random.",
)
@click.option("--out", type=_file, metavar="MODEL", help="Save the network to this file.")
@click.option("--metrics", type=_file, metavar="FILE.json", help="Write all figures to this file.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
def train(
    data: str,
    target: str | None,
    ignore: tuple[str, ...],
    task: str,
    layers: list[int],
    activation: str,
    dropout: float,
    batch_norm: bool,
    residual: bool,
    l1: float,
    l2: float,
    epochs: int,
    batch_size: int,
    optimizer: str,
    lr: float | None,
    clip_norm: float | None,
    patience: int | None,
    backend: str,
    dtype: str,
    seed: int,
    out: Path | None,
    metrics: Path | None,
    quiet: bool,
) -> int:
    """Train a network and test it.

    DATA is a CSV, Parquet or NPZ file, `mnist` for all of MNIST, or, by default, `sample` for the
    sample of MNIST inside the package. A file's rows are split at random: 70 % to train on, 15 % to
    validate, 15 % to test. Numbers are standardised, text becomes categories; the model file
    remembers how. Ctrl-C ends training early and keeps what was learnt.
    """
    rule = _optimizer(optimizer, lr, clip_norm)
    for path in (out, metrics):
        if path is not None:
            check_writable(path)
    say = (lambda line: None) if quiet else _note
    sets = _training_data(data, target, ignore, task, dtype, seed, say)
    net = mlp(
        [sets.inputs, *layers, sets.outputs],
        activation=activation,
        loss="softmax_cross_entropy" if sets.classification else "mse",
        dropout=dropout,
        batch_norm=batch_norm,
        residual=residual,
        l1=l1,
        l2=l2,
        dtype=dtype,
        backend=backend,
        seed=seed,
    )
    say(
        f"network {'-'.join(map(str, [sets.inputs, *layers, sets.outputs]))}, {net.n_parameters:,} parameters, {dtype}; {_where(net)}"
    )
    if residual and not any(isinstance(layer, Residual) for layer in net.layers):
        say("note: --residual changes nothing, as no hidden layer is as wide as its input")
    if _must_compile(net) and sys.stderr.isatty():
        say("compiling for this machine, once: it takes about half a minute")
    started = time.perf_counter()
    stopping = [] if patience is None else [EarlyStopping(patience=patience)]
    history = net.fit(
        *sets.training,
        epochs,
        batch_size,
        rule,
        sets.validation,
        callbacks=stopping,
        progress=not quiet,
    )
    seconds = time.perf_counter() - started
    scores = net.evaluate(*sets.test)
    if out is not None:
        net.metadata = (
            {} if sets.preprocessing is None else {"preprocessing": sets.preprocessing.to_dict()}
        )
        net.save(out)
    if metrics is not None:
        _write_json(metrics, _training_figures(net, history, scores, seconds))
    ending = f"; {history.stopped}" if history.stopped else ""
    saved = f"saved to {out}" if out else "not saved: --out MODEL does that"
    click.echo(
        f"test {_score(scores)} after {_count(net.epochs, 'epoch')} in {seconds:.1f} s ({net.backend}{ending}); {saved}"
    )
    return _INTERRUPTED if history.stopped == "interrupted" else 0


@fastnn.command()
@click.argument("model", type=_file)
@click.argument("data")
@click.option(
    "--target",
    metavar="COLUMN",
    help="For a model that was not trained here: column to compare with.  [default: the last one]",
)
@_backend_option
@_threads_option
@click.option("--metrics", type=_file, metavar="FILE.json", help="Write the figures to this file.")
def evaluate(
    model: Path, data: str, target: str | None, backend: str, metrics: Path | None
) -> None:
    """Score MODEL on all rows of DATA.

    DATA is a file as `fastnn train` takes it, or `mnist` or `sample` for their test images. The
    loss of a regression is that of the standardised target.
    """
    if metrics is not None:
        check_writable(metrics)
    net = load(model, backend)
    X, y = _evaluation_data(net, data, target)
    scores = net.evaluate(X, y)
    if metrics is not None:
        _write_json(
            metrics, {"fastnn": __version__, "backend": net.backend, "rows": len(X), **scores}
        )
    click.echo(
        f"loss {scores['loss']:.4g}, {_score(scores)} on {_count(len(X), 'row')} ({net.backend})"
    )


@fastnn.command()
@click.argument("model", type=_file)
@click.argument("data")
@click.option(
    "-o",
    "--out",
    type=_file,
    metavar="FILE",
    help="CSV, Parquet or NPZ file.  [default: CSV to standard output]",
)
@_backend_option
@_threads_option
def predict(model: Path, data: str, out: Path | None, backend: str) -> None:
    """Write MODEL's predictions for all rows of DATA.

    The column `prediction` holds classes or values, and `probability_…` the probability of each
    class. The order of DATA's columns does not matter, nor do columns that the model does not know.
    """
    if out is not None:
        check_destination(out)
    net = load(model, backend)
    preprocessing = _preprocessing(net)
    X = _prediction_inputs(net, preprocessing, data)
    columns = (
        _plain_predictions(net, X)
        if preprocessing is None
        else preprocessing.target.decode(net.predict(X))
    )
    if out is None:
        click.echo(to_csv(columns), nl=False)
    else:
        write_columns(out, columns)


@fastnn.command()
@click.argument("model", type=_file, required=False)
def info(model: Path | None) -> None:
    """Show versions and engines, or what is in MODEL."""
    for name, value in (
        _installation()
        if model is None
        else _description(load(model, "numpy"), _saved_precision(model))
    ).items():
        click.echo(f"{name:<14}{value}".rstrip())


fastnn.add_command(experiment)
fastnn.add_command(warmup)


# --- data -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Sets:
    """What a network is trained, validated and tested on; ``preprocessing`` is that of a file."""

    training: Samples
    validation: Samples
    test: Samples
    outputs: int
    classification: bool = True
    preprocessing: Preprocessing | None = None

    @property
    def inputs(self) -> int:
        return self.training[0].shape[1]

    def sizes(self) -> str:
        """For people: how many rows each set has."""
        return f"{len(self.training[0]):,} to train on, {len(self.validation[0]):,} to validate, {len(self.test[0]):,} to test"


def _training_data(
    data: str,
    target: str | None,
    ignore: Sequence[str],
    task: str,
    dtype: str,
    seed: int,
    say: Callable[[str], None],
) -> _Sets:
    if data not in (_SAMPLE, _MNIST):
        return _split_table(_table(data), target, ignore, task, dtype, seed, say)
    if target is not None or ignore or task != "auto":
        raise click.UsageError(
            f"--target, --ignore and --task go with a data file, not with {data}",
            click.get_current_context(),
        )
    if data == _MNIST:
        sets = _Sets(*datasets.mnist(), outputs=10)
    else:
        whole, test = datasets.mnist_sample()
        X, Xv, y, yv = train_test_split(*whole, _SAMPLE_VALIDATION, seed, stratify=True)
        sets = _Sets((X, y), (Xv, yv), test, outputs=10)
    say(f"{'MNIST' if data == _MNIST else 'sample of MNIST'}: {sets.sizes()}; 10 classes")
    return sets


def _table(data: str, text: Sequence[str] = ()) -> Table:
    if not Path(data).suffix:
        words = f"{_SAMPLE} or {_MNIST}"
        raise click.UsageError(
            f"DATA is {data!r}; expected {words}, or a file that ends in .csv, .parquet or .npz",
            click.get_current_context(),
        )
    return read_table(data, text)


def _split_table(
    table: Table,
    target: str | None,
    ignore: Sequence[str],
    task: str,
    dtype: str,
    seed: int,
    say: Callable[[str], None],
) -> _Sets:
    chosen = table[target or table.names[-1]]
    task = choose_task(chosen, task)
    classification = task == "classification"
    labels = chosen.names() if classification else chosen.values
    rows = train_validation_test_split(
        np.arange(len(table)), labels, seed=seed, stratify=classification
    )[:3]
    preprocessing = Preprocessing.fit(table, chosen.name, task, rows[0], ignore)
    X, y = preprocessing.inputs(table, dtype), preprocessing.targets(table)
    outputs = len(preprocessing.target.classes) if classification else 1
    sets = _Sets(*((X[part], y[part]) for part in rows), outputs, classification, preprocessing)
    what = f"{outputs} classes" if classification else "a number"
    say(f"{table.source}: {sets.sizes()}; {_count(len(preprocessing.features), 'column')}")
    say(f"target {chosen.name!r}{'' if target else ', the last column'}: {what}")
    _tell_filled(preprocessing, table, say)
    for feature in preprocessing.features:
        if feature.width > _MANY_CATEGORIES:
            say(
                f"note: column {feature.name!r} has {feature.width:,} categories; if it only names the rows, --ignore it"
            )
    return sets


def _evaluation_data(net: Network, data: str, target: str | None) -> Samples:
    preprocessing = _preprocessing(net)
    if data in (_SAMPLE, _MNIST):
        return _test_images(net, preprocessing, data)
    if preprocessing is None:
        table = _table(data)
        chosen = table[target or table.names[-1]]
        return _plain_inputs(table, chosen.name), _plain_numbers(chosen)
    if target not in (None, preprocessing.target.name):
        raise ValueError(
            f"--target is {target!r}, but the model was trained to predict {preprocessing.target.name!r}"
        )
    table = _table(data, preprocessing.text_columns)
    X, y = preprocessing.inputs(table, net.dtype), preprocessing.targets(table)
    _tell_filled(preprocessing, table, _note)
    return X, y


def _prediction_inputs(net: Network, preprocessing: Preprocessing | None, data: str) -> np.ndarray:
    if data in (_SAMPLE, _MNIST):
        return _test_images(net, preprocessing, data)[0]
    if preprocessing is not None:
        table = _table(data, preprocessing.text_columns)
        X = preprocessing.inputs(table, net.dtype)
        _tell_filled(preprocessing, table, _note)
        return X
    table = _table(data)
    if len(table.names) != net.inputs + 1:
        return _plain_inputs(table)
    _note(
        f"the model takes {_count(net.inputs, 'column')}; the last one of {data}, {table.names[-1]!r}, is taken for the target"
    )
    return _plain_inputs(table, table.names[-1])


def _test_images(net: Network, preprocessing: Preprocessing | None, data: str) -> Samples:
    if preprocessing is not None:
        raise ValueError(f"the model takes the columns of a table, not the images of {data}")
    return datasets.mnist()[2] if data == _MNIST else datasets.mnist_sample()[1]


def _plain_inputs(table: Table, target: str | None = None) -> np.ndarray:
    """All columns but the target, as they are, for a network that was saved without
    preprocessing.
    """
    columns = [_plain_numbers(column) for column in table.columns.values() if column.name != target]
    return np.column_stack(columns) if columns else np.empty((len(table), 0))


def _plain_numbers(column: Column) -> np.ndarray:
    """The numbers of a column without gaps; whole ones stay integers, so that labels remain
    labels.
    """
    column.numbers()
    column.check_complete()
    return column.values


def _preprocessing(net: Network) -> Preprocessing | None:
    description = net.metadata.get("preprocessing")
    return None if description is None else Preprocessing.from_dict(description)


def _tell_filled(preprocessing: Preprocessing, table: Table, say: Callable[[str], None]) -> None:
    filled = preprocessing.filled(table)
    if filled:
        counts = ", ".join(f"{count:,} in {name!r}" for name, count in filled.items())
        say(f"note: missing numbers are replaced by the mean of the training rows: {counts}")


# --- the network ----------------------------------------------------------------------------------


def _optimizer(name: str, lr: float | None, clip_norm: float | None) -> Optimizer:
    kind = OPTIMIZERS[name]
    constants = {
        key: value for key, value in (("lr", lr), ("clip_norm", clip_norm)) if value is not None
    }
    for key in constants:
        if key not in {field.name for field in fields(kind)}:
            raise click.UsageError(
                f"{name} takes no --{key.replace('_', '-')}", click.get_current_context()
            )
    return kind(**constants)


def _must_compile(net: Network) -> bool:
    return net.backend == "numba" and not cache.ready(net.dtype.name)


def _plain_predictions(net: Network, X: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions of a network that was saved without preprocessing; its classes are numbers."""
    output = net.predict(X)
    if not net.loss.spec.classifies:
        names = (
            ["prediction"] if net.outputs == 1 else [f"prediction_{i}" for i in range(net.outputs)]
        )
        return dict(zip(names, output.T, strict=True))
    if net.outputs == 1:
        output = np.hstack([1 - output, output])
    return Classes("y", "integer", tuple(map(str, range(output.shape[1])))).decode(output)


# --- what is shown --------------------------------------------------------------------------------


def _note(line: str) -> None:
    """Tell about the work; results go to standard output."""
    click.echo(line, err=True)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _score(scores: dict[str, float]) -> str:
    return (
        f"accuracy {100 * scores['accuracy']:.1f} %"
        if "accuracy" in scores
        else f"r2 {scores['r2']:.3f}"
    )


def _where(net: Network) -> str:
    return (
        net.backend
        if net.backend in ("numpy", "cuda")
        else f"{net.backend}, {_count(num_threads(), 'thread')}"
    )


def _training_figures(
    net: Network, history: History, scores: dict[str, float], seconds: float
) -> dict[str, Any]:
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


def _write_json(path: Path, figures: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(figures, indent=1) + "\n").encode())


def _installation() -> dict[str, object]:
    return {
        "fastnn": __version__,
        "python": platform.python_version(),
        **{package: _version(package) for package in ("numpy", "numba", "numba-cuda")},
        **{f"{name} engine": status for name, status in engines.backends().items()},
        "numba kernels": _compiled(cache.ready),
        **_cuda_kernels(),
        "auto": engines.explain(),
        "cython level": f"{levels.best()} of {', '.join(levels.built())}"
        if levels.built()
        else "none",
        "threads": num_threads(),
        "cache": cache_directory(),
    }


def _compiled(ready: Callable[[str], bool]) -> str:
    return ", ".join(f"{dtype} {'' if ready(dtype) else 'not '}compiled" for dtype in DTYPES)


def _cuda_kernels() -> dict[str, str]:
    capability = available.capability()
    return (
        {}
        if capability is None
        else {"cuda kernels": _compiled(lambda dtype: cuda_cache.ready(dtype, capability))}
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _saved_precision(model: Path) -> str:
    """What the network of a file was trained with: loaded on the CPU it has no choice."""
    description, _ = serialization.read(model)
    return description.get("precision", "float32")


def _description(net: Network, precision: str) -> dict[str, object]:
    lines = {
        "inputs": net.inputs,
        **{f"layer {i}": repr(layer) for i, layer in enumerate(net.layers)},
        "loss": repr(net.loss),
        "parameters": f"{net.n_parameters:,}",
        "dtype": net.dtype.name,
        **({} if precision == "float32" else {"precision": f"{precision} on backend cuda"}),
        "epochs": net.epochs,
        "optimizer": net.optimizer_kind or "none",
    }
    preprocessing = _preprocessing(net)
    if preprocessing is None:
        return lines
    target = preprocessing.target
    classes = {"classes": ", ".join(target.classes)} if isinstance(target, Classes) else {}
    return {
        **lines,
        "target": target.name,
        **classes,
        "columns": ", ".join(feature.name for feature in preprocessing.features),
    }
