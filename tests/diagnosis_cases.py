"""Data and networks that the tests of diagnoses share."""

import fastnn as fnn

ROWS = 2000


def digit_samples():
    """Images to train on and to test on, of the sample of MNIST."""
    (X, y), test = fnn.datasets.mnist_sample()
    return (X[:ROWS], y[:ROWS]), test


def mlp(hidden, activation, init="auto", **options):
    return fnn.mlp([784, *hidden, 10], activation, init=init, **options)
