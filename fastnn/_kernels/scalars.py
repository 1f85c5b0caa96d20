"""Scalar formulas of the Numba engines: elementary functions, activations with their derivatives,
and update rules.

Each formula stands here once. The functions are ordinary Python on NumPy scalars and are compiled
into the kernels that call them.

a) **Everything inlines, loops vectorise.** Numba's vector maths library is gone, and a call to the
   C library's ``exp`` stops LLVM from vectorising; exp, log1p, tanh and erf are therefore short
   polynomials without branches (``tools/fit_polynomials.py`` fits them). In float32 `exp` and
   `expm1_negative` err by less than 1 unit in the last place, `log1p`, `tanh` and `sigmoid` by less
   than 2, `erf` by less than 3, wherever the result is a normal number: tried for every float32,
   with fused multiply-add and without.
b) **float32 stays float32.** In Numba ``float32 * 0.5`` and ``float32 + 1`` are float64, so
   constants that enter arithmetic are written ``type(x)(0.5)``. A comparison may keep its literal
   where float32 has the number: ``x > 0`` and ``x < 0.625`` are narrowed again, ``x > 0.6`` is not.
c) **NaN comes out wherever it goes in**, so divergence stays visible; infinities give limits.
   Comparisons are false for NaN, hence the order of the branches below: ``0 if z < 0 else z`` keeps
   a NaN, ``z if z > 0 else 0`` would hide it, and so does ``max`` on CUDA.
d) **Own fastmath flags.** LLVM's flags belong to each instruction and survive inlining. ``reassoc``
   would undo the rounding and the two-part ln 2 of `_exp_parts` and the correction in `sigmoid`, so
   these functions do without, whatever their caller uses; ``nnan`` and ``ninf`` would break (c).
   Numba's CUDA target takes any flag at all as leave to divide float32 by ``fast_fdividef``: it
   errs by up to 2 units in the last place, and gives 0 for divisors above 2¹²⁶, so none here may be
   that large and matter.
e) **Common subset.** NumPy's ufuncs do not compile for scalars on CUDA; roots are ``math.sqrt``,
   which plain Python needs cast back to the type of x (compiled, the cast is nothing).
f) **A constant code folds.** `activate`, `derivative` and `derivative_from_z` are chains of ifs.
   Called with a literal code, or from a ``forceinline`` loop that is, nothing of the chain but one
   formula is left.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from fastnn._kernels import opcodes as oc

_OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "forceinline": True}
_scalar = register_jitable(**_OPTIONS)


def _by_precision(single, double):
    """The function of x that is ``single`` for float32 and ``double`` for float64."""

    def function(x):
        return single(x) if isinstance(x, np.float32) else double(x)

    @overload(function, jit_options=_OPTIONS)
    def _(x):
        return single if x == types.float32 else double

    return function


def _constants(single, double):
    """The function of x that is the one tuple of numbers or the other, in x's own type."""
    single = tuple(np.float32(c) for c in single)
    return _by_precision(lambda x: single, lambda x: double)


# --- elementary functions -------------------------------------------------------------------------

# log₂e; ln 2 in two parts, k · high being exact for every k that occurs; the number whose addition
# leaves no place for a fraction
_REDUCTION = _constants(
    (1.4426950408889634, 0.693359375, -2.12194440e-4, 1.5 * 2**23),
    (1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10, 1.5 * 2**52),
)
_EXP_RANGE = _constants((-104.0, 89.0), (-746.0, 710.0))  # outside it exp is 0 or ∞

# Highest power first.
_EXPM1 = _constants(
    (0.00019741752, 0.0013933713, 0.008333568, 0.041666478, 0.16666666, 0.5),
    (
        2.505730075384317e-08,
        2.7626380878372624e-07,
        2.7557396378872685e-06,
        2.48015043429239e-05,
        0.00019841269731684806,
        0.0013888888932433977,
        0.008333333333383526,
        0.04166666666657355,
        0.166666666666666,
        0.5000000000000006,
    ),
)
_LOG1P = _constants(
    (0.28022194, 0.27999416, 0.40021703, 0.6666641),
    (
        0.1774481864816799,
        0.09900122342465772,
        0.13586918939207865,
        0.15364221720317536,
        0.18182819387689622,
        0.22222192676376928,
        0.2857142906360286,
        0.3999999999597968,
        0.6666666666667802,
    ),
)
_TANH = _constants(
    (-0.0056977225, 0.020632116, -0.053737402, 0.13331412, -0.3333328),
    (
        -1.6040317874331135e-05,
        7.707437622915607e-05,
        -0.00022849853254458088,
        0.0005862816538498351,
        -0.001454947348637798,
        0.003591986720264145,
        -0.008863220666350846,
        0.021869487547273025,
        -0.05396825392982384,
        0.13333333333258404,
        -0.3333333333333282,
    ),
)
_ERF = tuple(
    np.float32(c)
    for c in (
        7.842288e-05,
        -0.0008006793,
        0.0051879627,
        -0.026853643,
        0.112835824,
        -0.37612626,
        0.12837917,
    )
)
_ERFC = tuple(
    np.float32(c)
    for c in (
        1.5652851e-05,
        0.00023394659,
        -5.1231473e-05,
        -0.0037435216,
        0.01039849,
        0.039879676,
        -0.2521597,
        0.37687144,
    )
)


