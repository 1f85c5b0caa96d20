"""The evidence that a diagnosis rests on, and figures derived from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn.diagnostics.gradient_flow import Flow
from fastnn.nn.layers import Layer
from fastnn.optim.optimizers import LBFGS, Optimizer

_FIRST = 5  # records of the first steps
_ALMOST_ZERO = 0.1  # ‖W‖ over √units of a layer that starts from zeros, or nearly so
_AT_REST = 0.02  # ‖∂C/∂W‖ over ‖W‖
# fraction of the first loss, or of that of the best constant, below which a network has learnt
_LEARNT = 0.5


@dataclass(frozen=True)
class Evidence:
    """The measurements of a network or a training; ``None``, or empty, where not taken.

    Attributes
    ----------
    flow : Flow
        At least one record.
    copies : ndarray (layers,)
        Fraction of a layer's units whose weights and bias, and the gradients of them, are those of
        another one.
    losses, validation_losses : sequence of float
        By epoch.
    first_loss : float
        Of the first mini-batch, before any step; or that of the best constant prediction.
    slope : float
        The largest ‖∂C/∂W‖/‖W‖ of a layer over all samples at the start; mini-batches estimate it
        with noise.
    trained : bool
        Whether the network had learnt already when the records begin.
    optimizer : Optimizer or LBFGS
    layers : list of Layer
    diverged : str
        Where training diverged, or that the loss is not finite.
    """

    flow: Flow | None = None
    copies: np.ndarray | None = None
    losses: Sequence[float] = ()
    validation_losses: Sequence[float] = ()
    first_loss: float | None = None
    slope: float | None = None
    trained: bool = False
    optimizer: Optimizer | LBFGS | None = None
    layers: Sequence[Layer] | None = None
    diverged: str | None = None

    def latest(self, figure: str) -> np.ndarray:
        """The figure of each layer, median over the last half of the records."""
        records = getattr(self.recorded, figure)
        return np.median(records[len(records) // 2 :], axis=0)

    @property
    def learnt(self) -> bool:
        """Whether the loss has fallen far.

        No layer keeps the network from learning then, whatever its figures are.
        """
        return (
            bool(self.losses)
            and self.first_loss is not None
            and self.losses[-1] < _LEARNT * self.first_loss
        )

    @property
    def fall(self) -> float:
        """The fraction by which the loss fell from the first epoch to the last."""
        if len(self.losses) < 2 or not self.losses[0]:
            return 1.0
        return (self.losses[0] - self.losses[-1]) / abs(self.losses[0])

    @property
    def inputs_unscaled(self) -> bool:
        """Whether inputs are far larger or smaller than weights are made for."""
        scale = math.nan if self.flow is None else self.flow.input_scale
        return scale > 10 or scale < 0.01

    @property
    def targets_unscaled(self) -> bool:
        """Whether the values to be predicted are far larger than outputs are at first."""
        return self.flow is not None and self.flow.target_scale > 100

    @property
    def recorded(self) -> Flow:
        """The flow of which there must be one for the figures of layers."""
        if self.flow is None:
            raise ValueError("the layers were not recorded")
        return self.flow

    @property
    def relative_gradients(self) -> np.ndarray:
        """‖∂C/∂W‖/‖W‖ of each layer at the first record.

        Divided by the targets' scale where they are large values. Later records may show steps that
        were too long.
        """
        weight, gradient = self.recorded.weight_norm[0], self.recorded.gradient_norm[0]
        relative = np.divide(
            gradient, weight, out=np.zeros_like(weight), where=(weight > 0) & np.isfinite(weight)
        )
        return relative / max(1.0, np.nan_to_num(self.recorded.target_scale))

    @property
    def at_rest(self) -> bool:
        """Whether there is hardly a slope: the network may well be at its optimum."""
        return (self.relative_gradients.max() if self.slope is None else self.slope) < _AT_REST

    @property
    def updates(self) -> np.ndarray:
        """‖ΔW‖/‖W‖ at each record, median over the layers that do not start from zeros."""
        ratios = np.where(np.isfinite(self.recorded.update_ratio), self.recorded.update_ratio, 0.0)
        grown = self.recorded.weight_norm[0] / np.sqrt(self.recorded.units) > _ALMOST_ZERO
        return np.median(ratios[:, grown], axis=1) if grown.any() else np.zeros(len(ratios))

    @property
    def first_updates(self) -> float:
        """The largest update of the first records.

        Later ones are small beside weights that long steps have made large.
        """
        return float(self.updates[:_FIRST].max())

    @property
    def gain(self) -> float:
        """‖W‖ over √units at the start, median over layers.

        1 keeps the size of a signal in linear layers, √2 in ReLU layers.
        """
        return float(np.median(self.recorded.weight_norm[0] / np.sqrt(self.recorded.units)))

    def names(self, numbers: np.ndarray) -> tuple[str, ...]:
        """Names of layers."""
        return tuple(self.recorded.layers[i] for i in numbers)
