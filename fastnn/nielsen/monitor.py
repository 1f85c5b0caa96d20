"""What `network2.Network.SGD` measures after each epoch, on the engine's network."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastnn._utils import checks
from fastnn.network import Network

Columns = list[np.ndarray]


class Monitor:
    """A callback that measures and prints figures after each epoch, and may stop the training.

    Parameters
    ----------
    data : mapping
        "training" and perhaps "evaluation" → arrays (X, Y).
    monitored : mapping
        (name of the data, "cost" or "accuracy") → whether to measure it.
    lmbda : float
    early_stopping_n : int
        As in `Network.SGD`.

    Attributes
    ----------
    figures : dict
        The keys of ``monitored`` → a list, one entry per epoch; empty where not measured.
    """

    def __init__(
        self,
        data: Mapping[str, tuple[np.ndarray, np.ndarray]],
        monitored: Mapping[tuple[str, str], bool],
        lmbda: float,
        early_stopping_n: int,
    ):
        self.figures: dict[tuple[str, str], list[Any]] = {key: [] for key in monitored}
        self._data, self._lmbda = data, lmbda
        self._patience = checks.integer("early_stopping_n", early_stopping_n, least=0)
        self._monitored = [key for key, wanted in monitored.items() if wanted]
        if "evaluation" not in data and any(of == "evaluation" for of, _ in self._monitored):
            raise ValueError(
                "monitor_evaluation_cost and monitor_evaluation_accuracy need evaluation_data"
            )
        watched = [key for key in self._monitored if key[1] == "accuracy"]
        if self._patience and not watched:
            raise ValueError(
                "early_stopping_n needs monitor_evaluation_accuracy=True "
                "or monitor_training_accuracy=True"
            )
        self._watched = self.figures[watched[-1]] if watched else []

    def on_epoch_end(self, training: Any) -> None:
        """Measure, print and perhaps stop."""
        print(f"Epoch {training.epoch - 1} training complete")
        for of, what in self._monitored:
            X, Y = self._data[of]
            if what == "cost":
                figure, out_of = total_cost(training.net, X, Y, self._lmbda), ""
            else:
                figure, out_of = accuracy(training.net, X, Y), f" / {len(X)}"
            self.figures[of, what].append(figure)
            print(f"{what.capitalize()} on {of} data: {figure}{out_of}")
        print()
        if (
            self._patience
            and len(self._watched) - 1 - int(np.argmax(self._watched)) >= self._patience
        ):
            training.stop(f"accuracy has not risen for {self._patience} epochs")


def accuracy(net: Network, X: np.ndarray, Y: np.ndarray) -> int:
    """The number of samples whose largest output is the one that should be."""
    return int(np.count_nonzero(net.predict(X).argmax(axis=1) == Y.argmax(axis=1)))


def total_cost(net: Network, X: np.ndarray, Y: np.ndarray, lmbda: float) -> float:
    """The mean cost, plus λ/(2n) Σw² with n the number of samples."""
    weights, _ = as_columns(net.parameters)
    squares = sum(float(np.square(w, dtype=np.float64).sum()) for w in weights)
    return net.evaluate(X, Y, metrics=())["loss"] + 0.5 * lmbda / len(X) * squares


def as_columns(arrays: Mapping[str, np.ndarray]) -> tuple[Columns, Columns]:
    """Weights (out, in) and biases (out, 1), or gradients by them, as views.

    ``arrays`` holds them by turns, layer by layer.
    """
    columns = [np.atleast_2d(array).T for array in arrays.values()]
    return columns[0::2], columns[1::2]
