"""Recipes that vary activations, initialisers and layers."""

from typing import Any

import numpy as np
from recipe import INPUTS, NARROWER, OUTPUTS, WIDTH, Recipe, every_layer, stack

import fastnn as fnn


def activation_recipes() -> dict[str, Recipe]:
    """Each activation, alone and before dropout."""
    known = (
        *("linear", "sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish"),
        *("softplus", "softsign", "hard_sigmoid", "hard_tanh"),
    )
    chosen = {name: fnn.Activation(name) for name in known}
    chosen["leaky_relu of 0.3"] = fnn.Activation("leaky_relu", alpha=0.3)
    chosen["elu of 1.7"] = fnn.Activation("elu", alpha=1.7)
    recipes = {}
    for name, activation in chosen.items():
        plain = [
            fnn.Dense(WIDTH, activation),
            fnn.Dense(NARROWER),
            fnn.BatchNorm(),
            activation,
            fnn.Dense(OUTPUTS),
        ]
        dropped = [
            fnn.Dense(WIDTH, activation),
            fnn.Dropout(0.3),
            fnn.Residual([fnn.Dense(WIDTH)], activation=activation),
            fnn.Dropout(0.1),
            fnn.Dense(OUTPUTS, activation),
        ]
        recipes[name] = Recipe(plain)
        recipes[f"{name}, dropout"] = Recipe(dropped, "mse", "values")
    return recipes


def init_recipes() -> dict[str, Recipe]:
    """Each initialiser, for weights and for biases."""
    known = (
        *("zeros", "normal", "standard_normal", "nielsen", "glorot_uniform", "glorot_normal"),
        *("he_uniform", "he_normal", "lecun_uniform", "lecun_normal", "orthogonal", "auto"),
    )
    recipes = {name: Recipe(stack(init=name), epochs=1) for name in known}
    values = np.random.default_rng(5).normal(size=(INPUTS, WIDTH)) / 8
    layers = [
        fnn.Dense(WIDTH, "tanh", init=values, bias_init=np.linspace(-1, 1, WIDTH)),
        fnn.Dense(OUTPUTS, init=fnn.Initializer("normal", std=0.3), bias_init="standard_normal"),
    ]
    recipes["arrays and constants"] = Recipe(layers, epochs=1)
    recipes["biases"] = Recipe(stack(bias_init="he_uniform"), epochs=1)
    recipes["large seed"] = Recipe(stack("relu"), epochs=1, seed=2**64 - 1)
    return recipes


def layer_recipes() -> dict[str, Recipe]:
    """Each kind of layer, at the inputs, between other layers and at the end."""
    stacks = {**dense_stacks(), **norm_stacks(), **noise_stacks(), **residual_stacks()}
    stacks["everything"] = every_layer()
    stacks["mlp"] = fnn.mlp(
        [INPUTS, WIDTH, WIDTH, OUTPUTS],
        *("elu", "tanh", "nielsen"),
        dropout=0.1,
        batch_norm=True,
        residual=True,
        l1=0.001,
        l2=0.01,
        backend="numpy",
    ).layers
    recipes = {}
    for name, layers in stacks.items():
        recipes[name] = Recipe(layers, "mse", "values", epochs=3)
        recipes[f"{name}, SGD"] = Recipe(layers, optimizer=fnn.SGD(0.05), epochs=1)
    return recipes


def end() -> list[Any]:
    """A hidden layer and the output layer."""
    return [fnn.Dense(NARROWER, "tanh"), fnn.Dense(OUTPUTS)]


