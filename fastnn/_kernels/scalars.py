"""Scalar formulas of the Numba engines: activations and derivatives, losses, optimiser updates.

Each formula stands here once, as a plain function of NumPy scalars that is compiled into the
kernels of the CPU and of the GPU. `elementary` says how such functions are written: float32 stays
float32, NaN propagates, and only the common subset of Numba's targets is used.

A formula is found by its name: ``f_NAME`` and ``d_NAME`` for an activation of `tables`, ``l_NAME``
for an elementwise loss, ``u_NAME`` for an optimiser. The chains of ifs that choose one by its code
are generated from the tables. With a literal code, or from an inlined loop that has one, nothing of
the chain is left but one formula.
"""

import math
from typing import NamedTuple

from fastnn._kernels import opcodes as oc
from fastnn._kernels.dispatch import by_code
from fastnn._kernels.elementary import (
    erf,
    exp,
    expm1_negative,
    log1p,
    scalar,
    sigmoid,
    sign,
    tanh,
)
from fastnn._kernels.tables import ACTIVATIONS, LOSSES, OPTIMIZERS

# --- activations f(z, alpha): alpha is a constant of the activation, which most ignore ------------

# replaces −∞ where a factor that has reached 0 by then would make a NaN of it; +∞ likewise
_FAR = 1e4
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_SQRT_HALF, _NORMAL_DENSITY_AT_0 = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)


@scalar
def f_linear(z, alpha):
    """f(z) = z."""
    return z


@scalar
def f_sigmoid(z, alpha):
    """f(z) = 1 / (1 + e⁻ᶻ)."""
    return sigmoid(z)


@scalar
def f_tanh(z, alpha):
    """f(z) = tanh z."""
    return tanh(z)


@scalar
def f_relu(z, alpha):
    """f(z) = max(z, 0)."""
    return type(z)(0) if z < 0 else z


@scalar
def f_leaky_relu(z, alpha):
    """f(z) = z above 0, alpha z below."""
    return z if z > 0 else alpha * z


@scalar
def f_elu(z, alpha):
    """f(z) = z above 0, alpha (eᶻ − 1) below."""
    below = alpha * expm1_negative(type(z)(0) if z > 0 else z)
    return z if z > 0 else below


