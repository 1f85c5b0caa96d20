"""Data that experiments take: MNIST, whole or the sample inside the package."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from fastnn import datasets
from fastnn.data.splits import train_test_split

Samples = tuple[np.ndarray, np.ndarray]

_SAMPLE_VALIDATION = 500  # of the sample's 5,000 training images


class Data:
    """Images of digits in three sets, read at the first access.

    Parameters
    ----------
    read : callable
        Returns the sets: ``(X, y), (Xv, yv), (Xt, yt)``.

    Attributes
    ----------
    train, validation, test : (X, y)
        Images (n, 784), pixels from 0 to 1, and digits (n,).
    """

    def __init__(self, read: Callable[[], tuple[Samples, Samples, Samples]]):
        self._read = read

    @cached_property
    def _sets(self) -> tuple[Samples, Samples, Samples]:
        return self._read()

    @property
    def train(self) -> Samples:
        return self._sets[0]

    @property
    def validation(self) -> Samples:
        return self._sets[1]

    @property
    def test(self) -> Samples:
        return self._sets[2]

    def first(self, n: int) -> Samples:
        """The first ``n`` training images, or all where there are fewer."""
        X, y = self.train
        return X[:n], y[:n]


def mnist(quick: bool) -> Data:
    """All of MNIST, or in quick mode the sample inside the package.

    The sample has 4,500 images to train on, 500 to validate and 1,000 to test.
    """
    return Data(_sample if quick else datasets.mnist)


def _sample() -> tuple[Samples, Samples, Samples]:
    whole, test = datasets.mnist_sample()
    X, Xv, y, yv = train_test_split(*whole, _SAMPLE_VALIDATION, stratify=True)
    return (X, y), (Xv, yv), test
