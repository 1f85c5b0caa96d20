"""Losses: from raw outputs to per-sample losses and ∂C/∂z, in one pass over the rows of a thread.

C = Σ wᵢℓᵢ / Σ wᵢ, so the gradient of a sample is scaled by its share wᵢ / Σ wᵢ as it is written. Cross-entropies are taken of z − max z:
the difference of log Σ exp z and z would be lost to rounding where both are large.
"""

cdef struct Targets:
    # Exactly one of `labels` (n,) and `values` (n, k) is not NULL; `weights` (n,) is NULL where each sample counts 1.
    const int64_t* labels
    const real* values
    const real* weights


cdef struct Outcome:
    double loss  # Σ wᵢℓᵢ / Σ w
    double hits  # Σ w over the samples classified rightly


cdef enum:
    NARROW = 32  # classes up to which a softmax takes a vector of samples at a time: rows of ten are too short for whole vectors


cdef inline double weight_of(Targets targets, int64_t sample) noexcept nogil:
    return <double>targets.weights[sample] if targets.weights != NULL else 1.0


cdef double weight_sum_of(Targets targets, const int64_t* samples, int64_t n) noexcept nogil:
    """Σ w over the mini-batch."""
    cdef int64_t i
    cdef double total = 0
    if targets.weights == NULL:
        return <double>n
    for i in range(n):
        total += weight_of(targets, samples[i])
    return total


cdef Outcome loss_and_gradient(const Loss* loss, const real* z, real* d, int64_t rows, int64_t k, const int64_t* samples, Targets targets,
                               double weight_sum) noexcept nogil:
    """Write ∂C/∂z (rows, k) into ``d``. ``samples`` says which samples the rows are, ``weight_sum`` is Σ w over the mini-batch."""
    cdef Outcome outcome = Outcome(0, 0)
    cdef int64_t r, i
    cdef double weight, exact_share
    cdef real smoothing = <real>loss.label_smoothing, value
    cdef const real* t
    cdef bint hit
    if loss.code == SOFTMAX_CROSS_ENTROPY:
        if targets.labels != NULL and k <= NARROW:
            return narrow_softmax(z, d, rows, k, samples, targets, weight_sum, smoothing)
        exponentials(z, d, rows, k)
    for r in range(rows):
        i = samples[r]
        weight = weight_of(targets, i)
        exact_share = weight / weight_sum if weight_sum > 0 else 0.0
        t = targets.values + i * k
        if loss.code == SOFTMAX_CROSS_ENTROPY:
            if targets.labels != NULL:
                value = softmax_label(z, d, k, targets.labels[i], <real>exact_share, smoothing)
                hit = largest(z, k) == targets.labels[i]
            else:
                value = softmax_values(z, d, t, k, <real>exact_share, smoothing)
                hit = largest(z, k) == largest(t, k)
        elif loss.code == BINARY_CROSS_ENTROPY:
            value = binary(z, d, t, k, <real>exact_share, smoothing)
            hit = largest(z, k) == largest(t, k) if k > 1 else (z[0] > ZERO) == (t[0] > HALF)
        else:
            value = regression(loss.code, z, d, t, k, <real>exact_share, <real>loss.delta)
            hit = False
        outcome.loss += exact_share * <double>value
        if hit:
            outcome.hits += weight
        z += k
        d += k
    return outcome


cdef void apply_link(int64_t link, real* z, int64_t rows, int64_t k) noexcept nogil:
    """Turn raw outputs (rows, k) into what ``predict`` gives."""
    cdef int64_t i
    if link == SOFTMAX:
        exponentials(z, z, rows, k)
        for i in range(rows):
            scale(z + i * k, k, ONE / total_of(z + i * k, k))
    elif link == LOGISTIC:
        activate_all(SIGMOID, z, rows * k, 0)
    elif link == EXPONENTIAL:
        exponentiate(z, rows * k)


