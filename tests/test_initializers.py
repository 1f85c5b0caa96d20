"""How weights start: their distributions, and that a seed decides them."""

import numpy as np
import pytest
from builders import INPUTS, STACKS

import fastnn as fnn
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.initializers import INITIALIZERS, Draw

N_IN, N_OUT = 300, 200
# name → variance of a weight, and its largest size (None where there is none)
VARIANCES = {
    "zeros": (0.0, 0.0),
    "normal": (1e-4, None),
    "standard_normal": (1.0, None),
    "nielsen": (1 / N_IN, None),
    "glorot_uniform": (2 / (N_IN + N_OUT), np.sqrt(6 / (N_IN + N_OUT))),
    "glorot_normal": (2 / (N_IN + N_OUT), None),
    "he_uniform": (2 / N_IN, np.sqrt(6 / N_IN)),
    "he_normal": (2 / N_IN, None),
    "lecun_uniform": (1 / N_IN, np.sqrt(3 / N_IN)),
    "lecun_normal": (1 / N_IN, None),
    "fan_in_uniform": (1 / (3 * N_IN), 1 / np.sqrt(N_IN)),
    "orthogonal": (1 / N_IN, None),
}
each = pytest.mark.parametrize("name", INITIALIZERS)


def draw(name, shape=(N_IN, N_OUT), seed=0, **constants):
    return fnn.Initializer(name, **constants)("0.weight", shape, Draw(seed, 0))


def dense_net(backend="numpy", dtype="float64", seed=0, **options):
    return fnn.Network([fnn.Dense(8, **options)], 6, "mse", dtype, backend, seed)


@each
def test_distribution(name):
    w = draw(name)
    variance, bound = VARIANCES[name]
    assert w.shape == (N_IN, N_OUT)
    assert abs(w.mean()) <= 5 * np.sqrt(variance / w.size)
    assert w.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / w.size))
    if bound is not None:
        assert np.abs(w).max() <= bound
        assert np.abs(w).max() >= 0.999 * bound
    elif name != "orthogonal":
        assert ((w / np.sqrt(variance)) ** 4).mean() == pytest.approx(3.0, rel=0.08)  # normal


@each
def test_a_seed_and_the_number_of_the_array_decide(name):
    w = draw(name)
    np.testing.assert_array_equal(w, draw(name))
    if name != "zeros":
        assert abs(np.corrcoef(w.ravel(), draw(name, seed=1).ravel())[0, 1]) < 0.03
        second = fnn.Initializer(name)("1.weight", w.shape, Draw(0, 1))
        assert abs(np.corrcoef(w.ravel(), second.ravel())[0, 1]) < 0.03


@each
def test_every_engine_and_precision_starts_alike(engine, name):
    start = dense_net(init=name, bias_init="standard_normal", seed=5)
    for dtype in ("float32", "float64"):
        other = dense_net(engine, dtype, init=name, bias_init="standard_normal", seed=5)
        for key, values in start.parameters.items():
            np.testing.assert_array_equal(other.parameters[key], values.astype(dtype))


@pytest.mark.parametrize("shape", [(40, 40), (60, 20), (20, 60), (1, 5), (5, 1)])
def test_orthogonal(shape):
    w = draw("orthogonal", shape)
    product = w.T @ w if shape[0] >= shape[1] else w @ w.T
    np.testing.assert_allclose(product, np.eye(min(shape)), atol=1e-12)


def test_orthogonal_matrices_are_uniform():
    """The trace of a large uniform one is N(0, 1); a plain QR decomposition favours one sign."""
    traces = [np.trace(draw("orthogonal", (6, 6), seed=seed)) for seed in range(400)]
    assert abs(np.mean(traces)) < 5 / np.sqrt(400)
    assert np.var(traces) == pytest.approx(1.0, rel=0.4)


def test_normal_of_a_given_std():
    assert draw("normal", std=0.3).std() == pytest.approx(0.3, rel=0.02)


@each
def test_biases_start_by_any_of_them(name):
    bias = dense_net(bias_init=name).parameters["0.bias"]
    assert bias.shape == (8,)
    assert np.isfinite(bias).all()
    assert name == "zeros" or np.abs(bias).max() > 0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_auto_goes_by_the_activation(activation):
    named = dense_net(activation=activation, init=ACTIVATIONS[activation].init)
    np.testing.assert_array_equal(
        dense_net(activation=activation).parameters["0.weight"], named.parameters["0.weight"]
    )
    if activation != "linear":  # the activation may also come after a norm and dropout
        layers = [fnn.Dense(8), fnn.BatchNorm(), fnn.Dropout(0.5), fnn.Activation(activation)]
        later = fnn.Network(layers, 6, "mse", "float64", "numpy", 0)
        np.testing.assert_array_equal(later.parameters["0.weight"], named.parameters["0.weight"])


def test_auto_is_he_for_relu_lecun_for_selu_glorot_for_tanh():
    assert {name: ACTIVATIONS[name].init for name in ("relu", "selu", "tanh", "sigmoid")} == {
        "relu": "he_normal",
        "selu": "lecun_normal",
        "tanh": "glorot_uniform",
        "sigmoid": "glorot_uniform",
    }


def test_an_array():
    w = np.arange(48.0).reshape(6, 8)
    np.testing.assert_array_equal(
        dense_net(init=w, bias_init=np.arange(8)).parameters["0.weight"], w
    )
    w[:] = 0  # it was copied
    np.testing.assert_array_equal(dense_net(init=w.tolist()).parameters["0.weight"], 0)


def test_norms_start_as_the_identity():
    net = fnn.Network([fnn.BatchNorm(), fnn.LayerNorm()], INPUTS, "mse", backend="numpy")
    for key, value in {"0.scale": 1, "0.shift": 0, "1.scale": 1, "1.shift": 0}.items():
        np.testing.assert_array_equal(net.parameters[key], np.full(INPUTS, value))
    np.testing.assert_array_equal(net.buffers["0.running_mean"], np.zeros(INPUTS))
    np.testing.assert_array_equal(net.buffers["0.running_var"], np.ones(INPUTS))


def test_names_are_in_layer_order():
    net = fnn.Network(STACKS["projection"], INPUTS, "mse", backend="numpy")
    assert list(net.parameters) == [
        "0.weight",
        "0.bias",
        "1.0.weight",
        "1.0.bias",
        "1.projection.weight",
        "2.weight",
        "2.bias",
    ]


@pytest.mark.parametrize(
    ("error", "parts", "make"),
    [
        (
            ValueError,
            "unknown init 'hee_normal'.*he_normal",
            lambda: fnn.Dense(3, init="hee_normal"),
        ),
        (TypeError, "std", lambda: fnn.Initializer("zeros", std=1.0)),
        (ValueError, "std", lambda: fnn.Initializer("normal", std=-1.0)),
        (ValueError, "bias_init", lambda: fnn.Dense(3, bias_init="auto")),
        (ValueError, "finite", lambda: fnn.Dense(3, init=[[np.nan]])),
        (
            ValueError,
            r"0\.weight has shape \(2, 2\).*\(6, 8\)",
            lambda: dense_net(init=np.zeros((2, 2))),
        ),
    ],
)
def test_mistakes_are_named(error, parts, make):
    with pytest.raises(error, match=parts):
        make()
