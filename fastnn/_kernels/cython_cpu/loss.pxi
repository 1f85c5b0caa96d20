"""Losses: from raw outputs to per-sample losses and ∂C/∂z, in one pass over the rows of a thread.

C = Σ wᵢℓᵢ / Σ wᵢ, so the gradient of a sample is scaled by its share wᵢ / Σ wᵢ as it is written.
Cross-entropies are taken of z − max z: the difference of log Σ exp z and z would be lost to
rounding where both are large.
"""

cdef struct LossSums:
    double loss  # Σ wᵢℓᵢ / Σ w
    double correct_weight  # Σ w of samples classified correctly


cdef enum:
    # classes up to which a softmax takes a vector of samples at a time: rows of ten are too short
    # for whole vectors
    NARROW = 32
    # Logits beyond it have their loss taken again: compilers re-order the sums.
    LARGE_LOGIT = 1000


cdef struct Columns:
    # As many samples as a vector has lanes, none of them weighing anything beyond the last.
    real[WIDTH] label, weight, total, loss, correct_weight


cdef inline double weight_of(const KernelContext* ctx, int64_t sample) noexcept nogil:
    return <double>ctx.weights[sample] if ctx.weights != NULL else 1.0


cdef double weight_sum_of(const KernelContext* ctx, const int64_t* samples,
                          int64_t n) noexcept nogil:
    """Σ w over the mini-batch."""
    cdef int64_t i
    cdef double total = 0
    if ctx.weights == NULL:
        return <double>n
    for i in range(n):
        total += weight_of(ctx, samples[i])
    return total


cdef LossSums loss_and_gradient(const KernelContext* ctx, const real* z, real* d, int64_t rows,
                                int64_t k, const int64_t* samples,
                                double weight_sum) noexcept nogil:
    """Write ∂C/∂z (rows, k) into ``d``; ``samples`` says which samples the rows are.

    ``weight_sum`` is Σ w over the mini-batch.
    """
    cdef LossSums sums = LossSums(0, 0)
    cdef int64_t code = ctx.loss.code, r, i
    cdef double weight, exact_share
    cdef real constant = <real>ctx.loss.constant, value
    cdef const real* t
    cdef bint correct
    if code == SOFTMAX_CROSS_ENTROPY:
        if ctx.labels != NULL and k <= NARROW:
            return narrow_softmax(ctx, z, d, rows, k, samples, weight_sum)
        exponentials(z, d, rows, k)
    for r in range(rows):
        i = samples[r]
        weight = weight_of(ctx, i)
        if weight == 0:  # a product with what overflowed would be NaN
            fill(d, k, 0)
            z += k
            d += k
            continue
        exact_share = weight / weight_sum if weight_sum > 0 else 0.0
        if ctx.labels != NULL:
            value = softmax_label(z, d, k, ctx.labels[i], <real>exact_share, constant)
            correct = largest(z, k) == ctx.labels[i]
        else:
            t = ctx.targets + i * k
            if code == SOFTMAX_CROSS_ENTROPY:
                value = softmax_values(z, d, t, k, <real>exact_share, constant)
            elif code == BINARY_CROSS_ENTROPY:
                value = binary_cross_entropy(z, d, t, k, <real>exact_share, constant)
            elif code == QUANTILE:
                value = quantile(ctx.loss, z, d, t, k, <real>exact_share)
            else:
                value = regression(code, z, d, t, k, <real>exact_share, constant)
            correct = classifies(code) and is_correct(code, z, t, k)
        sums.loss += exact_share * <double>value
        if correct:
            sums.correct_weight += weight
        z += k
        d += k
    return sums


cdef inline bint classifies(int64_t code) noexcept nogil:
    return code == SOFTMAX_CROSS_ENTROPY or code == BINARY_CROSS_ENTROPY


cdef inline bint is_correct(int64_t code, const real* z, const real* t, int64_t k) noexcept nogil:
    """Whether the largest logit is the target's; a single sigmoid is positive where t > ½."""
    cdef bint by_largest = k > 1 or code == SOFTMAX_CROSS_ENTROPY
    return largest(z, k) == largest(t, k) if by_largest else (z[0] > ZERO) == (t[0] > HALF)


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
    elif link == SORTED:
        for i in range(rows):
            sort(z + i * k, k)


