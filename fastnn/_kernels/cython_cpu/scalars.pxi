"""Scalar formulas: elementary functions, activations and their derivatives.

a) Everything inlines, and loops over it vectorise: no calls to the C library, no branches that are
   not selections.
b) NaN comes out where it goes in, and infinities give limits. Comparisons are false for NaN, hence
   the order of selections: ``0 if z < 0 else z`` keeps a NaN, ``z if z > 0 else 0`` would hide it.
c) ``ONE``, ``HALF``, ``<real>0.0625``: a bare literal, an integer one too, becomes a double and
   would drag float32 with it.
"""

cdef extern from "elementary.h":
    real exp_rest(real r) noexcept nogil
    real artanh_rest(real s_squared) noexcept nogil
    real erfc_rest(real t) noexcept nogil
    const double LN2_HIGH, LN2_LOW, EXP_LOWEST, EXP_HIGHEST, ERFC_SLOPE

# --- elementary functions -------------------------------------------------------------------------


cdef inline real remainder(real x, real k) noexcept nogil:
    """x − k ln 2."""
    return multiply_add(-k, <real>LN2_LOW, multiply_add(-k, <real>LN2_HIGH, x))


cdef inline real exponential(real x) noexcept nogil:
    """eˣ = 2ᵏ eʳ with k = round(x / ln 2) and the remainder r = x − k ln 2."""
    x = <real>EXP_LOWEST if x < <real>EXP_LOWEST else x
    x = <real>EXP_HIGHEST if x > <real>EXP_HIGHEST else x
    cdef real k = nearest(x * <real>1.4426950408889634)
    cdef real r = remainder(x, k)
    cdef real y = multiply_add(r * r, exp_rest(r), r) + ONE
    # in two steps, as 2ᵏ overflows before eˣ does, and underflows gradually
    cdef real half = nearest(k * <real>0.5)
    return times_power_of_two(y, half) * power_of_two(k - half)


cdef inline real expm1_negative(real x) noexcept nogil:
    """eˣ − 1 for x ≤ 0, to full relative accuracy: 2ᵏ (eʳ − 1) + (2ᵏ − 1)."""
    x = <real>-45.0 if x < <real>-45.0 else x
    cdef real k = nearest(x * <real>1.4426950408889634)
    cdef real r = remainder(x, k), power = power_of_two(k)
    return multiply_add(power, multiply_add(r * r, exp_rest(r), r), power - ONE)


cdef inline real log1p_unit(real u) noexcept nogil:
    """ln(1 + u) = 2 artanh(s) for 0 ≤ u ≤ 1, with s = u / (2 + u)."""
    cdef real s = u / (TWO + u)
    cdef real t = s * s
    return TWO * multiply_add(s * t, artanh_rest(t), s)


cdef inline real sigmoid(real x) noexcept nogil:
    """1 / (1 + e⁻ˣ), by way of e = exp(−|x|) so that nothing overflows."""
    cdef real e = exponential(-absolute(x))
    return (e if x < ZERO else ONE) / (ONE + e)


cdef inline real hyperbolic_tangent(real x) noexcept nogil:
    """tanh |x| = −d / (2 + d) with d = exp(−2|x|) − 1, which cancels nowhere."""
    cdef real d = expm1_negative(-TWO * absolute(x))
    cdef real y = d / (TWO + d)
    return y if x < ZERO else -y


cdef inline real softplus(real x) noexcept nogil:
    """ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|)."""
    return (ZERO if x < ZERO else x) + log1p_unit(exponential(-absolute(x)))


cdef inline real normal_tail(real z, real* density) noexcept nogil:
    """Φ(−|z|) = erfc(|z|/√2) / 2, and exp(−z²/2), which it contains."""
    cdef real x = absolute(z) * <real>0.7071067811865476
    cdef real t = ONE / multiply_add(<real>ERFC_SLOPE, x, ONE)
    density[0] = exponential(<real>-0.5 * z * z)
    return <real>0.5 * density[0] * t * erfc_rest(t)


