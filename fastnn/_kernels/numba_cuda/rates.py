"""What of an optimiser's rule changes from step to step, for a whole chunk at once: a few numbers a step, worked out on the host.

So no thread of the device has to take powers, and the steps read theirs from memory.
"""

import numpy as np

from fastnn._kernels import opcodes as oc

N_RATES = 4  # of a step: η, the factor of m, the factor of g (NAdam), 1/√(1 − β₂ᵗ)


def chunk_rates(rule: np.ndarray, rates: np.ndarray, optimizer_step: int, product: float) -> tuple[np.ndarray, np.ndarray]:
    """Rates of a chunk's steps, and NAdam's running product of μ before each and after the last.

    Parameters
    ----------
    rule : (1,) opcodes.RULE
    rates : (steps,)
        Learning rates η.
    optimizer_step : int
        Updates made before the chunk.
    product : float
        Π μ up to there.

    Returns
    -------
    (steps, N_RATES) float64, (steps + 1,) float64
    """
    rule = rule[0]
    t = optimizer_step + 1.0 + np.arange(len(rates))
    table = np.zeros((len(rates), N_RATES))
    table[:, 0] = table[:, 1] = rates
    table[:, 3] = 1.0
    products = np.full(len(rates) + 1, product)
    if rule["code"] in (oc.ADAM, oc.ADAMW):
        table[:, 1] = rates / (1.0 - rule["beta1"] ** t)
    if rule["code"] == oc.NADAM:
        mu, mu_next = (rule["beta1"] * (1.0 - 0.5 * 0.96 ** (u * rule["momentum_decay"])) for u in (t, t + 1.0))
        products[1:] = product * np.cumprod(mu)
        table[:, 1] = rates * mu_next / (1.0 - products[1:] * mu_next)
        table[:, 2] = rates * (1.0 - mu) / (1.0 - products[1:])
    if rule["code"] in (oc.ADAM, oc.ADAMW, oc.NADAM):
        table[:, 3] = 1.0 / np.sqrt(1.0 - rule["beta2"] ** t)
    return table, products
