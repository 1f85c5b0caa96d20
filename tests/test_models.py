"""`mlp`: the stack of layers that widths and options stand for."""

import numpy as np
import pytest

import fastnn as fnn

MLPS = {
    "plain": (
        {},
        "[Dense(units=6, activation='relu'), Dense(units=6, activation='relu'), Dense(units=2)]",
    ),
    "dropout": (
        {"dropout": 0.1},
        "[Dense(units=6, activation='relu'), Dropout(rate=0.1), "
        "Dense(units=6, activation='relu'), Dropout(rate=0.1), Dense(units=2)]",
    ),
    "batch norm": (
        {"batch_norm": True, "activation": "tanh"},
        "[Dense(units=6), BatchNorm(), Activation('tanh'), "
        "Dense(units=6), BatchNorm(), Activation('tanh'), Dense(units=2)]",
    ),
    "residual": (
        {"residual": True, "dropout": 0.5},
        "[Dense(units=6, activation='relu'), Dropout(rate=0.5), "
        "Residual(layers=[Dense(units=6, activation='relu'), Dropout(rate=0.5)]), Dense(units=2)]",
    ),
    "output and penalties": (
        {"output": "sigmoid", "l1": 0.1, "l2": 0.2},
        "[Dense(units=6, activation='relu', l1=0.1, l2=0.2), "
        "Dense(units=6, activation='relu', l1=0.1, l2=0.2), "
        "Dense(units=2, activation='sigmoid', l1=0.1, l2=0.2)]",
    ),
}


@pytest.mark.parametrize(("options", "layers"), MLPS.values(), ids=MLPS)
def test_mlp(options, layers):
    net = fnn.mlp([4, 6, 6, 2], backend="numpy", **options)
    assert repr(net.layers) == layers
    assert (net.inputs, net.outputs, net.loss.name) == (4, 2, "softmax_cross_entropy")


def test_mlp_without_hidden_layers_and_with_options_of_network():
    net = fnn.mlp((4, 1), loss="mse", dtype="float64", backend="numpy", seed=9)
    assert repr(net.layers) == "[Dense(units=1)]"
    assert (net.dtype, net.backend, net.seed) == (np.float64, "numpy", 9)


@pytest.mark.parametrize(("init", "std"), [("nielsen", 1 / 20), ("standard_normal", 1)])
def test_mlp_draws_biases_as_the_book_does(init, std):
    net = fnn.mlp([400, 2000, 500], init=init, backend="numpy", seed=1)
    for name in ("0.bias", "1.bias"):
        assert abs(net.parameters[name].mean()) < 0.1
        assert abs(net.parameters[name].std() - 1) < 0.1
    assert abs(net.parameters["0.weight"].std() / std - 1) < 0.01
    assert not fnn.mlp([4, 3, 2], init="glorot_normal", backend="numpy").parameters["0.bias"].any()


def test_mlp_of_the_source_has_its_size():
    assert fnn.mlp([784, 15, 10], backend="numpy").n_parameters == 11935
