"""Losses: from raw outputs to per-sample losses and ∂C/∂z, in one pass over the rows of a thread.

C = Σ wᵢℓᵢ / Σ wᵢ, so the gradient of a sample is scaled by its share wᵢ / Σ wᵢ as it is written.
Cross-entropies are taken of z − max z: the difference of log Σ exp z and z would be lost to
rounding where both are large.
"""

cdef struct Targets:
    # Exactly one of `labels` (n,) and `values` (n, k) is not NULL; `weights` (n,) is NULL where
    # each sample counts 1.
    const int64_t* labels
    const real* values
    const real* weights


cdef struct Outcome:
    double loss  # Σ wᵢℓᵢ / Σ w
    double hits  # Σ w over the samples classified rightly


cdef enum:
    # classes up to which a softmax takes a vector of samples at a time: rows of ten are too short
    # for whole vectors
    NARROW = 32


cdef struct Columns:
    # As many samples as a vector has lanes, none of them weighing anything beyond the last.
    real[WIDTH] label, weight, total, loss, hits


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
    """Write ∂C/∂z (rows, k) into ``d``. ``samples`` says which samples the rows are, ``weight_sum``
    is Σ w over the mini-batch.
    """
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
    """p = exp(z − max z) row by row. The exponentials of all rows are one loop: a row alone is
    often too short for whole vectors.
    """
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


# --- softmax and cross-entropy --------------------------------------------------------------------


cdef real softmax_label(const real* z, real* d, int64_t k, int64_t label, real part, real smoothing) noexcept nogil:
    """ℓ = log Σ exp z − Σ q z with q = (1 − ε) onehot + ε/k; ∂ℓ/∂z = softmax(z) − q. Before, ``d``
    is exp(z − max z).
    """
    cdef real total = total_of(d, k), rest = smoothing / k, highest = z[largest(z, k)], sum_below = 0
    cdef int64_t j
    for j in range(k):
        sum_below += z[j] - highest
    for j in range(k):
        d[j] = part * (d[j] * (ONE / total) - rest)
    d[label] -= part * (ONE - smoothing)
    return logarithm(total) - ((ONE - smoothing) * (z[label] - highest) + rest * sum_below)


cdef real softmax_values(const real* z, real* d, const real* t, int64_t k, real part, real smoothing) noexcept nogil:
    """ℓ = Σ q (log Σ exp z − z) with q = (1 − ε) t + ε/k; ∂ℓ/∂z = softmax(z) Σ q − q. Before, ``d``
    is exp(z − max z).
    """
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
    """`loss_and_gradient` of `softmax_label`, for as many samples at a time as a vector has lanes:
    turned round, each is a column.
    """
    cdef real[NARROW * WIDTH] turned
    cdef Columns columns
    cdef Outcome outcome = Outcome(0, 0)
    cdef double unit = 1.0 / weight_sum if weight_sum > 0 else 0.0, loss, hits
    cdef int64_t block, start, n, r
    for block in range(blocks_of(rows, WIDTH)):
        start = block * WIDTH
        n = min(<int64_t>WIDTH, rows - start)
        turn(z + start * k, k, n, k, turned, WIDTH)
        for r in range(WIDTH):
            columns.label[r] = <real>targets.labels[samples[start + r]] if r < n else ZERO
            columns.weight[r] = <real>weight_of(targets, samples[start + r]) if r < n else ZERO
        narrow_forward(turned, k, &columns, smoothing)
        narrow_gradient(turned, k, &columns, <real>unit, smoothing)
        turn_back(turned, WIDTH, n, k, d + start * k, k)
        loss = hits = 0
        for r in range(WIDTH):
            loss += <double>columns.weight[r] * <double>columns.loss[r]
            hits += <double>columns.hits[r]
        outcome.loss += unit * loss
        outcome.hits += hits
    return outcome


cdef inline void narrow_forward(real_target turned, int64_t k, Columns* columns, real smoothing) noexcept nogil:
    """Σ exp(z − max z) of each column z, its loss, and whether its largest element is where it
    should be; z becomes exp(z − max z).
    """
    cdef real[WIDTH] best, highest, plain_sum, expected, total
    cdef int64_t j, r
    cdef real value, rest = smoothing / k
    for r in range(WIDTH):
        highest[r] = turned[r]
        best[r] = plain_sum[r] = expected[r] = total[r] = 0
    for j in range(k):
        for r in range(WIDTH):
            value = turned[j * WIDTH + r]
            best[r] = <real>j if value > highest[r] else best[r]
            highest[r] = value if value > highest[r] else highest[r]
            plain_sum[r] += value
            expected[r] = value if columns.label[r] == <real>j else expected[r]
    for j in range(k):
        for r in range(WIDTH):
            value = exponential(turned[j * WIDTH + r] - highest[r])
            turned[j * WIDTH + r] = value
            total[r] += value
    for r in range(WIDTH):
        value = (ONE - smoothing) * (expected[r] - highest[r]) + (rest * plain_sum[r] - smoothing * highest[r])
        columns.loss[r] = log_of_sum(total[r]) - value
        columns.total[r] = total[r]
        columns.hits[r] = columns.weight[r] if best[r] == columns.label[r] else ZERO


cdef inline void narrow_gradient(real_target turned, int64_t k, const Columns* columns, real unit, real smoothing) noexcept nogil:
    """Each column of exponentials becomes share · (softmax − q)."""
    cdef real[WIDTH] share, factor, least
    cdef int64_t j, r
    for r in range(WIDTH):
        share[r] = columns.weight[r] * unit
        factor[r] = share[r] / columns.total[r]
        least[r] = share[r] * (smoothing / k)
    for j in range(k):
        for r in range(WIDTH):
            turned[j * WIDTH + r] = turned[j * WIDTH + r] * factor[r] - least[r]
    for r in range(WIDTH):
        turned[<int64_t>columns.label[r] * WIDTH + r] -= share[r] * (ONE - smoothing)


cdef inline real log_of_sum(real total) noexcept nogil:
    """log of a normal number from 1 on: `log1p_unit` is for numbers up to 1. A product scales it,
    so that NaN stays.
    """
    cdef real power = exponent_of(total)
    return log1p_unit(total * power_of_two(-power) - ONE) + power * <real>0.6931471805599453


# --- other losses ---------------------------------------------------------------------------------


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
    """The losses of e = z − t and Poisson's, which are means over outputs but for QUADRATIC, a
    sum.
    """
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
