"""The outputs of each layer of a network."""

from typing import Any

import numpy as np

from fastnn._kernels.contract import State
from fastnn.engines import make_engine
from fastnn.nn.losses import Loss
from fastnn.nn.lowering import lower
from fastnn.nn.protocol import NetworkProtocol


def layer_outputs(net: NetworkProtocol, X: Any) -> list[np.ndarray]:
    """See `Network.activations`; X (n, inputs) is checked already."""
    return [_first_layers(net, length, X) for length in range(1, len(net.layers))]


def _first_layers(net: NetworkProtocol, length: int, X: Any) -> np.ndarray:
    """Output of the first layers of a network, computed by its engine.

    An engine does not expose its workspace, so these layers get a program of their own.
    """
    program = lower(net.layers[:length], net.inputs, Loss("mse"), net.dtype, net.precision)
    state = State(
        program.new_vector(),
        np.zeros(program.n_buffers, program.dtype),
        net.seed,
        slots=program.new_vectors(0),
        mu_product=np.ones(1),
    )
    for array in program.parameters:
        array.view(state.theta)[...] = net.parameters[array.name]
    for array in program.buffers:
        array.view(state.buffers)[...] = net.buffers[array.name]
    outputs, _ = make_engine(net.backend, program).forward(state, X)
    return outputs
