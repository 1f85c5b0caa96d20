"""Samples on the device: all of them where they fit, else streamed from the host piece by piece.

A piece is gathered on the host into pinned memory and copied while the device computes with the
piece before; two sets of buffers alternate. Random numbers depend on a sample's place in the
mini-batch and not on its place in memory, so both ways give the same bits.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._kernels.contract import Program, Samples
from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

PIECE_BYTES = 256 << 20  # of streamed samples at a time, at most
_MEMORY_FRACTION = 0.85  # of the free memory that fastnn uses at most
_RESIDENT_FRACTION = 0.8  # of the memory left that samples may take to be resident
_PIECES = 4  # pieces that the memory left has room for; two are allocated
PARTS = ("X", "labels", "targets", "weights")  # arrays of samples, by their names in the kernels


def memory_left(device: Any, taken: int) -> int:
    """Bytes of device memory that may still be used, where fastnn has taken so many.

    The limit is ``FASTNN_CUDA_MEMORY`` where it is set, and most of the free memory.
    """
    free, given = int(_MEMORY_FRACTION * device.free_memory()), os.environ.get("FASTNN_CUDA_MEMORY")
    if not given:
        return free
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"FASTNN_CUDA_MEMORY must be a number of bytes, not {given!r}")
    return min(free, int(given) - taken)


def parts_of(samples: Samples) -> dict[str, Any]:
    """The arrays that samples have, by their names in the kernels."""
    parts = {
        "X": samples.X,
        "labels": samples.labels,
        "targets": samples.values,
        "weights": samples.weights,
    }
    return {name: array for name, array in parts.items() if array is not None}


class SampleStore:
    """Arrays that are on the device, or that stay there once they are."""

    def __init__(self, device: Any):
        self._device = device
        # By an array's id: the array, its buffer once it has one, and how often it is kept.
        self._kept: dict[int, list] = {}
        self._streams: dict[tuple[int, ...], StreamedSamples] = {}  # by the ids of kept arrays

    def keep(self, arrays: Any) -> None:
        """From now on these stay on the device once they are there."""
        for array in arrays:
            self._kept.setdefault(id(array), [array, None, 0])[2] += 1

    def drop(self, arrays: Any) -> None:
        """The opposite of `keep`."""
        for array in arrays:
            entry = self._kept[id(array)]
            entry[2] -= 1
            if entry[2] == 0:
                del self._kept[id(array)]
                self._streams = {
                    ids: stream for ids, stream in self._streams.items() if id(array) not in ids
                }

    def open(
        self, parts: dict[str, Any], bytes_left: Callable[[], int], min_rows: int
    ) -> "ResidentSamples | StreamedSamples":
        """Resident samples where ``bytes_left()`` has room for them, else streamed ones.

        A piece of streamed samples has at least ``min_rows``.
        """
        ids = tuple(map(id, parts.values()))
        known = self._streams.get(ids)
        if known is not None and known.max_rows >= min_rows:
            return known
        missing = sum(
            array.nbytes
            for array in parts.values()
            if not isinstance(array, GpuArray) and self._buffer(array) is None
        )
        # Where X is on the GPU, the rest is small.
        on_gpu = missing == 0 or isinstance(parts["X"], GpuArray)
        if on_gpu or missing <= _RESIDENT_FRACTION * bytes_left():
            return ResidentSamples({name: self._upload(array) for name, array in parts.items()})
        stream = StreamedSamples(self._device, parts, bytes_left(), min_rows)
        if all(array_id in self._kept for array_id in ids):
            self._streams[ids] = stream
        return stream

    @property
    def nbytes(self) -> int:
        """Bytes in use on the device."""
        kept = sum(buffer.nbytes for _, buffer, _ in self._kept.values() if buffer is not None)
        return kept + sum(stream.nbytes for stream in self._streams.values())

    def _buffer(self, array):
        return self._kept.get(id(array), (None, None))[1]

    def _upload(self, array):
        if isinstance(array, GpuArray):
            return array.buffer
        buffer = self._buffer(array)
        if buffer is None:
            flat = np.asarray(array).reshape(-1)
            buffer = self._device.empty(flat.size, flat.dtype)
            self._device.upload(buffer, flat)
            if id(array) in self._kept:
                self._kept[id(array)][1] = buffer
        return buffer


class ResidentSamples:
    """Samples that are on the device, all of them."""

    max_rows = None  # of a piece: no limit

    def __init__(self, buffers: dict[str, Any]):
        self._buffers = buffers

    def prefetch(self, rows: Any) -> Any:
        """Begin to copy the samples ``rows``: an array of indices, or a slice."""
        return rows

    def acquire(self, rows: Any) -> tuple[dict[str, Any], Any]:
        """Buffers by name, and where in them the samples are that were passed to `prefetch`."""
        return self._buffers, rows


class StreamedSamples:
    """Samples that are copied piece by piece; methods as those of `ResidentSamples`.

    The buffers that `acquire` returns are valid until the second `prefetch` after their own.

    Parameters
    ----------
    device : Device
    parts : dict
        Arrays by name.
    bytes_left : int
        For both sets of buffers.
    min_rows : int
        Rows that a piece must hold.

    Raises
    ------
    MemoryError
        Where it cannot.
    """

    def __init__(self, device: Any, parts: dict[str, Any], bytes_left: int, min_rows: int):
        self._device, self._parts, self._current = device, parts, 0
        self._events: list[Any] = [None, None]
        row = sum(array[:1].nbytes for array in parts.values())
        piece = int(min(bytes_left // _PIECES, PIECE_BYTES) // row)
        self.max_rows = min(piece, len(next(iter(parts.values()))))
        if self.max_rows < min_rows:
            raise MemoryError(
                f"the GPU has no room for mini-batches of {min_rows} samples of {row} bytes each: "
                f"{max(bytes_left, 0)} bytes are left; "
                "lower batch_size, or raise FASTNN_CUDA_MEMORY if it is set"
            )
        self.nbytes = 2 * self.max_rows * row
        self._sets = [{name: self._allocate(array) for name, array in parts.items()} for _ in "ab"]

    def prefetch(self, rows: Any) -> Any:
        buffers, event = self._sets[self._current], self._events[self._current]
        if event is not None:
            event.synchronize()  # of a piece that was prefetched in vain
        n = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        for name, (pinned, buffer) in buffers.items():
            source = self._parts[name]
            width = pinned.size // self.max_rows
            target = pinned[: n * width].reshape(n, *source.shape[1:])
            if isinstance(rows, slice):
                target[...] = source[rows]
            else:
                # With mode "raise" NumPy would fill an array of its own first.
                np.take(source, rows, axis=0, out=target, mode="clip")
            event = self._device.upload_aside(buffer.view(0, n * width), pinned[: n * width])
        self._events[self._current] = event
        self._current = 1 - self._current
        return n, buffers, event

    def acquire(self, prefetched: Any) -> tuple[dict[str, Any], Any]:
        n, buffers, event = prefetched
        self._device.wait(event)
        return {name: buffer for name, (_, buffer) in buffers.items()}, np.arange(n)

    def _allocate(self, array):
        size = self.max_rows * (array[:1].size)
        return self._device.pinned(size, array.dtype), self._device.empty(size, array.dtype)


def empty_parts(device: Any, program: Program) -> dict[str, Any]:
    """Buffers for the arrays that samples lack."""
    return {
        name: device.empty(0, np.dtype(np.int64) if name == "labels" else program.dtype)
        for name in PARTS
    }
