"""PERIODIC and FEATURE_DENSE in NumPy: F numbers in each row of a mini-batch, K angles of each."""

import numpy as np

from fastnn._kernels import opcodes

# Turns beyond which a number of the dtype tells no phase apart: they count as 0.
_MOST_TURNS = {np.dtype(np.float32): 2.0**21, np.dtype(np.float64): 2.0**30}


def waves(op, x, frequency, phase):
    """[cosines, sines if there are two parts, the last columns of x], and cos φ and sin φ."""
    turns = x[:, : op["features"], None] * frequency
    if phase is not None:
        turns = turns + phase * x.dtype.type(0.5 / np.pi)
    with np.errstate(invalid="ignore"):  # a product may overflow, and has no phase then
        small = np.where(np.abs(turns) < _MOST_TURNS[x.dtype], turns, turns - turns)
        angles = ((small - np.rint(small)) * (2 * np.pi)).astype(x.dtype)
    circle = np.cos(angles), np.sin(angles)
    parts = [part.reshape(len(x), -1) for part in circle[: op["parts"]]]
    return np.hstack([*parts, x[:, _first_passed(op, x) :]]), circle


def waves_backward(op, x, d_z, frequency, circle):
    """∂C/∂w, ∂C/∂p and ∂C/∂x."""
    cosines, sines = circle
    n, two_pi = cosines[0].size, d_z.dtype.type(2 * np.pi)
    d_angles = -sines * d_z[:, :n].reshape(sines.shape)
    if op["parts"] == 2:
        d_angles = d_angles + cosines * d_z[:, n : 2 * n].reshape(sines.shape)
    d_x = np.zeros_like(x)
    d_x[:, : op["features"]] = two_pi * (d_angles * frequency).sum(axis=2)
    d_x[:, _first_passed(op, x) :] += d_z[:, op["parts"] * n :]
    d_frequency = two_pi * np.einsum("rf,rfk->fk", x[:, : op["features"]], d_angles)
    return d_frequency, d_angles.sum(axis=0), d_x


def _first_passed(op, x):
    """The first column of x that is put out as it is."""
    return x.shape[1] - (op["n_out"] - op["parts"] * op["features"] * op["frequencies"])


def feature_dense(op, x, weight, bias):
    """[f(v W + b) for the waves v of each number, the other columns of x]."""
    n = op["parts"] * op["features"] * op["frequencies"]
    z = np.einsum("rpfk,fpks->rfs", _split(op, x), _split_map(op, weight)) + bias
    if op["inner"] == opcodes.RELU:
        z = np.where(z < 0, 0, z).astype(x.dtype)
    return np.hstack([z.reshape(len(x), -1), x[:, n:]])


def feature_dense_backward(op, x, z, d_z, weight):
    """∂C/∂W, ∂C/∂b, ∂C/∂x, and d_z with ReLU's derivative."""
    encoded = op["features"] * op["size"]
    if op["inner"] == opcodes.RELU:
        d_z = d_z.copy()
        d_z[:, :encoded] *= z[:, :encoded] > 0
    d = d_z[:, :encoded].reshape(len(x), op["features"], op["size"])
    d_map = np.einsum("rpfk,rfs->fpks", _split(op, x), d)
    d_bias = d.sum(axis=0)
    if op["shared"]:
        d_map, d_bias = d_map.sum(axis=0), d_bias.sum(axis=0)
    d_waves = np.einsum("rfs,fpks->rpfk", d, _split_map(op, weight))
    d_x = np.hstack([d_waves.reshape(len(x), -1), d_z[:, encoded:]])
    return d_map.reshape(weight.shape), d_bias, d_x, d_z


def _split(op, x):
    """The waves as (n, parts, F, K)."""
    shape = (op["parts"], op["features"], op["frequencies"])
    return x[:, : int(np.prod(shape))].reshape(len(x), *shape)


def _split_map(op, weight):
    """W as (F, parts, K, size)."""
    shape = (op["features"], op["parts"], op["frequencies"], op["size"])
    maps = weight.reshape(-1, *shape[1:])
    return np.broadcast_to(maps, shape)
