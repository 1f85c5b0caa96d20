"""The lowering of `Periodic`: the waves, then a map of those of each number."""

import math
from collections.abc import Iterable
from typing import Any

from fastnn._kernels import opcodes
from fastnn.nn.initializers import Initializer, TruncatedNormal, Uniform
from fastnn.nn.layers import Layer, Periodic


def lower_periodic(
    lowering: Any, layer: Periodic, x: int, width: int, name: str, following: Iterable[Layer]
) -> tuple[int, int]:
    """Append the layer's operations; returns the new value and its width."""
    is_pbld, k = layer.kind == "pbld", layer.frequencies
    features, size, parts = layer.features or width, layer.size, 1 if is_pbld else 2
    lowering.check_numbers(layer, features, x, width, name)
    passed = width if is_pbld else width - features
    waves, factors = parts * k, _factors(layer)

    sizes = {"features": features, "frequencies": k, "parts": parts}
    frequency = Initializer("normal", std=layer.sigma) if is_pbld else TruncatedNormal(layer.sigma)
    fields = {
        "weight": lowering.parameter(f"{name}frequency", (features, k), "frequency", frequency),
        "slope": lowering.columns(features * k),
    }
    if is_pbld:
        phase = Uniform(math.pi)
        fields["bias"] = lowering.parameter(f"{name}phase", (features, k), "phase", phase)
    n_out = features * waves + passed
    v = lowering.emit(opcodes.PERIODIC, x, width, n_out, **sizes, **fields, **factors)

    sizes |= {"size": size, "shared": int(layer.shared)}
    maps, start = () if layer.shared else (features,), Uniform(1 / math.sqrt(waves))
    fields = {
        "weight": lowering.parameter(f"{name}weight", (*maps, waves, size), "map", start),
        "bias": lowering.parameter(f"{name}bias", (*maps, size), "bias", start),
        "inner": opcodes.LINEAR if is_pbld else opcodes.RELU,
    }
    n_in, n_out = n_out, features * size + passed
    y = lowering.emit(opcodes.FEATURE_DENSE, v, n_in, n_out, **sizes, **fields, **factors)
    if not is_pbld:
        lowering.pinned.add(y)  # ReLU's derivative is computed from it
    return y, n_out


def _factors(layer: Periodic) -> dict[str, float]:
    rate, decay = layer.lr_factor, layer.decay_factor
    return {
        "weight_rate": rate,
        "bias_rate": rate,
        "weight_decay": decay,
        "bias_decay": decay,
    }
