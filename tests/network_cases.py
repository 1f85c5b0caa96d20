"""Data, networks and checks that tests of the network share."""

import re

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 4))
LABELS = np.arange(30) % 3
VALUES = RNG.normal(size=(30, 3))


def small(loss="softmax_cross_entropy", layers=None, inputs=4, **options):
    layers = layers or [fnn.Dense(5, "tanh"), fnn.Dense(3)]
    return fnn.Network(layers, inputs, loss, **{"dtype": "float64", "backend": "numpy", **options})


def raises(error, *parts):
    """Every part must be in the message."""
    return pytest.raises(
        error, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts)
    )


def arrays(net):
    return {name: array.copy() for name, array in net.parameters.items()}


def assert_same_arrays(a, b, **tolerance):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_allclose(
            a[name], b[name], err_msg=name, **(tolerance or {"rtol": 0, "atol": 0})
        )
