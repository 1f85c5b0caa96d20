"""Digests of what a network and its training compute.

A result is a dictionary that JSON can hold: SHA-256 digests of arrays, and floats in hexadecimal,
which loses no bit.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from recipe import Data, Recipe, random_data
from safetensors import safe_open
from safetensors.numpy import load_file

import fastnn as fnn

MEMORY = Path("/dev/shm")  # a file system in memory, where there is one: no waiting for a disk
FLOW_STATISTICS = (
    "steps",
    "learning_speed",
    "gradient_norm",
    "weight_norm",
    "update_ratio",
    "activation_mean",
    "activation_variance",
    "dead",
    "saturated",
)
METRICS = ("accuracy", "r2", "mae", "rmse")


def digest(array: Any) -> str:
    """SHA-256 of an array's dtype, shape and numbers; all NaNs count as the same number."""
    array = np.ascontiguousarray(array)
    if array.dtype.kind == "f" and np.isnan(array).any():
        array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
    header = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()


def digests(arrays: Mapping[str, Any]) -> dict[str, str]:
    """The `digest` of each array."""
    return {name: digest(array) for name, array in arrays.items()}


def to_hex(values: Any) -> Any:
    """Floats in hexadecimal, alone or in lists and mappings; None stays None."""
    if isinstance(values, Mapping):
        return {name: to_hex(value) for name, value in values.items()}
    if isinstance(values, list | tuple | np.ndarray):
        return [to_hex(value) for value in values]
    return None if values is None else float(values).hex()


def history_digests(history: Any) -> dict[str, Any]:
    """What ``fit`` recorded, without times."""
    result = {
        "history": {name: to_hex(values) for name, values in history.items() if name != "seconds"},
        "first loss": to_hex(history.first_loss),
        "stopped": history.stopped is not None,
    }
    if history.gradient_flow is not None:
        flow = history.gradient_flow
        result["flow"] = {
            **digests({name: getattr(flow, name) for name in FLOW_STATISTICS}),
            "layers": [list(flow.layers), list(flow.units), list(flow.activations)],
            "scales": to_hex([flow.input_scale, flow.target_scale]),
        }
    return result


def state_digests(net: Any) -> dict[str, Any]:
    """What training changed: parameters, buffers, and all tensors of the model file."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        path = Path(folder) / "model.fastnn"
        net.save(path)
        tensors = load_file(path)
        with safe_open(path, "np") as file:
            description = json.loads(file.metadata()["description"])
    counters = ("optimizer", "optimizer_step", "step", "epochs")
    return {
        "parameters": digests(net.parameters),
        "buffers": digests(net.buffers),
        "file": digests(tensors),
        "counters": {name: description[name] for name in counters},
    }


def output_digests(net: Any, data: Data) -> dict[str, Any]:
    """What a network computes from samples: predictions, scores, gradients, activations."""
    result = {
        "predict": digest(net.predict(data.X_new)),
        "predict, a row": digest(net.predict(data.X_new[:1])),
        "predict, other rows": digest(net.predict(data.X_new[3:100])),
        "forward": digest(net.forward(data.X_new)),
        "activations": [digest(values) for values in net.activations(data.X_new[:50])],
        "scores": to_hex(net.evaluate(*data.validation, metrics=METRICS)),
        "weighted scores": to_hex(net.evaluate(data.X, data.y, data.weights)),
    }
    for name, options in {
        "gradients": {},
        "gradients in training": {"training": True},
        "gradients, weighted": {"sample_weight": data.weights},
    }.items():
        loss, gradients = net.gradients(data.X, data.y, **options)
        result[name] = {"loss": to_hex(loss), **digests(gradients)}
    with contextlib.suppress(ValueError):  # a layer has no bias
        result["learning speed"] = digest(net.learning_speed(data.X, data.y))
    return result


def training_digests(recipe: Recipe, engine: str, dtype: str) -> dict[str, Any]:
    """Train by a recipe and return the digests of all that results."""
    net = recipe.network(engine, dtype)
    data = random_data(recipe, net)
    result: dict[str, Any] = {"initial": digests(net.parameters)}
    try:
        result |= history_digests(recipe.fit(net, data, recipe.optimizer, recipe.epochs))
        if recipe.second_optimizer is not None:
            result["then"] = history_digests(recipe.fit(net, data, recipe.second_optimizer, 2))
    except fnn.DivergenceError as error:
        result["diverged"] = {"epoch": error.epoch, "step": error.step}
        result |= history_digests(error.history)
    return result | state_digests(net) | output_digests(net, data)
