"""Arrays that are on the GPU already, by either protocol, without a copy."""

import ctypes
import gc

import numpy as np
import pytest

from fastnn._kernels.numba_cuda.driver import array_interface


class Interface:
    """An array with ``__cuda_array_interface__``."""

    def __init__(self, buffer, shape, **changes):
        self._buffer = buffer
        described = {
            "data": (buffer.pointer, False),
            "shape": shape,
            "typestr": buffer.dtype.str,
            "version": 3,
            "strides": None,
        }
        self.__cuda_array_interface__ = described | changes


class Capsule:
    """An array with DLPack."""

    def __init__(self, buffer, shape, strides=None, code=2, device=(2, 0), offset=0):
        self._buffer, self._device, self.freed, self.stream = buffer, device, [], None
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._strides = None if strides is None else (ctypes.c_int64 * len(strides))(*strides)
        tensor = array_interface._Tensor()
        tensor.data, tensor.device_type, tensor.device_id, tensor.ndim = (
            buffer.pointer,
            *device,
            len(shape),
        )
        tensor.code, tensor.bits, tensor.lanes, tensor.byte_offset = (
            code,
            8 * buffer.dtype.itemsize,
            1,
            offset,
        )
        tensor.shape = ctypes.cast(self._shape, type(tensor.shape))
        tensor.strides = ctypes.cast(self._strides, type(tensor.strides))
        self._tensor = tensor

    def __dlpack_device__(self):
        return self._device

    def __dlpack__(self, stream=None):
        self.stream = stream
        make = ctypes.pythonapi.PyCapsule_New
        make.restype, make.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return make(ctypes.addressof(self._tensor), b"dltensor", None)


@pytest.fixture
def buffer(device):
    buffer = device.empty(6, np.float32)
    device.upload(buffer, np.arange(6, dtype=np.float32))
    device.synchronize()
    return buffer


@pytest.mark.parametrize("kind", [Interface, Capsule])
def test_an_array_is_taken_as_it_is(device, buffer, kind):
    array = kind(buffer, (2, 3))
    assert array_interface.is_on_gpu(array)
    taken = device.unowned_view(array)
    assert (taken.pointer, taken.n, taken.dtype) == (buffer.pointer, 6, np.float32)
    del array, buffer
    gc.collect()
    device.synchronize()
    np.testing.assert_array_equal(device.download(taken), np.arange(6))


@pytest.mark.parametrize(
    ("changes", "waits"),
    [
        ({"stream": None}, {}),
        ({}, {}),
        ({"stream": 1}, {"cuStreamSynchronize": 1}),
        ({"stream": 2}, {"cuStreamSynchronize": 1}),
        ({"version": 2}, {"cuCtxSynchronize": 1}),
        ({"strides": (12, 4)}, {}),
    ],
)
def test_what_is_waited_for(device, fake, buffer, changes, waits):
    calls = ("cuStreamSynchronize", "cuCtxSynchronize")
    before = {name: fake.count(name) for name in calls}
    device.unowned_view(Interface(buffer, (2, 3), **changes))
    assert {
        name: fake.count(name) - before[name] for name in calls if fake.count(name) > before[name]
    } == waits


def test_dlpack_is_told_the_stream(device, buffer):
    array = Capsule(buffer.view(1, 5), (2, 2), strides=(2, 1), offset=4)
    taken = device.unowned_view(array)
    assert array.stream == device.stream
    np.testing.assert_array_equal(device.download(taken), [2, 3, 4, 5])


REFUSED = {
    "strides": (lambda buffer: Interface(buffer, (3, 2), strides=(4, 12)), "C-contiguous"),
    "strides of a capsule": (
        lambda buffer: Capsule(buffer, (3, 2), strides=(1, 3)),
        "C-contiguous",
    ),
    "a mask": (lambda buffer: Interface(buffer, (6,), mask=object()), "masked"),
    "bfloat16": (lambda buffer: Capsule(buffer, (6,), code=4), "DLPack code 4, 32 bits"),
    "a capsule of the CPU": (
        lambda buffer: Capsule(buffer, (6,), device=(1, 0)),
        "Capsule is no array on a GPU",
    ),
    "NumPy's": (lambda buffer: np.zeros(3), "ndarray is no array on a GPU"),
    "a list": (lambda buffer: [1, 2], "list is no array on a GPU"),
}


@pytest.mark.parametrize(("make", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(device, buffer, make, problem):
    with pytest.raises(ValueError, match=problem):
        device.unowned_view(make(buffer))


@pytest.mark.parametrize("array", [np.zeros(3), [1], 1.0, None])
def test_what_is_not_on_a_gpu(array):
    assert not array_interface.is_on_gpu(array)


def test_strides_of_nothing_do_not_matter(device, buffer):
    assert device.unowned_view(Interface(buffer, (0, 3), strides=(4, 4))).n == 0
    assert device.unowned_view(Interface(buffer, (6, 1), strides=(4, 99))).n == 6
