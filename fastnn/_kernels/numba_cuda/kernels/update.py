"""Optimisers: the update of one parameter and its slots, once its gradient is known."""

from fastnn._kernels import scalars
from fastnn._kernels.numba_cuda.toolchain.shim import device
from fastnn._kernels.tables import OPTIMIZERS

# A bit for each optimiser, by its code.
_DECOUPLED = sum(1 << row.code for row in OPTIMIZERS.values() if row.decoupled_decay)


@device
def clip(optimizer, g):
    """g, clipped by value where the optimiser says so; NaN stays."""
    high = optimizer.clip_value
    if high > 0:
        return high if g > high else -high if g < -high else g
    return g


@device
def _rated(c, rate):
    """The constants at ``rate`` times the learning rate."""
    return scalars.UpdateConstants(
        rate * c.lr,
        rate * c.step,
        rate * c.step_gradient,
        c.beta1,
        c.one_minus_beta1,
        c.beta2,
        c.one_minus_beta2,
        c.inv_sqrt_bias2,
        c.epsilon,
        c.coupled_decay,
        c.decay_factor,
    )


@device
def update(ctx, optimizer, p, g, rate, decay):
    """Take one step on parameter p of θ with gradient g; return its value before and after.

    ``rate`` is a factor of the learning rate, ``decay`` the weight decay.
    """
    real, length = ctx.theta_out.dtype.type, len(ctx.theta_out)
    old = ctx.theta[p]
    w = old
    if (_DECOUPLED >> optimizer.code) & 1 != 0:
        w = real(1.0 - optimizer.eta * rate * decay) * old
    elif decay > 0:
        g += real(decay) * old
    # The slots that the optimiser has; `scalars.update` passes others through.
    has_m, has_v = len(ctx.slots) > 0, len(ctx.slots) > length
    m = ctx.slots[p] if has_m else old
    v = ctx.slots[length + p] if has_v else old
    constants = _rated(optimizer.constants, rate)
    w, m, v = scalars.update(optimizer.formula, w, g, m, v, constants)
    if has_m:
        ctx.slots[p] = m
    if has_v:
        ctx.slots[length + p] = v
    ctx.theta_out[p] = w
    return old, w
