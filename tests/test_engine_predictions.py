"""Predictions of every engine: inference mode, rows that are not finite, logits that are not."""

import numpy as np
import pytest
from builders import (
    INPUTS,
    OUTPUTS,
    STACKS,
    WIDTH,
    features,
    network,
    targets,
)
from engine_cases import ROWS

import fastnn as fnn
from fastnn.training.samples import checked_samples


def test_prediction_ignores_dropout_and_noise(engine):
    noisy = [
        fnn.Dropout(0.5),
        fnn.Dense(WIDTH, "relu"),
        fnn.GaussianNoise(1.0),
        fnn.Dropout(0.5),
        fnn.Dense(OUTPUTS),
    ]
    quiet = [layer for layer in noisy if isinstance(layer, fnn.Dense)]
    raw, expected = (
        network(layers, backend=engine).forward(features(300)) for layers in (noisy, quiet)
    )
    np.testing.assert_array_equal(raw, expected)


def test_prediction_uses_running_statistics(engine):
    net = network([fnn.BatchNorm(epsilon=1e-3)], backend=engine)
    mean, var = np.array([1.0, 2.0, -3.0, 0.5]), np.array([4.0, 1.0, 0.25, 9.0])
    net.buffers["0.running_mean"], net.buffers["0.running_var"] = mean, var
    expected = (features(7) - mean) / np.sqrt(var + 1e-3) * net.parameters[
        "0.scale"
    ] + net.parameters["0.shift"]
    np.testing.assert_allclose(net.forward(features(7)), expected, rtol=1e-12)


def test_running_statistics_move_once_a_step(engine):
    net = network([fnn.BatchNorm(momentum=0.25), fnn.Dense(OUTPUTS)], backend=engine)
    mean, var = (net.buffers[f"0.running_{name}"].copy() for name in ("mean", "var"))
    X = features(ROWS)
    net.fit(X, targets("values", ROWS), epochs=1, batch_size=ROWS)
    np.testing.assert_allclose(
        net.buffers["0.running_mean"], 0.75 * mean + 0.25 * X.mean(axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(
        net.buffers["0.running_var"], 0.75 * var + 0.25 * X.var(axis=0, ddof=1), rtol=1e-12
    )


def test_prediction_does_not_depend_on_the_rows_around(engine):
    net = network(STACKS["nested residuals"], backend=engine)
    X = features(600)
    np.testing.assert_allclose(
        np.concatenate([net.forward(X[:1]), net.forward(X[1:270]), net.forward(X[270:])]),
        net.forward(X),
        atol=1e-12,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "first",
    [fnn.Dense(OUTPUTS), fnn.LayerNorm(), fnn.Activation("hard_tanh")],
    ids=lambda layer: type(layer).__name__,
)
def test_a_row_that_is_not_finite_is_noticed(engine, first, dtype):
    """Wherever in the row it is; compilers that take x · 0 for 0 would hide it."""
    for inputs in (1, 3, 4, 8, 17, 33, 70):
        net = fnn.Network([first, fnn.Dense(OUTPUTS)], inputs, "mse", dtype, engine)
        for value in (np.nan, np.inf, -np.inf):
            X = np.where(np.eye(inputs, dtype=bool), value, 1).astype(dtype)
            assert np.isnan(net.engine.forward(net.state, X)[0]).all()
            assert not any(net.engine.forward(net.state, row[None])[1] for row in X)
        assert net.engine.forward(net.state, np.full((3, inputs), 1e15, dtype))[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 32, 33])
def test_a_logit_that_is_not_finite_shows_in_the_loss(engine, classes, dtype):
    """Even if no sample is of its class.

    A logarithm that splits numbers by their bits would turn NaN into a number.
    """
    X, labels = features(ROWS).astype(dtype), np.arange(ROWS) % classes // 2 * 2  # never 1
    for value in (np.nan, np.inf, -np.inf):
        for smoothing in (0.0, 0.1):
            net = fnn.Network(
                [fnn.Dense(classes)],
                INPUTS,
                fnn.Loss("softmax_cross_entropy", label_smoothing=smoothing),
                dtype,
                engine,
            )
            net.state.theta[net.program.parameters[1].offset + 1] = value
            assert not net.engine.gradients(
                net.state, checked_samples(net, X, labels), training=True
            )[0].finite
