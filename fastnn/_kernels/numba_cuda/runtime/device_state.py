"""A state that lives on the device between calls: `contract.Engine.resident`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn._kernels.contract import Program
from fastnn._kernels.state import MOVING, State

_KEPT = ("theta", "buffers")  # by snapshots


class Memory:
    """Device memory for a state's arrays."""

    def __init__(self, device: Any, program: Program, n_slots: int):
        self.n_slots = n_slots
        sizes = {
            "theta": program.n_parameters,
            "buffers": program.n_buffers,
            "slots": n_slots * program.n_parameters,
        }
        self.buffers = {name: device.empty(size, program.dtype) for name, size in sizes.items()}

    def __getitem__(self, name: str) -> Any:
        return self.buffers[name]

    @property
    def nbytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers.values())


class Residence:
    """See `fastnn._kernels.state.Residence`. The device's copy is the valid one while
    ``state.residence`` is this object.

    Parameters
    ----------
    device : Device
    program : Program
    state : State
    lock : RLock
        Of the engine: nobody reads a state while a chunk changes it.
    spare : list of Memory
        That other residences have left.
    """

    def __init__(self, device: Any, program: Program, state: State, lock: Any, spare: list[Memory]):
        self.state, self.memory = state, None
        self._device, self._program, self._lock, self._spare = device, program, lock, spare
        self._host: dict[str, np.ndarray] = {}
        # whether the device's copy was changed; whether its θ is finite, where that is known
        self._newer, self._finite = False, None
        self._peeked: dict[str, np.ndarray] = {}
        self._old: list[dict[str, Any]] = []  # memory of snapshots that nobody has any more

    def take(self) -> Memory:
        """The state's memory on the device, with the newest numbers in it."""
        state = self.state
        if state.residence is self and not any(name in vars(state) for name in MOVING):
            return self.memory
        # brings it back where it is away, or somebody has set an array
        host = {name: getattr(state, name) for name in MOVING}
        if self.memory is None or self.memory.n_slots != len(host["slots"]):
            self._leave_memory()
            fitting = [memory for memory in self._spare if memory.n_slots == len(host["slots"])]
            self.memory = (
                fitting[0] if fitting else Memory(self._device, self._program, len(host["slots"]))
            )
            self._spare[:] = [memory for memory in self._spare if memory is not self.memory]
        for name, array in host.items():
            if array.size:
                self._device.upload(self.memory[name], array.reshape(-1))
        self._host, self._newer, self._finite = host, False, None
        self._peeked.clear()
        state.residence = self
        for name in MOVING:
            del vars(state)[name]
        return self.memory

    def changes(self, finite: bool | None = None) -> None:
        """The device's copy is about to change, or has changed and its parameters are
        ``finite``.
        """
        self._newer, self._finite = True, finite
        self._peeked.clear()

    def bring_back(self) -> None:
        with self._lock:
            if self.state.residence is not self:
                return
            try:
                for name, array in self._host.items():
                    if self._newer and array.size:
                        self._device.download(self.memory[name], array.reshape(-1))
            finally:  # also where the device failed: what the host last had
                self._newer = False
                for name, array in self._host.items():
                    vars(self.state).setdefault(name, array)
                self.state.residence = None

    def leave(self) -> None:
        """The end of the residence."""
        try:
            self.bring_back()
        finally:
            self._leave_memory()
            self._old.clear()

    def peek(self, name: str) -> np.ndarray:
        with self._lock:
            if self.state.residence is not self or name in vars(self.state):
                return getattr(self.state, name)
            host = self._host[name]
            if not self._newer or not host.size:
                return host
            if name not in self._peeked:
                self._peeked[name] = self._device.download(self.memory[name]).reshape(host.shape)
            return self._peeked[name]

    def is_finite(self) -> bool:
        if self._finite is None:
            self._finite = bool(np.isfinite(self.peek("theta")).all())
        return self._finite

    def snapshot(self) -> "DeviceSnapshot":
        with self._lock:
            memory = self.take()
            copies = (
                self._old.pop()
                if self._old
                else {
                    name: self._device.empty(memory[name].n, self._program.dtype) for name in _KEPT
                }
            )
            for name, copy in copies.items():
                if copy.n:
                    self._device.copy(copy, memory[name])
            return DeviceSnapshot(self._device, copies, self._old)

    def overwrite(self, copies: dict[str, Any]) -> None:
        """Put a snapshot's numbers into the place of the newest."""
        with self._lock:
            memory = self.take()
            self.changes()
            for name, copy in copies.items():
                if copy.n:
                    self._device.copy(memory[name], copy)

    def _leave_memory(self) -> None:
        if self.memory is not None:
            self._spare[:] = [self.memory]  # one set is enough
            self.memory = None


@dataclass(frozen=True)
class DeviceSnapshot:
    """A `fastnn._kernels.state.Snapshot` in device memory, which goes to ``spare`` in the end: one
    is made every chunk.
    """

    device: Any
    copies: dict[str, Any] = field(repr=False)
    spare: list[dict[str, Any]] = field(repr=False)

    def __del__(self):
        self.spare.append(self.copies)

    def put_back(self, state: State) -> None:
        if isinstance(state.residence, Residence):
            state.residence.overwrite(self.copies)
            return
        for name, copy in self.copies.items():
            if copy.n:
                self.device.download(copy, getattr(state, name))
