"""Optimisers, one parameter at a time: what becomes of it, and of its slots, once its gradient is
known.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels import scalars
from fastnn._kernels.numba_cuda.toolchain.shim import device


@device
def clip(rule, g):
    """g, clipped by value where the rule says so; NaN stays."""
    high = rule.clip_value
    if high > 0:
        return high if g > high else -high if g < -high else g
    return g


@device
def update(frame, rule, p, g, decay):
    """Take one step on parameter p of θ with gradient g; returns its value before and after."""
    real, length = frame.home.dtype.type, len(frame.home)
    old, eta = frame.theta[p], real(rule.eta)
    w, kept = old, old
    if rule.code == oc.ADAMW:
        kept = real(1.0 - rule.eta * decay) * old
    elif decay > 0:
        g += real(decay) * old
    if rule.code == oc.ADAM or rule.code == oc.ADAMW:
        m, v = frame.slots[p], frame.slots[length + p]
        w, m, v = scalars.adam(
            kept,
            g,
            m,
            v,
            rule.step,
            rule.beta1,
            rule.rest1,
            rule.beta2,
            rule.rest2,
            rule.root,
            rule.epsilon,
        )
        frame.slots[p], frame.slots[length + p] = m, v
    elif rule.code == oc.SGD and rule.beta1 == 0:
        w = old - eta * g
    elif rule.code == oc.SGD:
        w, m = scalars.sgd_momentum(old, g, frame.slots[p], eta, rule.beta1, rule.nesterov != 0)
        frame.slots[p] = m
    elif rule.code == oc.ADAGRAD:
        w, m = scalars.adagrad(old, g, frame.slots[p], eta, rule.epsilon)
        frame.slots[p] = m
    elif rule.code == oc.ADADELTA:
        m, v = frame.slots[p], frame.slots[length + p]
        w, m, v = scalars.adadelta(old, g, m, v, eta, rule.beta1, rule.rest1, rule.epsilon)
        frame.slots[p], frame.slots[length + p] = m, v
    elif rule.code == oc.RMSPROP:
        w, m = scalars.rmsprop(old, g, frame.slots[p], eta, rule.beta1, rule.rest1, rule.epsilon)
        frame.slots[p] = m
    elif rule.code == oc.NADAM:
        m, v, step_gradient = frame.slots[p], frame.slots[length + p], rule.step_gradient
        w, m, v = scalars.nadam(
            old, g, m, v, step_gradient, rule.step, rule.beta1, rule.rest1, rule.beta2, rule.rest2, rule.root, rule.epsilon
        )  # fmt: skip
        frame.slots[p], frame.slots[length + p] = m, v
    frame.home[p] = w
    return old, w
