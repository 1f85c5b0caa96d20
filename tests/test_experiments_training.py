"""The experiments on how networks are trained: what each rests on, checked by itself."""

import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("matplotlib", reason="experiments draw with Matplotlib")
from fastnn.experiments import runner
from fastnn.experiments.data import Data
from fastnn.experiments.training import (
    batch_size,
    clipping,
    cross_validation,
    dropout,
    gradient_check,
    linear_regression,
    optimisers,
    overfitting,
    random_search,
)

POINTS = np.random.default_rng(0).uniform(-2, 2, (20, 2))


def tiny_data(n=60, seed=0):
    """Three sets of noisy one-hot rows, n each."""
    rng = np.random.default_rng(seed)

    def samples(n):
        y = np.arange(n) % 10
        return (np.eye(10)[y] + 0.3 * rng.normal(size=(n, 10))).astype(np.float32), y

    return Data(lambda: (samples(n), samples(n), samples(n)))


# --- linear regression ----------------------------------------------------------------------------


def test_three_ways_to_the_best_line_agree():
    best, *_ = np.linalg.lstsq(
        np.column_stack([linear_regression._X, np.ones(7)]), linear_regression._Y, rcond=None
    )
    series = linear_regression.run(True, tiny_data()).series
    np.testing.assert_allclose(series["best"], best, rtol=1e-12)
    np.testing.assert_allclose(series["lbfgs"][-1], best, atol=1e-6)
    descent = linear_regression._path(fnn.SGD(linear_regression._RATE), linear_regression._EPOCHS)
    np.testing.assert_allclose(descent[0], linear_regression._START)
    np.testing.assert_allclose(descent[-1], best, atol=1e-6)
    assert len(descent) == linear_regression._EPOCHS + 1


def test_the_bowl_is_the_networks_loss():
    X, y = linear_regression._X[:, None], linear_regression._Y
    net = fnn.Network(
        [fnn.Dense(1, init=[[-0.11]], bias_init=[2.5])], 1, "mse", dtype="float64", backend="numpy"
    )
    assert linear_regression._mse(-0.11, 2.5) == pytest.approx(
        net.evaluate(X, y)["loss"], rel=1e-12
    )
    assert linear_regression._mse(-0.11, 2.5) == pytest.approx(0.16024, abs=1e-5)
    assert linear_regression._mse(np.zeros((3, 4)), np.ones((3, 4))).shape == (3, 4)


