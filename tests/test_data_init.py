"""Weights and biases that the first data complete: their definition, in every engine."""

import numpy as np
import pytest
from builders import features, targets
from network_cases import raises

import fastnn as fnn
from fastnn.training import data_init

X, Y = 3 * features(300) + 1, targets("values", 300)
BOTH = {"init": "data", "bias_init": "he+5"}


def network(layers, engine="numpy", inputs=4, dtype="float64", **options):
    return fnn.Network(layers, inputs, "mse", dtype, engine, **{"seed": 3, **options})


def completed(net, X=X, Y=Y, **options):
    """The network after a fit that moves nothing."""
    net.fit(X, Y, 1, len(X), fnn.SGD(0.0), progress=False, **options)
    return net


def recipe():
    """Layers as RealMLP has them, and all that may lie before a layer."""
    return [
        fnn.Embedding([4], 3),
        fnn.PiecewiseLinear(5, 4, 3),
        fnn.Scale(),
        fnn.Dense(9, fnn.Activation("selu", parametric=True), scaling="ntk", **BOTH),
        fnn.Dropout(0.3),
        fnn.Residual([fnn.Dense(9, "mish", **BOTH), fnn.Dense(9, **BOTH)], activation="relu"),
        fnn.LayerNorm(),
        fnn.Dense(3, scaling="ntk", **BOTH),
    ]


@pytest.mark.parametrize(("scaling", "factor"), [("standard", 1.0), ("ntk", 0.5)])
def test_it_is_the_definition(engine, scaling, factor):
    net = network(
        [fnn.Dense(50, "tanh", scaling=scaling, **BOTH), fnn.Dense(3, scaling=scaling, **BOTH)],
        engine,
    )
    started = {name: array.copy() for name, array in net.parameters.items()}
    parameters = completed(net).parameters
    x = X
    for layer, c in (("0", factor), ("1", {"ntk": 50**-0.5}.get(scaling, 1.0))):
        w, b = parameters[f"{layer}.weight"], parameters[f"{layer}.bias"]
        z = c * x @ w
        np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-9)
        ratios = w / started[f"{layer}.weight"]
        np.testing.assert_allclose(ratios, np.tile(ratios[0], (len(w), 1)))
        assert ((z.min(axis=0) < -b) & (-b < z.max(axis=0))).all()
        assert len(np.unique(b)) == len(b)
        x = np.tanh(z + b)


def test_a_bias_is_a_mean_of_five_rows_with_weights_of_the_simplex():
    """Its mean is that of the data, and its variance 1/3 of theirs: Σ E[wᵢ²] = 5 · 2/(5 · 6)."""
    net = completed(network([fnn.Dense(4000, **BOTH), fnn.Dense(3)]))
    z = X @ net.parameters["0.weight"]
    shifted = -net.parameters["0.bias"] - z.mean(axis=0)
    assert abs(shifted.mean()) < 0.05
    assert shifted.var() == pytest.approx(1 / 3, abs=0.03)


def test_what_lies_before_is_as_in_a_prediction(engine):
    X = np.hstack([features(300, 3), np.arange(300)[:, None] % 4])
    net = completed(network(recipe(), engine), X)
    x = net.activations(X)
    # The parametric activation lies in the same layer as its weight, so inputs are looked at.
    for layer, before, c in (("3", x[2], x[2].shape[1] ** -0.5), ("5.0", x[4], 1.0)):
        z = c * before @ net.parameters[f"{layer}.weight"]
        np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-9)
    inner = x[4] @ net.parameters["5.0.weight"] + net.parameters["5.0.bias"]
    inner = inner * np.tanh(np.log1p(np.exp(inner)))
    np.testing.assert_allclose((inner @ net.parameters["5.1.weight"]).std(axis=0), 1.0, rtol=1e-9)
    outputs = x[6] @ net.parameters["7.weight"] / 3
    np.testing.assert_allclose(outputs.std(axis=0), 1.0, rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_engines_start_alike(compiled, dtype):
    X = np.hstack([features(300, 3), np.arange(300)[:, None] % 4])
    found, expected = (
        completed(network(recipe(), name, dtype=dtype), X).parameters
        for name in (compiled, "numpy")
    )
    tolerance = {"float64": 1e-10, "float32": 1e-4}[dtype]
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)


