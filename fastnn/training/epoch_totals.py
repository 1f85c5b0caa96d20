"""`EpochTotals`: the figures of an epoch, summed over its chunks."""

import numpy as np

from fastnn._kernels.contract import StepLog


class EpochTotals:
    """Sums over the chunks of an epoch.

    Parameters
    ----------
    penalty : float
        That of the parameters at the start of the epoch. An epoch of one step then reports exactly
        its cost, and no figure depends on how the epoch is cut into chunks.
    """

    def __init__(self, penalty: float):
        self.steps: int = 0
        self._penalty = penalty
        # One array a chunk, summed at the end: a sum of sums rounds as the chunks are cut.
        self._figures: list[np.ndarray] = []

    def add(self, log: StepLog) -> None:
        """Add a chunk."""
        self.steps += len(log.losses)
        with np.errstate(over="ignore"):  # the mean of the largest losses is shown as infinite
            losses = log.losses * log.weights
        self._figures.append(np.stack([losses, log.correct_weight, log.weights]))

    @property
    def loss(self) -> float:
        """Mean loss of the mini-batches as they were trained on, penalty included."""
        loss, _, weight = self._sums()
        return float(loss / weight) + self._penalty

    @property
    def accuracy(self) -> float:
        """Weighted share of samples classified correctly."""
        _, correct_weight, weight = self._sums()
        return float(correct_weight / weight)

    def _sums(self) -> np.ndarray:
        """Σ over mini-batches of loss · weight, correct weight, and weight."""
        return np.concatenate(self._figures, axis=1).sum(axis=1)