@scalar
def f_selu(z, alpha):
    """f(z) = scale · ELU(z), which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    below = type(z)(_SELU_SCALE * _SELU_ALPHA) * expm1_negative(type(z)(0) if z > 0 else z)
    return type(z)(_SELU_SCALE) * z if z > 0 else below


@scalar
def normal_distribution(z):
    """Φ(z) = (1 + erf(z/√2)) / 2, with an absolute error of some units in the last place of 1."""
    half = type(z)(0.5)
    return half + half * erf(type(z)(_SQRT_HALF) * z)


@scalar
def f_gelu(z, alpha):
    """f(z) = z Φ(z)."""
    low = type(z)(-_FAR)
    z = low if z < low else z
    return z * normal_distribution(z)


@scalar
def f_silu(z, alpha):
    """f(z) = z σ(z)."""
    low = type(z)(-_FAR)
    z = low if z < low else z
    return z * sigmoid(z)


@scalar
def _mish_parts(z):
    """e = eᶻ, n = e (e + 2) and 1 / (n + 2), for which tanh(softplus z) = n / (n + 2).

    That is 1 from z = 30 on.
    """
    high, two = type(z)(30), type(z)(2)
    e = exp(high if z > high else z)
    n = e * (e + two)
    return e, n, type(z)(1) / (n + two)


@scalar
def f_mish(z, alpha):
    """f(z) = z tanh(ln(1 + eᶻ))."""
    low = type(z)(-_FAR)
    z = low if z < low else z
    _, n, w = _mish_parts(z)
    return z * (n * w)


@scalar
def f_softplus(z, alpha):
    """f(z) = ln(1 + eᶻ) = max(z, 0) + ln(1 + e^−|z|)."""
    return (type(z)(0) if z < 0 else z) + log1p(exp(-abs(z)))


@scalar
def f_softsign(z, alpha):
    """f(z) = z / (1 + |z|)."""
    far = type(z)(1e30)
    z = -far if z < -far else far if z > far else z
    return z / (type(z)(1) + abs(z))


@scalar
def f_hard_sigmoid(z, alpha):
    """f(z) = z/6 + 1/2, clipped to [0, 1]."""
    zero, one = type(z)(0), type(z)(1)
    y = z * type(z)(1 / 6) + type(z)(0.5)
    return zero if y < 0 else one if y > 1 else y


@scalar
def f_hard_tanh(z, alpha):
    """f(z) = z, clipped to [−1, 1]."""
    one = type(z)(1)
    return -one if z < -1 else one if z > 1 else z


# --- derivatives that follow from the output: d(a, alpha) = f′(z) where a = f(z) ------------------


@scalar
def d_linear(a, alpha):
    """f′(z) = 1."""
    return a if math.isnan(a) else type(a)(1)


@scalar
def d_sigmoid(a, alpha):
    """f′(z) = a (1 − a)."""
    return a * (type(a)(1) - a)


@scalar
def d_tanh(a, alpha):
    """f′(z) = 1 − a²."""
    return type(a)(1) - a * a


@scalar
def d_relu(a, alpha):
    """f′(z) = 1 above 0; 0 below and at the kink."""
    return a if math.isnan(a) else type(a)(1) if a > 0 else type(a)(0)


@scalar
def d_leaky_relu(a, alpha):
    """f′(z) = 1 above 0, alpha below; for 0 < alpha < 1, a has the sign of z."""
    return a if math.isnan(a) else type(a)(1) if a > 0 else alpha


@scalar
def d_elu(a, alpha):
    """f′(z) = 1 above 0, alpha eᶻ = a + alpha below."""
    return type(a)(1) if a > 0 else a + alpha


@scalar
def d_selu(a, alpha):
    """f′(z) = scale above 0, scale · alpha eᶻ = a + scale · alpha below."""
    return type(a)(_SELU_SCALE) if a > 0 else a + type(a)(_SELU_SCALE * _SELU_ALPHA)


@scalar
def d_softplus(a, alpha):
    """f′(z) = σ(z) = 1 − e⁻ᵃ."""
    return -expm1_negative(-a)


@scalar
def d_softsign(a, alpha):
    """f′(z) = 1 / (1 + |z|)² = (1 − |a|)²."""
    s = type(a)(1) - abs(a)
    return s * s


@scalar
def d_hard_sigmoid(a, alpha):
    """f′(z) = 1/6 between the bounds 0 and 1, else 0."""
    return a if math.isnan(a) else type(a)(1 / 6) if 0 < a < 1 else type(a)(0)


@scalar
def d_hard_tanh(a, alpha):
    """f′(z) = 1 between the bounds −1 and 1, else 0."""
    return a if math.isnan(a) else type(a)(1) if -1 < a < 1 else type(a)(0)


# --- derivatives from the input: d(z, alpha) = f′(z), where a row `needs_z` -----------------------
# Beside f(z) of the same z they share its exponential or its error function.


@scalar
def d_gelu(z, alpha):
    """f′(z) = Φ(z) + z φ(z)."""
    low, high = type(z)(-_FAR), type(z)(_FAR)
    z = low if z < low else z
    x = high if z > high else z
    density = type(z)(_NORMAL_DENSITY_AT_0) * exp(type(z)(-0.5) * x * x)
    return normal_distribution(z) + x * density


@scalar
def d_silu(z, alpha):
    """f′(z) = σ(z) + z σ(z) (1 − σ(z))."""
    low, high = type(z)(-_FAR), type(z)(_FAR)
    z = low if z < low else z
    s = sigmoid(z)
    return s + s * (type(z)(1) - s) * (high if z > high else z)


@scalar
def d_mish(z, alpha):
    """f′(z) = t + z (1 − t²) σ(z) with t = tanh(softplus z) = n w.

    In terms of e = eᶻ that is n w + 4 z e (e + 1) w².
    """
    low, high = type(z)(-_FAR), type(z)(_FAR)
    z = low if z < low else z
    e, n, w = _mish_parts(z)
    x = high if z > high else z
    return n * w + type(z)(4) * x * (e * (e + type(z)(1)) * w) * w


# --- elementwise losses: l(z, t, c) = (ℓ, ∂ℓ/∂z), where c is the loss's constant ----------------


@scalar
def l_binary_cross_entropy(z, t, c):
    """ℓ = max(z, 0) + log(1 + e^−|z|) − q z with q = (1 − c) t + c/2; ∂ℓ/∂z = σ(z) − q."""
    zero, one, half = type(z)(0), type(z)(1), type(z)(0.5)
    q = (one - c) * t + half * c
    positive = zero if z < 0 else z  # in this order NaN propagates
    return positive + log1p(exp(-abs(z))) - q * z, sigmoid(z) - q


@scalar
def l_mse(z, t, c):
    """ℓ = e² and ∂ℓ/∂z = 2e, with e = z − t."""
    e = z - t
    return e * e, e + e


@scalar
def l_quadratic(z, t, c):
    """ℓ = e²/2 and ∂ℓ/∂z = e, with e = z − t."""
    e = z - t
    return type(z)(0.5) * e * e, e


@scalar
def l_mae(z, t, c):
    """ℓ = |e| and ∂ℓ/∂z = sign e, with e = z − t."""
    e = z - t
    return abs(e), sign(e)


@scalar
def l_huber(z, t, c):
    """ℓ = e²/2 where |e| < c, else c (|e| − c/2); ∂ℓ/∂z = e, clipped to [−c, c]; e = z − t."""
    e, half = z - t, type(z)(0.5)
    inside = abs(e) < c
    return half * e * e if inside else c * (abs(e) - half * c), e if inside else c * sign(e)


@scalar
def l_poisson(z, t, c):
    """ℓ = eᶻ − t z and ∂ℓ/∂z = eᶻ − t."""
    rate = exp(z)
    return rate if math.isinf(rate) else rate - t * z, rate - t  # not ∞ − ∞


@scalar
def l_quantile(z, t, c):
    """ℓ = e ∂ℓ/∂z with ∂ℓ/∂z = 1 − c above the target, −c below it, 0 on it; e = z − t."""
    e = z - t
    slope = type(z)(1) - c if e > 0 else -c if e < 0 else e  # NaN for NaN
    return e * slope, slope


# --- optimisers: u(w, g, m, v, c) = the new (w, m, v), for gradient g and slots m and v -----------


class UpdateConstants(NamedTuple):
    """An optimiser's constants at one step, all of the type of w.

    The complements 1 − β are rounded once from float64: in float32, 1 − 0.999 would be off by 1e-5.
    """

    lr: float  # η
    step: float  # factor of m: η/(1 − β₁ᵗ) of Adam
    step_gradient: float  # factor of g itself: NAdam
    beta1: float  # momentum of SGD, ρ of AdaDelta and RMSProp
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    inv_sqrt_bias2: float  # 1/√(1 − β₂ᵗ)
    epsilon: float
    coupled_decay: float  # λ, where weight decay enters the gradient: g + λ w
    decay_factor: float  # 1 − η λ, where weight decay is decoupled: it shrinks w first


@scalar
def u_sgd(w, g, m, v, c):
    """w ← w − η g."""
    return w - c.lr * g, m, v


@scalar
def u_momentum(w, g, m, v, c):
    """m ← β m + g;  w ← w − η m, in the form of torch.optim.SGD."""
    m = c.beta1 * m + g
    return w - c.lr * m, m, v


@scalar
def u_nesterov(w, g, m, v, c):
    """m ← β m + g;  w ← w − η (g + β m).

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), in
    the form of torch.optim.SGD.
    """
    m = c.beta1 * m + g
    return w - c.lr * (g + c.beta1 * m), m, v


@scalar
def u_adagrad(w, g, m, v, c):
    """m ← m + g²;  w ← w − η g / √(m + ε).

    Duchi, Hazan and Singer, "Adaptive subgradient methods" (2011).
    """
    m = m + g * g
    return w - c.lr * g / type(w)(math.sqrt(m + c.epsilon)), m, v


@scalar
def u_adadelta(w, g, m, v, c):
    """m ← ρ m + (1 − ρ) g²;  Δ = g √(v + ε) / √(m + ε);  v ← ρ v + (1 − ρ) Δ²;  w ← w − η Δ.

    Zeiler, "ADADELTA: an adaptive learning rate method" (2012).
    """
    m = c.beta1 * m + c.one_minus_beta1 * g * g
    delta = type(w)(math.sqrt((v + c.epsilon) / (m + c.epsilon))) * g
    v = c.beta1 * v + c.one_minus_beta1 * delta * delta
    return w - c.lr * delta, m, v


@scalar
def u_rmsprop(w, g, m, v, c):
    """m ← ρ m + (1 − ρ) g²;  w ← w − η g / (√m + ε).

    Tieleman and Hinton, "Neural networks for machine learning", lecture 6.5 (2012).
    """
    m = c.beta1 * m + c.one_minus_beta1 * g * g
    return w - c.lr * g / (type(w)(math.sqrt(m)) + c.epsilon), m, v


@scalar
def u_adam(w, g, m, v, c):
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  w ← w − step m / (√v/√(1 − β₂ᵗ) + ε).

    Kingma and Ba, "Adam" (2015), as in torch.optim.Adam; step = η / (1 − β₁ᵗ).
    """
    m = c.beta1 * m + c.one_minus_beta1 * g
    v = c.beta2 * v + c.one_minus_beta2 * g * g
    return w - c.step * m / (type(w)(math.sqrt(v)) * c.inv_sqrt_bias2 + c.epsilon), m, v


