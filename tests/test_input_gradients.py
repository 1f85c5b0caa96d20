"""Derivatives of predictions by the inputs, beside central differences."""

import numpy as np
import pytest
from builders import INNER_LAYERS, INPUTS, STACKS, example, features, network

import fastnn as fnn
from fastnn.diagnostics.input_gradients import input_gradients

STEP = 1e-6


def differences(net, X, inputs):
    """(n, outputs, inputs) by (p(x + h) − p(x − h)) / 2h."""
    columns = []
    for j in range(inputs):
        sides = []
        for sign in (1, -1):
            moved = X.copy()
            moved[:, j] += sign * STEP
            sides.append(net.predict(moved))
        columns.append((sides[0] - sides[1]) / (2 * STEP))
    return np.stack(columns, axis=2)


def assert_exact(net, X, inputs):
    p, gradients = input_gradients(net, X)
    np.testing.assert_allclose(p, net.predict(X), rtol=1e-12)
    np.testing.assert_allclose(
        gradients[:, :, :inputs], differences(net, X, inputs), rtol=1e-5, atol=1e-7
    )
    return gradients


NETWORKS = {kind: example(kind) for kind in INNER_LAYERS} | STACKS


@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_every_layer(layers):
    if any(isinstance(layer, fnn.Embedding) for layer in layers):
        pytest.skip("its codes have a test of their own")
    assert_exact(network(layers), features(6, INPUTS), INPUTS)


@pytest.mark.parametrize(
    "loss", ["softmax_cross_entropy", "binary_cross_entropy", "poisson", "quantile", "mse"]
)
def test_every_link(loss):
    loss = fnn.Loss("quantile", levels=[0.1, 0.5, 0.9]) if loss == "quantile" else loss
    assert_exact(network([fnn.Dense(5, "tanh"), fnn.Dense(3)], loss), features(6, INPUTS), INPUTS)


def test_codes_have_none():
    layers = [fnn.Embedding([4, 3], 2), fnn.Dense(5, "tanh"), fnn.Dense(2)]
    net = network(layers, inputs=5)
    X = np.hstack([features(6, 3), np.arange(12).reshape(6, 2) % 3])
    gradients = assert_exact(net, X, 3)
    assert np.abs(gradients[:, :, :3]).max() > 0.01
    assert not gradients[:, :, 3:].any()


def test_a_network_in_float32_on_another_engine_stays_as_it_is():
    net = network([fnn.Dense(5, "tanh"), fnn.Dense(2)], backend="numba", dtype="float32")
    before = net.state.theta.copy()
    p, gradients = input_gradients(net, features(6, INPUTS).astype(np.float32))
    assert p.dtype == gradients.dtype == np.float64
    assert gradients.shape == (6, 2, INPUTS)
    np.testing.assert_array_equal(net.state.theta, before)
