"""Networks without a list of layers: `mlp` from widths, `load` from a file."""

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import engines, serialization
from fastnn._utils import checks
from fastnn.ensemble import Ensemble
from fastnn.network import Network
from fastnn.nn.initializers import as_initializer
from fastnn.nn.layers import Activation, BatchNorm, Dense, Dropout, Layer, Residual, as_activation
from fastnn.nn.losses import Loss
from fastnn.serialization import SavedModel


def load(
    path: str | os.PathLike[str], backend: str = "auto", precision: str | None = None
) -> Network | Ensemble:
    """Read what `Network.save` or `Ensemble.save` wrote. Runs no code from the file.

    Parameters
    ----------
    path : str or path
    backend : str
        As in `Network`.
    precision : str, optional
        As in `Network`. ``None`` means the one it was saved with on backend "cuda", and "float32"
        on the others, which take no other.

    Raises
    ------
    ModelFileError
        A damaged, truncated or foreign file.
    FileNotFoundError
        No such file.
    """
    saved = serialization.read(path)
    if isinstance(saved, SavedModel):
        return _network(saved, backend, precision)
    networks = [_network(member, backend, precision) for member in saved.members]
    companions = {
        name: _network(member, backend, precision) for name, member in saved.companions.items()
    }
    return Ensemble(networks, saved.metadata, companions)


def _network(saved: SavedModel, backend: str, precision: str | None) -> Network:
    backend, dtype = engines.choose(backend), saved.description.dtype
    if precision is None:
        precision = engines.precision_for(saved.description.precision, backend, dtype)
    engines.check_precision(precision, backend, dtype)
    return Network.from_saved(saved, backend, precision)


# Parameters: each is part of the public contract, and all but ``sizes`` have defaults.
def mlp(
    sizes: Sequence[int],
    activation: str | Activation = "relu",
    output: str | Activation = "linear",
    init: Any = "auto",
    loss: str | Loss = "softmax_cross_entropy",
    dropout: float = 0.0,
    batch_norm: bool = False,
    residual: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
    **network: Any,
) -> Network:
    """A stack of Dense layers.

    Parameters
    ----------
    sizes : sequence of int
        Widths, input first, output last.
    activation, output : str or Activation
        Of the hidden layers, and of the last one.
    init : str, Initializer or array
        Of all weights. With "nielsen" and "standard_normal" biases start from N(0, 1), as in
        Nielsen's book; otherwise from 0.
    loss : str or Loss
    dropout : float
        Rate after each hidden layer.
    batch_norm : bool
        BatchNorm between each hidden layer's product and its activation.
    residual : bool
        Wrap each hidden layer whose width equals its input's in a residual block.
    l1, l2 : float
        Penalties on all weights.
    **network
        ``dtype``, ``backend``, ``seed``, ``precision`` of `Network`.
    """
    layers = mlp_layers(
        sizes, activation, output, init, dropout, batch_norm, residual, l1=l1, l2=l2
    )
    return Network(layers, inputs=sizes[0], loss=loss, **network)


# Parameters: those of `mlp` that the layers have.
def mlp_layers(
    sizes: Sequence[int],
    activation: str | Activation = "relu",
    output: str | Activation = "linear",
    init: Any = "auto",
    dropout: float = 0.0,
    batch_norm: bool = False,
    residual: bool = False,
    l1: float = 0.0,
    l2: float = 0.0,
) -> list[Layer]:
    """The layers of `mlp`."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence | np.ndarray) or len(sizes) < 2:
        raise ValueError(
            "sizes must list at least the input's and the output's width, such as [784, 30, 10]; "
            f"got {sizes!r}"
        )
    sizes = [checks.integer("sizes", size) for size in sizes]
    dropout = checks.number("dropout", dropout, 0.0, 1.0, high_open=True)
    init = as_initializer(init)
    bias_init = (
        "standard_normal" if init.to_config()["name"] in ("nielsen", "standard_normal") else "zeros"
    )
    options = {"init": init, "bias_init": bias_init, "l1": l1, "l2": l2}
    layers: list[Layer] = []
    for n_in, units in itertools.pairwise(sizes[:-1]):
        block = _hidden_block(units, activation, batch_norm, dropout, options)
        layers += [Residual(block)] if residual and units == n_in else block
    layers.append(Dense(sizes[-1], activation=output, **options))
    return layers


def _hidden_block(
    units: int, activation: Any, batch_norm: bool, dropout: float, options: dict[str, Any]
) -> list[Layer]:
    """The layers of one hidden layer of `mlp`."""
    if batch_norm:
        block: list[Layer] = [Dense(units, **options), BatchNorm(), as_activation(activation)]
    else:
        block = [Dense(units, activation=activation, **options)]
    return [*block, Dropout(dropout)] if dropout else block
