"""Networks and comparisons with the reference engine for tests of the CUDA engine's kernels."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn._kernels.contract import Chunk, Samples, State
from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.engine import CudaEngine
from fastnn._kernels.numba_cuda.runtime import plan
from fastnn._kernels.reference_engine import ReferenceEngine

PATHS = ("persistent", "cooperative", "graph", "large")
TOLERANCE = {"float64": 1e-12, "float32": 2e-5}  # of rounding, over a few steps

BLOCK = [
    fnn.Dense(6, "relu", l1=0.01, l2=0.02),
    fnn.BatchNorm(),
    fnn.Dropout(0.3),
    fnn.Residual([fnn.Dense(6, "gelu"), fnn.LayerNorm()]),
    fnn.GaussianNoise(0.1),
    fnn.Dense(3),
]
# What has a number for each column or category, and arrays with factors of their own.
TABLE = [
    fnn.Embedding([3, 40], 5, lr_factor=2.0, decay_factor=0.5),
    fnn.PiecewiseLinear([[-1.0, -0.2, 0.1, 0.9], [-2.0, 0.0]], 3, lr_factor=0.5),
    fnn.PiecewiseLinear([[-1.0, 0.0, 0.5, 1.0]], 2, decay_factor=0.5),
    fnn.Periodic(3, 0.3, 2, "plr", features=2, lr_factor=0.5),
    fnn.Periodic(2, 0.3, 2, features=3, decay_factor=2.0),
    fnn.Periodic(2, 0.3, 1, "plr", shared=True, features=2, decay_factor=0.5),
    fnn.Scale(lr_factor=6.0, decay_factor=2.0),
    fnn.Dense(6, fnn.Activation("mish", parametric=True, lr_factor=0.1), scaling="ntk", l2=0.1),
    fnn.Dropout(0.3),
    fnn.Residual([fnn.Scale(), fnn.Activation("selu", parametric=True)]),
    fnn.Dense(3, scaling="ntk", lr_factor=0.5, bias_lr_factor=0.1, decay_factor=0.3),
]
# Networks that share weights.
ENSEMBLE = [
    fnn.Dense(5, "gelu"),
    fnn.BatchEnsemble(
        3,
        [
            *(fnn.Dense(4, "relu", bias=False), fnn.Dropout(0.3)),
            fnn.Dense(6, fnn.Activation("selu", parametric=True), l2=0.1, max_norm=0.9),
            *(fnn.Activation("tanh"), fnn.Heads(3, decay_factor=0.5)),
        ],
        lr_factor=0.5,
    ),
]


def on_path(path, monkeypatch):
    """Make every program run on a path, however small it is."""
    device = type(open_device())
    if path in ("graph", "large"):
        monkeypatch.setattr(plan, "MAX_WIDTH", 0)
        monkeypatch.setattr(device, "multiprocessors", 3 if path == "graph" else 1)
    if path in ("cooperative", "graph"):
        monkeypatch.setattr(device, "warp_block", 64)
    if path == "cooperative":
        monkeypatch.setattr(device, "multiprocessors", 3)
        monkeypatch.setattr(plan, "SINGLE_BLOCK_OPERATIONS", 0)
        monkeypatch.setattr(plan, "ROWS_PER_BLOCK", 2)


def network(layers, loss="softmax_cross_entropy", dtype="float64", inputs=4):
    return fnn.Network(layers, inputs=inputs, loss=loss, dtype=dtype, backend="numpy", seed=5)


def samples_for(net, n, labels=False, weights=False):
    rng, dtype = np.random.default_rng(1), net.program.dtype
    X, k = rng.normal(size=(n, net.inputs)).astype(dtype), net.outputs
    for column, codes in enumerate(reversed(net.program.cardinalities), 1):
        X[:, -column] = rng.integers(0, codes, n)
    w = (rng.random(n) + 0.1).astype(dtype) if weights else None
    if labels:
        return Samples(X, labels=rng.integers(0, k, n), weights=w)
    return Samples(X, values=rng.random((n, k)).astype(dtype), weights=w)


def state_of(net, optimizer):
    slots = net.program.new_vectors(optimizer.n_slots)
    return State(net.state.theta.copy(), net.state.buffers.copy(), net.seed, slots, np.ones(1))


def assert_steps_agree(net, samples, optimizer, batch_size, every=0, epochs=1):
    """Both engines change and report the same over a few mini-batches, the last one short."""
    n, program = len(samples), net.program
    order = np.concatenate([np.random.default_rng(k).permutation(n) for k in range(epochs)])
    bounds = np.concatenate(
        [np.arange(k * n, (k + 1) * n, batch_size) for k in range(epochs)] + [[epochs * n]]
    )
    chunk = Chunk(
        order,
        bounds,
        np.linspace(0.05, 0.02, len(bounds) - 1),
        optimizer.record(),
        batch_size,
        every,
        optimizer.decays(0, len(bounds) - 1),
    )
    states = [state_of(net, optimizer) for _ in range(2)]
    logs = [
        make(program).train_steps(state, samples, chunk)
        for make, state in zip((ReferenceEngine, CudaEngine), states, strict=True)
    ]
    tolerance = TOLERANCE[program.dtype.name]
    for name in ("theta", "buffers", "slots", "mu_product"):
        assert_close(*(getattr(state, name) for state in states), tolerance, name)
    for name in ("losses", "weights", "correct_weight", "statistics"):
        assert_close(*(getattr(log, name) for log in logs), tolerance, name)
    assert [(state.step, state.optimizer_step) for state in states] == [(len(bounds) - 1,) * 2] * 2


def assert_close(expected, found, tolerance, what):
    assert expected.shape == found.shape, what
    if expected.size:
        np.testing.assert_allclose(
            found,
            expected,
            rtol=tolerance,
            atol=tolerance * max(1e-30, np.abs(expected).max()),
            err_msg=what,
        )


def assert_evaluations_agree(net, samples):
    """Outputs, loss and sums of weights."""
    expected, found = (
        make(net.program).evaluate(net.state, samples) for make in (ReferenceEngine, CudaEngine)
    )
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-12, atol=1e-14)
    for name in ("loss", "weight", "correct_weight"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12), name
