"""Optimiser updates: one fused loop over a range of parameters, their gradient and their slots."""

import math

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels import scalars, step_rates
from fastnn._kernels.dispatch import loop_by_code
from fastnn._kernels.elementary import scaled_square
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.tables import OPTIMIZERS

_LARGEST = float(np.finfo(np.float64).max)

momentum_factor = kernel(step_rates.momentum_factor)
bias_correction = kernel(step_rates.bias_correction)


@inline
def _update_loop(code, n_slots, shrinks, c, w, g, m, v):
    """The loop of one formula. Slots that the formula lacks are not touched.

    Returns Σ w² before the update and Σ (Δw)². These sums cost nothing beside the square roots and
    the memory that the loop waits for.
    """
    zero = w.dtype.type(0)
    squares, moved = zero, zero
    for i in range(len(w)):
        old = w[i]
        start = c.decay_factor * old if shrinks else old
        m_i, v_i = m[i] if n_slots > 0 else zero, v[i] if n_slots > 1 else zero
        w[i], m_i, v_i = scalars.update(code, start, g[i] + c.coupled_decay * old, m_i, v_i, c)
        if n_slots > 0:
            m[i] = m_i
        if n_slots > 1:
            v[i] = v_i
        squares += old * old
        moved += (w[i] - old) * (w[i] - old)
    return np.float64(squares), np.float64(moved)


# Code → slots that the formula uses, and whether weight decay may shrink w itself. Adam's loop is
# AdamW's: it shrinks w by a factor of 1.
_SHRINKS = {"adam", "adamw"}
_LITERALS = {row.code: f"{row.n_slots}, {n in _SHRINKS}, " for n, row in OPTIMIZERS.items()}
_LITERALS |= {oc.SGD: "0, False, ", oc.MOMENTUM: "1, False, ", oc.NESTEROV: "1, False, "}
_by_code = kernel(loop_by_code("c, w, g, m, v", _update_loop, _LITERALS, exhaustive=True))
_DECOUPLED = tuple(row.decoupled_decay for row in OPTIMIZERS.values())  # by code


@inline
def _formula(optimizer):
    """Code of the formula: SGD's depends on whether it has a momentum."""
    if optimizer.code != oc.SGD or optimizer.beta1 == 0:
        return optimizer.code
    return oc.NESTEROV if optimizer.nesterov != 0 else oc.MOMENTUM


@kernel
def update(optimizer, rates, w, g, m, v):
    """Take one step on the parameters ``w`` with gradient ``g``: Σ w² before it, and Σ (Δw)².

    ``rates`` is the `StepRates` of these parameters; ``m`` and ``v`` are the slots, empty where the
    optimiser has fewer.
    """
    of, decoupled = w.dtype.type, _DECOUPLED[optimizer.code]
    constants = scalars.UpdateConstants(
        of(rates.eta),
        of(rates.step),
        of(rates.step_gradient),
        of(optimizer.beta1),
        of(1.0 - optimizer.beta1),
        of(optimizer.beta2),
        of(1.0 - optimizer.beta2),
        of(rates.inv_sqrt_bias2),
        of(optimizer.epsilon),
        of(0) if decoupled else of(rates.decay),
        of(1.0 - rates.eta * rates.decay) if decoupled else of(1),
    )
    return _by_code(_formula(optimizer), constants, w, g, m, v)


@kernel
def add_penalties(w, g, l1, l2):
    """g ← g + λ₂ w + λ₁ sign w."""
    lasso, ridge = w.dtype.type(l1), w.dtype.type(l2)
    for i in range(len(w)):
        g[i] += ridge * w[i] + lasso * np.sign(w[i])


@kernel
def clip(g, limit):
    """Each component of g into [−limit, limit]; NaN stays."""
    high = g.dtype.type(limit)
    for i in range(len(g)):
        g[i] = high if g[i] > high else -high if g[i] < -high else g[i]


@kernel
def sum_of_squares(g):
    """Σ g², in float64."""
    total = 0.0
    for i in range(len(g)):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


@kernel
def scaled_squares(x):
    """Σ (2⁻⁶⁰⁰ x)², where Σ x² overflows."""
    total = 0.0
    for i in range(len(x)):
        total += scaled_square(np.float64(x[i]))
    return total


@inline
def norm_of_scaled(squares):
    """A norm from its `scaled_squares`; of a norm beyond the numbers, the largest number."""
    return min(math.sqrt(squares) * 2.0**600, _LARGEST)


@kernel
def limit_columns(w, first, last, max_norm):
    """Scale columns ``first … last − 1`` of w down to Euclidean norm ``max_norm`` where longer."""
    for c in range(first, last):
        total = 0.0
        for r in range(len(w)):
            total += np.float64(w[r, c]) * np.float64(w[r, c])
        if total > max_norm * max_norm:
            length = math.sqrt(total)
            if total == np.inf:  # not isfinite, which re-ordering may fold
                length = norm_of_scaled(scaled_squares(w[:, c]))
            factor = w.dtype.type(max_norm / length)
            for r in range(len(w)):
                w[r, c] *= factor
