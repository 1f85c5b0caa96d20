"""The reference's operations on members of an ensemble: MEMBER_SCALE and HEADS."""

import numpy as np

from fastnn._kernels import opcodes


def rows_of(x: np.ndarray, op: dict) -> np.ndarray:
    """A row for each member and sample, (n · members, member_in)."""
    return x.reshape(-1, op["member_in"])


def forward(op: dict, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """scale_m ⊙ x_m or x_m W_m for each member m."""
    x = _by_member(x, op)
    z = np.einsum("rmi,mio->rmo", x, w) if op["code"] == opcodes.HEADS else x * w
    return z.reshape(len(x), -1)


def backward(
    op: dict, x: np.ndarray, w: np.ndarray, d_z: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """d_x, and the gradient of scale or W."""
    members, d = _by_member(x, op), d_z.reshape(len(d_z), op["members"], op["member_out"])
    if op["code"] == opcodes.HEADS:
        d_w, d_x = np.einsum("rmi,rmo->mio", members, d), np.einsum("rmo,mio->rmi", d, w)
    else:
        d_w, d_x = (d * members).sum(axis=0), d * w
    # An input that all members share gets the gradients of all.
    is_shared = op["n_in"] == op["member_in"]
    return d_x.sum(axis=1) if is_shared else d_x.reshape(x.shape), d_w


def _by_member(x: np.ndarray, op: dict) -> np.ndarray:
    """(n, members, member_in), or (n, 1, member_in) where all share one input."""
    return x.reshape(len(x), -1, op["member_in"])
