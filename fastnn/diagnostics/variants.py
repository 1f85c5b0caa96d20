"""Variants of a stack of layers: one of its design choices replaced by another.

Each function takes a list of layers and returns a new list; the layers given stay as they are. A
*block* is a Dense layer with all that follows it up to the next Dense or Residual; the last block
makes the network's output, and keeps its activation.
"""

from collections.abc import Sequence
from typing import Any

from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.layers import (
    Activation,
    BatchEnsemble,
    BatchNorm,
    Dense,
    Dropout,
    Layer,
    LayerNorm,
    Residual,
    as_activation,
)


def with_activation(layers: Sequence[Layer], activation: str | Activation) -> list[Layer]:
    """Every non-linear activation but the output's becomes ``activation``.

    Linear stacks get one after each hidden Dense layer.
    """
    activation = as_activation(activation)
    *hidden, output = blocks(layers)
    changed = [_activated(block, activation) for block in hidden]
    return [*_flat(changed), *output]


def with_linear_output(layers: Sequence[Layer]) -> list[Layer]:
    """The last layer without an activation."""
    *hidden, output = blocks(layers)
    linear = [layer for layer in output if not isinstance(layer, Activation)]
    return [
        *_flat(hidden),
        *_replace(linear, Dense, lambda layer: _copy(layer, activation="linear")),
    ]


def with_init(layers: Sequence[Layer], init: Any) -> list[Layer]:
    """Every weight starts by ``init``, and every bias from 0."""

    def change(layer):
        return _copy(layer, init=init, bias_init="zeros") if isinstance(layer, Dense) else layer

    return _each(layers, change)


def with_norm(layers: Sequence[Layer], norm: type = BatchNorm) -> list[Layer]:
    """A ``norm`` layer between each hidden Dense layer's product and its activation.

    It replaces the normalisation there was.

    Parameters
    ----------
    layers : sequence of Layer
    norm : BatchNorm or LayerNorm
    """
    *hidden, output = blocks(layers)
    return [*_flat([_normalised(block, norm) for block in hidden]), *output]


def with_shortcuts(layers: Sequence[Layer]) -> list[Layer]:
    """A residual block around every hidden block that is as wide as its input; the others stay."""
    *hidden, output = blocks(layers)
    width, changed = None, []
    for block in hidden:
        units = block[0].units if isinstance(block[0], Dense) else None
        changed.append([Residual(block)] if units is not None and units == width else block)
        width = units
    return [*_flat(changed), *output]


def with_dropout(layers: Sequence[Layer], rate: float) -> list[Layer]:
    """Dropout of this rate after each hidden block, in place of what dropout there was."""
    *hidden, output = blocks(layers)
    kept = [[layer for layer in block if not isinstance(layer, Dropout)] for block in hidden]
    return [*_flat([*block, Dropout(rate)] for block in kept), *output]


def with_l2(layers: Sequence[Layer], l2: float) -> list[Layer]:
    """The penalty ½ λ₂ Σw² on every weight."""
    return _each(layers, lambda layer: _copy(layer, l2=l2) if isinstance(layer, Dense) else layer)


def saturates(activation: str) -> bool:
    """Whether an activation has flat ends on both sides."""
    return ACTIVATIONS[activation].saturation is not None


def blocks(layers: Sequence[Layer]) -> list[list[Layer]]:
    """The layers cut before every Dense and Residual but the first.

    What comes before the first belongs to the first block.

    Raises
    ------
    ValueError
        A `BatchEnsemble`, whose blocks are inside it.
    """
    if any(isinstance(layer, BatchEnsemble) for layer in layers):
        raise ValueError("no variants are known of a BatchEnsemble; change its layers by hand")
    found: list[list[Layer]] = [[]]
    for layer in layers:
        if isinstance(layer, Dense | Residual) and any(
            isinstance(other, Dense | Residual) for other in found[-1]
        ):
            found.append([])
        found[-1].append(layer)
    return found


def _activated(block: list[Layer], activation: Activation) -> list[Layer]:
    """The block with ``activation`` in place of its own, wherever that stands.

    A linear block gets it behind its product or norm.
    """
    if isinstance(block[-1], Residual) or not any(isinstance(layer, Dense) for layer in block):
        return [_activated_shortcut(layer, activation) for layer in block]
    standing = any(isinstance(layer, Activation) for layer in block)
    if not standing:
        return _replace(block, Dense, lambda layer: _copy(layer, activation=activation))
    return _replace(block, Activation, lambda layer: activation)


def _activated_shortcut(layer: Layer, activation: Activation) -> Layer:
    if not isinstance(layer, Residual):
        return activation if isinstance(layer, Activation) else layer
    *inner, last = blocks(layer.layers)
    after = layer.activation if layer.activation.name == "linear" else activation
    # the sum has the activation of the last product
    end = last if after.name != "linear" and inner else _activated(last, activation)
    return _copy(
        layer,
        layers=_flat([*(_activated(block, activation) for block in inner), end]),
        activation=after,
    )


def _normalised(block: list[Layer], norm: type) -> list[Layer]:
    changed: list[Layer] = []
    for layer in block:
        if isinstance(layer, Residual):
            changed.append(
                _copy(
                    layer, layers=_flat(_normalised(inner, norm) for inner in blocks(layer.layers))
                )
            )
        elif isinstance(layer, Dense) and layer.activation.name != "linear":
            # "auto" initialises by the activation still
            changed += [_copy(layer, activation="linear"), norm(), layer.activation]
        elif isinstance(layer, Dense):
            changed += [layer, norm()]
        elif not isinstance(layer, BatchNorm | LayerNorm):
            changed.append(layer)
    return changed


def _each(layers: Sequence[Layer], change: Any) -> list[Layer]:
    """``change`` of every layer, inside residual blocks and ensembles too."""
    inside = [
        _copy(layer, layers=_each(layer.layers, change))
        if isinstance(layer, Residual | BatchEnsemble)
        else layer
        for layer in layers
    ]
    return [change(layer) for layer in inside]


def _replace(block: list[Layer], kind: type, change: Any) -> list[Layer]:
    return [change(layer) if isinstance(layer, kind) else layer for layer in block]


def _flat(parts: Any) -> list[Layer]:
    return [layer for part in parts for layer in part]


def _copy(layer: Layer, **changes: Any) -> Layer:
    """A layer like this one but for ``changes``."""
    # Every argument of a layer is an attribute of that name.
    return type(layer)(**{**vars(layer), **changes})