def _power_of_two_32(x):
    return np.int32((np.int32(x) + 127) << 23).view(np.float32)


def _power_of_two_64(x):
    # by way of int32: AVX2 has no conversion to int64
    return np.int64((np.int64(np.int32(x)) + 1023) << 52).view(np.float64)


# 2ˣ of a whole number x, by writing the exponent; 2ˣ must be a normal number
_power_of_two = _by_precision(_power_of_two_32, _power_of_two_64)


@_scalar
def _exp_parts(x):
    """k and q with eˣ = 2ᵏ (1 + q): k = round(x / ln 2), q = expm1(r) = r + r² p(r) of the
    remainder r = x − k ln 2.
    """
    log2e, ln2_high, ln2_low, rounder = _REDUCTION(x)
    k = (x * log2e + rounder) - rounder
    r = x - k * ln2_high - k * ln2_low
    coefficients = _EXPM1(x)
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * r + c
    return k, r + r * r * p


@_scalar
def exp(x):
    """eˣ."""
    lowest, highest = _EXP_RANGE(x)
    x = lowest if x < lowest else x
    x = highest if x > highest else x
    k, q = _exp_parts(x)
    # in two steps, as 2ᵏ overflows before eˣ does, and underflows gradually
    half = type(x)(np.int32(k * type(x)(0.5)))
    return (type(x)(1) + q) * _power_of_two(half) * _power_of_two(k - half)


@_scalar
def expm1_negative(x):
    """eˣ − 1 for x ≤ 0, to full relative accuracy: 2ᵏ (1 + q) − 1 = 2ᵏ q + (2ᵏ − 1)."""
    lowest = type(x)(-45)
    k, q = _exp_parts(lowest if x < lowest else x)
    power = _power_of_two(k)
    return power * q + (power - type(x)(1))


@_scalar
def log1p(u):
    """ln(1 + u) for 0 ≤ u ≤ 1, as 2 artanh(s) = 2 s + s³ p(s²) with s = u / (2 + u)."""
    two = type(u)(2)
    s = u / (two + u)
    t = s * s
    coefficients = _LOG1P(u)
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * t + c
    return two * s + s * t * p


@_scalar
def tanh(x):
    """x + x³ p(x²) for |x| < 5/8, where e = exp(−2|x|) would cancel; from there on tanh |x| = 1 −
    2e / (1 + e).
    """
    t = x * x
    coefficients = _TANH(x)
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * t + c
    one, y, lowest = type(x)(1), type(x)(-2) * abs(x), type(x)(-45)
    k, q = _exp_parts(lowest if y < lowest else y)
    power = _power_of_two(k)
    e = power + power * q
    far = one - (e + e) / (one + e)
    return x + x * (t * p) if abs(x) < 0.625 else -far if x < 0 else far


@_scalar
def sigmoid(x):
    """1 / s, or e / s below 0, with e = exp(−|x|) and s = 1 + e; what rounding takes from s is made
    up for to first order (s ≈ 1).
    """
    one = type(x)(1)
    e = exp(-abs(x))
    s = one + e
    y = (e if x < 0 else one) / s
    return y - y * (e - (s - one))


def _erf_32(x):
    """x + x p(x²) below 1, 1 − q(x − 5/2)⁸ above, for x ≥ 0: a power of q is nearer to a Gaussian
    tail than any short polynomial.
    """
    t = x * x
    p = _ERF[0]
    for c in _ERF[1:]:
        p = p * t + c
    a = abs(x)
    # 1 − erf(4) is less than half a unit in the last place
    y = (np.float32(4) if a > 4 else a) - np.float32(2.5)
    q = _ERFC[0]
    for c in _ERFC[1:]:
        q = q * y + c
    q *= q
    q *= q
    tail = np.float32(1) - q * q
    return x + x * p if a < 1 else -tail if x < 0 else tail


