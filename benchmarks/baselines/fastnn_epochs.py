"""fastnn: the epochs of one call of `fit`, as its history times them."""

import numpy as np
from workloads import Workload

import fastnn as fnn

OPTIMIZERS = {"sgd": fnn.SGD(0.1), "momentum": fnn.SGD(0.01, momentum=0.9), "adam": fnn.Adam(1e-3)}


class Training:
    """See `baselines`."""

    backend = "auto"

    def __init__(
        self, workload: Workload, X: np.ndarray, y: np.ndarray, threads: int, seed: int = 0
    ):
        fnn.set_num_threads(threads)
        self.net = fnn.Network(
            list(workload.layers),
            inputs=workload.inputs,
            loss="softmax_cross_entropy",
            backend=self.backend,
            seed=seed,
        )
        self.samples = X, y
        self.options = {
            "batch_size": workload.batch_size,
            "optimizer": OPTIMIZERS[workload.optimizer],
            "progress": False,
        }

    def epoch(self) -> float:
        """Mean loss of the epoch."""
        return self.net.fit(*self.samples, **self.options)["loss"][-1]

    def seconds(self, epochs: int) -> list[float]:
        """Seconds of each of that many epochs of one call.

        Data is checked once a call; baselines prepare it once, too.
        """
        return self.net.fit(*self.samples, epochs=epochs, **self.options)["seconds"]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Labels."""
        return self.net.forward(X).argmax(axis=1)