cdef void sort(real* row, int64_t n) noexcept nogil:
    """Sort a few numbers by insertion, NaN last."""
    cdef int64_t i, j
    cdef real x
    for j in range(1, n):
        x, i = row[j], j
        while i > 0 and (row[i - 1] > x or (isnan(row[i - 1]) and not isnan(x))):
            row[i] = row[i - 1]
            i -= 1
        row[i] = x


cdef void exponentiate(real* z, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        z[i] = exponential(z[i])


cdef void exponentials(const real* z, real* p, int64_t rows, int64_t k) noexcept nogil:
    """p = exp(z − max z) row by row.

    The exponentials of all rows are one loop: a row alone is often too short for whole vectors.
    """
    cdef int64_t r, j
    cdef real highest
    for r in range(rows):
        highest = z[r * k + largest(z + r * k, k)]
        for j in range(k):
            p[r * k + j] = z[r * k + j] - highest
    exponentiate(p, rows * k)


cdef inline real below(real z, real highest) noexcept nogil:
    """z − max z, but not −∞ of a finite z: a probability of 0 times that would be NaN."""
    cdef real difference = z - highest
    return -LARGEST if difference < -LARGEST and z >= -LARGEST else difference


cdef inline int64_t largest(const real* row, int64_t n) noexcept nogil:
    """Index of the first largest element."""
    cdef int64_t j, best = 0
    for j in range(1, n):
        if row[j] > row[best]:
            best = j
    return best


# --- softmax and cross-entropy --------------------------------------------------------------------


cdef real softmax_label(const real* z, real* d, int64_t k, int64_t label, real part,
                        real smoothing) noexcept nogil:
    """ℓ = log Σ exp z − Σ q z with q = (1 − ε) onehot + ε/k; ∂ℓ/∂z = softmax(z) − q.

    Before, ``d`` is exp(z − max z).
    """
    cdef real total = total_of(d, k), rest = smoothing / k, highest = z[largest(z,
                                                                                k)], sum_below = 0
    cdef int64_t j
    for j in range(k):
        sum_below += z[j] - highest
    for j in range(k):
        d[j] = part * (d[j] * (ONE / total) - rest)
    d[label] -= part * (ONE - smoothing)
    cdef real value = (
        logarithm(total) - ((ONE - smoothing) * (z[label] - highest) + rest * sum_below)
    )
    if absolute(value) <= LARGEST and absolute(highest) < LARGE_LOGIT:
        return value
    return exact_label_loss(z, k, label, total, smoothing)


cdef real softmax_values(const real* z, real* d, const real* t, int64_t k, real part,
                         real smoothing) noexcept nogil:
    """ℓ = Σ q (log Σ exp z − z) with q = (1 − ε) t + ε/k; ∂ℓ/∂z = softmax(z) Σ q − q.

    Before, ``d`` is exp(z − max z).
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
    if absolute(value) <= LARGEST and absolute(highest) < LARGE_LOGIT:
        return value
    value = 0
    for j in range(k):
        value += ((ONE - smoothing) * t[j] + rest) * (log_total - below(z[j], highest))
    return value


cdef real exact_label_loss(const real* z, int64_t k, int64_t label, real total,
                           real smoothing) noexcept nogil:
    """The loss of a label where z is so large that differences overflow, or lose what is small."""
    cdef real value = 0, highest = z[largest(z, k)]
    cdef int64_t j
    for j in range(k):
        value += (smoothing / k) * below(z[j], highest)
    return logarithm(total) - ((ONE - smoothing) * (z[label] - highest) + value)


cdef LossSums narrow_softmax(const KernelContext* ctx, const real* z, real* d, int64_t rows,
                             int64_t k,
                             const int64_t* samples, double weight_sum) noexcept nogil:
    """`loss_and_gradient` of labels, for as many samples at a time as a vector has lanes.

    Transposed, each sample is a column.
    """
    cdef real[NARROW * WIDTH] by_column
    cdef Columns columns
    cdef LossSums sums = LossSums(0, 0)
    cdef double unit = 1.0 / weight_sum if weight_sum > 0 else 0.0, loss, correct_weight
    cdef real smoothing = <real>ctx.loss.constant
    cdef int64_t block, start, n, r
    for block in range(blocks_of(rows, WIDTH)):
        start = block * WIDTH
        n = min(<int64_t>WIDTH, rows - start)
        transpose_pack(z + start * k, k, n, k, by_column, WIDTH)
        for r in range(WIDTH):
            columns.label[r] = <real>ctx.labels[samples[start + r]] if r < n else ZERO
            columns.weight[r] = <real>weight_of(ctx, samples[start + r]) if r < n else ZERO
        if ctx.weights != NULL:
            clear_uncounted(by_column, k, &columns)
        narrow_forward(by_column, k, &columns, smoothing)
        narrow_gradient(by_column, k, &columns, <real>unit, smoothing)
        transpose_back(by_column, WIDTH, n, k, d + start * k, k)
        loss = correct_weight = 0
        for r in range(WIDTH):
            loss += <double>columns.weight[r] * <double>columns.loss[r]
            correct_weight += <double>columns.correct_weight[r]
        if not isfinite(loss) or (smoothing > ZERO and has_large_logit(z + start * k, n * k)):
            loss = exact_narrow_loss(ctx, z + start * k, n, k, samples + start, smoothing)
        sums.loss = multiply_add_double(unit, loss, sums.loss)
        sums.correct_weight += correct_weight
    return sums


cdef void clear_uncounted(real* by_column, int64_t k, const Columns* columns) noexcept nogil:
    """Zeros as outputs of samples of weight 0: a product with what overflowed would be NaN."""
    cdef int64_t j, r
    for r in range(WIDTH):
        if columns.weight[r] == ZERO:
            for j in range(k):
                by_column[j * WIDTH + r] = ZERO


cdef bint has_large_logit(const real* z, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef int found = 0
    for i in range(n):
        found |= absolute(z[i]) > <real>LARGE_LOGIT
    return found


cdef double exact_narrow_loss(const KernelContext* ctx, const real* z, int64_t rows, int64_t k,
                              const int64_t* samples, real smoothing) noexcept nogil:
    """Σ w ℓ of a few rows, a row at a time, where numbers overflow."""
    cdef double loss = 0, weight
    cdef real total, highest
    cdef int64_t r, j
    for r in range(rows):
        weight = weight_of(ctx, samples[r])
        if weight > 0:
            total, highest = 0, z[largest(z, k)]
            for j in range(k):
                total += exponential(below(z[j], highest))
            loss += weight * <double>exact_label_loss(z, k, ctx.labels[samples[r]], total,
                                                      smoothing)
        z += k
    return loss


cdef inline void narrow_forward(real_target by_column, int64_t k, Columns* columns,
                                real smoothing) noexcept nogil:
    """Σ exp(z − max z) of each column z, its loss, and whether it is classified correctly.

    z becomes exp(z − max z).
    """
    cdef real[WIDTH] best, highest, plain_sum, expected, total
    cdef int64_t j, r
    cdef real value, rest = smoothing / k
    for r in range(WIDTH):
        highest[r] = by_column[r]
        best[r] = plain_sum[r] = expected[r] = total[r] = 0
    for j in range(k):
        for r in range(WIDTH):
            value = by_column[j * WIDTH + r]
            best[r] = <real>j if value > highest[r] else best[r]
            highest[r] = value if value > highest[r] else highest[r]
            plain_sum[r] += value
            expected[r] = value if columns.label[r] == <real>j else expected[r]
    for j in range(k):
        for r in range(WIDTH):
            value = exponential(by_column[j * WIDTH + r] - highest[r])
            by_column[j * WIDTH + r] = value
            total[r] += value
    for r in range(WIDTH):
        value = (ONE - smoothing) * (expected[r] - highest[r]) + (
            rest * plain_sum[r] - smoothing * highest[r]
        )
        columns.loss[r] = log_of_sum(total[r]) - value
        columns.total[r] = total[r]
        columns.correct_weight[r] = columns.weight[r] if best[r] == columns.label[r] else ZERO


cdef inline void narrow_gradient(real_target by_column, int64_t k, const Columns* columns,
                                 real unit, real smoothing) noexcept nogil:
    """Each column of exponentials becomes share · (softmax − q)."""
    cdef real[WIDTH] share, factor, least
    cdef int64_t j, r
    for r in range(WIDTH):
        share[r] = columns.weight[r] * unit
        factor[r] = share[r] / columns.total[r]
        least[r] = share[r] * (smoothing / k)
    for j in range(k):
        for r in range(WIDTH):
            by_column[j * WIDTH + r] = by_column[j * WIDTH + r] * factor[r] - least[r]
    for r in range(WIDTH):
        by_column[<int64_t>columns.label[r] * WIDTH + r] -= share[r] * (ONE - smoothing)


cdef inline real log_of_sum(real total) noexcept nogil:
    """log of a normal number from 1 on, which `log1p_unit` is not for.

    A product scales it, so that NaN stays.
    """
    cdef real power = exponent_of(total)
    return log1p_unit(total * power_of_two(-power) - ONE) + power * <real>0.6931471805599453


# --- elementwise losses ---------------------------------------------------------------------------


cdef inline real sign(real x) noexcept nogil:
    """−1, 0 or 1; NaN for NaN."""
    return ONE if x > ZERO else (-ONE if x < ZERO else x)


cdef real binary_cross_entropy(const real* z, real_target d, const real* t, int64_t k, real share,
                               real smoothing) noexcept nogil:
    """ℓ = Σ max(z, 0) + log(1 + e^−|z|) − q z with q = (1 − ε) t + ε/2; ∂ℓ/∂z = σ(z) − q."""
    cdef int64_t j
    cdef real value = 0, q
    for j in range(k):
        q = (ONE - smoothing) * t[j] + HALF * smoothing
        value += softplus(z[j]) - q * z[j]
        d[j] = share * (sigmoid(z[j]) - q)
    return value


cdef real quantile(const Loss* levels, const real* z, real_target d, const real* t, int64_t k,
                   real share) noexcept nogil:
    """ℓ = (1/k) Σ e s with e = z − t and s = ∂ℓ/∂z = 1 − τ above the target, −τ below it."""
    cdef int64_t j
    cdef real value = 0, e, level, slope
    for j in range(k):
        e, level = z[j] - t[j], <real>levels[j].constant
        slope = ONE - level if e > ZERO else (-level if e < ZERO else e)  # NaN for NaN
        value += e * slope
        d[j] = share / k * slope
    return value / k


cdef real regression(int64_t code, const real* z, real_target d, const real* t, int64_t k,
                     real share,
                     real delta) noexcept nogil:
    """The losses of e = z − t, and Poisson's: means over outputs, but for QUADRATIC, a sum."""
    cdef int64_t j
    cdef real value = 0, e, rate, mean_share = share / k
    for j in range(k):
        e = z[j] - t[j]
        if code == QUADRATIC:
            value += <real>0.5 * e * e
            d[j] = share * e
        elif code == MSE:
            value += e * e
            d[j] = mean_share * TWO * e
        elif code == MAE:
            value += absolute(e)
            d[j] = mean_share * sign(e)
        elif code == HUBER:
            value += (<real>0.5 * e * e if absolute(e) < delta
                      else delta * (absolute(e) - <real>0.5 * delta))
            d[j] = mean_share * (e if absolute(e) < delta else delta * sign(e))
        else:  # POISSON
            rate = exponential(z[j])
            value += rate - t[j] * z[j]
            d[j] = mean_share * (rate - t[j])
    if code == POISSON and not absolute(value) <= LARGEST:
        value = exact_poisson(z, t, k)
    return value if code == QUADRATIC else value / k


cdef real exact_poisson(const real* z, const real* t, int64_t k) noexcept nogil:
    """Σ eᶻ − t z where numbers overflow: ∞ where eᶻ is, and not ∞ − ∞."""
    cdef int64_t j
    cdef real value = 0, rate
    for j in range(k):
        rate = exponential(z[j])
        value += rate if rate > LARGEST else rate - t[j] * z[j]
    return value
