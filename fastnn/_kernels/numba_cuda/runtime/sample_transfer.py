"""Samples on the device: all of them where they fit, else piece by piece in the order in which they
are used.

A piece is gathered on the host into memory that the device reads by itself, and copied while the
piece before is computed. Two places take turns. Nothing random depends on where a sample lies, only
on its place in the mini-batch, so both ways give the same bits.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._kernels.contract import Program, Samples
from fastnn._kernels.numba_cuda.driver.gpu_arrays import GpuArray

PIECE_BYTES = 256 << 20  # of samples that travel at a time, at most
_SHARE = 0.85  # of the free memory that fastnn takes at most
_ONES_SHARE = 0.8  # of what is left that samples take to stay
_PIECES = 4  # pieces that what is left has room for: two take turns
PARTS = ("X", "labels", "targets", "weights")  # of samples, by their names in the frame


def memory_left(device: Any, taken: int) -> int:
    """Bytes of device memory to use still: what ``FASTNN_CUDA_MEMORY`` leaves of so many that are
    taken, or most of what is free.
    """
    free, given = int(_SHARE * device.free_memory()), os.environ.get("FASTNN_CUDA_MEMORY")
    if not given:
        return free
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"FASTNN_CUDA_MEMORY must be a number of bytes, not {given!r}")
    return min(free, int(given) - taken)


def parts_of(samples: Samples) -> dict[str, Any]:
    """The arrays of samples by their names in the frame, those that there are."""
    parts = {
        "X": samples.X,
        "labels": samples.labels,
        "targets": samples.values,
        "weights": samples.weights,
    }
    return {name: array for name, array in parts.items() if array is not None}


class Store:
    """Arrays that are on the device, or are to stay there once they are."""

    def __init__(self, device: Any):
        self._device = device
        # by an array's id: the array; its buffer, once it has one; by how many it is kept
        self._kept: dict[int, list] = {}
        self._streams: dict[tuple[int, ...], Stream] = {}  # by the ids of kept arrays

    def keep(self, arrays: Any) -> None:
        """From now on these stay once they are there."""
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
                    ids: feed for ids, feed in self._streams.items() if id(array) not in ids
                }

    def feed(
        self, parts: dict[str, Any], room: Callable[[], int], least_rows: int
    ) -> "Stay | Stream":
        """The way to the device for the arrays of samples, if there are ``room()`` bytes left and
        so many rows are wanted at once.
        """
        ids = tuple(map(id, parts.values()))
        known = self._streams.get(ids)
        if known is not None and known.most_rows >= least_rows:
            return known
        missing = sum(
            array.nbytes
            for array in parts.values()
            if not isinstance(array, GpuArray) and self._buffer(array) is None
        )
        # beside X the rest is small
        if missing == 0 or isinstance(parts["X"], GpuArray) or missing <= _ONES_SHARE * room():
            return Stay({name: self._place(array) for name, array in parts.items()})
        feed = Stream(self._device, parts, room(), least_rows)
        if all(array_id in self._kept for array_id in ids):
            self._streams[ids] = feed
        return feed

    @property
    def nbytes(self) -> int:
        """Taken on the device."""
        kept = sum(buffer.nbytes for _, buffer, _ in self._kept.values() if buffer is not None)
        return kept + sum(feed.nbytes for feed in self._streams.values())

    def _buffer(self, array):
        return self._kept.get(id(array), (None, None))[1]

    def _place(self, array):
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


class Stay:
    """Samples that are on the device, all of them."""

    most_rows = None  # of a piece

    def __init__(self, buffers: dict[str, Any]):
        self._buffers = buffers

    def bring(self, rows: Any) -> Any:
        """Begin to fetch the samples ``rows``: an array of numbers, or a slice."""
        return rows

    def use(self, rows: Any) -> tuple[dict[str, Any], Any]:
        """Buffers by name, and the places in them of the samples that `bring` was asked for."""
        return self._buffers, rows


class Stream:
    """Samples that travel. What `use` gives is good until the second call of `bring` after that for
    them.

    Parameters
    ----------
    device : Device
    parts : dict
        Arrays by name.
    room : int
        Bytes for the two places.
    least_rows : int
        A piece must hold.

    Raises
    ------
    MemoryError
        Where it cannot.
    """

    def __init__(self, device: Any, parts: dict[str, Any], room: int, least_rows: int):
        self._device, self._parts, self._turn, self._events = device, parts, 0, [None, None]
        row = sum(array[:1].nbytes for array in parts.values())
        self.most_rows = min(
            int(min(room // _PIECES, PIECE_BYTES) // row), len(next(iter(parts.values())))
        )
        if self.most_rows < least_rows:
            raise MemoryError(
                f"the GPU has no room for mini-batches of {least_rows} samples of {row} bytes each: {max(room, 0)} bytes are left; "
                "lower batch_size, or raise FASTNN_CUDA_MEMORY if it is set"
            )
        self.nbytes = 2 * self.most_rows * row
        self._places = [
            {name: self._place(array) for name, array in parts.items()} for _ in range(2)
        ]

    def bring(self, rows: Any) -> Any:
        place, event = self._places[self._turn], self._events[self._turn]
        if event is not None:
            event.synchronize()  # of a piece that was fetched in vain
        n = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        for name, (pinned, buffer) in place.items():
            source = self._parts[name]
            width = pinned.size // self.most_rows
            target = pinned[: n * width].reshape(n, *source.shape[1:])
            if isinstance(rows, slice):
                target[...] = source[rows]
            else:
                # "raise" would fill an array of its own first
                np.take(source, rows, axis=0, out=target, mode="clip")
            event = self._device.upload_aside(buffer.view(0, n * width), pinned[: n * width])
        self._events[self._turn] = event
        self._turn = 1 - self._turn
        return n, place, event

    def use(self, ahead: Any) -> tuple[dict[str, Any], Any]:
        n, place, event = ahead
        self._device.wait(event)
        return {name: buffer for name, (_, buffer) in place.items()}, np.arange(n)

    def _place(self, array):
        size = self.most_rows * (array[:1].size)
        return self._device.pinned(size, array.dtype), self._device.empty(size, array.dtype)


def empty_parts(device: Any, program: Program) -> dict[str, Any]:
    """Buffers for what samples lack."""
    return {
        name: device.empty(0, np.dtype(np.int64) if name == "labels" else program.dtype)
        for name in PARTS
    }
