"""Recipes that vary losses, optimisers and learning-rate schedules."""

import functools
from collections.abc import Callable
from typing import Any

from recipe import OUTPUTS, WIDTH, Recipe, every_layer, sample_weights, stack

import fastnn as fnn


def loss_recipes() -> dict[str, Recipe]:
    """Each loss with each kind of target, with and without sample weights."""
    smoothed = functools.partial(fnn.Loss, label_smoothing=0.1)
    softmax, binary = "softmax_cross_entropy", "binary_cross_entropy"
    cases = {
        "softmax, labels": (softmax, "labels"),
        "softmax, one-hot": (softmax, "one-hot"),
        "softmax, probabilities": (softmax, "probabilities"),
        "softmax smoothed, labels": (smoothed(softmax), "labels"),
        "softmax smoothed, probabilities": (smoothed(softmax), "probabilities"),
        "binary, bits": (binary, "bits"),
        "binary, shares": (binary, "between 0 and 1"),
        "binary, labels": (binary, "labels"),
        "binary smoothed, bits": (smoothed(binary), "bits"),
        "mse, values": ("mse", "values"),
        "mse, labels": ("mse", "labels"),
        "quadratic, values": ("quadratic", "values"),
        "quadratic, labels": ("quadratic", "labels"),
        "mae": ("mae", "values"),
        "huber": ("huber", "values"),
        "huber of 0.3": (fnn.Loss("huber", delta=0.3), "values"),
        "poisson": ("poisson", "counts"),
    }
    recipes = {}
    for name, (loss, targets) in cases.items():
        recipes[name] = Recipe(stack("relu"), loss, targets)
        recipes[f"{name}, weighted"] = Recipe(stack(), loss, targets, options=sample_weights)
    for loss, targets in (("mse", "one value"), (binary, "one bit"), ("poisson", "one count")):
        recipes[f"{loss}, one output"] = Recipe(stack(outputs=1), loss, targets)
    for outputs in (17, 40, 70):  # from 33 classes on, softmax takes another code path
        layers = stack("relu", outputs)
        recipes[f"softmax, {outputs} classes"] = Recipe(layers, softmax, options=sample_weights)
        recipes[f"softmax smoothed, {outputs} classes"] = Recipe(layers, smoothed(softmax))
        recipes[f"softmax smoothed, {outputs} shares"] = Recipe(
            layers, smoothed(softmax), "probabilities"
        )
    layers = [fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS, "sigmoid")]
    for loss, targets in ((binary, "bits"), ("mse", "between 0 and 1")):
        recipes[f"{loss}, sigmoid outputs"] = Recipe(layers, loss, targets)
    return recipes


def optimizer_recipes() -> dict[str, Recipe]:
    """Each optimiser with each option that all optimisers have, on two kinds of network."""
    kinds: dict[str, Callable[..., Any]] = {
        "SGD": functools.partial(fnn.SGD, 0.1),
        "momentum": functools.partial(fnn.SGD, 0.05, momentum=0.9),
        "nesterov": functools.partial(fnn.SGD, 0.05, momentum=0.8, nesterov=True),
        "AdaGrad": functools.partial(fnn.AdaGrad, 0.05),
        "AdaDelta": fnn.AdaDelta,
        "RMSProp": functools.partial(fnn.RMSProp, 0.005),
        "Adam": functools.partial(fnn.Adam, 0.01),
        "AdamW": functools.partial(fnn.AdamW, 0.01),
        "NAdam": functools.partial(fnn.NAdam, 0.01),
    }
    extras: dict[str, dict[str, float]] = {
        "": {},
        ", decay": {"weight_decay": 0.05},
        ", clip_value": {"clip_value": 0.01},
        ", clip_norm": {"clip_norm": 0.1},
    }
    extras[", all"] = {name: value for extra in extras.values() for name, value in extra.items()}
    recipes = {}
    for name, kind in kinds.items():
        for suffix, extra in extras.items():
            layers = stack("relu", l2=0.001) if suffix == ", all" else stack("relu")
            recipes[name + suffix] = Recipe(layers, optimizer=kind(**extra))
        recipes[f"{name}, all layers"] = Recipe(every_layer(), "huber", "values", kind())
        clipped = kind(clip_norm=0.5)
        recipes[f"{name}, all layers, clip_norm"] = Recipe(every_layer(), "mse", "values", clipped)
    constants = {
        "AdaGrad": fnn.AdaGrad(0.02, 1e-3),
        "AdaDelta": fnn.AdaDelta(0.5, 0.95, 1e-4),
        "RMSProp": fnn.RMSProp(0.01, 0.9, 1e-4),
        "Adam": fnn.Adam(0.01, 0.8, 0.99, 1e-5),
        "AdamW": fnn.AdamW(0.01, 0.8, 0.99, 1e-5, weight_decay=0.1),
        "NAdam": fnn.NAdam(0.01, 0.8, 0.99, 1e-5, momentum_decay=0.5),
    }
    for name, optimizer in constants.items():
        recipes[f"{name}, constants"] = Recipe(stack("elu"), optimizer=optimizer, epochs=4)
    lbfgs = {
        "": (stack(), fnn.LBFGS()),
        ", memory and decay": (stack("softplus"), fnn.LBFGS(3, 1e-3, weight_decay=0.01)),
        ", penalties": (stack(l1=0.0001, l2=0.01), fnn.LBFGS()),
        ", all layers": (every_layer(), fnn.LBFGS()),
    }
    for name, (layers, optimizer) in lbfgs.items():
        recipes[f"LBFGS{name}"] = Recipe(layers, "mse", "values", optimizer, epochs=5)
    recipes["LBFGS, to the end"] = Recipe(
        [fnn.Dense(OUTPUTS, l2=0.1)], "mse", "values", fnn.LBFGS(tolerance=1e-3), epochs=99
    )
    return recipes


def schedule_recipes() -> dict[str, Recipe]:
    """Each schedule, with SGD and with Adam."""
    recipes = {}
    for name, schedule in schedules().items():
        recipes[f"{name}, SGD"] = Recipe(
            stack(), optimizer=fnn.SGD(schedule, momentum=0.5), epochs=3
        )
        recipes[f"{name}, Adam"] = Recipe(stack("selu"), optimizer=fnn.Adam(schedule), epochs=3)
    return recipes


def schedules() -> dict[str, Any]:
    """Schedules of each kind by name."""
    return {
        "Constant": fnn.Constant(0.03),
        "StepDecay": fnn.StepDecay(0.1, 4, 0.3),
        "Exponential": fnn.Exponential(0.1, 0.9),
        "InverseTime": fnn.InverseTime(0.1, 0.2),
        "Cosine": fnn.Cosine(0.1, 7, 0.001),
        "Warmup": fnn.Warmup(3, 0.05),
        "Warmup, then Cosine": fnn.Warmup(3, fnn.Cosine(0.05, 5)),
        "OneCycle": fnn.OneCycle(0.1, 9),
        "OneCycle, constants": fnn.OneCycle(0.1, 9, 0.5, 10.0, 100.0),
    }
