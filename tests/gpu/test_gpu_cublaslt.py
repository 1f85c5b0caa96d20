"""cuBLASLt's products on the GPU: transposed operands, epilogues, accumulation, in a graph."""

import contextlib

import numpy as np
import pytest

pytestmark = pytest.mark.real
SHAPES = [
    (256, 784, 1024),
    (256, 1024, 1024),
    (37, 129, 261),
    (1, 300, 10),
    (1000, 17, 3),
    (4096, 512, 640),
]
LIMITS = {"float32": 2e-6, "tf32": 2e-3, "bf16": 1e-2, "float64": 1e-14}


@pytest.fixture(params=LIMITS)
def products(request):
    from fastnn._kernels.numba_cuda.driver.device import open_device
    from fastnn._kernels.numba_cuda.runtime import cublaslt

    if reason := cublaslt.unavailable_reason():
        pytest.skip(f"large products are made without cuBLASLt here: {reason}")
    return cublaslt.CublasLt(open_device(), request.param)


def put(products, array):
    buffer = products.device.empty(array.size, array.dtype)
    products.device.upload(buffer, array.reshape(-1))
    return buffer


def close(products, buffer, expected, terms):
    """Errors relative to what numbers of that size, summed up, can reach."""
    found = products.device.download(buffer).reshape(expected.shape)
    assert np.linalg.norm(found - expected) <= LIMITS[products.precision] * max(
        np.linalg.norm(expected), 1e-30
    ) * max(1, terms**0.25)


@contextlib.contextmanager
def lacking(products, has_epilogue):
    """Let float64 lack epilogues, which the engine does not use; products must have algorithms."""
    from fastnn._kernels.numba_cuda.runtime.cublaslt import NoAlgorithm

    try:
        yield
    except NoAlgorithm:
        if products.precision != "float64" or not has_epilogue:
            raise


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("flag", [False, True])
def test_products(products, shape, flag):
    rows, n_in, n_out = shape
    rng, stream, size = np.random.default_rng(0), products.device.stream, (rows, n_in, n_out)
    x, w, d_z, bias, d_x = (
        rng.normal(size=s).astype(products.dtype)
        for s in ((rows, n_in), (n_in, n_out), (rows, n_out), n_out, (rows, n_in))
    )
    X, W, DZ, B, DX = (put(products, array) for array in (x, w, d_z, bias, d_x))
    Z, DW, DB = (
        products.device.zeros(n, products.dtype) for n in (rows * n_out, n_in * n_out, n_out)
    )
    x, w, d_z, bias, d_x = (array.astype(np.float64) for array in (x, w, d_z, bias, d_x))
    for pointer, added in ((0, 0), (B.pointer, bias)):
        arguments = X.pointer, W.pointer, pointer, Z.pointer, size, flag
        with lacking(products, bool(pointer or flag)):
            products.forward(*arguments, stream)
            close(products, Z, np.maximum(x @ w + added, 0) if flag else x @ w + added, n_in)
    products.input_gradient(DZ.pointer, W.pointer, DX.pointer, size, flag, stream)
    close(products, DX, d_z @ w.T + (d_x if flag else 0), n_out)
    products.weight_gradient(X.pointer, DZ.pointer, DW.pointer, size, 0, stream)
    close(products, DW, x.T @ d_z, rows)
    arguments = X.pointer, DZ.pointer, DW.pointer, size, DB.pointer
    with lacking(products, True):
        products.weight_gradient(*arguments, stream)
        close(products, DW, x.T @ d_z, rows)
        close(products, DB, d_z.sum(axis=0), rows)


def test_products_in_a_graph(products):
    rows, n_in, n_out = 300, 200, 150
    rng, device = np.random.default_rng(0), products.device
    x, w = (
        rng.normal(size=(rows, n_in)).astype(products.dtype),
        rng.normal(size=(n_in, n_out)).astype(products.dtype),
    )
    X, W, Z, DX = (
        put(products, x),
        put(products, w),
        device.zeros(rows * n_out, products.dtype),
        device.zeros(rows * n_in, products.dtype),
    )

    def work():
        products.forward(
            X.pointer, W.pointer, 0, Z.pointer, (rows, n_in, n_out), False, device.stream
        )
        products.input_gradient(
            Z.pointer, W.pointer, DX.pointer, (rows, n_in, n_out), True, device.stream
        )

    work()
    graph = device.record(work)
    device.fill_zero(DX)
    graph.launch(73)
    close(products, DX, 73 * (x.astype(np.float64) @ w @ w.T), 200)


def test_the_same_bits(products):
    rows, n_in, n_out = 1024, 784, 512
    rng, device = np.random.default_rng(0), products.device
    X, DZ = (
        put(products, rng.normal(size=shape).astype(products.dtype))
        for shape in ((rows, n_in), (rows, n_out))
    )
    DW, found = device.zeros(n_in * n_out, products.dtype), []
    for _ in range(20):
        products.weight_gradient(
            X.pointer, DZ.pointer, DW.pointer, (rows, n_in, n_out), 0, device.stream
        )
        found.append(device.download(DW).tobytes())
    assert len(set(found)) == 1
