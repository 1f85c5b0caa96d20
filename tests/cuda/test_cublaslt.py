"""Products by cuBLASLt, on a stand-in for the library that follows its rules on host memory."""

import contextlib
import gc
import importlib
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, __file__.rpartition("/")[0])  # the stand-in lies beside this file

import fake_cublaslt as fake

from fastnn._kernels.numba_cuda.runtime import cublaslt

STREAM = 0x57
sizes = st.integers(1, 19)


class Buffer:
    """Host memory in place of a device's."""

    def __init__(self, n, dtype):
        raw = np.zeros(n * np.dtype(dtype).itemsize + 256, np.uint8)
        self.array = raw[-raw.ctypes.data % 256 :][: n * np.dtype(dtype).itemsize].view(dtype)
        self.pointer = self.array.ctypes.data


class Device:
    def __init__(self, compute_capability=(9, 0)):
        self.compute_capability, self.allocated, self.working = (
            compute_capability,
            [],
            contextlib.nullcontext,
        )

    def empty(self, n, dtype):
        self.allocated.append(n * np.dtype(dtype).itemsize)
        return Buffer(n, dtype)


@pytest.fixture
def library(monkeypatch):
    made = fake.Library()
    monkeypatch.setattr(cublaslt, "_library", lambda: made)
    handle = made.create()
    monkeypatch.setattr(cublaslt, "_handle", lambda: handle)
    return made


def matrix(shape, dtype, seed, skip=0):
    """Random numbers, row by row, ``skip`` elements into an aligned buffer."""
    n = int(np.prod(shape))
    buffer = Buffer(n + skip, dtype)
    found = buffer.array[skip:].reshape(shape)
    found[:] = np.random.default_rng(seed).normal(size=shape)
    return found


def close(found, expected, dtype):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 if dtype == "float32" else 1e-12)


def address(array):
    return 0 if array is None else array.ctypes.data


@pytest.mark.parametrize("precision", cublaslt.PRECISIONS)
def test_products_are_those_of_numpy(library, precision):
    products, dtype = cublaslt.CublasLt(Device(), precision), cublaslt.PRECISIONS[precision][0]

    @settings(max_examples=60)
    @given(sizes, sizes, sizes, st.booleans(), st.booleans(), st.integers(0, 9), st.integers(0, 9))
    def check(rows, n_in, n_out, has_bias, flag, skip, other_skip):
        shape = rows, n_in, n_out
        x, w = matrix((rows, n_in), dtype, 1, skip), matrix((n_in, n_out), dtype, 2, other_skip)
        d_z, bias = (
            matrix((rows, n_out), dtype, 3, other_skip),
            matrix(n_out, dtype, 4, skip) if has_bias else None,
        )
        z = np.full((rows, n_out), np.nan, dtype)  # what is not added to is not read either
        products.forward(address(x), address(w), address(bias), address(z), shape, flag, STREAM)
        expected = x @ w + (bias if has_bias else 0)
        close(z, np.maximum(expected, 0) if flag else expected, dtype)
        d_x = matrix((rows, n_in), dtype, 5) if flag else np.full((rows, n_in), np.nan, dtype)
        expected = d_z @ w.T + (d_x if flag else 0)
        products.input_gradient(address(d_z), address(w), address(d_x), shape, flag, STREAM)
        close(d_x, expected, dtype)
        d_w, d_bias = (
            np.full((n_in, n_out), np.nan, dtype),
            np.full(n_out, np.nan, dtype) if has_bias else None,
        )
        products.weight_gradient(
            address(x), address(d_z), address(d_w), shape, address(d_bias), STREAM
        )
        close(d_w, x.T @ d_z, dtype)
        if has_bias:
            close(d_bias, d_z.sum(axis=0), dtype)

    check()
    assert {(compute, stream) for compute, _, stream in library.seen} == {
        (cublaslt.PRECISIONS[precision][1], STREAM)
    }
    kinds = {
        fake.Epilogue.DEFAULT,
        fake.Epilogue.BIAS,
        fake.Epilogue.RELU,
        fake.Epilogue.RELU_BIAS,
        fake.Epilogue.BGRADA,
    }
    assert {epilogue for _, epilogue, _ in library.seen} == kinds


def test_a_shape_is_planned_once(library):
    """What later calls do can be captured: they make nothing, and ask for no memory."""
    device = Device()
    products = cublaslt.CublasLt(device, "float32")
    x, w, bias, z = (matrix(shape, "float32", 0) for shape in ((6, 4), (4, 3), 3, (6, 3)))
    other = matrix(3, "float32", 7)
    arguments = (address(x), address(w), address(bias), address(z), (6, 4, 3), False)
    products.forward(*arguments, STREAM)
    assert (library.heuristics, library.products) == (1, 1)
    before, memory = len(library.objects), list(device.allocated)
    for b in (bias, other, bias):
        products.forward(address(x), address(w), address(b), address(z), (6, 4, 3), False, STREAM)
        close(z, x @ w + b, "float32")
    assert (library.heuristics, library.products) == (1, 4)
    assert len(library.objects) == before
    assert device.allocated == memory
    products.forward(address(x), address(w), address(bias), address(z), (5, 4, 3), False, STREAM)
    assert library.heuristics == 2


