"""Checks of arrays that are copied to a buffer or from it."""

from typing import Any

import numpy as np


def as_contents(buffer: Any, array: np.ndarray) -> np.ndarray:
    """An array as a vector in C order, checked to match a buffer's size and type."""
    if array.size != buffer.n or array.dtype != buffer.dtype:
        raise ValueError(
            f"{array.size} elements of {array.dtype} for a buffer of {buffer.n} of {buffer.dtype}"
        )
    return np.ascontiguousarray(array).reshape(-1)


def as_target(buffer: Any, array: np.ndarray | None) -> np.ndarray:
    """An array that receives a buffer's contents: a new vector, or the one given, checked."""
    if array is None:
        return np.empty(buffer.n, buffer.dtype)
    if array.size != buffer.n or array.dtype != buffer.dtype or not array.flags.c_contiguous:
        raise ValueError(
            f"an array of {array.size} of {array.dtype} for a buffer of {buffer.n} of "
            f"{buffer.dtype}, or not C-contiguous"
        )
    return array
