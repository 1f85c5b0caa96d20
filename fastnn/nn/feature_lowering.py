"""The lowering of the layers that encode columns of X: codes and numbers.

``lowering`` is the `lowering.Lowering` that holds the tables.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn.nn.initializers import Initializer, OnlyLastRow, TruncatedNormal, Uniform
from fastnn.nn.layers import Embedding, Layer, Periodic, PiecewiseLinear


def lower_embedding(
    lowering: Any, layer: Embedding, x: int, width: int, name: str, following: Iterable[Layer]
) -> tuple[int, int]:
    codes, rows = len(layer.cardinalities), sum(layer.cardinalities)
    if name != "0.":
        raise ValueError(
            f"layer {name[:-1]} (Embedding): expected as the first layer, "
            "as its codes are columns of X"
        )
    if codes > width:
        raise ValueError(
            f"layer 0 (Embedding): it has {codes} cardinalities, "
            f"but the network only {width} inputs"
        )
    lowering.cardinalities = tuple(layer.cardinalities)
    first_rows = np.cumsum([0, *layer.cardinalities])
    fields = {
        "weight": lowering.parameter(f"{name}weight", (rows, layer.size), "table", layer.init),
        "weight_rate": layer.lr_factor,
        "weight_decay": layer.decay_factor,
        "state": lowering.buffer(f"{name}first_rows", (codes + 1,), "first_rows", first_rows),
        "codes": codes,
        "size": layer.size,
        "rows": rows,
    }
    n_out = width - codes + codes * layer.size
    return lowering.emit(opcodes.EMBEDDING, x, width, n_out, **fields), n_out


def lower_piecewise(
    lowering: Any, layer: PiecewiseLinear, x: int, width: int, name: str, following: Iterable[Layer]
) -> tuple[int, int]:
    features, size = layer.features or width, layer.size
    before = [op["code"] for op in lowering.ops if op["y"] == x]
    if isinstance(layer.bins, int) and x != opcodes.INPUT and before != [opcodes.EMBEDDING]:
        raise ValueError(
            f"layer {name[:-1]} (PiecewiseLinear): bins must be edges, not {layer.bins}, "
            "where its input is not X itself"
        )
    _check_numbers(lowering, layer, features, x, width, name)
    bins = layer.most_bins
    start = Uniform(1 / math.sqrt(size))
    fields = {
        "weight": lowering.parameter(
            f"{name}weight", (features, bins + 1, size), "map", OnlyLastRow(start)
        ),
        "bias": lowering.parameter(f"{name}bias", (features, size), "bias", start),
        "weight_rate": layer.lr_factor,
        "bias_rate": layer.lr_factor,
        "weight_decay": layer.decay_factor,
        "state": lowering.buffer(f"{name}bins", (features, bins + 2), "bins", layer.table),
        "column_stats": lowering.scratch(features * bins * size),
        "features": features,
        "bins": bins,
        "size": size,
    }
    n_out = features * size + width - features
    return lowering.emit(opcodes.PIECEWISE, x, width, n_out, **fields), n_out


def lower_periodic(
    lowering: Any, layer: Periodic, x: int, width: int, name: str, following: Iterable[Layer]
) -> tuple[int, int]:
    """The waves, then a map of those of each number."""
    is_pbld, k = layer.kind == "pbld", layer.frequencies
    features, size, parts = layer.features or width, layer.size, 1 if is_pbld else 2
    _check_numbers(lowering, layer, features, x, width, name)
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


def _check_numbers(
    lowering: Any, layer: Layer, features: int, x: int, width: int, name: str
) -> None:
    """ValueError where a layer encodes more columns of value x than are numbers."""
    most = width - sum(op["codes"] * op["size"] for op in lowering.ops if op["y"] == x)
    if features > most:
        raise ValueError(
            f"layer {name[:-1]} ({type(layer).__name__}): it encodes {features} columns, "
            f"but its input has only {most} that are numbers; say features={most}"
        )
