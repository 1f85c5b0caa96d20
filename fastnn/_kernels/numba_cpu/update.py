"""Optimisers: one fused loop over a stretch of parameters, their gradient and their slots."""

import math
from typing import NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels import scalars
from fastnn._kernels.numba_cpu.compile import kernel


class Rates(NamedTuple):
    """What of a rule changes from step to step, the same for every parameter; float64."""

    eta: float  # learning rate
    step: float  # of m: η/(1 − β₁ᵗ) for Adam
    step_gradient: float  # of g itself: NAdam
    root: float  # 1/√(1 − β₂ᵗ)


@kernel
def rates(rule, eta, t, product):
    """Bias corrections of step t = 1, 2, …; ``product`` is NAdam's Π μ up to and with this step."""
    step, step_gradient, root = eta, 0.0, 1.0
    if rule.code == oc.ADAM or rule.code == oc.ADAMW:
        step = eta / (1.0 - rule.beta1**t)
    if rule.code == oc.NADAM:
        mu_next = momentum_factor(rule, t + 1)
        step_gradient = eta * (1.0 - momentum_factor(rule, t)) / (1.0 - product)
        step = eta * mu_next / (1.0 - product * mu_next)
    if rule.code == oc.ADAM or rule.code == oc.ADAMW or rule.code == oc.NADAM:
        root = 1.0 / math.sqrt(1.0 - rule.beta2**t)
    return Rates(eta, step, step_gradient, root)


@kernel
def momentum_factor(rule, t):
    """μₜ = β₁ (1 − ½ · 0.96^(tψ)) of NAdam; 1 for the other rules."""
    if rule.code != oc.NADAM:
        return 1.0
    return rule.beta1 * (1.0 - 0.5 * 0.96 ** (t * rule.momentum_decay))


@kernel
def update(rule, now, decay, w, g, m, v):
    """Take one step on the parameters ``w`` with gradient ``g``, and return Σ w² before it and Σ
    (Δw)².

    ``decay`` is the weight decay that applies to them; ``m`` and ``v`` are the slots in the order
    in which `scalars` names them, empty where the rule has fewer. The sums cost nothing beside the
    square roots and the memory that these loops wait for.
    """
    of = w.dtype.type
    eta, step, step_gradient, root = of(now.eta), of(now.step), of(now.step_gradient), of(now.root)
    beta1, rest1, beta2, rest2 = (
        of(rule.beta1),
        of(1.0 - rule.beta1),
        of(rule.beta2),
        of(1.0 - rule.beta2),
    )
    eps, coupled, kept = of(rule.epsilon), of(decay), of(1)
    squares, moved = of(0), of(0)
    if rule.code == oc.ADAMW:
        coupled, kept = of(0), of(1.0 - now.eta * decay)
    if rule.code == oc.ADAM or rule.code == oc.ADAMW:
        for i in range(len(w)):
            old = w[i]
            w[i], m[i], v[i] = scalars.adam(
                kept * old,
                g[i] + coupled * old,
                m[i],
                v[i],
                step,
                beta1,
                rest1,
                beta2,
                rest2,
                root,
                eps,
            )
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    elif rule.code == oc.SGD and rule.beta1 == 0:
        for i in range(len(w)):
            old = w[i]
            w[i] = old - eta * (g[i] + coupled * old)
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    elif rule.code == oc.SGD:
        nesterov = rule.nesterov != 0
        for i in range(len(w)):
            old = w[i]
            w[i], m[i] = scalars.sgd_momentum(old, g[i] + coupled * old, m[i], eta, beta1, nesterov)
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    elif rule.code == oc.ADAGRAD:
        for i in range(len(w)):
            old = w[i]
            w[i], m[i] = scalars.adagrad(old, g[i] + coupled * old, m[i], eta, eps)
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    elif rule.code == oc.ADADELTA:
        for i in range(len(w)):
            old = w[i]
            w[i], m[i], v[i] = scalars.adadelta(
                old, g[i] + coupled * old, m[i], v[i], eta, beta1, rest1, eps
            )
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    elif rule.code == oc.RMSPROP:
        for i in range(len(w)):
            old = w[i]
            w[i], m[i] = scalars.rmsprop(old, g[i] + coupled * old, m[i], eta, beta1, rest1, eps)
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    elif rule.code == oc.NADAM:
        for i in range(len(w)):
            old, gradient = w[i], g[i] + coupled * w[i]
            w[i], m[i], v[i] = scalars.nadam(
                old,
                gradient,
                m[i],
                v[i],
                step_gradient,
                step,
                beta1,
                rest1,
                beta2,
                rest2,
                root,
                eps,
            )
            squares += old * old
            moved += (w[i] - old) * (w[i] - old)
    return np.float64(squares), np.float64(moved)


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
def limit_columns(w, first, last, max_norm):
    """Scale columns ``first … last − 1`` of w down to Euclidean norm ``max_norm`` where they are
    longer.
    """
    for c in range(first, last):
        total = 0.0
        for r in range(len(w)):
            total += np.float64(w[r, c]) * np.float64(w[r, c])
        if total > max_norm * max_norm:
            factor = w.dtype.type(max_norm / math.sqrt(total))
            for r in range(len(w)):
                w[r, c] *= factor
