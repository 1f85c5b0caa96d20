"""`gradients`, `learning_speed` and `check_gradients` of a network."""

import numpy as np
import pytest
from network_cases import LABELS, X, assert_same_arrays, raises, small

import fastnn as fnn


@pytest.mark.parametrize("training", [False, True])
def test_gradients_have_the_parameters_names_and_leave_the_state_alone(engine, training):
    layers = [
        fnn.Dense(5, "gelu"),
        fnn.BatchNorm(),
        fnn.Dropout(0.3),
        fnn.GaussianNoise(0.1),
        fnn.Residual([fnn.Dense(7)]),
        fnn.Dense(3),
    ]
    net = small(layers=layers, backend=engine)
    net.fit(X, LABELS, batch_size=10)
    state = net.state
    before = [a.copy() for a in (state.theta, state.buffers, state.slots, state.mu_product)] + [
        state.step,
        state.optimizer_step,
    ]
    _, gradients = net.gradients(X, LABELS, training=training)
    assert {n: (g.shape, g.dtype) for n, g in gradients.items()} == {
        n: (p.shape, p.dtype) for n, p in net.parameters.items()
    }
    assert list(gradients) == list(net.parameters)
    for kept, now in zip(
        before,
        (
            state.theta,
            state.buffers,
            state.slots,
            state.mu_product,
            state.step,
            state.optimizer_step,
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, now)
    again = net.gradients(X, LABELS, training=training)[1]
    assert_same_arrays(gradients, again)


def test_gradients_in_training_use_batch_statistics(engine):
    net = small(layers=[fnn.BatchNorm(), fnn.Dense(3)], backend=engine)
    shifted = X * 5 + 3
    normalised = (shifted - shifted.mean(0)) / np.sqrt(shifted.var(0) + 1e-5)
    plain = small(layers=[fnn.Dense(3)])
    plain.parameters["0.weight"] = net.parameters["1.weight"]
    assert net.gradients(shifted, LABELS, training=True)[0] == pytest.approx(
        plain.gradients(normalised, LABELS)[0]
    )
    assert net.gradients(shifted, LABELS)[0] == pytest.approx(net.evaluate(shifted, LABELS)["loss"])


def test_gradients_take_sample_weights():
    weights = np.repeat([0, 2], 15)
    weighted, half = (
        small().gradients(X, LABELS, sample_weight=weights),
        small().gradients(X[15:], LABELS[15:]),
    )
    assert weighted[0] == pytest.approx(half[0])
    assert_same_arrays(weighted[1], half[1], rtol=1e-9)


def test_learning_speed_is_the_norm_of_bias_gradients(engine):
    layers = [
        fnn.Dense(5, "sigmoid"),
        fnn.Residual([fnn.Dense(6, "sigmoid")]),
        fnn.Dense(4, "tanh"),
        fnn.Dense(3),
    ]
    net = small(layers=layers, backend=engine)
    _, gradients = net.gradients(X, LABELS)
    expected = [np.linalg.norm(gradients[name]) for name in ("0.bias", "1.0.bias", "2.bias")]
    np.testing.assert_allclose(net.learning_speed(X, LABELS), expected)


def test_learning_speed_names_the_missing_bias():
    with raises(ValueError, "0.bias"):
        small(layers=[fnn.Dense(5, bias=False), fnn.Dense(3)]).learning_speed(X, LABELS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_check_gradients(dtype):
    net = small(
        layers=[
            fnn.Dense(5, "tanh"),
            fnn.BatchNorm(),
            fnn.Residual([fnn.Dense(4)]),
            fnn.Dense(3, l2=0.1),
        ],
        dtype=dtype,
    )
    before = net.state.theta.copy()
    for training in (False, True):
        errors = fnn.check_gradients(net, X, LABELS, training=training, samples=10)
        assert list(errors) == list(net.parameters)
        assert max(errors.values()) < 1e-6
    np.testing.assert_array_equal(net.state.theta, before)


def test_check_gradients_sees_a_wrong_one(monkeypatch):
    right = fnn.Network.gradients

    def wrong(self, X, y, *options):
        loss, gradients = right(self, X, y, *options)
        gradients["1.bias"] += 0.1
        return loss, gradients

    monkeypatch.setattr(fnn.Network, "gradients", wrong)
    errors = fnn.check_gradients(small(), X, LABELS)
    assert errors["1.bias"] > 0.1
    assert errors["0.weight"] < 1e-6
