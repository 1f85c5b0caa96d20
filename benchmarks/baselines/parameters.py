"""Initial values that every baseline shares."""

import math

import numpy as np
from workloads import Workload

import fastnn as fnn

_SMALL = 10_000


def initial(workload: Workload, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """fastnn's initial parameters and running statistics, by its names."""
    net = fnn.Network(
        list(workload.layers),
        inputs=workload.inputs,
        loss="softmax_cross_entropy",
        backend="numpy",
        seed=seed,
    )
    return dict(net.parameters), dict(net.buffers)


def many_small(parameters: dict) -> bool:
    """Whether a library is faster with all parameters in one vector.

    Each array costs the optimiser a loop of its own: one vector made JAX 10 % and torch.compile 25
    % faster on fifty layers of 64. On large arrays copying gradients into that vector costs as much
    as it gains.
    """
    return sum(math.prod(array.shape) for array in parameters.values()) < _SMALL * len(parameters)
