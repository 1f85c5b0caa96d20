"""Buffers of the arguments that all kernels take, but for those of a state and of samples."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Program, State
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS, ARRAY_NAMES
from fastnn._kernels.numba_cuda.kernels.op_table import operations
from fastnn._kernels.numba_cuda.runtime import sample_transfer

_SPARE = 1 << 18  # elements more than are needed that a buffer gets when it grows
_GIVEN = ("theta", "buffers", "slots", *sample_transfer.PARTS)  # buffers of a state and of samples

NO_OPTIMIZER = np.zeros(1, opcodes.OPTIMIZER)
NO_OPTIMIZER["code"] = opcodes.NO_UPDATE


class Workspace:
    """Buffers by name. They grow as they are needed.

    Parameters
    ----------
    device : Device
    program : Program
    plan : Plan
    forget : callable
        Releases recorded work, before a buffer that it may hold is replaced.

    Attributes
    ----------
    capacity : int
        Rows that work and d_work are laid out for.
    """

    def __init__(self, device: Any, program: Program, plan: Any, forget: Callable[[], None]):
        self._device, self._program, self._plan, self._forget = device, program, plan, forget
        self.capacity = 0
        self._buffers: dict[str, Any] = {}
        self._no_parts = sample_transfer.empty_parts(device, program)
        self._views: dict[tuple[str, int], Any] = {}  # of the workspaces, by name and length
        dtypes = {
            "int64": np.dtype(np.int64),
            "float64": np.dtype(np.float64),
            "real": program.dtype,
        }
        records = {"ops": operations(program.ops), "loss": program.loss, "optimizer": NO_OPTIMIZER}
        for name, kind in ARGUMENTS:
            if name in records:
                self._buffers[name] = device.empty(len(records[name]), records[name].dtype)
                device.upload(self._buffers[name], records[name])
            elif name in ARRAY_NAMES and name not in _GIVEN:
                self._buffers[name] = device.empty(0, dtypes[kind])
        # The gradient's padding stays 0.
        self._buffers["gradient"] = device.zeros(program.n_parameters, program.dtype)
        self._buffers["control"] = device.zeros(control.N_CONTROL, np.dtype(np.int64))

    def __getitem__(self, name: str) -> Any:
        return self._buffers[name]

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def make(self, name: str, n: int) -> Any:
        """The buffer ``name``, of n elements or more."""
        buffer = self._buffers[name]
        if buffer.n < n:
            self._forget()
            self._views.clear()
            self._buffers[name] = self._device.empty(0, buffer.dtype)  # free the old one first
            size, buffer = max(n, min(2 * buffer.n, buffer.n + _SPARE)), None
            self._buffers[name] = buffer = self._device.zeros(size, self._buffers[name].dtype)
        return buffer

    def reserve(self, rows: int, backward: bool) -> None:
        """Lay the workspaces out for mini-batches of ``rows``."""
        self.capacity = rows
        self.make("work", rows * self._program.n_columns)
        self.make("scratch", self._program.n_scratch)
        if backward:
            self.make("d_work", rows * self._program.n_columns)
            self.make("sums", self._plan.n_sums(rows))

    def arguments(self, others: dict[str, Any]) -> list[Any]:
        """All arguments in order; ``others`` has the buffers of a state and of samples."""
        spaces = {name: self._view(name) for name in ("work", "d_work")}
        named = {**self._buffers, **self._no_parts, **spaces, **others}
        return [named[name] for name in ARRAY_NAMES]

    def _view(self, name: str) -> Any:
        """A workspace of its layout's length, which kernels go by to copy it to shared memory."""
        # d_work may be shorter: predictions have no backward pass.
        key = name, min(self.capacity * self._program.n_columns, self._buffers[name].n)
        if key not in self._views:
            self._views[key] = self._buffers[name].view(0, key[1])
        return self._views[key]

    def fill(self, name: str, array: np.ndarray) -> None:
        """Copy an array to the beginning of a buffer."""
        self._device.upload(self.make(name, len(array)).view(0, len(array)), array)

    def set_control(self, slots: dict[int, int], state: State) -> None:
        """Fill ``control``: these slots, and those that a state and the layout determine."""
        values = np.zeros(control.N_CONTROL, np.int64)
        values[control.CAPACITY] = self.capacity
        values[control.OUTPUT] = self._program.output
        values[control.STEP] = state.step
        values[control.SEED : control.SEED + 1] = np.array([state.seed], np.uint64).view(np.int64)
        for slot, value in slots.items():
            values[slot] = value
        self._device.upload(self._buffers["control"], values)
