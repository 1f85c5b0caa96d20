"""What of an optimiser's rule changes from step to step, for a whole chunk at once: a few numbers a
step, worked out on the host.

So no thread of the device has to take powers, and the steps read theirs from memory.
"""

import numpy as np

from fastnn._kernels import opcodes as oc

N_RATES = 4  # of a step: η, the factor of m, the factor of g (NAdam), 1/√(1 − β₂ᵗ)


def running_products(
    rule: np.ndarray, steps: int, optimizer_step: int, product: float
) -> np.ndarray:
    """NAdam's Π μ before each of a chunk's steps and after the last, (steps + 1,) float64; other
    rules leave it as it was.

    Parameters
    ----------
    rule : (1,) opcodes.RULE
    steps : int
    optimizer_step : int
        Updates made before the chunk.
    product : float
        Π μ up to there.
    """
    if rule[0]["code"] != oc.NADAM:
        return np.full(steps + 1, product)
    t = optimizer_step + 1.0 + np.arange(steps)
    # one by one, so it does not matter where a chunk is cut
    return np.multiply.accumulate([product, *_momentum_factor(rule[0], t)])


def chunk_rates(
    rule: np.ndarray, rates: np.ndarray, optimizer_step: int, product: float
) -> np.ndarray:
    """Rates of a chunk's steps, (steps, N_RATES) float64.

    Parameters
    ----------
    rule, optimizer_step, product
        As `running_products` takes them.
    rates : (steps,)
        Learning rates η.
    """
    products, rule = running_products(rule, len(rates), optimizer_step, product)[1:], rule[0]
    t = optimizer_step + 1.0 + np.arange(len(rates))
    table = np.zeros((len(rates), N_RATES))
    table[:, 0] = table[:, 1] = rates
    table[:, 3] = 1.0
    if rule["code"] in (oc.ADAM, oc.ADAMW):
        table[:, 1] = rates / (1.0 - rule["beta1"] ** t)
    if rule["code"] == oc.NADAM:
        mu, mu_next = _momentum_factor(rule, t), _momentum_factor(rule, t + 1.0)
        table[:, 1] = rates * mu_next / (1.0 - products * mu_next)
        table[:, 2] = rates * (1.0 - mu) / (1.0 - products)
    if rule["code"] in (oc.ADAM, oc.ADAMW, oc.NADAM):
        table[:, 3] = 1.0 / np.sqrt(1.0 - rule["beta2"] ** t)
    return table


def _momentum_factor(rule: np.void, t: np.ndarray) -> np.ndarray:
    """μₜ = β₁ (1 − ½ · 0.96^(tψ)) of NAdam."""
    return rule["beta1"] * (1.0 - 0.5 * 0.96 ** (t * rule["momentum_decay"]))
