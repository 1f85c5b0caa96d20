"""Scalar formulas: elementary functions, activations and derivatives, optimisers.

The build generates the functions that loop over activations (``dispatch.pxi``). It finds a formula
by its name: ``f_NAME`` and ``d_NAME`` for an activation of `tables`, ``fd_NAME`` for one that needs
z. An optimiser is a branch of `update_loop`.

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
    real sine_factor(real r_squared) noexcept nogil
    real cosine_rest(real r_squared) noexcept nogil
    const real MOST_TURNS
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


cdef inline real cos_sin_turns(real t, real* sine) noexcept nogil:
    """cos 2πt, and sin 2πt; NaN of ±∞.

    q = round(4 t′) quarters of a turn, of t′ = t − round(t), leave r with |r| ≤ 1/8. sin 2πr and
    cos 2πr change places where q is odd.
    """
    cdef real size = absolute(t)
    t = t if size < MOST_TURNS else ZERO if size <= LARGEST else <real>NAN
    t -= nearest(t)
    cdef real q = nearest(<real>4 * t)
    cdef real r = multiply_add(<real>-0.25, q, t)
    cdef real square = r * r
    cdef real s = r * sine_factor(square), c = multiply_add(square, cosine_rest(square), ONE)
    cdef bint swaps = absolute(q) == ONE
    cdef real cosine = s if swaps else c
    s = c if swaps else s
    sine[0] = -s if absolute(q - HALF) > ONE else s
    return -cosine if absolute(q + HALF) > ONE else cosine


cdef inline real bounded(real z, real low, real high) noexcept nogil:
    """z between two bounds; NaN stays."""
    z = low if z < low else z
    return high if z > high else z


# --- activations: f(z) and, from y = f(z), its derivative; NaN for NaN ----------------------------

cdef enum:
    FAR = 10000  # replaces ±∞ where a factor that has reached 0 by then would make a NaN of it


cdef inline real selu_scale() noexcept nogil:
    return <real>1.0507009873554805


cdef inline real selu_slope() noexcept nogil:
    """scale · alpha."""
    return <real>(1.0507009873554805 * 1.6732632423543772)


cdef inline real keep_nan(real y, real value) noexcept nogil:
    """``value``, or NaN where y is."""
    return y if y != y else value


cdef inline real f_sigmoid(real z, real alpha) noexcept nogil:
    return sigmoid(z)


cdef inline real d_sigmoid(real y, real alpha) noexcept nogil:
    return y * (ONE - y)


cdef inline real f_tanh(real z, real alpha) noexcept nogil:
    return hyperbolic_tangent(z)


cdef inline real d_tanh(real y, real alpha) noexcept nogil:
    return ONE - y * y


cdef inline real f_relu(real z, real alpha) noexcept nogil:
    return ZERO if z < ZERO else z


cdef inline real d_relu(real y, real alpha) noexcept nogil:
    return keep_nan(y, ONE if y > ZERO else ZERO)


cdef inline real f_leaky_relu(real z, real alpha) noexcept nogil:
    return z if z > ZERO else alpha * z


cdef inline real d_leaky_relu(real y, real alpha) noexcept nogil:
    return keep_nan(y, ONE if y > ZERO else alpha)


cdef inline real f_elu(real z, real alpha) noexcept nogil:
    return z if z > ZERO else alpha * expm1_negative(ZERO if z > ZERO else z)


cdef inline real d_elu(real y, real alpha) noexcept nogil:
    return ONE if y > ZERO else y + alpha


cdef inline real f_selu(real z, real alpha) noexcept nogil:
    return selu_scale() * z if z > ZERO else selu_slope() * expm1_negative(ZERO if z > ZERO else z)


cdef inline real d_selu(real y, real alpha) noexcept nogil:
    return selu_scale() if y > ZERO else y + selu_slope()


cdef inline real f_softplus(real z, real alpha) noexcept nogil:
    return softplus(z)


cdef inline real d_softplus(real y, real alpha) noexcept nogil:
    return -expm1_negative(-y)


cdef inline real f_softsign(real z, real alpha) noexcept nogil:
    z = bounded(z, <real>-1e30, <real>1e30)
    return z / (ONE + absolute(z))


cdef inline real d_softsign(real y, real alpha) noexcept nogil:
    return (ONE - absolute(y)) * (ONE - absolute(y))


cdef inline real f_hard_sigmoid(real z, real alpha) noexcept nogil:
    return bounded(z * <real>(1.0 / 6.0) + <real>0.5, 0, 1)


cdef inline real d_hard_sigmoid(real y, real alpha) noexcept nogil:
    return keep_nan(y, <real>(1.0 / 6.0) if y > ZERO and y < ONE else ZERO)


cdef inline real f_hard_tanh(real z, real alpha) noexcept nogil:
    return bounded(z, -1, 1)


cdef inline real d_hard_tanh(real y, real alpha) noexcept nogil:
    return keep_nan(y, ONE if y > -ONE and y < ONE else ZERO)


# --- activations that need z: f(z) and, in d, f′(z); both share their exponentials ----------------


cdef inline real fd_gelu(real z, real alpha, real* d) noexcept nogil:
    """z Φ(z);  Φ(z) + z φ(z)."""
    cdef real density, tail
    z = <real>-FAR if z < <real>-FAR else z
    cdef real x = <real>FAR if z > <real>FAR else z
    tail = normal_tail(x, &density)
    tail = tail if z < ZERO else ONE - tail
    d[0] = multiply_add(x * <real>0.3989422804014327, density, tail)
    return z * tail


cdef inline real fd_silu(real z, real alpha, real* d) noexcept nogil:
    """z σ(z);  σ + z σ (1 − σ)."""
    z = <real>-FAR if z < <real>-FAR else z
    cdef real x = <real>FAR if z > <real>FAR else z
    cdef real s = sigmoid(z)
    d[0] = s + s * (ONE - s) * x
    return z * s


cdef inline real fd_mish(real z, real alpha, real* d) noexcept nogil:
    """z t with t = tanh(softplus z);  t + z (1 − t²) σ(z).

    With e = eᶻ, t = n / (n + 2) where n = e (e + 2), and f′(z) = t + 4 z e (e + 1) / (n + 2)².
    """
    z = <real>-FAR if z < <real>-FAR else z
    cdef real x = <real>FAR if z > <real>FAR else z
    cdef real e = exponential(<real>30.0 if z > <real>30.0 else z)
    cdef real n = e * (e + TWO)
    cdef real w = ONE / (n + TWO)
    d[0] = n * w + <real>4 * x * (e * (e + ONE) * w) * w
    return z if z > <real>FAR else z * (n * w)  # of a large z a compiler may take z n first


# --- optimisers -----------------------------------------------------------------------------------

cdef struct UpdateConstants:
    # An optimiser's constants at one step, in the network's dtype; 1 − β is taken before rounding.
    real lr, step, step_gradient, beta1, one_minus_beta1, beta2, one_minus_beta2, inv_sqrt_bias2
    real epsilon
    real coupled_decay  # λ, where weight decay enters the gradient: g + λ w
    real decay_factor  # 1 − η λ, where it shrinks w first: AdamW; else 1


cdef struct WeightSums:
    double squares  # Σ w² before an update
    double moved  # Σ (Δw)²


cdef inline WeightSums update_loop(const int code, UpdateConstants c, real_target w, const real* g,
                                   real_target m, real_target v, int64_t n) noexcept nogil:
    """Take one step on the parameters ``w``: Σ w² before it, and Σ (Δw)².

    With a constant code one formula is left. Slots that it lacks are not touched. The sums cost
    nothing beside the square roots and the memory that the loop waits for. Fused multiply-adds are
    explicit, so that the bits do not depend on which of two products a compiler fuses.
    """
    cdef int64_t i
    cdef real old, d, squares = 0, moved = 0
    for i in range(n):
        old = w[i]
        d = multiply_add(c.coupled_decay, old, g[i])
        if code == SGD:
            d = c.lr * d
        elif code == MOMENTUM:  # m ← β m + g;  w ← w − η m
            m[i] = g[i] + multiply_add(c.coupled_decay, old, c.beta1 * m[i])
            d = c.lr * m[i]
        elif code == NESTEROV:  # m ← β m + g;  w ← w − η (g + β m)
            m[i] = multiply_add(c.beta1, m[i], d)
            d = c.lr * multiply_add(c.beta1, m[i], d)
        elif code == ADAGRAD:  # m ← m + g²;  w ← w − η g / √(m + ε)
            m[i] = multiply_add(d, d, m[i])
            d = c.lr * d / square_root(m[i] + c.epsilon)
        elif code == ADADELTA:
            # m ← ρ m + (1 − ρ) g²;  Δ = g √(v + ε) / √(m + ε);  v ← ρ v + (1 − ρ) Δ²;  w ← w − η Δ
            m[i] = multiply_add(c.beta1, m[i], c.one_minus_beta1 * (d * d))
            d = square_root((v[i] + c.epsilon) / (m[i] + c.epsilon)) * d
            v[i] = multiply_add(c.beta1, v[i], c.one_minus_beta1 * (d * d))
            d = c.lr * d
        elif code == RMSPROP:  # m ← ρ m + (1 − ρ) g²;  w ← w − η g / (√m + ε)
            m[i] = multiply_add(c.beta1, m[i], c.one_minus_beta1 * (d * d))
            d = c.lr * d / (square_root(m[i]) + c.epsilon)
        else:
            # ADAM, ADAMW: m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
            # w ← w − step m / (√v/√(1 − β₂ᵗ) + ε)
            m[i] = multiply_add(c.beta1, m[i], c.one_minus_beta1 * d)
            v[i] = multiply_add(c.beta2, v[i], c.one_minus_beta2 * (d * d))
            if code == NADAM:  # g itself beside m
                d = multiply_add(c.step_gradient, d, c.step * m[i])
            else:
                d = c.step * m[i]
            d = d / multiply_add(square_root(v[i]), c.inv_sqrt_bias2, c.epsilon)
        w[i] = multiply_add(c.decay_factor, old, -d)
        squares += old * old
        moved += (w[i] - old) * (w[i] - old)
    return WeightSums(squares, moved)
