"""A state whose valid copy is on the device between calls: `contract.Engine.resident`."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn._kernels.contract import Program
from fastnn._kernels.state import DEVICE_ARRAYS, State

_IN_SNAPSHOTS = ("theta", "buffers")


class StateBuffers:
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


class DeviceState:
    """See `fastnn._kernels.state.DeviceState`.

    The device's copy is the valid one while ``state.device_state`` is this object.

    Parameters
    ----------
    device : Device
    program : Program
    state : State
    lock : RLock
        The engine's: nobody reads a state while a chunk changes it.
    spare : list of StateBuffers
        Buffers that other device states have released.
    """

    def __init__(
        self, device: Any, program: Program, state: State, lock: Any, spare: list[StateBuffers]
    ):
        self.state = state
        self.memory: StateBuffers | None = None
        self._device, self._program, self._lock, self._spare = device, program, lock, spare
        self._host: dict[str, np.ndarray] = {}
        self._changed = False  # whether the device's copy is newer than the host's
        self._finite: bool | None = None  # whether all of it is finite, where that is known
        self._copies: dict[str, np.ndarray] = {}  # that `read_only_copy` has made
        self._spare_snapshots: list[dict[str, Any]] = []  # buffers of collected snapshots

    def move_to_device(self) -> StateBuffers:
        """The state's buffers on the device, which from now on are the valid copy."""
        state = self.state
        on_device = not any(name in vars(state) for name in DEVICE_ARRAYS)
        if state.device_state is self and on_device and self.memory is not None:
            return self.memory
        # The arrays come from another device state, or the host has set some.
        host = {name: getattr(state, name) for name in DEVICE_ARRAYS}
        memory = self._allocate(len(host["slots"]))
        for name, array in host.items():
            if array.size:
                self._device.upload(memory[name], array.reshape(-1))
        self._host, self._changed, self._finite = host, False, None
        self._copies.clear()
        state.device_state = self
        for name in DEVICE_ARRAYS:
            del vars(state)[name]
        return memory

    def _allocate(self, n_slots: int) -> StateBuffers:
        """Buffers for a state with so many slots: its own, spare ones or new ones."""
        if self.memory is None or self.memory.n_slots != n_slots:
            self._release_memory()
            fitting = [memory for memory in self._spare if memory.n_slots == n_slots]
            self.memory = (
                fitting[0] if fitting else StateBuffers(self._device, self._program, n_slots)
            )
            self._spare[:] = [memory for memory in self._spare if memory is not self.memory]
        return self.memory

    def mark_changed(self, finite: bool | None = None) -> None:
        """The device's copy is about to change, or has changed and is all ``finite`` or not."""
        self._changed, self._finite = True, finite
        self._copies.clear()

    def sync_to_host(self) -> None:
        with self._lock:
            if self.state.device_state is not self or self.memory is None:
                return
            try:
                for name, array in self._host.items():
                    if self._changed and array.size:
                        self._device.download(self.memory[name], array.reshape(-1))
            finally:  # where the device failed, the host's arrays are as they last were
                self._changed = False
                for name, array in self._host.items():
                    vars(self.state).setdefault(name, array)
                self.state.device_state = None

    def close(self) -> None:
        """Move the state to the host and release the buffers."""
        try:
            self.sync_to_host()
        finally:
            self._release_memory()
            self._spare_snapshots.clear()

    def read_only_copy(self, name: str) -> np.ndarray:
        with self._lock:
            on_host = self.state.device_state is not self or name in vars(self.state)
            if on_host or self.memory is None:
                return getattr(self.state, name)
            host = self._host[name]
            if not self._changed or not host.size:
                return host
            if name not in self._copies:
                self._copies[name] = self._device.download(self.memory[name]).reshape(host.shape)
            return self._copies[name]

    def is_finite(self) -> bool:
        if self._finite is None:
            copies = (self.read_only_copy(name) for name in DEVICE_ARRAYS)
            self._finite = all(np.isfinite(copy).all() for copy in copies)
        return self._finite

    def snapshot(self) -> "DeviceSnapshot":
        with self._lock:
            memory = self.move_to_device()
            copies = self._spare_snapshots.pop() if self._spare_snapshots else None
            if copies is None:
                copies = {
                    name: self._device.empty(memory[name].n, self._program.dtype)
                    for name in _IN_SNAPSHOTS
                }
            for name, copy in copies.items():
                if copy.n:
                    self._device.copy(copy, memory[name])
            return DeviceSnapshot(self._device, copies, self._spare_snapshots)

    def overwrite(self, copies: dict[str, Any]) -> None:
        """Copy a snapshot's buffers over the state's."""
        with self._lock:
            memory = self.move_to_device()
            self.mark_changed()
            for name, copy in copies.items():
                if copy.n:
                    self._device.copy(memory[name], copy)

    def _release_memory(self) -> None:
        if self.memory is not None:
            self._spare[:] = [self.memory]  # one set is enough
            self.memory = None


@dataclass(frozen=True)
class DeviceSnapshot:
    """A `fastnn._kernels.state.Snapshot` in device memory.

    A training makes one every chunk, so its buffers go to ``spare`` when it is collected.
    """

    device: Any
    copies: dict[str, Any] = field(repr=False)
    spare: list[dict[str, Any]] = field(repr=False)

    def __del__(self):
        self.spare.append(self.copies)

    def restore(self, state: State) -> None:
        if isinstance(state.device_state, DeviceState):
            state.device_state.overwrite(self.copies)
            return
        for name, copy in self.copies.items():
            if copy.n:
                self.device.download(copy, getattr(state, name))
