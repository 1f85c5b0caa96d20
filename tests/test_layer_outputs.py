"""What each layer puts out: `Network.activations`."""

import numpy as np
import pytest

import fastnn as fnn

RNG = np.random.default_rng(0)


def some_network(backend="auto"):
    block = fnn.Residual(
        [fnn.Dense(6, activation="relu"), fnn.BatchNorm(), fnn.Dense(6)], activation="tanh"
    )
    layers = [
        fnn.Dense(6, activation="sigmoid"),
        fnn.BatchNorm(),
        fnn.Dropout(0.5),
        block,
        fnn.Dense(3),
    ]
    net = fnn.Network(layers, 4, "softmax_cross_entropy", dtype="float64", backend=backend)
    X = RNG.normal(size=(50, 4))
    net.fit(X, np.arange(50) % 3, epochs=2, batch_size=10, progress=False)
    return net, X


def test_activations_lead_to_the_output(engine):
    net, X = some_network(engine)
    outputs = net.activations(X)
    assert [output.shape for output in outputs] == [(50, 6)] * 4
    np.testing.assert_allclose(
        outputs[0],
        1 / (1 + np.exp(-(X @ net.parameters["0.weight"] + net.parameters["0.bias"]))),
        rtol=1e-12,
    )
    np.testing.assert_array_equal(outputs[2], outputs[1])  # dropout does nothing in prediction
    np.testing.assert_allclose(
        outputs[-1] @ net.parameters["4.weight"] + net.parameters["4.bias"],
        net.forward(X),
        rtol=1e-12,
    )


def test_activations_leave_the_network_alone():
    net, X = some_network()
    before = net.state.theta.copy(), net.state.buffers.copy(), net.state.step
    net.activations(X)
    np.testing.assert_array_equal(net.state.theta, before[0])
    np.testing.assert_array_equal(net.state.buffers, before[1])
    assert net.state.step == before[2]


def test_mistakes_are_those_of_predict():
    net, X = some_network()
    with pytest.raises(ValueError, match="4"):
        net.activations(X[:, :3])
