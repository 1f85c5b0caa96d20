"""Progress on a terminal, and nothing elsewhere.

`display` is for `fit`: a live bar and a line per epoch. `counter` is a bar for other work.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


class Silent:
    """No display: output is no terminal, or ``progress=False``."""

    def advance(self, samples: int) -> None:
        """A chunk of ``samples`` is done."""

    def epoch_done(self, epoch: int, figures: dict[str, float]) -> None:
        """An epoch is done."""

    def close(self) -> None:
        """The last epoch is done."""


class Terminal:
    """A `rich` bar over the samples of all epochs, and a line left behind by each epoch.

    A terminal that is closed while training runs ends the display, not the training.
    """

    def __init__(self, epochs: int, samples_per_epoch: int):
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._epochs, self._per_epoch = epochs, samples_per_epoch
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        # Drawn when a chunk is done. An error in a thread of rich's could not be caught here.
        self._bar = Progress(
            *columns, console=Console(stderr=True), transient=True, auto_refresh=False
        )
        self._task = self._bar.add_task("training", total=epochs * samples_per_epoch)
        self._lost = False
        self._show(self._bar.start)

    def _show(self, draw: Callable[..., None], *arguments: Any, **options: Any) -> None:
        if self._lost:
            return
        try:
            draw(*arguments, **options)
        except (OSError, ValueError):  # the terminal is gone, or the stream closed
            self._lost = True

    def advance(self, samples: int) -> None:
        self._bar.advance(self._task, samples)
        self._show(self._bar.refresh)

    def epoch_done(self, epoch: int, figures: dict[str, float]) -> None:
        shown = "  ".join(
            f"{name} {value:.4g}"
            for name, value in figures.items()
            if name not in ("seconds", "lr")
        )
        rate = self._per_epoch / max(figures["seconds"], 1e-9)
        width = len(str(self._epochs))
        remaining = self._bar.tasks[self._task].time_remaining
        eta = f"  ETA {_clock(remaining)}" if remaining and epoch < self._epochs else ""
        self._show(
            self._bar.console.print,
            f"epoch {epoch:{width}d}/{self._epochs}  {shown}  {rate:,.0f} samples/s{eta}",
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        self._show(self._bar.stop)


def display(wanted: bool, epochs: int, samples_per_epoch: int) -> Silent | Terminal:
    """The display for one call of `fit`."""
    return Terminal(epochs, samples_per_epoch) if wanted and _on_a_terminal() else Silent()


@contextlib.contextmanager
def counter(wanted: bool, what: str, total: int) -> Iterator[Callable[[], None]]:
    """A context with a bar that counts to ``total``; it yields a function that counts one more."""
    if not (wanted and _on_a_terminal()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _on_a_terminal() -> bool:
    try:
        return bool(sys.stderr.isatty())
    # There is none, a notebook's object without the method, one that is closed, or a lost terminal.
    except (AttributeError, ValueError, OSError):
        return False


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
        if minutes >= 60
        else f"{minutes}:{seconds:02d}"
    )
