"""The gradient check: backpropagation beside central differences."""

from typing import Any

import numpy as np

from fastnn._kernels import philox
from fastnn._utils import checks
from fastnn.data import validation
from fastnn.nn.protocol import NetworkProtocol

_NUDGE = 1e-2


def check_gradients(
    net: NetworkProtocol,
    X: Any,
    y: Any,
    training: bool = False,
    step: float = 1e-6,
    samples: int = 200,
) -> dict[str, float]:
    """Compare backpropagation with central differences (C(w + h) − C(w − h)) / 2h.

    Both are computed in float64 on the network's own engine, near the network's parameters rather
    than at them: each is first moved by about a hundredth. A fresh network has zero biases, so a
    sample whose units are all off puts the next layers exactly on the kink of ReLU, where no
    derivative exists.

    Parameters
    ----------
    net : Network
        Stays as it is: a float64 copy is checked.
    X, y : array-like
        As `Network.fit` takes them; a few rows are enough.
    training : bool
        Check the training pass (batch statistics, dropout masks of the next step) instead of the
        inference pass.
    step : float
        h.
    samples : int
        At most this many elements of each array are checked, chosen by the network's seed: each
        costs two passes.

    Returns
    -------
    dict
        Name of each parameter array → largest |backpropagation − difference| over its checked
        elements, relative to the larger of the array's largest gradient component and a thousandth
        of the network's (gradients that are zero by construction are compared with rounding errors
        otherwise). Below 1e-6 all is well, unless a kink happens to lie within h.
    """
    samples = checks.integer("samples", samples)
    step = checks.number("step", step, low_open=True)
    # an array on the GPU is read where it lies, and not in double precision
    if net.backend == "cuda":
        X, y = validation.on_host(X, "X"), validation.on_host(y, "y")
    double = net.copy(dtype="float64")
    for number, (name, values) in enumerate(net.parameters.items()):
        nudge = _NUDGE * philox.normal(net.seed, number, 0, values.size).reshape(values.shape)
        double.parameters[name] = values + nudge
    _, exact = double.gradients(X, y, training)
    scale = max(np.abs(gradient).max() for gradient in exact.values())
    errors = {}
    for number, (name, gradient) in enumerate(exact.items()):
        chosen = philox.permutation(net.seed, number, 0, gradient.size)[:samples]
        flat = double.parameters[name].reshape(-1)
        differences = np.array(
            [_central_difference(double, flat, i, step, X, y, training) for i in chosen]
        )
        error = np.abs(differences - gradient.reshape(-1)[chosen]).max()
        errors[name] = float(
            error / max(np.abs(gradient).max(), 1e-3 * scale, np.finfo(float).tiny)
        )
    return errors


def _central_difference(net, flat, i, step, X, y, training):
    kept, costs = flat[i], []
    for sign in (1.0, -1.0):
        flat[i] = kept + sign * step
        costs.append(net.gradients(X, y, training)[0])
    flat[i] = kept
    return (costs[0] - costs[1]) / (2.0 * step)
