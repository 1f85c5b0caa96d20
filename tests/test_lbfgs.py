"""L-BFGS: it finds minima, counts penalties, and ends where it should."""

import numpy as np
import pytest
from training_cases import LABELS, VALUES, WRONG, Recorder, X, network, noisy, raises

import fastnn as fnn


def linear(engine, **options):
    return network([fnn.Dense(2, **options)], "mse", backend=engine)


def test_lbfgs_finds_the_least_squares_solution(engine):
    net = linear(engine)
    history = net.fit(X, VALUES, epochs=200, optimizer=fnn.LBFGS())
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(40)]), VALUES, rcond=None)[0]
    np.testing.assert_allclose(net.parameters["0.weight"], solution[:4], atol=1e-6)
    np.testing.assert_allclose(net.parameters["0.bias"], solution[4], atol=1e-6)
    assert history.stopped == "converged"
    assert len(history["loss"]) == len(history["lr"]) == net.epochs < 200
    assert (np.diff(history["loss"]) <= 0).all()


def test_lbfgs_decays_weights_only(engine):
    net, centred = linear(engine), X - X.mean(axis=0)
    net.fit(X, VALUES, epochs=200, optimizer=fnn.LBFGS(weight_decay=0.3))
    # ∂/∂W of (1/2n)‖XW + b − Y‖² + ½λ‖W‖²: the mean over two outputs halves the squares
    weight = np.linalg.solve(
        centred.T @ centred / 40 + 0.3 * np.eye(4), centred.T @ (VALUES - VALUES.mean(axis=0)) / 40
    )
    np.testing.assert_allclose(net.parameters["0.weight"], weight, atol=1e-6)
    np.testing.assert_allclose(
        net.parameters["0.bias"], VALUES.mean(axis=0) - X.mean(axis=0) @ weight, atol=1e-6
    )


def test_lbfgs_counts_penalties_like_weight_decay(engine):
    decayed, penalised = linear(engine), linear(engine, l2=0.3)
    decayed.fit(X, VALUES, epochs=200, optimizer=fnn.LBFGS(weight_decay=0.3))
    penalised.fit(X, VALUES, epochs=200, optimizer="lbfgs")
    np.testing.assert_allclose(decayed.state.theta, penalised.state.theta, atol=1e-6)


def test_lbfgs_runs_for_as_many_epochs_as_wanted():
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(3)])
    history = net.fit(X, LABELS, epochs=4, optimizer="lbfgs")
    assert all(len(values) == 4 for values in history.values())
    assert (history.stopped, net.epochs) == (None, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_with_noise_and_running_statistics(engine, dtype):
    net = noisy(backend=engine, dtype=dtype)
    history = net.fit(X, LABELS, epochs=15, optimizer="lbfgs", validation=0.25)
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite([*history["val_loss"], *net.state.buffers]).all()
    assert net.buffers["1.running_mean"].any()
    assert net.state.step == 1  # the next call draws new masks


def test_lbfgs_at_a_minimum():
    net = network([fnn.Dense(2, init="zeros")], "mse")
    history = net.fit(X, np.zeros((40, 2)), epochs=5, optimizer="lbfgs")
    assert (history["loss"], history.stopped) == ([0.0], "converged")


def test_lbfgs_and_early_stopping():
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(3)])
    history = net.fit(
        X,
        LABELS,
        epochs=50,
        optimizer="lbfgs",
        validation=(X, WRONG),
        callbacks=[fnn.EarlyStopping(patience=1)],
    )
    assert "val_loss" in history.stopped
    assert net.evaluate(X, WRONG)["loss"] == min(history["val_loss"])


def test_lbfgs_does_not_pass_over_max_norm():
    with raises(ValueError, "max_norm", "LBFGS"):
        network([fnn.Dense(2, max_norm=0.1)], "mse").fit(X, VALUES, optimizer="lbfgs")


def test_lbfgs_backs_off_from_an_infinite_loss():
    """A trial step of the line search may overflow; that is no divergence."""
    wide = X * 1000
    net = network([fnn.Dense(1)], "poisson")
    net.parameters["0.weight"] = np.full((4, 1), 1e-4)
    history = net.fit(wide, np.exp(X[:, 0]), epochs=20, optimizer="lbfgs")
    assert np.isfinite(history["loss"]).all()


def test_lbfgs_says_that_it_began_with_an_infinite_loss():
    net, recorder = network([fnn.Dense(2)], "mse"), Recorder()
    net.parameters["0.weight"] = np.full((4, 2), 1e154)
    before = net.state.theta.copy()
    with raises(fnn.DivergenceError, "L-BFGS", "inf", "began with") as caught:
        net.fit(X, VALUES, epochs=3, optimizer="lbfgs", callbacks=[recorder])
    assert (caught.value.epoch, caught.value.step, caught.value.history) == (1, 1, {})
    assert recorder.hooks == ["start", "end"]
    np.testing.assert_array_equal(net.state.theta, before)
    faults = [finding.fault for finding in net.diagnose(X, VALUES, optimizer="lbfgs")]
    assert faults


@pytest.mark.parametrize("activation", [None, "silu", "relu"])
@pytest.mark.parametrize("size", [1e-100, 1.0])
def test_lbfgs_leaves_finite_parameters_whatever_the_numbers(engine, activation, size):
    """SciPy's line search has squares of its own, which overflow where loss and gradient do not."""
    hidden = [] if activation is None else [fnn.Dense(5, activation)]
    layers = [*hidden, fnn.Dense(3)]
    net = fnn.Network(layers, 4, "poisson", dtype="float64", seed=0, backend=engine)
    y = size * np.array([[0, 0, 0], [2e117, 4e229, 6e285]])
    with pytest.raises(fnn.DivergenceError, match="too large for its line search"):
        net.fit([[1, 2, 3, 4], [-1, 0, 2, 1]], y, epochs=3, optimizer="lbfgs")
    assert np.isfinite(net.state.theta).all()


def test_lbfgs_decays_weights_of_any_size(engine):
    """A weight whose square is infinite but whose decay is 0 costs nothing."""
    net = fnn.Network([fnn.Dense(1)], 1, "mse", dtype="float64", backend=engine)
    net.parameters["0.weight"] = np.array([[1e160]])
    net.fit(np.array([[0.0], [1e-160]]), [0.0, 1.0], epochs=2, optimizer="lbfgs")
    assert np.isfinite(net.state.theta).all()
