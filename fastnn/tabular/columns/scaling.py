"""Numbers brought to a common scale. Each way is learnt from the training rows, in float64.

robust
    minus the median, over the interquartile range, then the smooth clip x/√(1 + (x/3)²), which no
    outlier leaves beyond ±3 (RealMLP: Holzmüller, Grinsztajn & Steinwart 2024).
quantile
    the normal distribution's number at the same quantile (TabM: Gorishniy, Kotelnikov & Babenko
    2025).
standard
    minus the mean, over the standard deviation.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from fastnn.data.scalers import Standardizer

_CLIP = 3.0
_MOST = 1e300  # a number that float64 can square the root of, and add to others of its size
_OUTERMOST = 1e-7  # share of a normal distribution beyond the outermost number, which is ±5.2


@dataclass(frozen=True)
class Robust:
    """(x − center)/spread with a smooth clip; a spread of 0 makes every number 0."""

    center: float
    spread: float

    def __post_init__(self) -> None:
        _check_spread(self.spread)

    @classmethod
    def fit(cls, known: np.ndarray) -> Self:
        """Learn from numbers without gaps, which are put into another order."""
        low, high = float(known.min()), float(known.max())
        unit = 4.0 if max(-low, high) > _MOST else 1.0  # differences of larger ones overflow
        lower, median, upper = np.quantile(known / unit, [0.25, 0.5, 0.75]).tolist()
        spread = upper - lower or 0.5 * (high / unit - low / unit)
        return cls(median * unit, min(spread, np.finfo(np.float64).max / unit) * unit)

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """The scaled numbers."""
        if not self.spread:
            return np.zeros(numbers.shape)
        with np.errstate(over="ignore"):
            z = np.clip((numbers - self.center) / self.spread, -_MOST, _MOST)
        return _CLIP * (z / np.hypot(_CLIP, z))


@dataclass(frozen=True)
class Standard:
    """(x − center)/spread."""

    center: float
    spread: float

    def __post_init__(self) -> None:
        _check_spread(self.spread)

    @classmethod
    def fit(cls, known: np.ndarray) -> Self:
        """Learn from numbers without gaps."""
        scaler = Standardizer().fit(known[:, None])
        return cls(float(scaler.mean_[0]), float(scaler.scale_[0]))

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """The scaled numbers."""
        if not self.spread:
            return np.zeros(numbers.shape)
        with np.errstate(over="ignore"):  # the network names infinite inputs
            return (numbers - self.center) / self.spread


@dataclass(frozen=True)
class Quantile:
    """The normal distribution's number at the quantile of x, between those that were learnt."""

    quantiles: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.quantiles) < 2 or any(np.diff(self.quantiles) < 0):
            raise ValueError("quantiles must be two or more numbers that do not fall")

    @classmethod
    def fit(cls, known: np.ndarray) -> Self:
        """Learn from numbers without gaps."""
        count = max(min(len(known) // 30, 1000), 10)
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.quantile(known, np.linspace(0, 1, count))
        found = np.nan_to_num(np.maximum.accumulate(found))  # rounded, neighbours may change places
        return cls(tuple(found.tolist()))

    def apply(self, numbers: np.ndarray) -> np.ndarray:
        """The scaled numbers."""
        from scipy.special import ndtri

        marks = np.array(self.quantiles)
        levels = np.linspace(0, 1, len(marks))
        # A number that many rows share covers a range of levels: it gets the middle of them.
        with np.errstate(over="ignore", invalid="ignore"):
            below = np.interp(numbers, marks, levels)
            above = 1 - np.interp(-numbers, -marks[::-1], levels)
        return ndtri(np.clip(0.5 * (below + above), _OUTERMOST, 1 - _OUTERMOST))


Scaling = Robust | Standard | Quantile
SCALINGS: dict[str, type[Scaling]] = {
    "robust": Robust,
    "quantile": Quantile,
    "standard": Standard,
}


def _check_spread(spread: float) -> None:
    if spread < 0:
        raise ValueError(f"spread must be at least 0, not {spread}")