def dense_stacks() -> dict[str, list[Any]]:
    """Dense layers with each kind of penalty and constraint, and activations as layers."""
    dense, dropout = fnn.Dense, fnn.Dropout
    return {
        "dense": stack("relu"),
        "no bias": stack("softplus", bias=False),
        "l1": stack(l1=0.01),
        "l2": stack(l2=0.05),
        "l1 and l2": stack(l1=0.003, l2=0.02),
        "max norm": stack("relu", max_norm=0.7),
        "max norm and l2": [dense(WIDTH, "tanh", max_norm=0.5, l2=0.1), dense(OUTPUTS, max_norm=2)],
        "activations": [
            dense(WIDTH, fnn.Activation("leaky_relu", alpha=0.3)),
            fnn.Activation("elu", alpha=2.0),
            dropout(0.2),
            dropout(0.2),
            fnn.Activation("silu"),
            *end(),
        ],
    }


def norm_stacks() -> dict[str, list[Any]]:
    """Batch and layer normalisation."""
    dense = fnn.Dense
    return {
        "batch norm": [dense(WIDTH), fnn.BatchNorm(), fnn.Activation("relu"), *end()],
        "batch norm, constants": [dense(WIDTH, "elu"), fnn.BatchNorm(0.5, 1e-2), *end()],
        "batch norm at both ends": [fnn.BatchNorm(), dense(WIDTH, "relu"), *end(), fnn.BatchNorm()],
        "layer norm": [dense(WIDTH), fnn.LayerNorm(), fnn.Activation("gelu"), *end()],
        "layer norm, constants": [dense(WIDTH, "elu"), fnn.LayerNorm(1e-2), *end()],
        "layer norm at both ends": [fnn.LayerNorm(), dense(WIDTH, "relu"), *end(), fnn.LayerNorm()],
        "both norms": [dense(WIDTH), fnn.BatchNorm(), fnn.LayerNorm(), *end()],
    }


def noise_stacks() -> dict[str, list[Any]]:
    """Dropout and noise."""
    dense, dropout, noise = fnn.Dense, fnn.Dropout, fnn.GaussianNoise
    return {
        "dropout": [dense(WIDTH, "relu"), dropout(0.5), *end()],
        "dropout at both ends": [dropout(0.2), dense(WIDTH, "mish"), *end(), dropout(0.1)],
        "noise": [dense(WIDTH, "relu"), noise(0.3), *end()],
        "noise at both ends": [
            noise(0.3),
            dropout(0.1),
            fnn.Activation("gelu"),
            dense(WIDTH, "silu"),
            *end(),
            noise(0.1),
        ],
    }


def residual_stacks() -> dict[str, list[Any]]:
    """Residual blocks with and without projection, nested, and without parameters."""
    dense, residual, dropout = fnn.Dense, fnn.Residual, fnn.Dropout
    return {
        "residual": [
            dense(WIDTH),
            residual([dense(NARROWER, "relu"), dense(WIDTH)], "relu"),
            *end(),
        ],
        "residual with projection": [residual([dense(WIDTH, "silu")], activation="elu"), *end()],
        "residual with forced projection": [
            residual([dense(INPUTS, "gelu")], projection=True),
            *end(),
        ],
        "residual without projection": [
            residual([dense(INPUTS)], "tanh", projection=False),
            *end(),
        ],
        "residuals inside residuals": [
            dense(WIDTH),
            residual(
                [
                    dense(WIDTH, "gelu"),
                    residual([fnn.BatchNorm(), dense(WIDTH, "mish")]),
                    dropout(0.3),
                ],
                activation="relu",
            ),
            residual([residual([residual([dense(9, "tanh"), dense(WIDTH)])])]),
            dense(OUTPUTS),
        ],
        "residuals without parameters": [
            residual([fnn.Activation("tanh")]),
            residual([dropout(0.5)], activation="softsign"),
            dense(WIDTH, "relu"),
            residual([fnn.GaussianNoise(0.5), dropout(0.0), fnn.GaussianNoise(0.0)]),
            *end(),
        ],
        "residual at the end": [
            end()[0],
            dense(WIDTH, "relu"),
            dense(OUTPUTS),
            residual([dense(OUTPUTS), fnn.LayerNorm()]),
        ],
    }