def _erf_64(x):
    return np.float64(math.erf(x))


# the error function 2/√π ∫₀ˣ exp(−t²) dt; in float64 a call to the C library, which does not
# vectorise
erf = _by_precision(_erf_32, _erf_64)


# --- activations f(z, alpha): alpha is a constant of the activation, which most ignore ------------

# replaces −∞ where a factor that has reached 0 by then would make a NaN of it; +∞ likewise
_FAR = 1e4
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
_SQRT_HALF, _NORMAL_DENSITY_AT_0 = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)


@_scalar
def f_linear(z, alpha):
    """f(z) = z."""
    return z


@_scalar
def f_sigmoid(z, alpha):
    """f(z) = 1 / (1 + e⁻ᶻ)."""
    return sigmoid(z)


@_scalar
def f_tanh(z, alpha):
    """f(z) = tanh z."""
    return tanh(z)


@_scalar
def f_relu(z, alpha):
    """f(z) = max(z, 0)."""
    return type(z)(0) if z < 0 else z


@_scalar
def f_leaky_relu(z, alpha):
    """f(z) = z above 0, alpha z below."""
    return z if z > 0 else alpha * z


@_scalar
def f_elu(z, alpha):
    """f(z) = z above 0, alpha (eᶻ − 1) below."""
    below = alpha * expm1_negative(type(z)(0) if z > 0 else z)
    return z if z > 0 else below


@_scalar
def f_selu(z, alpha):
    """f(z) = scale · ELU(z) with the two constants that keep mean 0 and variance 1 (Klambauer et
    al. 2017).
    """
    below = type(z)(_SELU_SCALE * _SELU_ALPHA) * expm1_negative(type(z)(0) if z > 0 else z)
    return type(z)(_SELU_SCALE) * z if z > 0 else below


@_scalar
def normal_distribution(z):
    """Φ(z) = (1 + erf(z/√2)) / 2, with an absolute error of some units in the last place of 1."""
    half = type(z)(0.5)
    return half + half * erf(type(z)(_SQRT_HALF) * z)


@_scalar
def f_gelu(z, alpha):
    """f(z) = z Φ(z)."""
    low = type(z)(-_FAR)
    z = low if z < low else z
    return z * normal_distribution(z)


@_scalar
def f_silu(z, alpha):
    """f(z) = z σ(z)."""
    low = type(z)(-_FAR)
    z = low if z < low else z
    return z * sigmoid(z)


@_scalar
def _mish_parts(z):
    """e = eᶻ, n = e (e + 2) and 1 / (n + 2), for which tanh(softplus z) = n / (n + 2); that is 1
    from z = 30 on.
    """
    high, two = type(z)(30), type(z)(2)
    e = exp(high if z > high else z)
    n = e * (e + two)
    return e, n, type(z)(1) / (n + two)


@_scalar
def f_mish(z, alpha):
    """f(z) = z tanh(ln(1 + eᶻ))."""
    low = type(z)(-_FAR)
    z = low if z < low else z
    _, n, w = _mish_parts(z)
    return z * (n * w)


@_scalar
def f_softplus(z, alpha):
    """f(z) = ln(1 + eᶻ) = max(z, 0) + ln(1 + e^−|z|)."""
    return (type(z)(0) if z < 0 else z) + log1p(exp(-abs(z)))


@_scalar
def f_softsign(z, alpha):
    """f(z) = z / (1 + |z|)."""
    far = type(z)(1e30)
    z = -far if z < -far else far if z > far else z
    return z / (type(z)(1) + abs(z))


@_scalar
def f_hard_sigmoid(z, alpha):
    """f(z) = z/6 + 1/2, clipped to [0, 1]."""
    zero, one = type(z)(0), type(z)(1)
    y = z * type(z)(1 / 6) + type(z)(0.5)
    return zero if y < 0 else one if y > 1 else y


@_scalar
def f_hard_tanh(z, alpha):
    """f(z) = z, clipped to [−1, 1]."""
    one = type(z)(1)
    return -one if z < -1 else one if z > 1 else z


# --- derivatives that follow from the output: d(a, alpha) = f′(z) where a = f(z) ------------------


@_scalar
def d_linear(a, alpha):
    """f′(z) = 1."""
    return a if math.isnan(a) else type(a)(1)


