"""Where an array lies on the GPU, by DLPack or ``__cuda_array_interface__``."""

import ctypes
import math
from typing import Any, NamedTuple

import numpy as np

ANY_STREAM = -1
_KDL_CUDA, _KDL_CUDA_MANAGED = 2, 13
_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}  # DLDataTypeCode that NumPy has too


class DeviceArray(NamedTuple):
    """A C-contiguous array on the GPU."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype
    # The stream that writes it, or ANY_STREAM; None where there is nothing to wait for.
    stream: int | None
    owner: Any  # keeps the memory alive

    @property
    def n(self) -> int:
        return math.prod(self.shape)


def is_on_gpu(array: Any) -> bool:
    """Whether an array is on a GPU, by its own account; NumPy's are not."""
    return _interface(array) is not None or _has_dlpack(array)


def find(array: Any, stream: int) -> DeviceArray:
    """Where ``array`` lies.

    The caller must wait for `DeviceArray.stream`. With DLPack the producer of the array makes sure
    that work on ``stream`` finds it complete.

    Raises
    ------
    ValueError
        Not on a GPU, of a number type that NumPy lacks, or not C-contiguous.
    """
    described = _interface(array)
    found = _by_dlpack(array, stream) if described is None else _by_interface(array, described)
    if found is None:
        raise ValueError(
            f"{type(array).__name__} is no array on a GPU: "
            "it has neither __cuda_array_interface__ nor __dlpack__ for CUDA"
        )
    return found


# --- __cuda_array_interface__, versions 0 to 3 ----------------------------------------------------


def _interface(array: Any) -> dict | None:
    try:
        return getattr(array, "__cuda_array_interface__", None)
    # PyTorch raises for some tensors that require gradients or are sparse.
    except (RuntimeError, TypeError):
        return None


def _by_interface(array: Any, described: dict) -> DeviceArray:
    dtype = np.dtype(described["typestr"])
    shape = tuple(described["shape"])
    if described.get("mask") is not None:
        raise ValueError("a masked array on the GPU cannot be taken as it is")
    _check_order(shape, described.get("strides"), dtype.itemsize)
    # Version 3 names the stream that writes the array; before, as with PyTorch, it may be any.
    stream = described.get("stream") if described.get("version", 0) >= 3 else ANY_STREAM
    return DeviceArray(described["data"][0] or 0, shape, dtype, stream, array)


def _check_order(shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> None:
    """Raise unless elements lie in C order without gaps.

    ``strides`` are in bytes, or in elements where ``itemsize`` is 1.
    """
    expected = itemsize
    for length, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if length > 1 and stride != expected and math.prod(shape):
            raise ValueError("an array on the GPU must be C-contiguous: make a copy of it that is")
        expected *= length


# --- DLPack ---------------------------------------------------------------------------------------


class _Tensor(ctypes.Structure):
    """DLTensor, the beginning of what a capsule named "dltensor" points to."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _has_dlpack(array: Any) -> bool:
    device_of = getattr(array, "__dlpack_device__", None)
    return device_of is not None and device_of()[0] in (_KDL_CUDA, _KDL_CUDA_MANAGED)


def _by_dlpack(array: Any, stream: int) -> DeviceArray | None:
    if not _has_dlpack(array):
        return None
    capsule = array.__dlpack__(stream=stream)
    tensor = ctypes.cast(_capsule_pointer(capsule, b"dltensor"), ctypes.POINTER(_Tensor)).contents
    dtype = _dlpack_dtype(tensor)
    shape = tuple(tensor.shape[: tensor.ndim])
    _check_order(shape, tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None, 1)
    # The capsule frees the tensor when it is collected, as nobody has renamed it to take the tensor
    # over.
    return DeviceArray(
        (tensor.data or 0) + tensor.byte_offset, shape, dtype, None, (array, capsule)
    )


def _dlpack_dtype(tensor: _Tensor) -> np.dtype:
    if tensor.code not in _KINDS or tensor.lanes != 1 or tensor.bits % 8:
        raise ValueError(
            "an array on the GPU has a number type that NumPy lacks "
            f"(DLPack code {tensor.code}, {tensor.bits} bits)"
        )
    return np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")


def _capsule_pointer(capsule: Any, name: bytes) -> int:
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.restype, read.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return read(capsule, name)
