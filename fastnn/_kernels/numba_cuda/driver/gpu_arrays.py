"""The type of `Samples.X` where a user's array is on the GPU already."""

from typing import Any

import numpy as np

from fastnn._kernels.numba_cuda.driver.device import Buffer, open_device

_BLOCK_BYTES = 64 << 20  # copied to the host at a time


class GpuArray:
    """A C-contiguous array on the GPU with NumPy's attributes; its rows are NumPy arrays.

    Parameters
    ----------
    owner : object
        An array of any library, with ``__cuda_array_interface__`` or ``__dlpack__``.
    name : str
        Its name in error messages.

    Raises
    ------
    TypeError, ValueError
        The array cannot be read where it lies.
    """

    def __init__(self, owner: Any, name: str):
        self.owner: Any = owner
        self._device = open_device()
        try:
            self.buffer: Buffer = self._device.unowned_view(owner)
            self.shape: tuple[int, ...] = tuple(map(int, owner.shape))
        except (ValueError, TypeError, BufferError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} cannot be read where it lies on the GPU: {error}") from error
        self.dtype: np.dtype = np.dtype(self.buffer.dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.buffer.nbytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        rows = np.arange(len(self))[rows]
        width = self.buffer.n // max(len(self), 1)
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        step = max(1, _BLOCK_BYTES // max(width * self.dtype.itemsize, 1))
        for first in range(0, len(self), step):
            last = min(first + step, len(self))
            wanted = (rows >= first) & (rows < last)
            if wanted.any():
                block = self._device.download(
                    self.buffer.view(first * width, (last - first) * width)
                )
                found[wanted] = block.reshape(last - first, *self.shape[1:])[rows[wanted] - first]
        return found

    def to_host(self) -> np.ndarray:
        """All of it, as a NumPy array."""
        return self._device.download(self.buffer).reshape(self.shape)
