"""Time of a prediction, one row and many at a time, with the network of `prediction`."""

import functools

import numpy as np
from prediction import ROWS, WIDTHS

import fastnn as fnn

from .engines import ENGINES, REFERENCE, THREADS, confine

_CALLS = 1000
_TOLERANCE = 1e-5


@functools.cache  # asv sets up anew before every sample
def _prepare(engine: str) -> tuple[fnn.Network, np.ndarray]:
    """A network and rows for it, whose probabilities are those of the reference."""
    reference = fnn.mlp(WIDTHS, backend=REFERENCE)
    for name, bias in reference.parameters.items():
        if name.endswith("bias"):
            # Biases start at 0, which would hide a missing one.
            bias[...] = np.linspace(-0.1, 0.1, len(bias))
    net = reference.copy(backend=engine)
    X = np.random.default_rng(0).random((ROWS, WIDTHS[0]), dtype=np.float32)
    for rows in (X, X[:1]):
        difference = np.abs(net.predict(rows) - reference.predict(rows)).max()
        if not difference <= _TOLERANCE:
            raise AssertionError(f"{engine}: probabilities are off by {difference:.1e}")
    return net, X


class Prediction:
    """784-256-128-10 with ReLU and softmax."""

    params = (ENGINES, THREADS)
    param_names = ("engine", "threads")

    def setup(self, engine, threads):
        confine(engine, threads)
        net, self.X = _prepare(engine)
        self.predict, self.rows = net.predict, [self.X[i : i + 1] for i in range(_CALLS)]

    def time_predict_one(self, engine, threads):
        """A thousand calls: asv's milliseconds are microseconds a call.

        asv takes one call a sample where there is a setup.
        """
        for row in self.rows:
            self.predict(row)

    def time_predict_bulk(self, engine, threads):
        """10,000 rows in one call."""
        self.predict(self.X)