def test_before_the_first_fit_a_network_is_an_ordinary_one(engine):
    made, ordinary = (
        network(
            [
                fnn.Dense(6, "tanh", first, bias_init=bias),
                fnn.Dense(3, init=second, scaling="ntk", bias_init=bias),
            ],
            engine,
        )
        for first, second, bias in (
            ("data", "data", "he+5"),
            ("lecun_normal", "standard_normal", "zeros"),
        )
    )
    np.testing.assert_array_equal(made.predict(X), ordinary.predict(X))


# --- when -----------------------------------------------------------------------------------------


def test_only_the_first_data_count(engine):
    net = completed(network([fnn.Dense(6, "tanh", **BOTH), fnn.Dense(3, **BOTH)], engine))
    before = net.state.theta.copy()
    completed(net, 100 * X)
    np.testing.assert_array_equal(net.state.theta, before)


def test_only_rows_to_train_on_count():
    layers, held_out = [fnn.Dense(6, "tanh", **BOTH), fnn.Dense(3)], X.copy()
    held_out[200:] *= 1e6
    nets = [network(layers), network(layers)]
    completed(nets[0], X[:200], Y[:200])
    completed(nets[1], X[:200], Y[:200], validation=(held_out[200:], Y[200:]))
    np.testing.assert_array_equal(nets[0].state.theta, nets[1].state.theta)


def test_many_rows_are_thinned_out(monkeypatch):
    monkeypatch.setattr(data_init, "_MOST_ROWS", 100)
    layers = [fnn.Dense(6, "tanh", **BOTH), fnn.Dense(3, **BOTH)]
    few = np.linspace(0, 299, 100).astype(int)
    nets = completed(network(layers)), completed(network(layers), X[few], Y[few])
    np.testing.assert_array_equal(nets[0].state.theta, nets[1].state.theta)


def test_numbers_set_by_hand_stay():
    net = network([fnn.Dense(6, "tanh", **BOTH), fnn.Dense(3, **BOTH)])
    net.parameters["0.weight"] = np.ones((4, 6))
    net.parameters["1.bias"] = [1.0, 2.0, 3.0]
    completed(net)
    np.testing.assert_array_equal(net.parameters["0.weight"], 1.0)
    np.testing.assert_array_equal(net.parameters["1.bias"], [1.0, 2.0, 3.0])
    hidden = np.tanh(X @ np.ones((4, 6)) + net.parameters["0.bias"])
    np.testing.assert_allclose((hidden @ net.parameters["1.weight"]).std(axis=0), 1.0)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_file_saved_before_or_after_is_the_same(tmp_path, optimizer):
    net = network([fnn.Dense(6, "tanh", **BOTH), fnn.Dense(3, **BOTH)])
    net.save(tmp_path / "before.fastnn")
    before = fnn.load(tmp_path / "before.fastnn", backend="numpy")
    assert repr(before) == repr(net)
    for each in (net, before):
        each.fit(X, Y, 3, 50, optimizer, progress=False)
    net.save(tmp_path / "after.fastnn")
    after = fnn.load(tmp_path / "after.fastnn", backend="numpy")
    np.testing.assert_array_equal(before.state.theta, net.state.theta)
    np.testing.assert_array_equal(completed(after).state.theta, net.state.theta)


@pytest.mark.parametrize("X", [np.full((20, 4), 7.0), np.zeros((20, 4)), features(1)])
def test_data_that_do_not_vary(engine, X):
    net = network([fnn.Dense(6, "tanh", **BOTH), fnn.Dense(3, **BOTH)], engine)
    w = net.parameters["0.weight"].copy()
    completed(net, X, Y[: len(X)])
    np.testing.assert_array_equal(net.parameters["0.weight"], w)
    np.testing.assert_allclose(net.parameters["0.bias"], -(X[0] @ w), atol=1e-12)
    assert np.isfinite(net.predict(X)).all()


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: fnn.Dense(3, init="he+5"), ["init cannot be 'he+5'", "auto, data"]),
        (lambda: fnn.Dense(3, bias_init="data"), ["bias_init cannot be 'data'", "he+5"]),
        (lambda: fnn.Embedding([3], init="data"), ["init cannot be 'data'"]),
        (lambda: fnn.Dense(3, init="date"), ["unknown init 'date'", "'data'"]),
    ],
)
def test_bad_arguments(make, parts):
    with raises(ValueError, *parts):
        make()
