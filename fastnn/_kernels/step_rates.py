"""What of an optimiser changes from step to step: learning rates and bias corrections of a chunk.

The host computes them once for a whole chunk, in float64, and every compiled engine reads them from
an array. So no kernel takes powers, and no thread computes the same number again.
"""

import math
import operator
from collections.abc import Callable

import numpy as np

from fastnn._kernels import opcodes as oc

# Columns of the table that `step_rates` returns.
ETA = 0  # learning rate η
STEP = 1  # factor of m: η/(1 − β₁ᵗ) for Adam; η for optimisers without bias correction
STEP_GRADIENT = 2  # factor of the gradient itself: NAdam
INV_SQRT_BIAS2 = 3  # 1/√(1 − β₂ᵗ); 1 for optimisers without bias correction
N_RATES = 4

_LARGEST_SQUARED_EXPONENT = 1 << 16

Power = Callable[[float, int], float]


def step_rates(
    optimizer: np.ndarray,
    learning_rates: np.ndarray,
    optimizer_step: int,
    mu_product: float,
    power: Power = operator.pow,
) -> tuple[np.ndarray, np.ndarray]:
    """Rates of a chunk's steps, and NAdam's running product of μ.

    The loop is scalar on purpose: step t has the same bits wherever a chunk is cut, which NumPy's
    vectorised powers do not promise.

    Parameters
    ----------
    optimizer : ndarray (1,)
        One record of the optimiser; see `opcodes`.
    learning_rates : ndarray (steps,) of float64
    optimizer_step : int
        Updates made before the chunk, so that its first step is t = optimizer_step + 1.
    mu_product : float
        NAdam's Π μ over those updates.
    power : callable
        What raises β₁ and β₂ to the power of t. The default is C's pow;
        `power_by_squaring` has the bits of a Numba kernel's ``float ** int``.

    Returns
    -------
    rates : ndarray (steps, N_RATES) of float64
    mu_products : ndarray (steps + 1,) of float64
        Π μ before each step and after the last; constant for optimisers other than NAdam.
    """
    record, steps = optimizer[0], len(learning_rates)
    products = mu_products(optimizer, steps, optimizer_step, mu_product)
    rates = np.zeros((steps, N_RATES))
    rates[:, ETA] = rates[:, STEP] = learning_rates
    rates[:, INV_SQRT_BIAS2] = 1.0
    code = int(record["code"])
    if code in (oc.ADAM, oc.ADAMW, oc.NADAM):
        beta1, beta2 = float(record["beta1"]), float(record["beta2"])
        for k, eta in enumerate(np.asarray(learning_rates, np.float64).tolist()):
            t, product = optimizer_step + k + 1, float(products[k + 1])
            if code == oc.NADAM:
                mu_next = momentum_factor(record, t + 1)
                rates[k, STEP_GRADIENT] = eta * (1.0 - momentum_factor(record, t)) / (1.0 - product)
                rates[k, STEP] = eta * mu_next / (1.0 - product * mu_next)
            else:
                rates[k, STEP] = eta / (1.0 - power(beta1, t))
            rates[k, INV_SQRT_BIAS2] = 1.0 / math.sqrt(1.0 - power(beta2, t))
    return rates, products


def mu_products(
    optimizer: np.ndarray, steps: int, optimizer_step: int, mu_product: float
) -> np.ndarray:
    """The second result of `step_rates` alone."""
    products = np.full(steps + 1, mu_product, np.float64)
    if optimizer[0]["code"] == oc.NADAM:
        for k in range(steps):
            mu_product = mu_product * momentum_factor(optimizer[0], optimizer_step + k + 1)
            products[k + 1] = mu_product
    return products


def momentum_factor(record: np.void, t: int) -> float:
    """μₜ = β₁ (1 − ½ · 0.96^(tψ)) of NAdam."""
    return float(record["beta1"]) * (1.0 - 0.5 * 0.96 ** (t * float(record["momentum_decay"])))


def power_by_squaring(base: float, exponent: int) -> float:
    """``base ** exponent`` for exponent ≥ 0, bit for bit as Numba compiles ``float64 ** int64``."""
    if exponent > _LARGEST_SQUARED_EXPONENT:
        return math.pow(base, float(exponent))
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        exponent >>= 1
        base *= base
    return result
