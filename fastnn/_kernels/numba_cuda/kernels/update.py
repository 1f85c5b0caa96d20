"""Optimisers: the update of one parameter and its slots, once its gradient is known."""

from fastnn._kernels import opcodes as oc
from fastnn._kernels import scalars
from fastnn._kernels.numba_cuda.toolchain.shim import device


@device
def clip(optimizer, g):
    """g, clipped by value where the optimiser says so; NaN stays."""
    high = optimizer.clip_value
    if high > 0:
        return high if g > high else -high if g < -high else g
    return g


@device
def update(ctx, optimizer, p, g, decay):
    """Take one step on parameter p of θ with gradient g; return its value before and after."""
    real, length = ctx.theta_out.dtype.type, len(ctx.theta_out)
    old = ctx.theta[p]
    w = old
    if optimizer.code == oc.ADAMW:
        w = real(1.0 - optimizer.eta * decay) * old
    elif decay > 0:
        g += real(decay) * old
    # The slots that the optimiser has, in the order in which `scalars` names them.
    has_m, has_v = len(ctx.slots) > 0, len(ctx.slots) > length
    m = ctx.slots[p] if has_m else old
    v = ctx.slots[length + p] if has_v else old
    w, m, v = _apply_update(optimizer, w, g, m, v)
    if has_m:
        ctx.slots[p] = m
    if has_v:
        ctx.slots[length + p] = v
    ctx.theta_out[p] = w
    return old, w


@device
def _apply_update(optimizer, w, g, m, v):
    """The new w, m and v.

    AdamW's weight decay has been applied to ``w``, that of other optimisers to ``g``.
    """
    code, step, epsilon = optimizer.code, optimizer.step, optimizer.epsilon
    eta, beta1, one_minus_beta1 = type(w)(optimizer.eta), optimizer.beta1, optimizer.one_minus_beta1
    beta2, one_minus_beta2 = optimizer.beta2, optimizer.one_minus_beta2
    adam = beta1, one_minus_beta1, beta2, one_minus_beta2, optimizer.inv_sqrt_bias2
    if code == oc.ADAM or code == oc.ADAMW:
        w, m, v = scalars.adam(w, g, m, v, step, *adam, epsilon)
    elif code == oc.SGD and beta1 == 0:
        w -= eta * g
    elif code == oc.SGD:
        w, m = scalars.sgd_momentum(w, g, m, eta, beta1, optimizer.nesterov != 0)
    elif code == oc.ADAGRAD:
        w, m = scalars.adagrad(w, g, m, eta, epsilon)
    elif code == oc.ADADELTA:
        w, m, v = scalars.adadelta(w, g, m, v, eta, beta1, one_minus_beta1, epsilon)
    elif code == oc.RMSPROP:
        w, m = scalars.rmsprop(w, g, m, eta, beta1, one_minus_beta1, epsilon)
    elif code == oc.NADAM:
        w, m, v = scalars.nadam(w, g, m, v, optimizer.step_gradient, step, *adam, epsilon)
    return w, m, v
