"""What of an optimiser changes from step to step: its rates and bias corrections.

These are plain functions of float64 numbers. The Numba CPU kernels compile them, and the CUDA
engine calls them on the host for a whole chunk. A CPU chunk does not: two powers a step take Python
0.3 µs, a fifth of a whole step of 16-16-2. The reference and the Cython engine have their own.
"""

import math
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.tables import OPTIMIZERS

_CORRECTS_BIAS = tuple(row.bias_correction for row in OPTIMIZERS.values())  # by code


class StepRates(NamedTuple):
    """The same for every parameter; float64."""

    eta: float  # learning rate
    step: float  # factor of m: η/(1 − β₁ᵗ) for Adam
    step_gradient: float  # factor of g itself: NAdam
    inv_sqrt_bias2: float  # 1/√(1 − β₂ᵗ)
    decay: float  # weight decay λ


def momentum_factor(optimizer: Any, t: int) -> float:
    """μₜ = β₁ (1 − ½ · 0.96^(tψ)) of NAdam (Dozat 2016); 1 for other optimisers."""
    if optimizer.code != oc.NADAM:
        return 1.0
    return optimizer.beta1 * (1.0 - 0.5 * 0.96 ** (t * optimizer.momentum_decay))


def bias_correction(
    optimizer: Any,
    eta: float,
    decay: float,
    t: int,
    mu: float,
    mu_next: float,
    mu_product: float,
) -> StepRates:
    """Rates of step t = 1, 2, …

    Parameters
    ----------
    optimizer : record with the fields of `opcodes.OPTIMIZER` as attributes
    eta, decay : float
        Learning rate and weight decay.
    t : int
    mu, mu_next : float
        `momentum_factor` of steps t and t + 1.
    mu_product : float
        Π μ up to and with step t.
    """
    corrects = optimizer.code >= 0 and _CORRECTS_BIAS[optimizer.code]  # NO_UPDATE is below 0
    step, step_gradient, inv_sqrt_bias2 = eta, 0.0, 1.0
    if optimizer.code == oc.NADAM:
        step_gradient = eta * (1.0 - mu) / (1.0 - mu_product)
        step = eta * mu_next / (1.0 - mu_product * mu_next)
    elif corrects:
        step = eta / (1.0 - optimizer.beta1**t)
    if corrects:
        inv_sqrt_bias2 = 1.0 / math.sqrt(1.0 - optimizer.beta2**t)
    return StepRates(eta, step, step_gradient, inv_sqrt_bias2, decay)


def step_rates(
    optimizer: np.ndarray,
    learning_rates: np.ndarray,
    decays: np.ndarray,
    optimizer_step: int,
    mu_product: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of a chunk's steps, and NAdam's running product of μ.

    Parameters
    ----------
    optimizer : ndarray (1,) of `opcodes.OPTIMIZER`
    learning_rates, decays : ndarray (steps,) of float64
    optimizer_step : int
        Updates made before the chunk: its first step is t = optimizer_step + 1.
    mu_product : float
        Π μ over those updates.

    Returns
    -------
    rates : ndarray (steps, fields of `StepRates`) of float64
    mu_products : ndarray (steps + 1,) of float64
        Π μ before each step and after the last; constant for optimisers other than NAdam.
    """
    names = optimizer.dtype.names or ()
    record = SimpleNamespace(**dict(zip(names, optimizer[0].item(), strict=True)))
    rates = np.zeros((len(learning_rates), len(StepRates._fields)))
    products = np.full(len(learning_rates) + 1, mu_product, np.float64)
    corrects = record.code >= 0 and _CORRECTS_BIAS[record.code]
    if not corrects:  # also NO_UPDATE
        rates[:, 0] = rates[:, 1] = learning_rates
        rates[:, 3], rates[:, 4] = 1.0, decays
        return rates, products
    of_steps = zip(
        np.asarray(learning_rates, np.float64).tolist(),
        np.asarray(decays, np.float64).tolist(),
        strict=True,
    )
    for k, (eta, decay) in enumerate(of_steps):
        t = optimizer_step + k + 1
        mu, mu_next = momentum_factor(record, t), momentum_factor(record, t + 1)
        mu_product = mu_product * mu
        products[k + 1] = mu_product
        rates[k] = bias_correction(record, eta, decay, t, mu, mu_next, mu_product)
    return rates, products