@_scalar
def d_sigmoid(a, alpha):
    """f′(z) = a (1 − a)."""
    return a * (type(a)(1) - a)


@_scalar
def d_tanh(a, alpha):
    """f′(z) = 1 − a²."""
    return type(a)(1) - a * a


@_scalar
def d_relu(a, alpha):
    """f′(z) = 1 above 0; 0 below and at the kink."""
    return a if math.isnan(a) else type(a)(1) if a > 0 else type(a)(0)


@_scalar
def d_leaky_relu(a, alpha):
    """f′(z) = 1 above 0, alpha below; for 0 < alpha < 1, a has the sign of z."""
    return a if math.isnan(a) else type(a)(1) if a > 0 else alpha


@_scalar
def d_elu(a, alpha):
    """f′(z) = 1 above 0, alpha eᶻ = a + alpha below."""
    return type(a)(1) if a > 0 else a + alpha


@_scalar
def d_selu(a, alpha):
    """f′(z) = scale above 0, scale · alpha eᶻ = a + scale · alpha below."""
    return type(a)(_SELU_SCALE) if a > 0 else a + type(a)(_SELU_SCALE * _SELU_ALPHA)


@_scalar
def d_softplus(a, alpha):
    """f′(z) = σ(z) = 1 − e⁻ᵃ."""
    return -expm1_negative(-a)


@_scalar
def d_softsign(a, alpha):
    """f′(z) = 1 / (1 + |z|)² = (1 − |a|)²."""
    s = type(a)(1) - abs(a)
    return s * s


@_scalar
def d_hard_sigmoid(a, alpha):
    """f′(z) = 1/6 between the bounds 0 and 1, else 0."""
    return a if math.isnan(a) else type(a)(1 / 6) if 0 < a < 1 else type(a)(0)


@_scalar
def d_hard_tanh(a, alpha):
    """f′(z) = 1 between the bounds −1 and 1, else 0."""
    return a if math.isnan(a) else type(a)(1) if -1 < a < 1 else type(a)(0)


# --- derivatives that need the input: d(z, alpha) = f′(z), for `opcodes.DERIVATIVE_NEEDS_Z` -------
# Beside f(z) of the same z they share its exponential or its error function.


@_scalar
def d_gelu(z, alpha):
    """f′(z) = Φ(z) + z φ(z)."""
    low, high = type(z)(-_FAR), type(z)(_FAR)
    z = low if z < low else z
    x = high if z > high else z
    density = type(z)(_NORMAL_DENSITY_AT_0) * exp(type(z)(-0.5) * x * x)
    return normal_distribution(z) + x * density


@_scalar
def d_silu(z, alpha):
    """f′(z) = σ(z) + z σ(z) (1 − σ(z))."""
    low, high = type(z)(-_FAR), type(z)(_FAR)
    z = low if z < low else z
    s = sigmoid(z)
    return s + s * (type(z)(1) - s) * (high if z > high else z)


@_scalar
def d_mish(z, alpha):
    """f′(z) = t + z (1 − t²) σ(z) with t = tanh(softplus z) = n w: in terms of e = eᶻ, n w + 4 z e
    (e + 1) w².
    """
    low, high = type(z)(-_FAR), type(z)(_FAR)
    z = low if z < low else z
    e, n, w = _mish_parts(z)
    x = high if z > high else z
    return n * w + type(z)(4) * x * (e * (e + type(z)(1)) * w) * w


# --- by code --------------------------------------------------------------------------------------


@_scalar
def activate(code, z, alpha):
    """Activation ``code`` of z."""
    if code == oc.SIGMOID:
        return f_sigmoid(z, alpha)
    if code == oc.TANH:
        return f_tanh(z, alpha)
    if code == oc.RELU:
        return f_relu(z, alpha)
    if code == oc.LEAKY_RELU:
        return f_leaky_relu(z, alpha)
    if code == oc.ELU:
        return f_elu(z, alpha)
    if code == oc.SELU:
        return f_selu(z, alpha)
    if code == oc.GELU:
        return f_gelu(z, alpha)
    if code == oc.SILU:
        return f_silu(z, alpha)
    if code == oc.MISH:
        return f_mish(z, alpha)
    if code == oc.SOFTPLUS:
        return f_softplus(z, alpha)
    if code == oc.SOFTSIGN:
        return f_softsign(z, alpha)
    if code == oc.HARD_SIGMOID:
        return f_hard_sigmoid(z, alpha)
    if code == oc.HARD_TANH:
        return f_hard_tanh(z, alpha)
    return f_linear(z, alpha)


