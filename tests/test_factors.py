"""Factors of an array: NTK scaling, learning rates and weight decay of their own, Scale, α."""

import numpy as np
import pytest
from builders import INPUTS, OUTPUTS, features, network, targets
from network_cases import raises

import fastnn as fnn
from fastnn.nn.activations import ACTIVATIONS

X, Y = features(24), targets("values", 24)


def trained(layers, optimizer, engine, epochs=2):
    net = network(layers, "mse", engine)
    net.fit(X, Y, epochs, 8, optimizer, progress=False)
    return net


def moved(layers, optimizer, engine):
    """How far each array moved in one step."""
    net = network(layers, "mse", engine)
    before = {name: array.copy() for name, array in net.parameters.items()}
    net.fit(X, Y, 1, len(X), optimizer, progress=False)
    return {name: array - before[name] for name, array in net.parameters.items()}


OPTIMIZERS = [
    fnn.SGD(0.1),
    fnn.SGD(0.1, momentum=0.9),
    fnn.SGD(0.1, momentum=0.9, nesterov=True),
    fnn.AdaGrad(),
    fnn.AdaDelta(),
    fnn.RMSProp(),
    fnn.Adam(),
    fnn.AdamW(weight_decay=0.1),
    fnn.NAdam(),
    fnn.Adam(clip_norm=0.01),
    fnn.SGD(0.1, clip_value=0.01),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_a_factor_of_the_learning_rate_scales_the_step(engine, optimizer):
    once = moved([fnn.Dense(6, "tanh"), fnn.Scale(), fnn.Dense(OUTPUTS)], optimizer, engine)
    factors = {"0.weight": 3.0, "0.bias": 0.5, "1.scale": 2.0, "2.weight": 0.0, "2.bias": 1.0}
    layers = [
        fnn.Dense(6, "tanh", lr_factor=3.0, bias_lr_factor=0.5),
        fnn.Scale(lr_factor=2.0),
        fnn.Dense(OUTPUTS, lr_factor=0.0),
    ]
    scaled = moved(layers, optimizer, engine)
    for name, factor in factors.items():
        np.testing.assert_allclose(scaled[name], factor * once[name], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("optimizer", [fnn.SGD(0.1, weight_decay=0.3), fnn.AdamW(weight_decay=0.3)])
def test_a_factor_of_the_weight_decay(engine, optimizer):
    """Where the gradient is 0, weights shrink by the decay alone."""
    layers = [
        fnn.Dense(4, decay_factor=2.0),
        fnn.Scale(decay_factor=1.0),
        fnn.Dense(3, decay_factor=0.0),
        fnn.Scale(),
        fnn.Dense(OUTPUTS, init="zeros"),
    ]
    net = network(layers, "mse", engine)
    before = {name: array.copy() for name, array in net.parameters.items()}
    output = net.predict(X)
    net.fit(X, output, 1, len(X), optimizer, progress=False)
    for name, factor in {
        "0.weight": 2,
        "1.scale": 1,
        "2.weight": 0,
        "3.scale": 0,
        "0.bias": 0,
    }.items():
        expected = before[name] * (1 - optimizer.lr * 0.3 * factor)
        np.testing.assert_allclose(net.parameters[name], expected, rtol=1e-12)


def test_ntk_is_the_same_function_of_larger_weights(engine):
    ntk, plain = (
        network([fnn.Dense(6, "tanh", scaling=s), fnn.Dense(OUTPUTS, scaling=s)], "mse", engine)
        for s in ("ntk", "standard")
    )
    for name, n_in in (("0", INPUTS), ("1", 6)):
        plain.parameters[f"{name}.weight"] = ntk.parameters[f"{name}.weight"] / np.sqrt(n_in)
    np.testing.assert_allclose(ntk.predict(X), plain.predict(X), rtol=1e-12, atol=1e-12)
    gradients = [net.gradients(X, Y)[1] for net in (ntk, plain)]
    for name, factor in {"0.weight": INPUTS**-0.5, "1.weight": 6**-0.5, "0.bias": 1}.items():
        np.testing.assert_allclose(gradients[0][name], factor * gradients[1][name], rtol=1e-9)


def test_ntk_starts_with_unit_variance():
    net = network([fnn.Dense(300, "relu", scaling="ntk"), fnn.Dense(OUTPUTS)], "mse")
    assert abs(net.parameters["0.weight"].std() - 1) < 0.05


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "linear"])
def test_alpha_mixes_the_activation_with_the_identity(engine, name):
    mixed, f, identity = (
        network([fnn.Dense(OUTPUTS, init="he_normal"), a], "mse", engine)
        for a in (
            fnn.Activation(name, parametric=True),
            fnn.Activation(name),
            fnn.Activation("linear"),
        )
    )
    y, z = f.predict(X), identity.predict(X)
    for alpha in (np.ones(OUTPUTS), np.zeros(OUTPUTS), np.linspace(-1, 2, OUTPUTS)):
        mixed.parameters["1.alpha"] = alpha
        expected = z + alpha * (y - z)
        np.testing.assert_allclose(mixed.predict(X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "linear"])
def test_gradients_of_parametric_activations(engine, name):
    layers = [
        fnn.Dense(6, fnn.Activation(name, parametric=True)),
        fnn.Residual([fnn.Activation(name, parametric=True)]),
        fnn.Dense(OUTPUTS),
    ]
    net = network(layers, "mse", engine)
    net.parameters["0.alpha"] = np.linspace(-1, 2, 6)
    errors = fnn.check_gradients(net, features(5), targets("values", 5), step=1e-5, samples=6)
    assert max(errors.values()) <= 1e-6, errors


def test_engines_agree_after_training(compiled):
    layers = [
        fnn.Scale(lr_factor=6.0),
        fnn.Dense(
            16,
            fnn.Activation("mish", parametric=True, lr_factor=0.1),
            scaling="ntk",
            bias_lr_factor=0.1,
        ),
        fnn.Dropout(0.15),
        fnn.Dense(OUTPUTS, scaling="ntk", bias_lr_factor=0.1),
    ]
    optimizer = fnn.AdamW(0.02, 0.9, 0.95, weight_decay=0.02)
    found, expected = (trained(layers, optimizer, name, 5) for name in (compiled, "numpy"))
    for name, array in expected.parameters.items():
        np.testing.assert_allclose(found.parameters[name], array, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: fnn.Dense(3, scaling="mup"), ["scaling", "'mup'", "standard, ntk"]),
        (lambda: fnn.Dense(3, lr_factor=-1), ["lr_factor", "-1"]),
        (lambda: fnn.Dense(3, decay_factor=float("nan")), ["decay_factor", "nan"]),
        (lambda: fnn.Scale(lr_factor="1"), ["lr_factor", "number"]),
        (lambda: fnn.Activation("linear", parametric=True), ["parametric", "'linear'"]),
        (lambda: fnn.Activation("relu", parametric=1), ["parametric", "True or False"]),
    ],
)
def test_bad_arguments(make, parts):
    with raises((ValueError, TypeError), *parts):
        make()
