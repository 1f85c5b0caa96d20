"""The experiments on gradients and signals in deep networks, their parts and quick runs."""

import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("matplotlib", reason="experiments draw with Matplotlib")
from fastnn.experiments import book, runner
from fastnn.experiments.data import Data
from fastnn.experiments.gradients import (
    chain,
    depth,
    learning_speed,
    linear_depth,
    neuron_bars,
    normalisation,
    residual,
)

RNG = np.random.default_rng(0)


def tiny_data(n=40):
    """Three sets of noise in the shape of images, n each."""

    def samples():
        return RNG.random((n, 784)).astype(np.float32), np.arange(n) % 10

    return Data(lambda: (samples(), samples(), samples()))


@pytest.mark.parametrize("name", ["depth", "neuron_bars", "normalisation", "residual"])
def test_they_run_and_draw_whatever_the_figures(name, tmp_path):
    """On noise figures differ; that is told, and nothing breaks."""
    report = runner.run(name, quick=True, out=tmp_path, data=tiny_data())
    assert report.checks
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    assert (tmp_path / f"{name}.json").stat().st_size > 1000


# --- chain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [4.5, 6.9, 20.0])
def test_the_intervals_width(w):
    """Equation 123 against a fine grid."""
    a = np.linspace(-1, 1, 200_001)
    inside = a[w * chain._sigmoid_slope(w * a) >= 1]
    assert inside.max() - inside.min() == pytest.approx(chain._width(w), abs=2e-5)
    assert chain._measured_width(w) == pytest.approx(chain._width(w), rel=1e-9)


def test_there_is_no_interval_below_4():
    a = np.linspace(-1, 1, 2001)
    assert (3.999 * chain._sigmoid_slope(3.999 * a) < 1).all()


def test_a_wrong_gradient_would_be_seen():
    net = chain._chain(np.array([0.5, -0.4, 0.3, 0.9]), np.zeros(4))
    assert chain._product_error(net) < 1e-12
    right = net.gradients
    net.gradients = lambda X, y: (
        0.0,
        {name: 1.001 * gradient for name, gradient in right(X, y)[1].items()},
    )
    assert chain._product_error(net) == pytest.approx(1e-3, rel=0.01)


# --- the book's networks --------------------------------------------------------------------------


def test_the_books_network():
    net = book.network(2, seed=3, l2=0.1)
    assert [layer.units for layer in net.layers] == [30, 30, 10]
    assert net.parameters["0.weight"].std() == pytest.approx(784**-0.5, rel=0.02)
    assert net.parameters["0.bias"].std() == pytest.approx(1.0, rel=0.3)
    assert net.penalty() == pytest.approx(
        0.05 * sum((net.parameters[f"{i}.weight"].astype(float) ** 2).sum() for i in range(3)),
        rel=1e-5,
    )


def test_curves_begin_at_the_start_and_follow_full_batch_descent(monkeypatch):
    monkeypatch.setattr(learning_speed, "_EPOCHS", np.array([0, 1, 3]))
    X, y = tiny_data().train
    curve = learning_speed._curve(2, 0, X, y)
    net = book.network(2, 0, l2=5.0 / len(X))
    for epoch in range(4):
        if epoch in (0, 1, 3):
            np.testing.assert_allclose(
                curve[[0, 1, 3].index(epoch)], net.learning_speed(X, y), rtol=1e-5
            )
        _, gradients = net.gradients(X, y)
        for name, gradient in gradients.items():
            net.parameters[name] = net.parameters[name] - 0.1 * gradient


def test_the_books_own_curves_agree_with_themselves():
    curve = book.figures("norms_during_training_3_layers")[learning_speed._EPOCHS]
    assert all(check.agrees for check in learning_speed._curve_checks(3, curve, curve, 1, 2.0))
    apart = learning_speed._curve_checks(3, 2.5 * curve, curve, 1, 2.0)
    assert [check.agrees for check in apart] == [False, True, True]
    assert not learning_speed._curve_checks(3, curve[:, ::-1], curve, 1, 2.0)[1].agrees


def test_bars_are_the_first_neurons_gradients():
    X, y = tiny_data().train
    _, gradients = book.network(2, 5).gradients(X, y)
    np.testing.assert_array_equal(
        neuron_bars._bars(5, X, y), [gradients["0.bias"][:6], gradients["1.bias"][:6]]
    )


def test_quick_depth_has_the_penalty_of_the_book():
    assert depth._L2 == 1e-4


# --- depth without and with shortcuts -------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.5, 0.5])
def test_flow_through_a_linear_network(factor):
    output, gradient = linear_depth._flow(factor, 7)
    assert output == pytest.approx(factor**7, rel=1e-12)
    assert gradient == pytest.approx(factor**7, rel=1e-12)


def test_a_network_without_a_part_keeps_the_others():
    net = residual._network("residual", 8)
    net.fit(*tiny_data().train, 1, progress=False)
    rest = residual._without(net, 2)
    assert len(rest.layers) == len(net.layers) - 1
    for name, old in {
        "0.weight": "0.weight",
        "1.1.bias": "1.1.bias",
        "2.0.weight": "3.0.weight",
        "3.bias": "4.bias",
    }.items():
        np.testing.assert_array_equal(rest.parameters[name], net.parameters[old])


def test_a_block_that_adds_nothing_can_go():
    block = fnn.Residual([fnn.Dense(8, init="zeros")])
    net = fnn.Network([fnn.Dense(8), block, fnn.Dense(10)], 784, "softmax_cross_entropy")
    X, _ = tiny_data().test
    np.testing.assert_array_equal(residual._without(net, 1).forward(X), net.forward(X))


@pytest.mark.parametrize("depth", [20, 56, 110])
@pytest.mark.parametrize("kind", ["residual", "plain", "plain, He"])
def test_depth_counts_layers_with_weights(kind, depth):
    names = [name for name in residual._network(kind, depth).parameters if name.endswith("weight")]
    assert len(names) == depth


# --- normalisation --------------------------------------------------------------------------------


def test_the_spread_over_samples_is_that_before_each_sigmoid():
    data = tiny_data()
    X, _ = data.first(1000)
    spread = normalisation._spread("none", data)
    net = normalisation._network("sigmoid", "none", 0)
    z = X @ net.parameters["0.weight"] + net.parameters["0.bias"]
    assert spread[0] == pytest.approx(z.std(axis=0).mean(), rel=1e-4)
    z = 1 / (1 + np.exp(-z)) @ net.parameters["2.weight"] + net.parameters["2.bias"]
    assert spread[1] == pytest.approx(z.std(axis=0).mean(), rel=1e-3)
    assert len(spread) == len(normalisation._spread("BatchNorm", data)) == 10
