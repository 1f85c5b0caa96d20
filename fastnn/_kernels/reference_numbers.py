"""Small arithmetic of the reference engine: norms, normalisation, and what is drawn at random."""

import numpy as np

from fastnn._kernels import opcodes, philox


def norm(values, axis=None):
    """Euclidean norms, in units of the largest number where a sum of squares overflows."""
    values = values.astype(np.float64)
    norms = np.sqrt((values**2).sum(axis=axis))
    if np.isfinite(norms).all():
        return norms
    unit = np.abs(values).max()
    return unit * np.sqrt(((values / unit) ** 2).sum(axis=axis))


def sum_of_squares(values):
    return np.square(values, dtype=np.float64).sum()


def record(record):
    """A record as a dict of Python numbers, which never widen a float32 array."""
    return dict(zip(record.dtype.names, record.item(), strict=True))


def normalise(x, mean, var, epsilon):
    # A variance that overflowed gives NaN, as 0 would hide it.
    inverse_std = np.where(np.isinf(var), np.nan, 1 / np.sqrt(var + epsilon)).astype(var.dtype)
    return (x - mean) * inverse_std, inverse_std


def noise(state, op, shape):
    """N(0, 1) by Box–Muller: words 0 and 1 of a row's halves give radius and angle."""
    rows, n = shape
    bits = philox.random_bits(
        state.seed, opcodes.STREAM_NOISE + op["stream"], state.step, 2 * n, rows=rows
    )
    u = (bits.astype(np.float64) + 0.5) * 2.0**-32
    return np.sqrt(-2 * np.log(u[:, :n])) * np.cos(2 * np.pi * u[:, n:])
