"""Callbacks of `fit`: objects with any of the methods in ``HOOKS``.

Each method is called with the running training, a `TrainingProtocol`. A chunk is a run of
mini-batches that an engine takes without Python in between, about 0.2 s of work.
"""

import csv
import io
import math
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from fastnn._kernels.state import Snapshot
from fastnn._utils import checks
from fastnn._utils.files import check_apart, check_writable, write_atomically
from fastnn._utils.plain import plain_data
from fastnn.errors import HistoryProtocol
from fastnn.metrics import HIGHER_IS_BETTER
from fastnn.nn.protocol import NetworkProtocol

HOOKS = ("on_fit_start", "on_chunk_end", "on_epoch_end", "on_fit_end")


class TrainingProtocol(Protocol):
    """The running call of `fit`, as callbacks see it.

    Attributes
    ----------
    net : Network
    history : History
    epoch : int
        The current epoch of this call, from 1.
    epochs : int
        Epochs that `fit` is to train.
    logged : tuple of str
        The keys that ``history`` will have.
    rate_factor : float
        Multiplies every learning rate; callbacks may change it.
    """

    net: NetworkProtocol
    epoch: int
    epochs: int
    logged: tuple[str, ...]
    rate_factor: float

    @property
    def history(self) -> HistoryProtocol: ...

    def stop(self, reason: str, now: bool = False) -> None: ...

    def record_flow(self, every: int) -> None: ...


def check_callbacks(callbacks: Any) -> list[Any]:
    """``callbacks`` as a list, or an error that names what is not a callback."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(
            "callbacks must be a sequence of callbacks, such as [EarlyStopping()], "
            f"not {callbacks!r}"
        )
    callbacks = list(callbacks)
    for callback in callbacks:
        if isinstance(callback, type) or not any(hasattr(callback, hook) for hook in HOOKS):
            raise TypeError(
                f"callbacks must be objects with any of {', '.join(HOOKS)}; got {callback!r}"
            )
    check_apart(
        {
            f"callbacks[{i}] ({type(callback).__name__})": callback.path
            for i, callback in enumerate(callbacks)
            if isinstance(callback, Checkpoint | CSVLogger)
        }
    )
    return callbacks


class _Monitor:
    """Base of callbacks that monitor one figure of the history for improvement."""

    keep_ties: bool = False  # whether a figure as good as the best counts as improvement

    def __init__(self, monitor: str, patience: int, min_delta: float):
        self.monitor: str = monitor
        self.patience: int = checks.integer("patience", patience, least=0)
        self.min_delta: float = checks.number("min_delta", min_delta)

    def on_fit_start(self, training: TrainingProtocol) -> None:
        if self.monitor not in training.logged:
            hint = "; give fit validation data" if self.monitor.startswith("val_") else ""
            raise ValueError(
                f"{type(self).__name__}: monitor {self.monitor!r} is not recorded{hint}; "
                f"recorded: {', '.join(training.logged)}"
            )
        self.best: float | None = None
        self.waited: int = 0

    def improved(self, training: TrainingProtocol) -> bool:
        """Whether the newest figure is the best so far; counts the epochs since the best."""
        value = training.history[self.monitor][-1]
        sign = -1.0 if self.monitor.removeprefix("val_") in HIGHER_IS_BETTER else 1.0
        better = (
            self.best is None
            or math.isnan(self.best)
            or sign * value < sign * self.best - self.min_delta
            or (self.keep_ties and value == self.best)
        )
        self.best, self.waited = (value, 0) if better else (self.best, self.waited + 1)
        return better


class EarlyStopping(_Monitor):
    """Stop when a figure has not improved for more than ``patience`` epochs.

    Parameters
    ----------
    monitor : str
        A key of the history. Accuracy and R² should rise, all else should fall.
    patience : int
        Epochs without improvement that are tolerated.
    restore_best : bool
        Give the network the parameters of its best epoch when training ends, whatever ends it.
    min_delta : float
        What counts as improvement.
    keep_ties : bool
        Whether an epoch as good as the best counts as improvement: the last of equals is kept.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        restore_best: bool = True,
        min_delta: float = 0.0,
        keep_ties: bool = False,
    ):
        super().__init__(monitor, patience, min_delta)
        self.restore_best: bool = restore_best
        self.keep_ties: bool = checks.boolean("keep_ties", keep_ties)

    def on_fit_start(self, training: TrainingProtocol) -> None:
        super().on_fit_start(training)
        self._kept: Snapshot | None = None

    def on_epoch_end(self, training: TrainingProtocol) -> None:
        if self.improved(training):
            if self.restore_best:
                self._kept = training.net.state.snapshot()
        elif self.waited > self.patience:
            training.stop(f"{self.monitor} has not improved for {self.waited} epochs")

    def on_fit_end(self, training: TrainingProtocol) -> None:
        if self._kept is not None:
            training.net.state.restore(self._kept)
            self._kept = None  # A snapshot may hold memory of a GPU.


class TimeLimit:
    """End training after so many seconds, at the end of a chunk; the epoch it cuts short counts.

    Parameters
    ----------
    seconds : float
    """

    def __init__(self, seconds: float):
        self.seconds: float = checks.number("seconds", seconds, low_open=True)

    def on_fit_start(self, training: TrainingProtocol) -> None:
        self._started = time.perf_counter()

    def on_chunk_end(self, training: TrainingProtocol) -> None:
        if time.perf_counter() - self._started >= self.seconds:
            training.stop(f"the time limit of {self.seconds:g} s is over", now=True)


