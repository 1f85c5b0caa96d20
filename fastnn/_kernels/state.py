"""All that training changes, on the host or, while a training lasts, in an engine's own memory."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

DEVICE_ARRAYS = ("theta", "buffers", "slots")  # arrays of a state that move to a device


class DeviceState(Protocol):
    """An engine's copy of a `State` on a device, while `Engine.resident` is entered."""

    def sync_to_host(self) -> None:
        """Bring the host's arrays up to date and give them back to the state.

        From then on they are the valid copy, and anybody may write to them.
        """
        ...

    def read_only_copy(self, name: str) -> np.ndarray:
        """One of the arrays, to read; the state stays on the device."""
        ...

    def is_finite(self) -> bool:
        """Whether every number of these arrays is finite."""
        ...

    def snapshot(self) -> "Snapshot":
        """Parameters and running statistics as they are now."""
        ...


class Snapshot(Protocol):
    """Parameters and running statistics as they once were."""

    def restore(self, state: "State") -> None:
        """Copy them to a state."""
        ...


class State:
    """All that training changes.

    While the valid copy of θ, the running statistics and the slots is on a device, the state lacks
    these attributes, and `device_state` keeps the host's arrays. Reading one of the attributes
    brings all of them up to date and back to the host, so callers need not know where the state is.
    Where there is no device, they are plain attributes at no cost. Callers that only read, once a
    chunk or an epoch, use `read_only_copy`, `is_finite` and `snapshot`, which leave the state on
    the device.

    Attributes
    ----------
    theta : ndarray (n_parameters,)
    buffers : ndarray (n_buffers,)
        BatchNorm's running statistics.
    seed : int
    slots : ndarray (slots of the optimiser, n_parameters)
    mu_product : ndarray (1,) of float64
        NAdam's running product of μ.
    step : int
        Mini-batches ever taken: the counter of dropout masks and noise.
    optimizer_step : int
        Mini-batches since the optimiser's state began.
    device_state : DeviceState or None
        The device's copy, while that is the valid one.
    """

    theta: np.ndarray
    buffers: np.ndarray
    slots: np.ndarray
    mu_product: np.ndarray
    seed: int
    step: int
    optimizer_step: int
    device_state: DeviceState | None

    def __init__(
        self,
        theta: np.ndarray,
        buffers: np.ndarray,
        seed: int,
        slots: np.ndarray | None = None,
        mu_product: np.ndarray | None = None,
        step: int = 0,
        optimizer_step: int = 0,
    ):
        self.theta, self.buffers = theta, buffers
        self.slots = np.empty((0, len(theta)), theta.dtype) if slots is None else slots
        self.mu_product = np.ones(1) if mu_product is None else mu_product
        self.seed, self.step, self.optimizer_step = seed, step, optimizer_step
        self.device_state = None

    def __getattr__(self, name: str) -> Any:
        """Python calls this for missing attributes only: an array that is on the device."""
        device_state = vars(self).get("device_state")
        if device_state is None or name not in DEVICE_ARRAYS:
            raise AttributeError(f"a State has no {name!r}")
        device_state.sync_to_host()
        # Looked up again, as another thread may have moved it to the device once more.
        return getattr(self, name)

    def read_only_copy(self, name: str) -> np.ndarray:
        """θ, ``buffers`` or ``slots``, to read and not to keep."""
        device_state = self.device_state
        return getattr(self, name) if device_state is None else device_state.read_only_copy(name)

    def is_finite(self) -> bool:
        """Whether θ, the running statistics and the slots are all finite."""
        device_state = self.device_state
        if device_state is not None:
            return device_state.is_finite()
        arrays = (self.theta, self.buffers, self.slots)
        return all(np.isfinite(array).all() for array in arrays if array.size)

    def nonfinite(self) -> str | None:
        """Which of its arrays has a number that is not finite, by name; None if none has."""
        finite = {name: np.isfinite(self.read_only_copy(name)).all() for name in DEVICE_ARRAYS}
        return next((name for name in DEVICE_ARRAYS if not finite[name]), None)

    def snapshot(self) -> Snapshot:
        """Parameters and running statistics as they are now."""
        device_state = self.device_state
        if device_state is None:
            return HostSnapshot(self.theta.copy(), self.buffers.copy())
        return device_state.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Set parameters and running statistics to those of a snapshot."""
        snapshot.restore(self)

    def restart_optimizer(self, slots: np.ndarray) -> None:
        """Begin the optimiser's state afresh, with these slots."""
        self.slots, self.mu_product, self.optimizer_step = slots, np.ones(1), 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy, pickled or not, has its arrays on the host."""
        arrays = {name: getattr(self, name) for name in DEVICE_ARRAYS}
        return {**vars(self), **arrays, "device_state": None}


@dataclass(frozen=True)
class HostSnapshot:
    """A `Snapshot` in host memory."""

    theta: np.ndarray
    buffers: np.ndarray

    def restore(self, state: State) -> None:
        state.theta[:], state.buffers[:] = self.theta, self.buffers
