"""Recipes that vary the arguments of ``fit``, measure gradient flow, and vary matrix shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from recipe import NARROWER, OUTPUTS, WIDTH, Data, Recipe, every_layer, sample_weights, stack

import fastnn as fnn


def fit_recipes() -> dict[str, Recipe]:
    """Arguments of ``fit``, callbacks, batch sizes, second calls of ``fit``, and forms of X."""
    every_metric = ("accuracy", "r2", "mae", "rmse")
    options: dict[str, Callable[[Data], dict[str, Any]]] = {
        "sample_weight": sample_weights,
        "class_weight": lambda data: {"class_weight": {0: 2.0, 3: 0.25}},
        "class_weight balanced": lambda data: {"class_weight": "balanced"},
        "both weights": lambda data: {**sample_weights(data), "class_weight": {1: 3.0}},
        "validation of a fraction": lambda data: {"validation": 0.2, "metrics": every_metric},
        "validation of a pair": lambda data: {"validation": data.validation},
        "validation and weights": lambda data: {**sample_weights(data), "validation": 0.3},
        "no shuffle": lambda data: {"shuffle": False},
        "EarlyStopping": lambda data: {
            "validation": data.validation,
            "callbacks": [fnn.EarlyStopping(patience=1)],
        },
        "EarlyStopping without restoring": lambda data: {
            "callbacks": [fnn.EarlyStopping("accuracy", 0, restore_best=False, min_delta=0.1)],
        },
        "ReduceOnPlateau": lambda data: {
            "validation": 0.2,
            "callbacks": [fnn.ReduceOnPlateau(factor=0.5, patience=0)],
        },
    }
    dropped = [fnn.Dense(WIDTH), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.3)]
    layers = [*dropped, fnn.Dense(NARROWER, "tanh"), fnn.Dense(OUTPUTS)]
    recipes = {name: Recipe(layers, epochs=6, options=option) for name, option in options.items()}
    measured = options["validation of a fraction"]
    recipes["validation of values"] = Recipe(every_layer(), "mse", "values", options=measured)
    for batch_size in (1, 2, 10, 37, 149, 150, 1000):
        recipes[f"batches of {batch_size}"] = Recipe(layers, batch_size=batch_size)
    recipes["two calls"] = Recipe(layers, second_optimizer=fnn.Adam(0.002))
    recipes["two calls, NAdam"] = Recipe(
        layers, optimizer=fnn.NAdam(), second_optimizer=fnn.NAdam(0.001)
    )
    recipes["another optimizer"] = Recipe(layers, second_optimizer=fnn.SGD(0.01, momentum=0.9))
    recipes["optimizer by name"] = Recipe(layers, optimizer="rmsprop")
    recipes["L-BFGS after Adam"] = Recipe(layers, second_optimizer=fnn.LBFGS())
    recipes["divergence"] = Recipe(stack("relu"), "mse", "values", fnn.SGD(30.0), epochs=9)
    recipes["X in Fortran order"] = Recipe(layers, convert=lambda X, dtype: np.asfortranarray(X))
    recipes["X of integers"] = Recipe(layers, convert=lambda X, dtype: np.rint(3 * X).astype(int))
    recipes["X in lists"] = Recipe(layers, convert=lambda X, dtype: X.tolist())
    recipes["X in every other row"] = Recipe(
        layers, convert=lambda X, dtype: np.repeat(X, 2, 0)[::2]
    )
    return recipes


def flow_recipes() -> dict[str, Recipe]:
    """The statistics of gradient flow, on each code path of an engine."""

    def measured(data: Data) -> dict[str, Any]:
        return {"callbacks": [fnn.GradientFlow(every=2)]}

    with_relu = [
        fnn.Dense(WIDTH, "relu"),
        fnn.Dropout(0.2),
        fnn.Dense(NARROWER, "sigmoid", bias=False),
        fnn.Dense(NARROWER),
        fnn.LayerNorm(),
        fnn.Activation("softsign"),
        fnn.Dense(OUTPUTS),
    ]
    optimizers = {
        "SGD": fnn.SGD(0.1),
        "SGD, decay": fnn.SGD(0.1, weight_decay=0.01),
        "momentum, clip_norm": fnn.SGD(0.1, momentum=0.9, clip_norm=0.2),
        "Adam": fnn.Adam(0.01),
        "Adam, clipped": fnn.Adam(0.01, clip_value=0.1, clip_norm=0.2),
        "AdamW": fnn.AdamW(0.01),
        "LBFGS": fnn.LBFGS(),
    }
    recipes = {}
    for name, optimizer in optimizers.items():
        for suffix, layers in (("", with_relu), (", all layers", every_layer())):
            recipe = Recipe(layers, "mse", "values", optimizer, epochs=4, options=measured)
            recipes[name + suffix] = recipe
    for activation in ("sigmoid", "tanh", "hard_sigmoid", "hard_tanh", "softsign", "relu"):
        layers = stack(activation, init="standard_normal")
        recipes[activation] = Recipe(layers, optimizer=fnn.SGD(0.1), options=measured)
        dropped = [fnn.Dense(WIDTH, activation), fnn.Dropout(0.4), *stack(activation)]
        recipes[f"{activation}, dropout"] = Recipe(dropped, options=measured)
    for name, std in (("nothing", 0.0), ("tiny numbers", 1e-25), ("large numbers", 3e4)):
        layers = stack("linear", init=fnn.Initializer("normal", std=std))
        recipes[name] = Recipe(layers, "mae", "values", fnn.SGD(1e-12), options=measured)
    wide = [fnn.Dense(130, "relu"), fnn.Dense(OUTPUTS, max_norm=1.0)]
    recipes["wide"] = Recipe(wide, inputs=200, optimizer=fnn.Adam(), options=measured)
    return recipes


def shape_recipes() -> dict[str, Recipe]:
    """Networks from one unit to a thousand: partial tiles, and blocks of large matrices.

    Two threads divide the GEMM of the first layer by features where X is wide, and by samples
    where it is narrow.
    """
    adam, plain = fnn.Adam(0.003), fnn.SGD(0.01)
    # Widths, mini-batch, samples, activation, optimiser.
    shapes = {
        "1-1": ([1, 1], 8, 20, "tanh", plain),
        "3-2-2": ([3, 2, 2], 7, 20, "relu", adam),
        "16-16-2": ([16, 16, 2], 32, 100, "relu", adam),
        "8-9-17-33-3": ([8, 9, 17, 33, 3], 13, 50, "elu", adam),
        "784-30-10, few samples": ([784, 30, 10], 10, 105, "sigmoid", plain),
        "784-30-30-10, SGD with decay": (
            [784, 30, 30, 10],
            *(50, 120, "sigmoid", fnn.SGD(0.5, weight_decay=0.001)),
        ),
        "784-256-10": ([784, 256, 10], 256, 600, "relu", adam),
        "784-256-10, SGD": ([784, 256, 10], 256, 600, "relu", plain),
        "784-256-10, clip_norm": ([784, 256, 10], 256, 600, "tanh", fnn.Adam(clip_norm=0.1)),
        "784-128-64-10": ([784, 128, 64, 10], 128, 300, "gelu", fnn.AdamW(0.003)),
        "117-83-61-7": ([117, 83, 61, 7], 37, 150, "relu", adam),
        "100-100-100-10": ([100, 100, 100, 10], 64, 150, "relu", fnn.SGD(0.05, momentum=0.9)),
        "32-64-64-10": ([32, 64, 64, 10], 256, 600, "relu", adam),
        "16-64-64-10, SGD": ([16, 64, 64, 10], 256, 600, "tanh", plain),
        "20-515-300-5, large batch": ([20, 515, 300, 5], 300, 430, "relu", adam),
        "256-600-512-10": ([256, 600, 512, 10], 40, 100, "silu", adam),
        "512-1024-300-10, SGD": ([512, 1024, 300, 10], 160, 330, "relu", plain),
        "512-1024-300-10": ([512, 1024, 300, 10], 160, 330, "relu", fnn.RMSProp(1e-3)),
        "2000-1": ([2000, 1], 120, 250, "tanh", adam),
        "twelve layers of 33": ([33] * 13, 64, 150, "selu", adam),
    }
    recipes = {}
    for name, (widths, batch_size, samples, activation, optimizer) in shapes.items():
        inputs, *hidden, outputs = widths
        layers = [*(fnn.Dense(n, activation) for n in hidden), fnn.Dense(outputs)]
        recipes[name] = Recipe(
            layers, "quadratic", "values", optimizer, inputs, samples, batch_size
        )
    norms = [
        fnn.Dense(256, bias=False),
        fnn.BatchNorm(),
        fnn.Activation("relu"),
        fnn.Dropout(0.2),
        fnn.Residual([fnn.Dense(256, "relu"), fnn.Dense(256)], activation="relu"),
        fnn.LayerNorm(),
        fnn.Dense(10),
    ]
    recipes["784-256-256-10 with norms"] = Recipe(
        norms, "softmax_cross_entropy", "labels", adam, 784, 330, 256
    )
    return recipes
