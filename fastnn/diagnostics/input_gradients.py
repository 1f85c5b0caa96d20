"""How a network's predictions change with its inputs."""

import numpy as np

from fastnn._kernels.reference import link
from fastnn._kernels.reference_engine import ReferenceEngine
from fastnn.nn.protocol import NetworkProtocol


def input_gradients(net: NetworkProtocol, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and their exact derivatives ∂p_k/∂x_j, by backpropagation to the inputs.

    It is computed in float64 by the reference engine, one backward pass an output, without dropout
    and noise. Codes of an `Embedding` have no derivative: theirs is 0.

    Parameters
    ----------
    net : Network
        Stays as it is.
    X : ndarray (n, inputs)

    Returns
    -------
    ndarray (n, outputs), ndarray (n, outputs, inputs)
        The first is what ``net.predict(X)`` gives.
    """
    double, X = net.copy(dtype="float64", backend="numpy"), X.astype(np.float64)
    engine = ReferenceEngine(double.program)
    z, _ = engine.forward(double.state, X)
    # The members of a BatchEnsemble, one below the other; of other networks there is one.
    of_members = z.reshape(-1, net.outputs)
    p = link(double.program.loss, of_members)
    members = double.program.members
    slopes = _link_slopes(net.loss.spec.link, of_members, p) / members
    slopes = slopes.reshape(len(X), members, net.outputs, net.outputs)
    gradients = [
        engine.input_gradients(double.state, X, slopes[:, :, k].reshape(z.shape))
        for k in range(net.outputs)
    ]
    return p.reshape(len(X), members, -1).mean(axis=1), np.stack(gradients, axis=1)


def _link_slopes(link: str, z: np.ndarray, p: np.ndarray) -> np.ndarray:
    """∂p_k/∂z_j (n, outputs, outputs) of predictions p of raw outputs z."""
    identity = np.eye(z.shape[1])
    if link == "softmax":
        return p[:, :, None] * (identity - p[:, None, :])
    if link == "sort":
        return identity[z.argsort(axis=1, kind="stable")]
    own = {"sigmoid": p * (1 - p), "exp": p}.get(link, np.ones_like(p))
    return own[:, :, None] * identity
