"""Accuracy that a network has after a few epochs: a change of arithmetic may be fast and wrong."""

import fastnn as fnn

from .engines import ENGINES, confine

_EPOCHS = 5
_LEAST = 85  # percent; the sample gives about 93


class Accuracy:
    """784-100-10 on the sample of MNIST that comes with the package."""

    params = ENGINES
    param_names = ("engine",)

    def setup(self, engine):
        confine(engine, 1)

    def track_accuracy(self, engine):
        train, test = fnn.datasets.mnist_sample()
        net = fnn.mlp([784, 100, 10], activation="relu", backend=engine, seed=0)
        net.fit(*train, epochs=_EPOCHS, batch_size=32, optimizer=fnn.Adam(1e-3), progress=False)
        accuracy = 100 * net.evaluate(*test)["accuracy"]
        if accuracy < _LEAST:
            raise AssertionError(f"{engine}: {accuracy:.1f} % after {_EPOCHS} epochs")
        return accuracy

    track_accuracy.unit = "%"