@_scalar
def derivative(code, a, alpha):
    """f′(z) of activation ``code`` from its output a = f(z); not for
    `opcodes.DERIVATIVE_NEEDS_Z`.
    """
    if code == oc.SIGMOID:
        return d_sigmoid(a, alpha)
    if code == oc.TANH:
        return d_tanh(a, alpha)
    if code == oc.RELU:
        return d_relu(a, alpha)
    if code == oc.LEAKY_RELU:
        return d_leaky_relu(a, alpha)
    if code == oc.ELU:
        return d_elu(a, alpha)
    if code == oc.SELU:
        return d_selu(a, alpha)
    if code == oc.SOFTPLUS:
        return d_softplus(a, alpha)
    if code == oc.SOFTSIGN:
        return d_softsign(a, alpha)
    if code == oc.HARD_SIGMOID:
        return d_hard_sigmoid(a, alpha)
    if code == oc.HARD_TANH:
        return d_hard_tanh(a, alpha)
    return d_linear(a, alpha)


@_scalar
def derivative_from_z(code, z, alpha):
    """f′(z) of an activation of `opcodes.DERIVATIVE_NEEDS_Z` from its input z."""
    if code == oc.GELU:
        return d_gelu(z, alpha)
    if code == oc.SILU:
        return d_silu(z, alpha)
    return d_mish(z, alpha)


# --- update rules: the new values of parameter w and of its slots from gradient g -----------------
# Rates and constants come in the type of w. So do the complements 1 − ρ and 1 − β, as `rest`: in
# float32, 1 − 0.999 would be off by 1e-5.


@_scalar
def sgd_momentum(w, g, m, lr, beta, nesterov):
    """m ← β m + g;  w ← w − η m, or with Nesterov's look-ahead w − η (g + β m).

    Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013), in
    the form of torch.optim.SGD.
    """
    m = beta * m + g
    return w - lr * (g + beta * m if nesterov else m), m


@_scalar
def adagrad(w, g, s, lr, eps):
    """s ← s + g²;  w ← w − η g / √(s + ε).

    Duchi, Hazan and Singer, "Adaptive subgradient methods" (2011).
    """
    s = s + g * g
    return w - lr * g / type(w)(math.sqrt(s + eps)), s


@_scalar
def adadelta(w, g, s, d, lr, rho, rest, eps):
    """s ← ρ s + rest g²;  Δ = g √(d + ε) / √(s + ε);  d ← ρ d + rest Δ²;  w ← w − η Δ, with rest =
    1 − ρ.

    Zeiler, "ADADELTA: an adaptive learning rate method" (2012).
    """
    s = rho * s + rest * g * g
    delta = type(w)(math.sqrt((d + eps) / (s + eps))) * g
    d = rho * d + rest * delta * delta
    return w - lr * delta, s, d


@_scalar
def rmsprop(w, g, s, lr, rho, rest, eps):
    """s ← ρ s + rest g²;  w ← w − η g / (√s + ε), with rest = 1 − ρ.

    Tieleman and Hinton, "Neural networks for machine learning", lecture 6.5 (2012).
    """
    s = rho * s + rest * g * g
    return w - lr * g / (type(w)(math.sqrt(s)) + eps), s


@_scalar
def adam(w, g, m, v, step, beta1, rest1, beta2, rest2, root, eps):
    """m ← β₁ m + rest1 g;  v ← β₂ v + rest2 g²;  w ← w − step · m / (root · √v + ε).

    With rest = 1 − β, step = η / (1 − β₁ᵗ) and root = 1 / √(1 − β₂ᵗ) this is Kingma and Ba, "Adam"
    (2015), as in torch.optim.Adam.
    """
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * g * g
    return w - step * m / (type(w)(math.sqrt(v)) * root + eps), m, v


@_scalar
def nadam(w, g, m, v, step_g, step_m, beta1, rest1, beta2, rest2, root, eps):
    """m and v as in `adam`;  w ← w − (step_g · g + step_m · m) / (root · √v + ε).

    With step_g = η (1 − μₜ) / (1 − Πμ), step_m = η μₜ₊₁ / (1 − Πμ · μₜ₊₁) and root = 1 / √(1 − β₂ᵗ)
    this is Dozat, "Incorporating Nesterov momentum into Adam" (2016), as in torch.optim.NAdam.
    """
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * g * g
    return w - (step_g * g + step_m * m) / (type(w)(math.sqrt(v)) * root + eps), m, v