# --- optimisers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("surface", optimisers._SURFACES.values(), ids=optimisers._SURFACES)
def test_gradients_are_those_of_the_surface(surface):
    x, y = POINTS.T
    h = 1e-6
    by_differences = (
        (surface.value(x + h, y) - surface.value(x - h, y)) / (2 * h),
        (surface.value(x, y + h) - surface.value(x, y - h)) / (2 * h),
    )
    np.testing.assert_allclose(surface.gradient(x, y), by_differences, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", optimisers._optimisers(optimisers._SURFACES["saddle"].rates))
def test_a_step_of_the_network_is_a_step_on_the_surface(name):
    """The update rule of the reference engine, driven by hand."""
    from fastnn._kernels.reference import UPDATE_OF

    surface = optimisers._SURFACES["saddle"]
    optimizer = optimisers._optimisers(surface.rates)[name]
    record, slots, mu_product = optimizer.record()[0], np.zeros((2, 2)), np.ones(1)
    w = np.array(surface.start)
    expected = [w.copy()]
    for step in range(1, 31):
        g = np.array(surface.gradient(*w))
        UPDATE_OF[int(record["code"])](w, g, slots, optimizer.lr, record, step, mu_product)
        expected.append(w.copy())
    np.testing.assert_allclose(
        optimisers._descend(optimizer, surface.gradient, surface.start, 30),
        expected,
        rtol=1e-9,
        atol=1e-12,
    )


def test_momentum_of_nothing_is_plain_descent():
    surface = optimisers._SURFACES["beale"]
    paths = [
        optimisers._descend(fnn.SGD(0.003, momentum=beta), surface.gradient, surface.start, 20)
        for beta in (0.0, 1e-15)
    ]
    np.testing.assert_allclose(*paths, rtol=1e-10)


def test_an_animation_lies_beside_the_picture(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr(optimisers, "_FRAMES", 3)
    report = runner.run("optimisers", quick=True, out=tmp_path, data=tiny_data())
    assert [check.name for check in report.checks if not check.agrees] == []
    with Image.open(tmp_path / "optimisers.gif") as image:
        assert image.n_frames == 3
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".gif", ".json", ".png"]


# --- the others -----------------------------------------------------------------------------------


def test_the_best_guess_is_the_best():
    X, y = fnn.datasets.mnist_sample()[0]
    accuracies, best = random_search._guess(20, X[:100], y[:100])
    assert best.evaluate(X[:100], y[:100])["accuracy"] == pytest.approx(accuracies.max())
    assert len(set(accuracies)) > 5


def test_errors_of_mini_batch_gradients_fall_as_one_over_the_root():
    X, y = fnn.datasets.mnist_sample()[0]
    one, four = batch_size._gradient_errors(X[:500], y[:500], [4, 16])
    assert one / four == pytest.approx(2.0, rel=0.2)
    assert batch_size._step_error(X[:500], y[:500]) < 1e-6


def test_finite_differences_take_a_pass_for_each_parameter_and_one_more():
    net, (X, y) = fnn.mlp([10, 3, 10], activation="tanh", dtype="float64"), tiny_data().train
    before = {name: values.copy() for name, values in net.parameters.items()}
    differences, passes = gradient_check._finite_differences(net, X, y)
    assert passes == net.n_parameters + 1 == len(differences) + 1
    np.testing.assert_allclose(differences, gradient_check._flat(net.gradients(X, y)[1]), atol=1e-5)
    for name, values in before.items():
        np.testing.assert_array_equal(net.parameters[name], values)


@pytest.mark.parametrize("power", [1, 2])
def test_the_order_of_an_error(power):
    assert gradient_check._order(7 * gradient_check._STEPS**power, 1e-1, 1e-3) == pytest.approx(
        power
    )


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
def test_masks_are_zero_or_scaled(rate):
    mask = dropout._mask(rate)
    np.testing.assert_allclose(np.unique(mask), [0.0, 1 / (1 - rate)] if rate else [1.0], rtol=1e-6)
    assert np.mean(mask == 0) == pytest.approx(rate, abs=0.01)
    if rate:
        assert (mask != dropout._mask(rate, passes=1)).any()


def test_each_sample_validates_once():
    assert set(cross_validation._turns(fnn.data.k_fold(57, 10), 57)) == {1}
    shares, halves = cross_validation._share_checks(*tiny_data(200).train)
    assert shares.agrees
    assert halves.agrees


def test_clipped_steps_are_recorded():
    record = clipping._train(tiny_data(200), 1, {"clip_norm": 0.5})
    assert len(record["loss"]) == len(record["length"]) == 4
    np.testing.assert_allclose(record["length"], np.minimum(record["norm"], 0.5), rtol=1e-3)
    np.testing.assert_allclose(record["cosine"], 1.0, atol=1e-4)


def test_divergence_is_a_number_of_steps():
    assert clipping._divergence({"loss": [1.0, 1e9, np.nan], "accuracy": None}) == 3
    assert np.isnan(clipping._divergence({"loss": [1.0, 0.5], "accuracy": 0.9}))


def test_scores_leave_penalties_out():
    data = tiny_data()
    net = fnn.mlp([10, 5, 10], l2=0.5, l1=0.1)
    plain = fnn.mlp([10, 5, 10])
    assert overfitting._scores(net, *data.train)["loss"] == pytest.approx(
        plain.evaluate(*data.train)["loss"], rel=1e-6
    )
