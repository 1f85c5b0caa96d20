"""Variants of a stack of layers: what changes, what stays, and that each makes a network."""

import pytest
from builders import INPUTS, OUTPUTS, STACKS

import fastnn as fnn
from fastnn.diagnostics import variants
from fastnn.nn.layers import Activation, BatchNorm, Dense, Dropout, LayerNorm, Residual

PLAIN = [
    Dense(8, "sigmoid", init="standard_normal", bias_init="standard_normal"),
    Dense(8, "tanh"),
    Dropout(0.2),
    Dense(8),
    Dense(3, "sigmoid"),
]
BLOCKS = [
    Dense(8),
    BatchNorm(),
    Activation("sigmoid"),
    Residual([Dense(8, "tanh"), Dense(8)], activation="relu"),
    Residual([Dense(8, "tanh")]),
    Dense(3),
]
CHANGES = {
    "activation": lambda layers: variants.with_activation(layers, "elu"),
    "init": lambda layers: variants.with_init(layers, "orthogonal"),
    "batch norm": variants.with_norm,
    "layer norm": lambda layers: variants.with_norm(layers, LayerNorm),
    "shortcuts": variants.with_shortcuts,
    "dropout": lambda layers: variants.with_dropout(layers, 0.5),
    "l2": lambda layers: variants.with_l2(layers, 0.1),
}


# But ensembles, of which no variants are known: see test_batch_ensemble.
KNOWN = [name for name in STACKS if not isinstance(STACKS[name][-1], fnn.BatchEnsemble)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stack", ["plain", "blocks", *KNOWN])
def test_every_change_of_every_stack_makes_a_network_that_trains(stack, change):
    layers = {"plain": PLAIN, "blocks": BLOCKS, **STACKS}[stack]
    before = repr(layers)
    net = fnn.Network(CHANGES[change](layers), INPUTS, "quadratic", backend="numpy")
    assert repr(layers) == before
    assert net.outputs == OUTPUTS
    net.fit([[0.1, 0.2, 0.3, 0.4]] * 5, [[1.0, 2.0, 3.0]] * 5)


def test_activation():
    changed = variants.with_activation(PLAIN, "elu")
    names = [layer.activation.name for layer in changed if isinstance(layer, Dense)]
    assert names == ["elu", "elu", "elu", "sigmoid"]
    first, norm, standing, block, single, output = variants.with_activation(BLOCKS, "elu")
    assert (first.activation.name, type(norm), standing.name) == ("linear", BatchNorm, "elu")
    # the sum has the last one's
    assert [layer.activation.name for layer in (*block.layers, block)] == ["elu", "linear", "elu"]
    assert [layer.activation.name for layer in (*single.layers, single)] == ["elu", "linear"]
    assert output.activation.name == "linear"


def test_init_reaches_every_weight_and_bias():
    first, *_ = variants.with_init(PLAIN, "orthogonal")
    assert (first.init.name, first.bias_init.name, first.activation.name) == (
        "orthogonal",
        "zeros",
        "sigmoid",
    )
    assert variants.with_init(BLOCKS, "orthogonal")[3].layers[0].init.name == "orthogonal"


def test_norms_stand_between_product_and_activation_once():
    names = [type(layer).__name__ for layer in variants.with_norm(PLAIN)]
    assert names == [
        "Dense",
        "BatchNorm",
        "Activation",
        "Dense",
        "BatchNorm",
        "Activation",
        "Dropout",
        "Dense",
        "BatchNorm",
        "Dense",
    ]
    changed = variants.with_norm(BLOCKS, LayerNorm)
    assert [type(layer) for layer in changed[:3]] == [Dense, LayerNorm, Activation]
    assert [type(layer) for layer in changed[3].layers] == [
        Dense,
        LayerNorm,
        Activation,
        Dense,
        LayerNorm,
    ]
    net = fnn.Network(
        variants.with_norm([Dense(50, "relu"), Dense(3)]), 200, "mse", backend="numpy"
    )
    # He still: "auto" looks past the norm
    assert net.parameters["0.weight"].std() == pytest.approx((2 / 200) ** 0.5, rel=0.05)


def test_shortcuts_go_around_blocks_as_wide_as_their_input():
    assert [type(layer) for layer in variants.with_shortcuts(PLAIN)] == [
        Dense,
        Residual,
        Residual,
        Dense,
    ]
    assert [
        type(layer)
        for layer in variants.with_shortcuts([Dense(8, "relu"), Dense(9, "relu"), Dense(3)])
    ] == [Dense] * 3


def test_dropout_is_not_doubled():
    rates = [
        layer.rate for layer in variants.with_dropout(PLAIN, 0.5) if isinstance(layer, Dropout)
    ]
    assert rates == [0.5] * 3


def test_saturates():
    assert [
        name
        for name in ("relu", "sigmoid", "tanh", "softplus", "softsign")
        if variants.saturates(name)
    ] == [
        "sigmoid",
        "tanh",
        "softsign",
    ]
