"""The layers of the network that ``fastnn train`` builds."""

import importlib
from collections.abc import Callable, Sequence

from fastnn.cli.options import TrainOptions
from fastnn.models import mlp_layers
from fastnn.nn.layers import Layer

_SIZE = 8  # numbers that are learnt for each category


def embedding() -> Callable[[Sequence[int], int], Layer] | None:
    """The layer that learns a vector for each category, where this version has it."""
    return getattr(importlib.import_module("fastnn"), "Embedding", None)


def network_layers(
    options: TrainOptions, inputs: int, outputs: int, cardinalities: Sequence[int]
) -> list[Layer]:
    """The layers for so many inputs, the last of which are codes with these cardinalities."""
    layer = embedding()
    first = [layer(cardinalities, _SIZE)] if layer and cardinalities else []
    width = inputs + (_SIZE - 1) * len(cardinalities)
    return first + mlp_layers(
        [width, *options.layers, outputs],
        activation=options.activation,
        dropout=options.dropout,
        batch_norm=options.batch_norm,
        residual=options.residual,
        l1=options.l1,
        l2=options.l2,
    )
