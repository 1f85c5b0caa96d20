"""The speed at which layers learn (Nielsen, chapter 5)."""

from collections.abc import Mapping

import numpy as np

from fastnn._kernels.contract import Program


def learning_speed(program: Program, gradients: Mapping[str, np.ndarray]) -> np.ndarray:
    """‖∂C/∂b^l‖₂ of each hidden Dense layer l, from gradients by name; see `Network`."""
    weights = [
        a.name
        for a in program.parameters
        if a.kind == "weight" and not a.name.endswith("projection.weight")
    ]
    biases = [name.removesuffix("weight") + "bias" for name in weights[:-1]]
    without = [name for name in biases if name not in gradients]
    if without:
        raise ValueError(f"learning_speed needs biases, but there is no {without[0]}")
    return np.array([np.linalg.norm(gradients[name]) for name in biases])
