"""All that training changes, on the host or, while a training lasts, in an engine's own memory."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MOVING = ("theta", "buffers", "slots")  # what a residence takes to the device


class Residence(Protocol):
    """An engine's copy of a `State` on a device, from the beginning of `Engine.resident` to its
    end.
    """

    def bring_back(self) -> None:
        """Bring the host's arrays up to date and give them back to the state. They count from now
        on: anybody may write to them.
        """

    def peek(self, name: str) -> np.ndarray:
        """One of the arrays, to read; the state stays where it is."""

    def is_finite(self) -> bool:
        """Whether every parameter is finite."""

    def snapshot(self) -> "Snapshot":
        """Parameters and running statistics as they are now."""


class Snapshot(Protocol):
    """Parameters and running statistics as they once were."""

    def put_back(self, state: "State") -> None:
        """Give them to a state."""


class State:
    """All that training changes.

    While the valid copy of θ, the running statistics and the slots is on a device, the state lacks
    these attributes, and `residence` keeps the host's arrays. Asking for one brings all of them up
    to date and back, so whoever reads or writes them need not know; and where there is no device,
    they are plain attributes that cost nothing. What only reads, once a chunk or an epoch, takes
    `peek`, `is_finite` and `snapshot` instead, which leave the state where it is.

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
    residence : Residence or None
        There while the state is away.
    """

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
        self.theta, self.buffers, self.slots, self.mu_product = theta, buffers, slots, mu_product
        self.seed, self.step, self.optimizer_step = seed, step, optimizer_step
        self.residence: Residence | None = None

    def __getattr__(self, name: str) -> Any:
        """Asked only for what is not there: an array that is away."""
        residence = vars(self).get("residence")
        if residence is None or name not in MOVING:
            raise AttributeError(f"a State has no {name!r}")
        residence.bring_back()
        # asked again, as another thread may have taken it away once more
        return getattr(self, name)

    def peek(self, name: str) -> np.ndarray:
        """θ, ``buffers`` or ``slots``, to read and not to keep."""
        residence = self.residence
        return getattr(self, name) if residence is None else residence.peek(name)

    def is_finite(self) -> bool:
        """Whether every parameter is finite."""
        residence = self.residence
        return bool(np.isfinite(self.theta).all()) if residence is None else residence.is_finite()

    def snapshot(self) -> Snapshot:
        """Parameters and running statistics as they are now."""
        residence = self.residence
        return (
            HostSnapshot(self.theta.copy(), self.buffers.copy())
            if residence is None
            else residence.snapshot()
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Parameters and running statistics as they were."""
        snapshot.put_back(self)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, pickled or not, has its arrays."""
        arrays = {name: getattr(self, name) for name in MOVING}
        return {**vars(self), **arrays, "residence": None}


@dataclass(frozen=True)
class HostSnapshot:
    """A `Snapshot` in host memory."""

    theta: np.ndarray
    buffers: np.ndarray

    def put_back(self, state: State) -> None:
        state.theta[:], state.buffers[:] = self.theta, self.buffers