class ReduceOnPlateau(_Monitor):
    """Reduce the learning rate when a figure has not improved for more than ``patience`` epochs.

    Parameters
    ----------
    monitor : str
        A key of the history. Accuracy and R² should rise, all else should fall.
    factor : float
        In (0, 1); the learning rate is multiplied by it.
    patience : int
        Epochs without improvement that are tolerated.
    minimum : float
        The factors together never fall below this.
    min_delta : float
        What counts as improvement.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        minimum: float = 1e-6,
        min_delta: float = 0.0,
    ):
        super().__init__(monitor, patience, min_delta)
        self.factor: float = checks.number(
            "factor", factor, 0.0, 1.0, low_open=True, high_open=True
        )
        self.minimum: float = checks.number("minimum", minimum)

    def on_epoch_end(self, training: TrainingProtocol) -> None:
        if not self.improved(training) and self.waited > self.patience:
            training.rate_factor = max(training.rate_factor * self.factor, self.minimum)
            self.waited = 0


class Checkpoint:
    """Save the network every few epochs.

    Parameters
    ----------
    path : str or path
        Where to; ``{epoch}``, or ``{epoch:03d}``, in it is replaced by the network's epoch number.
        Without one, each save replaces the one before.
    every : int
        Epochs between saves.
    """

    def __init__(self, path: str | Path, every: int = 1):
        self.path: str = str(path)
        self.every: int = checks.integer("every", every)

    def on_fit_start(self, training: TrainingProtocol) -> None:
        check_writable(self._path_of(training.net.epochs + self.every))
        plain_data("metadata", training.net.metadata)  # refused before training, not after

    def on_epoch_end(self, training: TrainingProtocol) -> None:
        if training.epoch % self.every == 0:
            training.net.save(self._path_of(training.net.epochs))

    def _path_of(self, epoch: int) -> str:
        return re.sub(r"\{epoch(:[^{}]*)?\}", lambda field: field[0].format(epoch=epoch), self.path)


class GradientFlow:
    """Record the gradient, weights and activations of each layer in ``history.gradient_flow``.

    The record is a `fastnn.diagnostics.gradient_flow.Flow`. The engine takes its figures during the
    forward and backward pass.

    Parameters
    ----------
    every : int
        Steps from one record to the next, counted over the life of the network; with L-BFGS a step
        is an epoch.
    """

    def __init__(self, every: int = 10):
        self.every: int = checks.integer("every", every)

    def on_fit_start(self, training: TrainingProtocol) -> None:
        training.record_flow(self.every)


class CSVLogger:
    """Write the history to a CSV file: a row for each epoch, with an ``epoch`` column first.

    Rows that are in the file stay when a training is resumed, in a new process too: further epochs
    follow under one header. Rows of epochs beyond the network's own, which a run had written that
    ended before it saved the network, are replaced by the epochs trained now. A further call of
    ``fit`` with the same logger appends rows, whatever the network. List it before a `Checkpoint`,
    so that no saved network has an epoch that the log lacks.

    Parameters
    ----------
    path : str or path
        Where to. The file is replaced as a whole after each epoch, so it is never half written.
    overwrite : bool
        Whether a network that has not been trained yet may replace the rows of another training.
        Without it `fit` refuses to, before training.

    Raises
    ------
    ValueError
        From `fit`, before training: the file has rows and the network none, or it is no log of this
        kind, or damaged.
    """

    def __init__(self, path: str | Path, overwrite: bool = False):
        self.path: Path = Path(path)
        self.overwrite: bool = checks.boolean("overwrite", overwrite)
        self._rows: list[dict[str, Any]] = []
        self._has_written = False

    def on_fit_start(self, training: TrainingProtocol) -> None:
        check_writable(self.path)
        if not self._has_written:
            self._rows = self._rows_of_earlier_epochs(training.net.epochs)

    def on_epoch_end(self, training: TrainingProtocol) -> None:
        self._has_written = True
        self._rows.append(
            {
                "epoch": training.net.epochs,
                **{key: values[-1] for key, values in training.history.items()},
            }
        )
        text = io.StringIO(newline="")
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_atomically(self.path, text.getvalue().encode())

    def _rows_of_earlier_epochs(self, epochs: int) -> list[dict[str, Any]]:
        """The file's rows, for a network that has been trained for so many epochs."""
        rows = _read_log(self.path)
        if rows and not epochs and not self.overwrite:
            raise ValueError(
                f"CSVLogger: {self.path} has rows up to epoch {rows[-1]['epoch']}, and the network "
                "has not been trained yet: give another path, resume with fastnn.load, or replace "
                "the rows with CSVLogger(path, overwrite=True)"
            )
        while rows and int(rows[-1]["epoch"]) > epochs:
            rows.pop()
        return rows


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `CSVLogger` wrote; none where there is no file, or an empty one."""
    if not path.is_file():
        return []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            # What is no log is known by its first letters, however long the file is.
            start = file.read(5)
            if start not in ("", "epoch"):
                raise ValueError(f"it begins with {start!r}, not with a column 'epoch'")
            text = start + file.read()
        if text and not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = list(reader.fieldnames or ["epoch"])
        if names[0] != "epoch" or len(set(names)) < len(names):
            raise ValueError(f"its columns are {', '.join(names)}")
        rows = list(reader)
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values() or not re.fullmatch(r"\d{1,18}", row["epoch"]):
                raise ValueError(f"line {line} is no row of an epoch")
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"CSVLogger: {path} is not a log of CSVLogger, or it is damaged: {error}; "
            "move it away, or give another path"
        ) from error
    return rows
