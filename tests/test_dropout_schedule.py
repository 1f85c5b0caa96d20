"""Dropout whose rate is a schedule: in every engine the rate of each step, saved and loaded."""

import numpy as np
import pytest
from builders import OUTPUTS, WIDTH, assert_same_bits, features, network, targets
from network_cases import raises

import fastnn as fnn

X, Y = features(24), targets("values", 24)
FALLING = fnn.FlatCosine(0.6, 6, 0.5)


def layers(rate):
    """Dropout behind activations that need z and that do not, by itself, and in a residual."""
    return [
        fnn.Dropout(rate),
        fnn.Dense(WIDTH, "gelu"),
        fnn.Dropout(rate),
        fnn.Residual([fnn.Dense(WIDTH, "sigmoid"), fnn.Dropout(rate)]),
        fnn.Dropout(0.2),
        fnn.Dense(OUTPUTS),
    ]


@pytest.mark.parametrize("step", [0, 3, 5, 6, 100])
def test_it_is_the_rate_of_the_step(engine, step):
    nets = [network(layers(rate), "mse", engine) for rate in (FALLING, fnn.Constant(FALLING(step)))]
    for net in nets:
        net.state.step, net.state.optimizer_step = 77, step
    (loss, found), (same, expected) = (net.gradients(X, Y, training=True) for net in nets)
    assert loss == pytest.approx(same, rel=1e-13)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-10, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("epochs", [(6,), (1, 2, 3)])
def test_a_schedule_that_is_constant_is_the_number(engine, epochs):
    scheduled, constant = (
        network(layers(rate), "mse", engine) for rate in (fnn.Constant(0.3), 0.3)
    )
    for n in epochs:
        for net in (scheduled, constant):
            net.fit(X, Y, n, 7, "adam", progress=False)
    assert_same_bits(scheduled, constant)


def test_training_goes_through_the_schedule(engine):
    """A chunk of many steps, and statistics of them, as the reference has them."""
    nets = [network(layers(FALLING), "mse", name) for name in (engine, "numpy")]
    for net in nets:
        history = net.fit(
            X, Y, 5, 8, fnn.Adam(0.01), callbacks=[fnn.GradientFlow(every=2)], progress=False
        )
        assert np.isfinite(history.gradient_flow.activation_mean).all()
    for name, array in nets[1].parameters.items():
        np.testing.assert_allclose(nets[0].parameters[name], array, rtol=1e-8, atol=1e-11)


def test_it_starts_again_with_another_optimizer():
    """The step is the optimiser's, as of schedules of its rates."""
    net = network(layers(FALLING), "mse")
    net.fit(X, Y, 10, 24, "adam", progress=False)
    assert net.program.dropout_rates(net.state.optimizer_step, 1).tolist() == [[0.0] * 3]
    net.use_optimizer("SGD")
    assert net.program.dropout_rates(net.state.optimizer_step, 1).tolist() == [[0.6] * 3]


@pytest.mark.parametrize("rate", [FALLING, fnn.Warmup(5, fnn.Cosine(0.4, 20, 0.1))], ids=repr)
def test_a_saved_network_goes_on(engine, rate, tmp_path):
    net = network(layers(rate), "mse", engine)
    net.fit(X, Y, 2, 8, "adam", progress=False)
    net.save(tmp_path / "m.fastnn")
    again = fnn.load(tmp_path / "m.fastnn", backend=engine)
    assert repr(again) == repr(net)
    for each in (net, again):
        each.fit(X, Y, 2, 8, "adam", progress=False)
    assert_same_bits(net, again)


def test_lbfgs_keeps_the_rate_of_its_step():
    rising = fnn.Exponential(0.6, 1.1)  # beyond 1 at step 6
    nets = [network(layers(rate), "mse") for rate in (FALLING, rising, 0.6)]
    for net in nets:
        net.fit(X, Y, 9, optimizer="lbfgs", callbacks=[fnn.GradientFlow(every=1)], progress=False)
    assert_same_bits(nets[0], nets[2])
    assert_same_bits(nets[1], nets[2])


# --- mistakes -------------------------------------------------------------------------------------


class Custom(fnn.Constant):
    """A schedule of a user's own."""


def test_a_rate_of_1_is_named_before_anything_is_trained(engine):
    net = network(layers(fnn.Exponential(0.5, 1.1)), "mse", engine)
    before = net.parameters["1.weight"].copy()
    with raises(ValueError, "rate of Dropout", "[0, 1)", "Exponential(lr=0.5", "1.07179", "step 8"):
        net.fit(X, Y, 3, 8, "adam", progress=False)
    np.testing.assert_array_equal(net.parameters["1.weight"], before)
    net.fit(X, Y, 2, 8, "adam", progress=False)
    with raises(ValueError, "step 8"):
        net.fit(X, Y, 1, 8, "adam", progress=False)


def test_schedules_of_a_users_own_train_but_are_not_saved(engine, tmp_path):
    net = network(layers(Custom(0.3)), "mse", engine)
    net.fit(X, Y, 2, 8, "adam", progress=False)
    with raises(TypeError, "schedules of fastnn alone", "Custom"):
        net.save(tmp_path / "m.fastnn")


@pytest.mark.parametrize("rate", [1.0, -0.1, "0.5", True, None, fnn.Constant])
def test_bad_rates(rate):
    with raises((ValueError, TypeError), "rate"):
        fnn.Dropout(rate)
