"""Quantities as functions of the optimiser's step, counted from 0 in mini-batches.

A schedule may be of any quantity that takes one: an optimiser's ``lr`` and ``weight_decay``, the
``rate`` of `Dropout`. Formulas call it η and its scale ``lr``, whatever it is.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn._utils import checks


class Schedule:
    """Base of all schedules. A subclass defines ``_at(steps)`` for an array of steps."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name in ("steps", "cycles"):
                object.__setattr__(self, name, checks.integer(name, value))
            elif not isinstance(value, Schedule):
                object.__setattr__(self, name, checks.number(name, value))

    def rates(self, start: int, n: int) -> np.ndarray:
        """Values at steps ``start … start + n − 1`` as a float64 array."""
        steps = np.arange(start, start + n, dtype=np.float64)
        with np.errstate(over="ignore"):  # a rate that grows without end is infinite one day
            return np.broadcast_to(self._at(steps), (n,)).astype(np.float64)

    def __call__(self, step: int) -> float:
        """The value at one step."""
        return float(self.rates(step, 1)[0])

    def to_config(self) -> dict[str, Any]:
        """The schedule as plain data for a model file."""
        name = type(self).__name__
        if SCHEDULES.get(name) is not type(self):
            raise TypeError(f"a model file holds schedules of fastnn alone, not {self!r}")
        values = vars(self).items()
        plain = {k: v.to_config() if isinstance(v, Schedule) else v for k, v in values}
        return {"schedule": name, **plain}

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        raise TypeError(f"{type(self).__name__} does not define _at(steps)")


@dataclass(frozen=True)
class Constant(Schedule):
    """η(t) = lr."""

    lr: float

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        return self.lr


@dataclass(frozen=True)
class StepDecay(Schedule):
    """η(t) = lr · factor^⌊t / steps⌋."""

    lr: float
    steps: int
    factor: float = 0.5

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        return self.lr * self.factor ** np.floor(t / self.steps)


@dataclass(frozen=True)
class Exponential(Schedule):
    """η(t) = lr · factor^t."""

    lr: float
    factor: float

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        return self.lr * self.factor**t


@dataclass(frozen=True)
class InverseTime(Schedule):
    """η(t) = lr / (1 + decay · t)."""

    lr: float
    decay: float

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        return self.lr / (1.0 + self.decay * t)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Cosine annealing (Loshchilov & Hutter 2017).

    η(t) = final + (lr − final) · (1 + cos(π t / steps)) / 2, and ``final`` after ``steps``.
    """

    lr: float
    steps: int
    final: float = 0.0

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        return self.final + (self.lr - self.final) * 0.5 * (
            1.0 + np.cos(np.pi * np.minimum(t / self.steps, 1.0))
        )


@dataclass(frozen=True)
class FlatCosine(Schedule):
    """A constant, then a fall to 0 along half a cosine (Holzmüller et al. 2024: flat_cos).

    η(t) = lr up to t = flat · steps, then lr · (1 + cos(π s)) / 2 with s rising from 0 to 1 at
    ``steps``; 0 afterwards.

    Parameters
    ----------
    lr : float
    steps : int
        Of the whole training.
    flat : float
        Share of ``steps`` with the constant, in [0, 1).
    """

    lr: float
    steps: int
    flat: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("flat", self.flat, 0.0, 1.0, high_open=True)

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        s = np.clip((t / self.steps - self.flat) / (1.0 - self.flat), 0.0, 1.0)
        return self.lr * 0.5 * (1.0 + np.cos(np.pi * s))


@dataclass(frozen=True)
class CosineLog(Schedule):
    """Cycles of a cosine that grow longer (Holzmüller et al. 2024: coslog4).

    η(t) = lr · (1 − cos(2π log₂(1 + (2ᶜ − 1) t / steps))) / 2 with c = ``cycles``; 0 from ``steps``
    on. Each cycle is twice as long as the one before.

    Parameters
    ----------
    lr : float
    steps : int
        Of the whole training.
    cycles : int
    """

    lr: float
    steps: int
    cycles: int = 4

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        share = np.minimum(t / self.steps, 1.0)
        turns = np.log2(1.0 + (2.0**self.cycles - 1.0) * share)
        return np.where(share < 1.0, self.lr * 0.5 * (1.0 - np.cos(2.0 * np.pi * turns)), 0.0)


@dataclass(frozen=True)
class Warmup(Schedule):
    """A linear rise over ``steps`` to the first value of ``then``, which follows.

    η(t) = then(0) · (t + 1) / steps for t < steps, afterwards then(t − steps). A number for
    ``then`` means a constant.
    """

    steps: int
    then: Schedule | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "then", as_schedule(self.then, "then"))
        super().__post_init__()

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        then = as_schedule(self.then, "then")
        rise = then(0) * (t + 1.0) / self.steps
        return np.where(t < self.steps, rise, then._at(np.maximum(t - self.steps, 0.0)))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """One rise and one fall (Smith & Topin 2018).

    A cosine from lr/25 to ``lr`` over the first 30 % of ``steps``, then one to lr/250 000.
    ``rise``, ``start`` and ``final`` change the share of the rise and the two divisors.
    """

    lr: float
    steps: int
    rise: float = 0.3
    start: float = 25.0
    final: float = 1e4

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("rise", self.rise, 0.0, 1.0)
        checks.number("start", self.start, low_open=True)
        checks.number("final", self.final, low_open=True)

    def _at(self, t: np.ndarray) -> np.ndarray | float:
        first, last = self.lr / self.start, self.lr / self.start / self.final
        peak = max(self.rise * self.steps, 1.0)
        up = np.minimum(t / peak, 1.0)
        down = np.clip((t - peak) / max(self.steps - peak, 1.0), 0.0, 1.0)
        rising = first + (self.lr - first) * 0.5 * (1.0 - np.cos(np.pi * up))
        falling = last + (self.lr - last) * 0.5 * (1.0 + np.cos(np.pi * down))
        return np.where(t < peak, rising, falling)


SCHEDULES: dict[str, type[Schedule]] = {
    s.__name__: s
    for s in (
        *(Constant, StepDecay, Exponential, InverseTime, Cosine, FlatCosine, CosineLog),
        *(Warmup, OneCycle),
    )
}


def schedule_from_config(config: dict[str, Any]) -> Schedule:
    """The inverse of `Schedule.to_config`."""
    values = {
        key: schedule_from_config(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key != "schedule"
    }
    return SCHEDULES[config["schedule"]](**values)


def as_schedule(lr: Schedule | float, name: str = "lr") -> Schedule:
    """A `Schedule` from a number or a `Schedule`."""
    return lr if isinstance(lr, Schedule) else Constant(checks.number(name, lr))
