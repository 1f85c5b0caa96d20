"""What the layers of a network put out: the data of statistics and histograms."""

from typing import Any

import numpy as np

from fastnn._kernels.contract import State
from fastnn.engines import make_engine
from fastnn.inputs import as_features
from fastnn.losses import Loss
from fastnn.network import Network
from fastnn.program import lower


def activations(net: Network, X: Any) -> list[np.ndarray]:
    """Outputs (n, units) of all layers but the last, input side first, as in prediction.

    Parameters
    ----------
    net : Network
    X : array-like (n, inputs)
    """
    X = as_features(X, net.dtype, net.inputs)
    return [_forward(net, length, X) for length in range(1, len(net.layers))]


def _forward(net: Network, length: int, X: np.ndarray) -> np.ndarray:
    """Output of the first layers of a network, on its own engine."""
    program = lower(net.layers[:length], net.inputs, Loss("mse"), net.dtype)
    state = State(
        program.new_vector(), np.zeros(program.n_buffers, program.dtype), net.seed, slots=program.new_vectors(0), products=np.ones(1)
    )
    for array in program.parameters:
        array.view(state.theta)[...] = net.parameters[array.name]
    for array in program.buffers:
        array.view(state.buffers)[...] = net.buffers[array.name]
    outputs, _ = make_engine(net.backend, program).forward(state, X)
    return outputs
