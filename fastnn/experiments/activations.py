"""What the layers of a network put out: the data of statistics and histograms."""

from typing import Any

import numpy as np

from fastnn.network import Network


def activations(net: Network, X: Any) -> list[np.ndarray]:
    """Outputs (n, units) of all layers but the last, input side first, as in prediction.

    Parameters
    ----------
    net : Network
    X : array-like (n, inputs)
    """
    return [_front(net, length).forward(X) for length in range(1, len(net.layers))]


def _front(net: Network, length: int) -> Network:
    """A network of the first layers of another, with its parameters and running statistics."""
    front = Network(net.layers[:length], net.inputs, "mse", net.dtype, net.backend)
    for own, given in ((front.parameters, net.parameters), (front.buffers, net.buffers)):
        for name in own:
            own[name] = given[name]
    return front
