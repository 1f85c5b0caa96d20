"""What an experiment returns: expected figures beside measured ones, and its picture's data."""

from dataclasses import dataclass
from math import inf
from typing import Any


@dataclass(frozen=True)
class Check:
    """An expected figure beside the measured one. A measured NaN never agrees.

    Attributes
    ----------
    name : str
        What is measured.
    source : str
        Where the expected figure is from.
    expected : float or str
        The figure of the source, or in words what must hold.
    measured : float
        The figure of this run.
    low, high : float
        The bounds, both included, within which the two agree.
    """

    name: str
    source: str
    expected: float | str
    measured: float
    low: float = -inf
    high: float = inf

    @property
    def agrees(self) -> bool:
        """Whether the measured figure is within the bounds."""
        return bool(self.low <= self.measured <= self.high)


@dataclass(frozen=True)
class ExperimentResult:
    """The checks of an experiment, and the data of its picture.

    Attributes
    ----------
    checks : list of Check
    series : dict
        Plain data and arrays, by name or number, from which ``draw`` makes the picture.
    """

    checks: list[Check]
    series: dict[Any, Any]


def close(
    name: str,
    source: str,
    expected: float,
    measured: float,
    absolute: float = 0.0,
    relative: float = 0.0,
) -> Check:
    """A `Check` that measured and expected differ by ``absolute + relative·|expected|`` at most."""
    margin = absolute + relative * abs(expected)
    return Check(name, source, expected, float(measured), expected - margin, expected + margin)


def at_least(name: str, source: str, bound: float, measured: float) -> Check:
    """A `Check` that the measured figure is not below ``bound``."""
    return Check(name, source, f"at least {bound + 0.0:g}", float(measured), low=bound)  # 0, not -0


def at_most(name: str, source: str, bound: float, measured: float) -> Check:
    """A `Check` that the measured figure is not above ``bound``."""
    return Check(name, source, f"at most {bound:g}", float(measured), high=bound)