cdef void exponentiate(real* z, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        z[i] = exponential(z[i])


cdef void exponentials(const real* z, real* p, int64_t rows, int64_t k) noexcept nogil:
    """p = exp(z − max z) row by row. The exponentials of all rows are one loop: a row alone is often too short for whole vectors."""
    cdef int64_t r, j
    cdef real highest
    for r in range(rows):
        highest = z[r * k + largest(z + r * k, k)]
        for j in range(k):
            p[r * k + j] = z[r * k + j] - highest
    exponentiate(p, rows * k)


cdef inline int64_t largest(const real* row, int64_t n) noexcept nogil:
    """Index of the first largest element."""
    cdef int64_t j, best = 0
    for j in range(1, n):
        if row[j] > row[best]:
            best = j
    return best


# --- softmax and cross-entropy ----------------------------------------------------------------------------------------------------------


cdef real softmax_label(const real* z, real* d, int64_t k, int64_t label, real part, real smoothing) noexcept nogil:
    """ℓ = log Σ exp z − Σ q z with q = (1 − ε) onehot + ε/k; ∂ℓ/∂z = softmax(z) − q. Before, ``d`` is exp(z − max z)."""
    cdef real total = total_of(d, k), rest = smoothing / k, highest = z[largest(z, k)], sum_below = 0
    cdef int64_t j
    for j in range(k):
        sum_below += z[j] - highest
    for j in range(k):
        d[j] = part * (d[j] * (ONE / total) - rest)
    d[label] -= part * (ONE - smoothing)
    return logarithm(total) - ((ONE - smoothing) * (z[label] - highest) + rest * sum_below)


cdef real softmax_values(const real* z, real* d, const real* t, int64_t k, real part, real smoothing) noexcept nogil:
    """ℓ = Σ q (log Σ exp z − z) with q = (1 − ε) t + ε/k; ∂ℓ/∂z = softmax(z) Σ q − q. Before, ``d`` is exp(z − max z)."""
    cdef real total = total_of(d, k), rest = smoothing / k, mass = 0, value = 0, q
    cdef real log_total = logarithm(total), highest = z[largest(z, k)]
    cdef int64_t j
    for j in range(k):
        q = (ONE - smoothing) * t[j] + rest
        mass += q
        value += q * (log_total - (z[j] - highest))
    for j in range(k):
        d[j] = part * (d[j] * (ONE / total) * mass - ((ONE - smoothing) * t[j] + rest))
    return value


cdef Outcome narrow_softmax(const real* z, real* d, int64_t rows, int64_t k, const int64_t* samples, Targets targets, double weight_sum,
                            real smoothing) noexcept nogil:
    """`loss_and_gradient` of `softmax_label`, for as many samples at a time as a vector has lanes: turned round, each is a column."""
    cdef real[NARROW * WIDTH] turned
    cdef real[WIDTH] log_total, total, plain_sum, highest, best, part
    cdef Outcome outcome = Outcome(0, 0)
    cdef real rest = smoothing / k, expected
    cdef double weight, unit = 1.0 / weight_sum if weight_sum > 0 else 0.0
    cdef int64_t block, start, n, r, label
    for block in range(blocks_of(rows, WIDTH)):
        start = block * WIDTH
        n = min(<int64_t>WIDTH, rows - start)
        turn(z + start * k, k, n, k, turned, WIDTH)
        narrow_forward(turned, k, best, highest, total, log_total, plain_sum)
        for r in range(n):
            label = targets.labels[samples[start + r]]
            weight = weight_of(targets, samples[start + r])
            expected = (ONE - smoothing) * (z[(start + r) * k + label] - highest[r]) + (rest * plain_sum[r] - smoothing * highest[r])
            outcome.loss += weight * unit * <double>(log_total[r] - expected)
            outcome.hits += weight if <int64_t>best[r] == label else 0.0
            part[r] = <real>(weight * unit)
        for r in range(n, WIDTH):
            part[r] = 0
        narrow_gradient(turned, k, total, part, rest)
        turn_back(turned, WIDTH, n, k, d + start * k, k)
        for r in range(n):
            d[(start + r) * k + targets.labels[samples[start + r]]] -= part[r] * (ONE - smoothing)
    return outcome


cdef inline void narrow_forward(real* turned, int64_t k, real_target best, real_target highest, real_target total,
                                real_target log_total, real_target plain_sum) noexcept nogil:
    """Of each column z: where its largest element is and that, Σ exp(z − max z), the log of this, and Σ z; columns become exp(z − max z)."""
    cdef int64_t j, r
    cdef real value
    for r in range(WIDTH):
        highest[r] = turned[r]
        best[r] = 0
        total[r] = 0
        plain_sum[r] = 0
    for j in range(k):
        for r in range(WIDTH):
            value = turned[j * WIDTH + r]
            best[r] = <real>j if value > highest[r] else best[r]
            highest[r] = value if value > highest[r] else highest[r]
            plain_sum[r] += value
    for j in range(k):
        for r in range(WIDTH):
            value = exponential(turned[j * WIDTH + r] - highest[r])
            turned[j * WIDTH + r] = value
            total[r] += value
    for r in range(WIDTH):
        log_total[r] = log_of_sum(total[r])


cdef inline void narrow_gradient(real_target turned, int64_t k, const real* total, const real* part, real rest) noexcept nogil:
    """part · (softmax − rest) of each column of exponentials."""
    cdef int64_t j, r
    for j in range(k):
        for r in range(WIDTH):
            turned[j * WIDTH + r] = turned[j * WIDTH + r] * (part[r] / total[r]) - rest * part[r]


cdef inline real log_of_sum(real total) noexcept nogil:
    """log of a sum of up to 32 exponentials whose largest is 1: `log1p_unit` is for numbers up to 1."""
    cdef real power = 0
    power += <real>4 if total >= <real>16 else ZERO
    total *= <real>0.0625 if total >= <real>16 else ONE
    power += TWO if total >= <real>4 else ZERO
    total *= <real>0.25 if total >= <real>4 else ONE
    power += ONE if total >= TWO else ZERO
    total *= HALF if total >= TWO else ONE
    return log1p_unit(total - ONE) + power * <real>0.6931471805599453


# --- other losses -----------------------------------------------------------------------------------------------------------------------


cdef real binary(const real* z, real_target d, const real* t, int64_t k, real part, real smoothing) noexcept nogil:
    """ℓ = Σ max(z, 0) + log(1 + e^−|z|) − q z with q = (1 − ε) t + ε/2; ∂ℓ/∂z = σ(z) − q."""
    cdef int64_t j
    cdef real value = 0, q
    for j in range(k):
        q = (ONE - smoothing) * t[j] + HALF * smoothing
        value += softplus(z[j]) - q * z[j]
        d[j] = part * (sigmoid(z[j]) - q)
    return value


cdef inline real sign(real x) noexcept nogil:
    """−1, 0 or 1; NaN for NaN."""
    return ONE if x > ZERO else (-ONE if x < ZERO else x)


cdef real regression(int64_t code, const real* z, real_target d, const real* t, int64_t k, real part, real delta) noexcept nogil:
    """The losses of e = z − t and Poisson's, which are means over outputs but for QUADRATIC, a sum."""
    cdef int64_t j
    cdef real value = 0, e, rate, mean = part / k
    for j in range(k):
        e = z[j] - t[j]
        if code == QUADRATIC:
            value += <real>0.5 * e * e
            d[j] = part * e
        elif code == MSE:
            value += e * e
            d[j] = mean * TWO * e
        elif code == MAE:
            value += absolute(e)
            d[j] = mean * sign(e)
        elif code == HUBER:
            value += <real>0.5 * e * e if absolute(e) < delta else delta * (absolute(e) - <real>0.5 * delta)
            d[j] = mean * (e if absolute(e) < delta else delta * sign(e))
        else:  # POISSON
            rate = exponential(z[j])
            value += rate - t[j] * z[j]
            d[j] = mean * (rate - t[j])
    return value if code == QUADRATIC else value / k
