"""`Training`: one running call of `fit`, as callbacks see it."""

import time
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastnn._kernels.contract import Samples
from fastnn._utils import checks, progress
from fastnn.callbacks import check_callbacks
from fastnn.diagnostics.gradient_flow import Recorder
from fastnn.metrics import metric_names
from fastnn.nn.protocol import NetworkProtocol
from fastnn.training.config import FitConfig
from fastnn.training.epoch_totals import EpochTotals
from fastnn.training.history import History


class Training:
    """One running call of `fit`; callbacks see it as a `TrainingProtocol`.

    Parameters
    ----------
    net : Network
    config : FitConfig
    samples : Samples
    indices : ndarray of int64
        The samples to train on.
    validation : Samples or None
        What to score after each epoch.

    Attributes
    ----------
    net, history, epoch, epochs, logged, rate_factor
        See `fastnn.callbacks.TrainingProtocol`.
    interrupted : bool
        Whether Ctrl-C was pressed: training ends after the current chunk.
    ends_now : bool
        Whether training ends after the current chunk, for this or another reason.
    """

    def __init__(
        self,
        net: NetworkProtocol,
        config: FitConfig,
        samples: Samples,
        indices: np.ndarray,
        validation: Samples | None,
    ):
        self.net: NetworkProtocol = net
        self.config: FitConfig = config
        self.samples: Samples = samples
        self.indices: np.ndarray = indices
        self.validation: Samples | None = validation
        self.epochs: int = config.epochs
        self.epoch: int = 0
        self.rate_factor: float = 1.0
        self.interrupted: bool = False
        self._stops_now = False
        self.metrics: tuple[str, ...] = metric_names(config.metrics, samples.classify)
        self.callbacks: list[Any] = check_callbacks(config.callbacks)
        self.history: History = History()
        self.history.optimizer, self.history.layers = config.optimizer, net.layers
        scores = ("val_loss", *(f"val_{name}" for name in self.metrics))
        self.logged: tuple[str, ...] = (
            "loss",
            *(("accuracy",) if net.loss.spec.classifies else ()),
            *(scores if validation is not None else ()),
            "lr",
            "seconds",
        )
        self.display: progress.Silent | progress.Terminal = progress.display(
            config.progress, self.epochs, config.samples_per_epoch(len(indices))
        )
        self.flow_recorder: Recorder | None = None
        self.flow_every: int = 0  # steps between records of gradient flow; 0 for none

    # --- for callbacks ----------------------------------------------------------------------------

    def stop(self, reason: str, now: bool = False) -> None:
        """End training after the current epoch, or ``now`` after the current chunk."""
        self.history.stopped = self.history.stopped or reason
        self._stops_now |= now

    @property
    def ends_now(self) -> bool:
        return self.interrupted or self._stops_now

    def record_flow(self, every: int) -> None:
        """Fill ``history.gradient_flow`` at each step whose number is a multiple of ``every``.

        With L-BFGS a step is an epoch.
        """
        self.flow_every = checks.integer("every", every)
        self.flow_recorder = Recorder(self.net.program, self.samples)
        self.history.gradient_flow = self.flow_recorder.flow

    # --- for the loop and L-BFGS ------------------------------------------------------------------

    def resident(self, samples: Samples) -> AbstractContextManager[None]:
        """While inside, the engine may have the network's state and all data on a device."""
        scored = () if self.validation is None else (self.validation,)
        return self.net.engine.resident(self.net.state, samples, *scored)

    def chunk_done(self, samples: int) -> None:
        """A chunk of so many samples is done."""
        self.display.advance(samples)
        self.call("on_chunk_end")

    def epoch_done(self, totals: EpochTotals, rate: float, started: float) -> None:
        """Enter an epoch's figures into the history and show them."""
        figures = {"loss": totals.loss, "accuracy": totals.accuracy, "lr": float(rate)}
        if self.validation is not None:
            scores = self.net.score(self.validation, self.metrics)
            figures.update({f"val_{name}": value for name, value in scores.items()})
        figures["seconds"] = time.perf_counter() - started
        for name in self.logged:
            self.history.setdefault(name, []).append(figures[name])
        self.display.epoch_done(self.epoch, {name: figures[name] for name in self.logged})
        self.call("on_epoch_end")
        if self.interrupted:
            self.stop("interrupted")

    def call(self, hook: str) -> None:
        """Call a hook of every callback that has it."""
        for callback in self.callbacks:
            if hasattr(callback, hook):
                getattr(callback, hook)(self)