cdef inline real bounded(real z, real low, real high) noexcept nogil:
    """z between two bounds; NaN stays."""
    z = low if z < low else z
    return high if z > high else z


# --- activations ----------------------------------------------------------------------------------


cdef inline real selu_scale() noexcept nogil:
    return <real>1.0507009873554805


cdef inline real selu_slope() noexcept nogil:
    """scale · alpha."""
    return <real>(1.0507009873554805 * 1.6732632423543772)


cdef inline real activate(const int code, real z, real alpha) noexcept nogil:
    """f(z); with a constant code nothing of the chain is left but one formula."""
    if code == SIGMOID:
        return sigmoid(z)
    if code == TANH:
        return hyperbolic_tangent(z)
    if code == RELU:
        return ZERO if z < ZERO else z
    if code == LEAKY_RELU:
        return z if z > ZERO else alpha * z
    if code == ELU:
        return z if z > ZERO else alpha * expm1_negative(ZERO if z > ZERO else z)
    if code == SELU:
        return selu_scale() * z if z > ZERO else selu_slope() * expm1_negative(ZERO if z > ZERO else z)
    if code == SOFTPLUS:
        return softplus(z)
    if code == SOFTSIGN:
        z = bounded(z, <real>-1e30, <real>1e30)
        return z / (ONE + absolute(z))
    if code == HARD_SIGMOID:
        return bounded(z * <real>(1.0 / 6.0) + <real>0.5, 0, 1)
    if code == HARD_TANH:
        return bounded(z, -1, 1)
    return z


cdef inline real passing_nan(real y, real value) noexcept nogil:
    """``value``, or NaN where y is."""
    return y if y != y else value


cdef inline real derivative(const int code, real y, real alpha) noexcept nogil:
    """f′(z) as a function of y = f(z); NaN for NaN."""
    if code == SIGMOID:
        return y * (ONE - y)
    if code == TANH:
        return ONE - y * y
    if code == RELU:
        return passing_nan(y, ONE if y > ZERO else ZERO)
    if code == LEAKY_RELU:
        return passing_nan(y, ONE if y > ZERO else alpha)
    if code == ELU:
        return ONE if y > ZERO else y + alpha
    if code == SELU:
        return selu_scale() if y > ZERO else y + selu_slope()
    if code == SOFTPLUS:
        return -expm1_negative(-y)
    if code == SOFTSIGN:
        return (ONE - absolute(y)) * (ONE - absolute(y))
    if code == HARD_SIGMOID:
        return passing_nan(y, <real>(1.0 / 6.0) if y > ZERO and y < ONE else ZERO)
    if code == HARD_TANH:
        return passing_nan(y, ONE if y > -ONE and y < ONE else ZERO)
    return 1


cdef inline real activate_with_derivative(const int code, real z, real alpha, real* d) noexcept nogil:
    """f(z), and f′(z) where it cannot be had from f(z) alone; both share their exponentials."""
    cdef real tail, density, s, e, n, w
    # beyond, a factor has reached 0 and −∞ would make a NaN of it
    z = <real>-1e4 if z < <real>-1e4 else z
    cdef real x = <real>1e4 if z > <real>1e4 else z
    if code == GELU:  # z Φ(z);  Φ(z) + z φ(z)
        tail = normal_tail(x, &density)
        tail = tail if z < ZERO else ONE - tail
        d[0] = multiply_add(x * <real>0.3989422804014327, density, tail)
        return z * tail
    if code == SILU:  # z σ(z);  σ + z σ (1 − σ)
        s = sigmoid(z)
        d[0] = s + s * (ONE - s) * x
        return z * s
    # MISH: z t with t = tanh(softplus z) = n / (n + 2), n = e (e + 2), e = eᶻ;  t + z (1 − t²) σ(z)
    # = t + 4 z e (e + 1) / (n + 2)²
    e = exponential(<real>30.0 if z > <real>30.0 else z)
    n = e * (e + TWO)
    w = ONE / (n + TWO)
    d[0] = n * w + <real>4 * x * (e * (e + ONE) * w) * w
    return z * (n * w)