def test_a_pointer_aligned_less_has_a_plan_of_its_own(library):
    products = cublaslt.CublasLt(Device(), "float32")
    x, w, z = (
        matrix((6, 4), "float32", 0),
        matrix((4, 3), "float32", 1),
        matrix((6, 3), "float32", 2),
    )
    odd = matrix((4, 3), "float32", 1, skip=1)
    for weight in (w, odd, w):
        products.forward(address(x), address(weight), 0, address(z), (6, 4, 3), False, STREAM)
        close(z, x @ w, "float32")
    assert library.heuristics == 2


def test_what_was_made_is_freed(library):
    before = len(library.objects)
    products = cublaslt.CublasLt(Device(), "float32")
    x, w, z = (
        matrix((6, 4), "float32", 0),
        matrix((4, 3), "float32", 1),
        matrix((6, 3), "float32", 2),
    )
    products.forward(address(x), address(w), 0, address(z), (6, 4, 3), False, STREAM)
    assert len(library.objects) > before
    del products
    gc.collect()
    assert len(library.objects) == before


@pytest.mark.parametrize(
    ("capability", "mebibytes"), [((7, 5), 4), ((8, 9), 4), ((9, 0), 32), ((10, 0), 32)]
)
def test_one_workspace(library, capability, mebibytes):
    device = Device(capability)
    cublaslt.CublasLt(device, "float64")
    assert device.allocated == [mebibytes << 20]


def test_what_the_library_cannot_do_is_said(library):
    library.refuses = (fake.Epilogue.BGRADA,)
    products = cublaslt.CublasLt(Device(), "float64")
    x, d_z, d_w = (
        matrix((6, 4), "float64", 0),
        matrix((6, 3), "float64", 1),
        matrix((4, 3), "float64", 2),
    )
    d_bias = matrix(3, "float64", 3)
    products.weight_gradient(address(x), address(d_z), address(d_w), (6, 4, 3), 0, STREAM)
    with pytest.raises(cublaslt.NoAlgorithm, match="epilogue 256 is not supported"):
        products.weight_gradient(
            address(x), address(d_z), address(d_w), (6, 4, 3), address(d_bias), STREAM
        )


def test_an_unknown_precision_is_refused(library):
    with pytest.raises(ValueError, match="float32, tf32, bf16, float64"):
        cublaslt.CublasLt(Device(), "half")


def test_why_it_cannot_run(monkeypatch):
    def fails(error):
        def load():
            raise error

        monkeypatch.setattr(cublaslt, "_library", load)
        return cublaslt.unavailable_reason()

    assert "pip install 'fastnn[cuda]'" in fails(ModuleNotFoundError("No module named 'nvmath'"))
    assert fails(RuntimeError("no libcublasLt.so.13\n  in many places")).startswith(
        "cuBLASLt does not load (no libcublasLt.so.13):"
    )
    with pytest.raises(RuntimeError, match="does not load"):
        cublaslt.CublasLt(Device(), "float32")
    monkeypatch.setattr(cublaslt, "_library", lambda: fake.Library(version=110000))
    assert "too old" in cublaslt.unavailable_reason()
    monkeypatch.setattr(cublaslt, "_library", fake.Library)
    assert cublaslt.unavailable_reason() is None


def test_the_stand_in_speaks_as_the_binding_does():
    """Its constants, and those that `cublaslt` writes out, are the binding's."""
    binding, cublas = (
        pytest.importorskip(f"nvmath.bindings.{name}") for name in ("cublasLt", "cublas")
    )
    for name in ("Epilogue", "MatmulDescAttribute", "MatmulPreferenceAttribute"):
        for member in getattr(fake, name):
            assert int(getattr(binding, name)[member.name]) == member
    for attributes, dtype_of, kinds in (
        (fake.MatmulDescAttribute, binding.get_matmul_desc_attribute_dtype, fake._DESC),
        (
            fake.MatmulPreferenceAttribute,
            binding.get_matmul_preference_attribute_dtype,
            fake._PREFERENCE,
        ),
    ):
        for attribute in attributes:
            assert (
                np.dtype(dtype_of(int(attribute))).itemsize == np.dtype(kinds[attribute]).itemsize
            )
    assert binding.matmul_heuristic_result_dtype == fake.matmul_heuristic_result_dtype
    types = {
        "float32": "COMPUTE_32F",
        "tf32": "COMPUTE_32F_FAST_TF32",
        "bf16": "COMPUTE_32F_FAST_16BF",
        "float64": "COMPUTE_64F",
    }
    for precision, (_, compute) in cublaslt.PRECISIONS.items():
        assert int(cublas.ComputeType[types[precision]]) == compute
    assert (int(cublas.Operation.N), int(cublas.Operation.T)) == (
        cublaslt._PLAIN,
        cublaslt._TRANSPOSED,
    )
    assert int(binding.ReductionScheme.INPLACE) & cublaslt._REDUCTIONS == 0
    assert importlib.import_module("nvmath.bindings.cublasLt").cuBLASLtError
