"""Optimiser updates: one fused loop over a range of parameters, their gradient and their slots."""

cdef struct StepRates:
    # What of an optimiser changes from step to step, the same for every parameter.
    double eta  # learning rate
    double step  # factor of m: η/(1 − β₁ᵗ) for Adam
    double step_gradient  # factor of g itself: NAdam
    double inv_sqrt_bias2  # 1/√(1 − β₂ᵗ)
    double decay  # weight decay λ


cdef double momentum_factor(const Optimizer* optimizer, int64_t t) noexcept nogil:
    """μₜ = β₁ (1 − ½ · 0.96^(tψ)) of NAdam; 1 for other optimisers."""
    if optimizer.code != NADAM:
        return 1
    return optimizer.beta1 * (1 - 0.5 * 0.96 ** (t * optimizer.momentum_decay))


cdef StepRates bias_correction(const Optimizer* optimizer, double eta, double decay, int64_t t,
                               double mu, double mu_product) noexcept nogil:
    """Rates of step t = 1, 2, …; μ is of step t, and ``mu_product`` Π μ up to and with it."""
    cdef StepRates rates = StepRates(eta, eta, 0, 1, decay)
    cdef double mu_next
    if optimizer.code == NADAM:
        mu_next = momentum_factor(optimizer, t + 1)
        rates.step_gradient = eta * (1 - mu) / (1 - mu_product)
        rates.step = eta * mu_next / multiply_add_double(-mu_product, mu_next, 1)
    elif corrects_bias(optimizer.code):
        rates.step = eta / (1 - optimizer.beta1 ** t)
    if corrects_bias(optimizer.code):
        rates.inv_sqrt_bias2 = 1 / sqrt(1 - optimizer.beta2 ** t)
    return rates


cdef UpdateConstants constants_of(const Optimizer* o, const StepRates* rates) noexcept nogil:
    cdef UpdateConstants c
    c.lr, c.step, c.step_gradient = <real>rates.eta, <real>rates.step, <real>rates.step_gradient
    c.inv_sqrt_bias2, c.epsilon = <real>rates.inv_sqrt_bias2, <real>o.epsilon
    c.beta1, c.one_minus_beta1 = <real>o.beta1, <real>(1 - o.beta1)
    c.beta2, c.one_minus_beta2 = <real>o.beta2, <real>(1 - o.beta2)
    c.coupled_decay, c.decay_factor = <real>rates.decay, 1
    if decouples_decay(o.code):
        c.coupled_decay, c.decay_factor = 0, <real>(1 - rates.eta * rates.decay)
    return c


cdef inline int64_t formula_of(const Optimizer* optimizer) noexcept nogil:
    """Code of the formula: SGD's depends on whether it has a momentum."""
    if optimizer.code != SGD or optimizer.beta1 == 0:
        return optimizer.code
    return NESTEROV if optimizer.nesterov else MOMENTUM


cdef void add_penalties(const real* w, real_target g, int64_t n, real l1, real l2) noexcept nogil:
    """g ← g + λ₂ w + λ₁ sign w."""
    cdef int64_t i
    for i in range(n):
        g[i] += l2 * w[i] + l1 * sign(w[i])


cdef void clip(real* g, int64_t n, real limit) noexcept nogil:
    """Each component of g into [−limit, limit]; NaN stays."""
    cdef int64_t i
    for i in range(n):
        g[i] = bounded(g[i], -limit, limit)


cdef double sum_of_squares(const real* g, int64_t n) noexcept nogil:
    """Σ g², in float64."""
    cdef int64_t i
    cdef double total = 0
    for i in range(n):
        total += <double>g[i] * <double>g[i]
    return total


cdef double scaled_squares(const real* x, int64_t n, int64_t stride) noexcept nogil:
    """Σ (2⁻⁶⁰⁰ x)² over n elements that lie ``stride`` apart, where Σ x² overflows."""
    cdef int64_t i
    cdef double total = 0, scaled
    for i in range(n):
        scaled = <double>x[i * stride] * 2.409919865102884e-181
        total = multiply_add_double(scaled, scaled, total)  # which no compiler takes apart
    return total


cdef double norm_of_scaled(double squares) noexcept nogil:
    """A norm from its `scaled_squares`; of a norm beyond the numbers, the largest number."""
    return min(sqrt(squares) * 4.149515568880993e180, 1.7976931348623157e308)


cdef void shorten(real* g, int64_t n, double longest, double length) noexcept nogil:
    """g ← g · longest / length, also where that factor is subnormal in the network's dtype."""
    cdef double unit = 5.421010862427522e-20  # 2⁻⁶⁴: rounds nothing
    if longest < <double>SMALLEST * length:
        scale(g, n, <real>unit)
        length *= unit
    scale(g, n, <real>(longest / length) if length > longest else ONE)


cdef void limit_columns(real* w, int64_t rows, int64_t stride, int64_t first, int64_t last,
                        double max_norm) noexcept nogil:
    """Scale columns ``first … last − 1`` of w down to Euclidean norm ``max_norm`` where they are
    longer.
    """
    cdef int64_t r, c
    cdef double total
    cdef real factor
    for c in range(first, last):
        total = 0
        for r in range(rows):
            total += <double>w[r * stride + c] * <double>w[r * stride + c]
        if total > max_norm * max_norm:
            total = sqrt(total) if isfinite(total) else (
                norm_of_scaled(scaled_squares(w + c, rows, stride)))
            factor = <real>(max_norm / total)
            for r in range(rows):
                w[r * stride + c] *= factor