# Decoupled weight decay has shrunk w before: see `tables.OptimizerRow`.
u_adamw = u_adam


@scalar
def u_nadam(w, g, m, v, c):
    """m and v as Adam's;  w ← w − (step_gradient g + step m) / (√v/√(1 − β₂ᵗ) + ε).

    step_gradient = η (1 − μₜ) / (1 − Πμ) and step = η μₜ₊₁ / (1 − Πμ μₜ₊₁). Dozat, "Incorporating
    Nesterov momentum into Adam" (2016), as in torch.optim.NAdam.
    """
    m = c.beta1 * m + c.one_minus_beta1 * g
    v = c.beta2 * v + c.one_minus_beta2 * g * g
    root = type(w)(math.sqrt(v)) * c.inv_sqrt_bias2 + c.epsilon
    return w - (c.step_gradient * g + c.step * m) / root, m, v


# --- by code --------------------------------------------------------------------------------------


def _formulas(prefix, rows):
    """Code → formula of each row."""
    return {row.code: globals()[prefix + name] for name, row in rows.items()}


_FROM_Z = {name: row for name, row in ACTIVATIONS.items() if row.needs_z}
_FROM_OUTPUT = {name: row for name, row in ACTIVATIONS.items() if not row.needs_z}
_ELEMENTWISE = {name: row for name, row in LOSSES.items() if row.elementwise}
UPDATES = {**_formulas("u_", OPTIMIZERS), oc.MOMENTUM: u_momentum, oc.NESTEROV: u_nesterov}

# activate(code, z, alpha) = f(z); derivative(code, a, alpha) = f′(z) from a = f(z); and
# derivative_from_z(code, z, alpha) = f′(z), of activations that need z.
activate = scalar(by_code("z, alpha", _formulas("f_", ACTIVATIONS)))
derivative = scalar(by_code("a, alpha", _formulas("d_", _FROM_OUTPUT)))
derivative_from_z = scalar(by_code("z, alpha", _formulas("d_", _FROM_Z)))
elementwise_loss = scalar(by_code("z, t, c", _formulas("l_", _ELEMENTWISE)))
update = scalar(by_code("w, g, m, v, c", UPDATES))
