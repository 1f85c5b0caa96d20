"""Optimisers: one fused loop over a stretch of parameters, their gradient and their slots."""

cdef struct Rates:
    # What of a rule changes from step to step, the same for every parameter.
    double eta  # learning rate
    double step  # of m: η/(1 − β₁ᵗ) for Adam
    double step_gradient  # of g itself: NAdam
    double root  # 1/√(1 − β₂ᵗ)


cdef struct Moved:
    double squares  # Σ w² before an update
    double moved  # Σ (Δw)²


cdef Rates rates_of(const Rule* rule, double eta, int64_t t, double product) noexcept nogil:
    """Bias corrections of step t = 1, 2, …; ``product`` is NAdam's Π μ up to and with this step."""
    cdef Rates now = Rates(eta, eta, 0, 1)
    cdef double mu_next
    if rule.code == ADAM or rule.code == ADAMW:
        now.step = eta / (1 - rule.beta1 ** t)
    elif rule.code == NADAM:
        mu_next = momentum_factor(rule, t + 1)
        now.step_gradient = eta * (1 - momentum_factor(rule, t)) / (1 - product)
        now.step = eta * mu_next / (1 - product * mu_next)
    if rule.code == ADAM or rule.code == ADAMW or rule.code == NADAM:
        now.root = 1 / sqrt(1 - rule.beta2 ** t)
    return now


cdef double momentum_factor(const Rule* rule, int64_t t) noexcept nogil:
    """μₜ = β₁ (1 − ½ · 0.96^(tψ)) of NAdam; 1 for the other rules."""
    return rule.beta1 * (1 - 0.5 * 0.96 ** (t * rule.momentum_decay)) if rule.code == NADAM else 1


cdef struct Constants:
    # A rule's constants in the network's number type; 1 − β is taken before rounding.
    real eta, step, step_gradient, root, beta1, rest1, beta2, rest2, epsilon
    real coupled  # weight decay that enters the gradient
    real kept  # 1 − η · weight decay, where it does not: AdamW


cdef Constants constants_of(const Rule* rule, Rates now, double decay) noexcept nogil:
    cdef Constants c
    cdef bint decoupled = rule.code == ADAMW
    c.eta, c.step, c.step_gradient, c.root = <real>now.eta, <real>now.step, <real>now.step_gradient, <real>now.root
    c.beta1, c.rest1, c.beta2, c.rest2 = <real>rule.beta1, <real>(1 - rule.beta1), <real>rule.beta2, <real>(1 - rule.beta2)
    c.epsilon = <real>rule.epsilon
    c.coupled, c.kept = (0 if decoupled else <real>decay), (<real>(1 - now.eta * decay) if decoupled else 1)
    return c


cdef Moved update(const Rule* rule, Rates now, double decay, real* w, const real* g, real* m, real* v, int64_t n) noexcept nogil:
    """Take one step on the parameters ``w`` with gradient ``g``, whose weight decay is ``decay``;
    slots that a rule lacks are not touched.

    The sums cost nothing beside the square roots and the memory that these loops wait for.
    """
    cdef Constants c = constants_of(rule, now, decay)
    if rule.code == ADAM or rule.code == ADAMW:
        return update_loop(ADAM, c, w, g, m, v, n)
    if rule.code == SGD and rule.beta1 == 0:
        return update_loop(SGD, c, w, g, m, v, n)
    if rule.code == SGD:
        return update_loop(NESTEROV if rule.nesterov else MOMENTUM, c, w, g, m, v, n)
    if rule.code == ADAGRAD:
        return update_loop(ADAGRAD, c, w, g, m, v, n)
    if rule.code == ADADELTA:
        return update_loop(ADADELTA, c, w, g, m, v, n)
    if rule.code == RMSPROP:
        return update_loop(RMSPROP, c, w, g, m, v, n)
    return update_loop(NADAM, c, w, g, m, v, n)


cdef enum:  # SGD's forms that keep a velocity, beside the codes of opcodes.py
    MOMENTUM = 100
    NESTEROV = 101


cdef inline Moved update_loop(const int code, Constants c, real_target w, const real* g, real_target m, real_target v,
                              int64_t n) noexcept nogil:
    cdef int64_t i
    cdef real old, d, squares = 0, moved = 0
    for i in range(n):
        old = w[i]
        d = g[i] + c.coupled * old
        if code == SGD:
            d = c.eta * d
        elif code == MOMENTUM:  # m ← β m + g;  w ← w − η m
            m[i] = c.beta1 * m[i] + d
            d = c.eta * m[i]
        elif code == NESTEROV:  # w ← w − η (g + β m)
            m[i] = c.beta1 * m[i] + d
            d = c.eta * (d + c.beta1 * m[i])
        elif code == ADAGRAD:  # s ← s + g²;  w ← w − η g / √(s + ε)
            m[i] = m[i] + d * d
            d = c.eta * d / square_root(m[i] + c.epsilon)
        # s ← ρ s + (1 − ρ) g²;  Δ = g √(u + ε) / √(s + ε);  u ← ρ u + (1 − ρ) Δ²;  w ← w − η Δ
        elif code == ADADELTA:
            m[i] = c.beta1 * m[i] + c.rest1 * d * d
            d = square_root((v[i] + c.epsilon) / (m[i] + c.epsilon)) * d
            v[i] = c.beta1 * v[i] + c.rest1 * d * d
            d = c.eta * d
        elif code == RMSPROP:  # s ← ρ s + (1 − ρ) g²;  w ← w − η g / (√s + ε)
            m[i] = c.beta1 * m[i] + c.rest1 * d * d
            d = c.eta * d / (square_root(m[i]) + c.epsilon)
        # m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  w ← w − step · m / (root √v + ε)
        elif code == ADAM:
            m[i] = c.beta1 * m[i] + c.rest1 * d
            v[i] = c.beta2 * v[i] + c.rest2 * d * d
            d = c.step * m[i] / (square_root(v[i]) * c.root + c.epsilon)
        else:  # NADAM: as Adam, with g itself beside m
            m[i] = c.beta1 * m[i] + c.rest1 * d
            v[i] = c.beta2 * v[i] + c.rest2 * d * d
            d = (c.step_gradient * d + c.step * m[i]) / (square_root(v[i]) * c.root + c.epsilon)
        w[i] = c.kept * old - d
        squares += old * old
        moved += (w[i] - old) * (w[i] - old)
    return Moved(squares, moved)


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


cdef void limit_columns(real* w, int64_t rows, int64_t stride, int64_t first, int64_t last, double max_norm) noexcept nogil:
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
            factor = <real>(max_norm / sqrt(total))
            for r in range(rows):
                w[r * stride + c] *= factor
