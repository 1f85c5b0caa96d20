"""Optimisers: their constants and names; the arithmetic lives in the engines.

g is the gradient, penalties included, after clipping, and η the learning rate. Weight decay λ acts
on weights only, never on biases, scales or shifts. It enters the gradient after clipping,
g ← g + λw, except in AdamW, where w ← (1 − ηλ)w comes first.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from fastnn._kernels import opcodes, tables
from fastnn._utils import checks
from fastnn.optim.schedules import Schedule, as_schedule


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimisers that step once a mini-batch.

    Parameters
    ----------
    lr : float or Schedule
        Learning rate, or a schedule of it over steps.
    weight_decay : float or Schedule
        λ ≥ 0, or a schedule of it over steps; on weights only.
    clip_value : float, optional
        Each gradient component is clipped to [−clip_value, clip_value].
    clip_norm : float, optional
        The gradient is scaled down to this global norm where it is longer (Pascanu, Mikolov &
        Bengio 2013); after ``clip_value``.
    """

    lr: float | Schedule = 1e-2
    weight_decay: float | Schedule = field(default=0.0, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)

    code: ClassVar[int]  # from the class's row of `fastnn._kernels.tables`
    n_slots: ClassVar[int]  # alike: vectors of θ's length in the optimiser's state

    def __init_subclass__(cls) -> None:
        row = tables.OPTIMIZERS.get(cls.__name__.lower())
        if row is not None:
            cls.code, cls.n_slots = row.code, row.n_slots

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay"):
            if not isinstance(getattr(self, name), Schedule):
                self._check(name)
        for name in ("clip_value", "clip_norm"):
            if getattr(self, name) is not None:
                self._check(name, low_open=True)
        for name in ("momentum", "rho", "beta1", "beta2"):
            if hasattr(self, name):
                self._check(name, high=1.0, high_open=True)
        if hasattr(self, "epsilon"):
            self._check("epsilon", low_open=True)

    def _check(self, name: str, **bounds: Any) -> None:
        """Check a constant, and make a NumPy scalar a plain number."""
        object.__setattr__(self, name, checks.number(name, getattr(self, name), **bounds))

    def rates(self, start: int, n: int) -> np.ndarray:
        """Learning rates of steps ``start … start + n − 1``."""
        return as_schedule(self.lr).rates(start, n)

    def decays(self, start: int, n: int) -> np.ndarray | None:
        """Weight decays of these steps where a schedule has them, else None."""
        decay = self.weight_decay
        return decay.rates(start, n) if isinstance(decay, Schedule) else None

    def record(self) -> np.ndarray:
        """The record that engines read, as an array of one."""
        record = np.zeros(1, opcodes.OPTIMIZER)
        record["code"] = self.code
        for ours, theirs in (("momentum", "beta1"), ("rho", "beta1")):
            if hasattr(self, ours):
                record[theirs] = getattr(self, ours)
        for name in ("beta1", "beta2", "epsilon", "nesterov", "momentum_decay"):
            if hasattr(self, name):
                record[name] = getattr(self, name)
        if not isinstance(self.weight_decay, Schedule):
            record["weight_decay"] = self.weight_decay
        record["clip_value"], record["clip_norm"] = self.clip_value or 0.0, self.clip_norm or 0.0
        return record


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum β.

    m ← βm + g; w ← w − ηm, or with ``nesterov`` w ← w − η(g + βm) (Sutskever et al. 2013); β = 0 is
    plain descent w ← w − ηg.
    """

    lr: float | Schedule = 1e-2
    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "nesterov", checks.boolean("nesterov", self.nesterov))
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True needs a momentum above 0")


@dataclass(frozen=True)
class AdaGrad(Optimizer):
    """Adaptive subgradients (Duchi, Hazan & Singer 2011).

    s ← s + g²; w ← w − η g/√(s + ε).
    """

    lr: float | Schedule = 1e-2
    epsilon: float = 1e-20


@dataclass(frozen=True)
class AdaDelta(Optimizer):
    """Steps in the units of the parameters (Zeiler 2012).

    s ← ρs + (1 − ρ)g²; Δ = g √(d + ε)/√(s + ε); d ← ρd + (1 − ρ)Δ²; w ← w − ηΔ.
    """

    lr: float | Schedule = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Gradients over their root mean square (Tieleman & Hinton 2012).

    s ← ρs + (1 − ρ)g²; w ← w − η g/(√s + ε).
    """

    lr: float | Schedule = 1e-2
    rho: float = 0.99
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moment estimation (Kingma & Ba 2015).

    m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; w ← w − η m̂/(√v̂ + ε) with m̂ = m/(1 − β₁ᵗ) and
    v̂ = v/(1 − β₂ᵗ).
    """

    lr: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019).

    w ← (1 − ηλ)w, then Adam's step.
    """

    weight_decay: float | Schedule = field(default=1e-2, kw_only=True)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov momentum (Dozat 2016), as `torch.optim.NAdam` has it.

    μₜ = β₁(1 − ½·0.96^(tψ)); w ← w − η [(1 − μₜ)/(1 − Πμ) g + μₜ₊₁/(1 − Πμ·μₜ₊₁) m]/(√v̂ + ε), with
    ψ = ``momentum_decay``.
    """

    lr: float | Schedule = 2e-3
    momentum_decay: float = 4e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("momentum_decay")


@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS on the whole training set (Liu & Nocedal 1989).

    It is `scipy.optimize.minimize(method="L-BFGS-B")`; one epoch is one accepted iteration. Dropout
    masks and noise stay fixed during a call of ``fit``, so that there is one function to minimise.
    SciPy does not return its curvature pairs: a second ``fit`` starts with an empty memory.

    Parameters
    ----------
    memory : int
        Curvature pairs kept.
    tolerance : float
        Stop when the largest gradient component falls below this.
    weight_decay : float
        λ ≥ 0: adds ½λΣw² over weights to what is minimised.
    """

    n_slots: ClassVar[int] = 0

    memory: int = 10
    tolerance: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", checks.integer("memory", self.memory))
        for name in ("tolerance", "weight_decay"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name)))


OPTIMIZERS: dict[str, type[Optimizer] | type[LBFGS]] = {
    "sgd": SGD,
    "adagrad": AdaGrad,
    "adadelta": AdaDelta,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "lbfgs": LBFGS,
}


def as_optimizer(optimizer: "str | Optimizer | LBFGS") -> Optimizer | LBFGS:
    """An optimiser from a name (its default constants) or an optimiser."""
    if isinstance(optimizer, Optimizer | LBFGS):
        return optimizer
    return OPTIMIZERS[checks.one_of("optimizer", optimizer, OPTIMIZERS)]()


def as_call(optimizer: Optimizer | LBFGS) -> str:
    """The call that makes an optimiser: its learning rate, and what differs from the defaults."""
    given = {
        f.name: getattr(optimizer, f.name)
        for f in fields(optimizer)
        if f.name == "lr" or getattr(optimizer, f.name) != f.default
    }
    arguments = [
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
        for name, value in given.items()
    ]
    return f"{type(optimizer).__name__}({', '.join(arguments)})"
