"""The layers of the network that ``fastnn train`` builds."""

from collections.abc import Sequence

from fastnn.cli.options import TrainOptions
from fastnn.models import mlp_layers
from fastnn.nn.feature_layers import Embedding
from fastnn.nn.layer import Layer

_SIZE = 8  # numbers that are learnt for each category


def network_layers(
    options: TrainOptions, inputs: int, outputs: int, cardinalities: Sequence[int]
) -> list[Layer]:
    """The layers for so many inputs, the last of which are codes with these cardinalities."""
    first: list[Layer] = [Embedding(cardinalities, _SIZE)] if cardinalities else []
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
