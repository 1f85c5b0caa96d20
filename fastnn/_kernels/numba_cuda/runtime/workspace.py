"""Buffers of the arguments that all kernels take, but for a state's and samples'."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Program, State
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.op_table import operations
from fastnn._kernels.numba_cuda.runtime import sample_transfer

_SPARE = 1 << 18  # elements more than are needed that a buffer gets when it grows
NAMES = tuple(name for name, kind in fr.ARGUMENTS if kind != "scalar")  # of the arrays, in order

NO_RULE = np.zeros(1, opcodes.RULE)
NO_RULE["code"] = opcodes.NO_UPDATE


class Workspace:
    """Buffers by name. They grow as they are needed.

    Parameters
    ----------
    device : Device
    program : Program
    plan : Plan
    forget : callable
        Lets go of recorded work, before a buffer that it may hold is replaced.

    Attributes
    ----------
    capacity : int
        Rows that work and d_work are laid out for.
    """

    def __init__(self, device: Any, program: Program, plan: Any, forget: Callable[[], None]):
        self._device, self._program, self._plan, self._forget, self.capacity = (
            device,
            program,
            plan,
            forget,
            0,
        )
        self._buffers: dict[str, Any] = {}
        self._no_parts = sample_transfer.empty_parts(device, program)
        self._laid_out: dict[tuple[str, int], Any] = {}  # views of just so many elements
        dtypes = {
            "int64": np.dtype(np.int64),
            "float64": np.dtype(np.float64),
            "real": program.dtype,
        }
        records = {"ops": operations(program.ops), "loss": program.loss, "rule": NO_RULE}
        for name, kind in fr.ARGUMENTS:
            if name in records:
                self._buffers[name] = device.empty(len(records[name]), records[name].dtype)
                device.upload(self._buffers[name], records[name])
            elif name in NAMES and name not in (
                "theta",
                "buffers",
                "slots",
                *sample_transfer.PARTS,
            ):
                self._buffers[name] = device.empty(0, dtypes[kind])
        # its padding stays 0
        self._buffers["gradient"] = device.zeros(program.n_parameters, program.dtype)
        self._buffers["control"] = device.zeros(fr.N_CONTROL, np.dtype(np.int64))

    def __getitem__(self, name: str) -> Any:
        return self._buffers[name]

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def make(self, name: str, n: int) -> Any:
        """A buffer of n elements or more."""
        buffer = self._buffers[name]
        if buffer.n < n:
            self._forget()
            self._laid_out.clear()
            self._buffers[name] = self._device.empty(0, buffer.dtype)  # free the old one first
            size, buffer = max(n, min(2 * buffer.n, buffer.n + _SPARE)), None
            self._buffers[name] = buffer = self._device.zeros(size, self._buffers[name].dtype)
        return buffer

    def lay_out(self, rows: int, backward: bool) -> None:
        """Make room for mini-batches of ``rows``."""
        self.capacity = rows
        self.make("work", rows * self._program.n_columns)
        self.make("scratch", self._program.n_scratch)
        if backward:
            self.make("d_work", rows * self._program.n_columns)
            self.make("sums", self._plan.sums(rows))

    def arguments(self, others: dict[str, Any]) -> list[Any]:
        """All arguments in order, with a state's buffers and what there is of samples in
        ``others``.
        """
        spaces = {name: self._space(name) for name in ("work", "d_work")}
        named = {**self._buffers, **self._no_parts, **spaces, **others}
        return [named[name] for name in NAMES]

    def _space(self, name: str) -> Any:
        """Of just the length that its layout has: kernels that have it on chip go by that."""
        # there is no way back in predictions
        key = name, min(self.capacity * self._program.n_columns, self._buffers[name].n)
        if key not in self._laid_out:
            self._laid_out[key] = self._buffers[name].view(0, key[1])
        return self._laid_out[key]

    def fill(self, name: str, array: np.ndarray) -> None:
        """Copy an array to the beginning of a buffer."""
        self._device.upload(self.make(name, len(array)).view(0, len(array)), array)

    def set_control(self, figures: dict[int, int], state: State) -> None:
        """Fill ``control``: these slots, and what a state and the layout decide."""
        control = np.zeros(fr.N_CONTROL, np.int64)
        control[fr.CAPACITY], control[fr.OUTPUT], control[fr.STEP] = (
            self.capacity,
            self._program.output,
            state.step,
        )
        control[fr.SEED : fr.SEED + 1] = np.array([state.seed], np.uint64).view(np.int64)
        for slot, value in figures.items():
            control[slot] = value
        self._device.upload(self._buffers["control"], control)
