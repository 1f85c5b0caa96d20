"""`History`: what `fit` recorded."""

import json
import os
from pathlib import Path
from typing import Any

from fastnn._utils.files import check_writable, write_atomically
from fastnn.diagnostics.evidence import Evidence
from fastnn.diagnostics.faults import find_faults
from fastnn.diagnostics.findings import Diagnosis
from fastnn.diagnostics.gradient_flow import Flow
from fastnn.nn.layers import Layer
from fastnn.optim.optimizers import LBFGS, Optimizer

FORMAT = "fastnn-history-1"


class History(dict[str, list[float]]):
    """What `fit` recorded: a dict of lists with one entry per epoch.

    Keys: ``loss`` (mean over the epoch's mini-batches as they were trained on, penalties included)
    and, for classification losses, ``accuracy`` alike; ``val_loss`` and ``val_…`` for each metric
    where there is validation data; ``lr`` (of the epoch's last step); ``seconds`` (training and
    validation of the epoch).

    Attributes
    ----------
    stopped : str or None
        Why training ended before the last epoch, if it did.
    gradient_flow : Flow or None
        What the callback `GradientFlow` recorded.
    first_loss : float or None
        Of the first mini-batch, before any step; not known with L-BFGS.
    optimizer : Optimizer, LBFGS or None
        What trained the network; not part of a saved file.
    layers : list of Layer or None
        The network's; not part of a saved file.
    """

    stopped: str | None = None
    gradient_flow: Flow | None = None
    first_loss: float | None = None
    optimizer: Optimizer | LBFGS | None = None
    layers: list[Layer] | None = None

    def diagnose(self) -> Diagnosis:
        """Tell in words what went wrong in training, and what may help; see `Network.diagnose`.

        Faults of layers are found where the callback `GradientFlow` recorded them, overfitting
        where there was validation data.

        Returns
        -------
        Diagnosis
            A list of `Finding`, the gravest first; empty where no fault was found. Print it to read
            it all.
        """
        diverged = self.stopped if self.stopped and self.stopped.startswith("diverged") else None
        flow = self.gradient_flow
        if flow is not None and not (len(flow) and flow.layers):
            flow = None
        evidence = Evidence(
            flow,
            losses=self.get("loss", ()),
            validation_losses=self.get("val_loss", ()),
            first_loss=self.first_loss,
            optimizer=self.optimizer,
            layers=self.layers,
            diverged=diverged,
        )
        return find_faults(evidence)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to a JSON file, whole or not at all.

        Raises
        ------
        OSError
            No space, no permission, no such folder. An older file at ``path`` is then intact.
        """
        check_writable(path)
        flow = None if self.gradient_flow is None else self.gradient_flow.to_plain()
        plain = {
            "format": FORMAT,
            "history": {name: [_or_none(v) for v in values] for name, values in self.items()},
            "stopped": self.stopped,
            "first_loss": None if self.first_loss is None else _or_none(self.first_loss),
            "gradient_flow": flow,
        }
        write_atomically(path, json.dumps(plain, allow_nan=False).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "History":
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            A file that is not a saved history, or is damaged.
        FileNotFoundError
            No such file.
        """
        try:
            plain = json.loads(Path(path).read_bytes())
            if plain["format"] != FORMAT:
                raise ValueError(f"its format is {plain['format']!r}, not {FORMAT!r}")
            history = cls()
            for name, values in plain["history"].items():
                history[name] = [_or_nan(value) for value in values]
            history.stopped, history.first_loss = plain["stopped"], plain["first_loss"]
            history.gradient_flow = (
                None if plain["gradient_flow"] is None else Flow.from_plain(plain["gradient_flow"])
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{path} is not a history that fastnn saved, or it is damaged: {error}"
            ) from error
        return history


def _or_none(value: Any) -> float | None:
    """JSON has no NaN and no infinity."""
    value = float(value)
    return value if abs(value) < float("inf") else None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
