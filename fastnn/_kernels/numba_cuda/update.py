"""Optimisers, one parameter at a time: what becomes of it, and of its slots, once its gradient is known."""

from typing import Any, NamedTuple

from fastnn._kernels import opcodes as oc
from fastnn._kernels import scalars
from fastnn._kernels.numba_cuda.rates import N_RATES
from fastnn._kernels.numba_cuda.shim import device


class Rates(NamedTuple):
    """What of a rule changes from step to step, in the network's dtype but for ``eta``; see `rates`."""

    eta: Any
    step: Any
    step_gradient: Any
    root: Any


@device
def rates_of(frame, k):
    """The rates of the chunk's step k."""
    real, at = frame.home.dtype.type, k * N_RATES
    return Rates(frame.rates[at], real(frame.rates[at + 1]), real(frame.rates[at + 2]), real(frame.rates[at + 3]))


@device
def clip(rule, g):
    """g, clipped by value where the rule says so; NaN stays."""
    if rule.clip_value > 0:
        high = type(g)(rule.clip_value)
        return high if g > high else -high if g < -high else g
    return g


@device
def update(frame, now, p, g, decay):
    """Take one step on parameter p of θ with gradient g; returns its value before and after."""
    rule, real = frame.rule[0], frame.home.dtype.type
    length = len(frame.home)
    old = frame.theta[p]
    eta, coupled, w = real(now.eta), real(decay), old
    beta1, rest1, beta2, rest2 = real(rule.beta1), real(1.0 - rule.beta1), real(rule.beta2), real(1.0 - rule.beta2)
    eps = real(rule.epsilon)
    if rule.code == oc.ADAMW:
        w = real(1.0 - now.eta * decay) * old
        w, m, v = scalars.adam(w, g, frame.slots[p], frame.slots[length + p], now.step, beta1, rest1, beta2, rest2, now.root, eps)
        frame.slots[p], frame.slots[length + p] = m, v
        frame.home[p] = w
        return old, w
    g += coupled * old
    if rule.code == oc.ADAM:
        w, m, v = scalars.adam(old, g, frame.slots[p], frame.slots[length + p], now.step, beta1, rest1, beta2, rest2, now.root, eps)
        frame.slots[p], frame.slots[length + p] = m, v
    elif rule.code == oc.SGD and rule.beta1 == 0:
        w = old - eta * g
    elif rule.code == oc.SGD:
        w, m = scalars.sgd_momentum(old, g, frame.slots[p], eta, beta1, rule.nesterov != 0)
        frame.slots[p] = m
    elif rule.code == oc.ADAGRAD:
        w, m = scalars.adagrad(old, g, frame.slots[p], eta, eps)
        frame.slots[p] = m
    elif rule.code == oc.ADADELTA:
        w, m, v = scalars.adadelta(old, g, frame.slots[p], frame.slots[length + p], eta, beta1, rest1, eps)
        frame.slots[p], frame.slots[length + p] = m, v
    elif rule.code == oc.RMSPROP:
        w, m = scalars.rmsprop(old, g, frame.slots[p], eta, beta1, rest1, eps)
        frame.slots[p] = m
    elif rule.code == oc.NADAM:
        m, v = frame.slots[p], frame.slots[length + p]
        w, m, v = scalars.nadam(old, g, m, v, now.step_gradient, now.step, beta1, rest1, beta2, rest2, now.root, eps)
        frame.slots[p], frame.slots[length + p] = m, v
    frame.home[p] = w
    return old, w
