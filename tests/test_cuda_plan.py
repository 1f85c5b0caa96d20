"""The plans of the CUDA engine: what it launches for which network. They need no GPU."""

import itertools

import numpy as np
import pytest

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.numba_cuda.driver.launch import Gemm, Launch
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.runtime.plan import Limits, Plan

HOPPER = Limits(multiprocessors=132, shared_per_block=227 << 10, block=256)
TURING = Limits(multiprocessors=40, shared_per_block=64 << 10, block=256)
NO_UPDATE = np.zeros(1, opcodes.OPTIMIZER)
NO_UPDATE["code"] = opcodes.NO_UPDATE


def plan(sizes, limits=HOPPER, cublaslt=False, **options):
    return Plan(fnn.mlp(sizes, backend="numpy", **options).program, limits, cublaslt)


def names(launches):
    return [launch.kernel if isinstance(launch, Launch) else launch.kind for launch in launches]


@pytest.mark.parametrize(
    ("sizes", "rows", "path", "blocks", "in_shared"),
    [
        ([784, 30, 10], 10, "persistent", 1, (1, 1)),
        ([16, 16, 2], 32, "persistent", 1, (1, 1)),
        ([32, 64, 64, 10], 256, "persistent", 16, (1, 0)),
        ([784, *[64] * 50, 10], 128, "persistent", 32, (0, 0)),
        ([784, 256, 128, 10], 128, "graph", None, (0, 0)),
        ([784, 2048, 2048, 10], 4096, "graph", None, (0, 0)),
    ],
)
def test_narrow_networks_take_one_kernel(sizes, rows, path, blocks, in_shared):
    made = plan(sizes)
    launches = made.train(fnn.Adam().record(), rows, 0)
    assert made.path == path
    assert tuple(made.control(rows).values()) == in_shared
    if path == "persistent":
        assert [(launch.kernel, launch.grid, launch.cooperative) for launch in launches] == [
            ("train", blocks, blocks > 1)
        ]


def test_less_shared_memory_holds_less():
    assert plan([784, 30, 10], TURING).control(10) == {
        control.THETA_IN_SHARED: 0,
        control.WORK_IN_SHARED: 0,
    }
    assert plan([16, 16, 2], TURING).control(32) == {
        control.THETA_IN_SHARED: 1,
        control.WORK_IN_SHARED: 1,
    }


@pytest.mark.parametrize("limits", [HOPPER, TURING], ids=["hopper", "turing"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes", [[4, 3], [784, 30, 10], [32, 64, 64, 10], [100, 128, 128, 128, 10], [3000, 128, 2]]
)
def test_dynamic_shared_memory_fits_beside_the_kernels_own(sizes, dtype, limits):
    """16 sums, one number, a double and an integer for each of 256 threads."""
    item = np.dtype(dtype).itemsize
    for rows in (1, 10, 1000):
        for launch in plan(sizes, limits, dtype=dtype).train(fnn.Adam().record(), rows, 0):
            assert launch.shared + 256 * (17 * item + 16) <= limits.shared_per_block
            assert launch.grid >= 1


def test_blocks_of_a_cooperative_grid_run_at_once():
    for rows in (1, 64, 100_000):
        for launch in plan([784, 128, 128, 10]).train(fnn.Adam().record(), rows, 0):
            assert launch.grid <= HOPPER.multiprocessors


def test_a_step_of_a_wide_network():
    made, adam = plan([784, 256, 10], batch_norm=True), fnn.Adam().record()
    batch_norm = ["batch_statistics", "operation_forward"]
    forward = ["load", "gemm_forward", *batch_norm, "gemm_forward"]
    backward = ["gemm_input", "batch_sums", "operation_backward"]
    step = [*forward, "loss", "log_step", *backward]
    clipping = fnn.Adam(clip_norm=1.0).record()
    assert names(made.train(clipping, 128, 0)) == [
        *step,
        "all_gradients",
        "gradient_norm",
        "apply_updates",
    ]
    assert names(made.train(adam, 128, 0)) == [*step, "all_gradients"]
    assert names(made.train(adam, 128, 5)) == [
        *step,
        "record_statistics",
        "all_gradients",
        "apply_updates",
    ]
    assert names(made.train(NO_UPDATE, 128, 0)) == [*step, "all_gradients"]
    assert names(made.predict(1000)) == [*forward, "write_predictions"]
    assert names(made.predict(1000, evaluates=True)) == [*forward, "write_predictions", "losses"]
    narrow = plan([784, 64, 10], batch_norm=True)
    assert names(narrow.predict(1000)) == ["batch_statistics", "predict"]
    assert names(narrow.predict(1000, evaluates=True)) == ["batch_statistics", "evaluate"]


def test_derivatives_are_fused_where_gradients_are_written():
    """Where a dense operation alone writes a gradient, it multiplies by the derivative.

    Where a residual block adds to the gradient, it cannot.
    """
    sgd = fnn.SGD().record()
    dense = plan([784, 256, 256, 10], activation="gelu")
    assert "epilogue_backward" not in names(dense.train(sgd, 64, 0))
    blocks = plan([784, 256, 256, 256, 10], activation="tanh", residual=True)
    assert names(blocks.train(sgd, 64, 0)).count("epilogue_backward") == 3


def test_constraints_have_launches_of_their_own():
    layers = [fnn.Dense(256, "relu", max_norm=2.0), fnn.Dense(10)]
    made = Plan(fnn.Network(layers, inputs=784, loss="mse", backend="numpy").program, HOPPER)
    assert [(launch.kernel, launch.index) for launch in made.train(fnn.SGD().record(), 64, 0)][
        -1
    ] == ("constrain", 0)
    assert "constrain" not in names(made.train(NO_UPDATE, 64, 0))


def test_large_products_go_to_cublaslt():
    launches = plan([784, 2048, 2048, 100], cublaslt=True).train(fnn.Adam().record(), 4096, 0)
    products = [launch for launch in launches if isinstance(launch, Gemm)]
    assert [(product.kind, product.index) for product in products] == [
        *(("forward", 0), ("forward", 1), ("forward", 2)),
        *(("input", 2), ("input", 1)),
        *(("weight", 0), ("weight", 1), ("weight", 2)),
    ]
    # The bias before an activation is left to the epilogue.
    assert [product.adds_bias for product in products[:3]] == [False, False, True]
    after = {"forward": "operation_forward", "input": "input_epilogue", "weight": "weight_epilogue"}
    for product, following in itertools.pairwise(launches):
        if isinstance(product, Gemm) and not product.adds_bias:
            assert (following.kernel, following.index) == (after[product.kind], product.index)
    small = plan([784, 256, 10], cublaslt=True).train(fnn.Adam().record(), 128, 0)
    assert not any(isinstance(launch, Gemm) for launch in small)


def test_rows_to_predict_come_in_passes():
    narrow, wide = plan([784, 64, 10]), plan([784, 256, 10])
    assert (narrow.rows_per_pass(10**6), narrow.workspace_rows(10**6)) == (10**6, 132 * 16)
    assert (wide.rows_per_pass(10**6), wide.workspace_rows(10**6)) == (4096, 4096)
    assert narrow.workspace_rows(1) == 16
    assert wide.workspace_rows(1) == 1
