"""Statistics of a step: this thread's part of the sums from `opcodes.DELTA` to `opcodes.SATURATED`.

``sums`` is the row of N_STATISTICS sums of one operation, or NULL where the step is not recorded.
Long sums are taken in the network's dtype, `SUM_BLOCK` elements at a time, which is several times
faster than in float64. They are taken again in float64 where squares underflow or overflow, as
those of vanishing or exploding gradients do.
"""


cdef struct Moments:
    double total, squares


cdef inline bint is_exact(double squares) noexcept nogil:
    """Whether a sum of squares lost nothing to underflow or overflow in float32."""
    return squares > 1e-25 and squares < 1e35


cdef double squared_distance(const real* a, const real* b, int64_t n) noexcept nogil:
    """Σ (a − b)², in float64."""
    cdef int64_t i
    cdef double total = 0, difference
    for i in range(n):
        difference = <double>a[i] - <double>b[i]
        total += difference * difference
    return total


cdef inline real* block_scratch(const KernelContext* ctx) noexcept nogil:
    """Room of this thread for `SUM_BLOCK` elements."""
    return ctx.stats_scratch + (ctx.rank + 1) * ctx.stats_scratch_stride - SUM_BLOCK


cdef Moments moments(const real* values, int64_t n, real shift) noexcept nogil:
    """Σ (v − shift) and Σ (v − shift)²."""
    cdef Moments found = Moments(0, 0)
    cdef real a, b, v
    cdef double exact
    cdef int64_t block, first, end, i
    for block in range(blocks_of(n, SUM_BLOCK)):
        first = block * SUM_BLOCK
        end = min(first + SUM_BLOCK, n)
        a, b = 0, 0
        for i in range(first, end):
            v = values[i] - shift
            a += v
            b += v * v
        if is_exact(b):
            found.total += <double>a
            found.squares += <double>b
        else:
            for i in range(first, end):
                exact = <double>values[i] - <double>shift
                found.total += exact
                found.squares += exact * exact
    return found


cdef inline real* peaks_of(const KernelContext* ctx, const Op* op, int64_t rank) noexcept nogil:
    """The largest output of each unit among the rows of thread ``rank``, or 0."""
    return ctx.stats_scratch + rank * ctx.stats_scratch_stride + op.y


cdef void record_values(const KernelContext* ctx, double* statistics, int64_t step,
                        int64_t first_row, int64_t n_rows) noexcept nogil:
    """Sums over what each operation puts out for the rows of this thread."""
    cdef int64_t i, n
    cdef const Op* op
    cdef const real* y
    cdef double* sums
    cdef const real* masks
    cdef double low, high, kept
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        sums = statistics + i * N_STATISTICS
        y = output_of(ctx, op, first_row)
        n = n_rows * op.n_out
        add_moments(sums, y, n)
        if op.activation == RELU:
            record_peaks(y, n_rows, op.n_out, peaks_of(ctx, op, ctx.rank))
        elif saturates(op.activation, &low, &high):
            masks, kept = NULL, 1
            if ctx.training and op.rate > 0:
                masks, kept = (output_gradient_of(ctx, op, first_row),
                               1 - dropout_rate(ctx, op, step))
            sums[SATURATED] += count_saturated(y, masks, n, low / kept, high / kept)


cdef void add_moments(double* sums, const real* y, int64_t n) noexcept nogil:
    """Sums about one of the values: about 0 rounding would hide a small variance.

    All values are nearly the same where all units are saturated.
    """
    cdef Moments found
    cdef double shift
    if n > 0:
        shift = <double>y[0]
        found = moments(y, n, y[0])
        sums[VALUES] += found.total + n * shift
        sums[SQUARES] += found.squares + 2 * shift * found.total + n * shift * shift


cdef void record_peaks(const real* y, int64_t rows, int64_t n, real_target peaks) noexcept nogil:
    cdef int64_t r, c
    fill(peaks, n, 0)
    for r in range(rows):
        for c in range(n):
            peaks[c] = y[r * n + c] if y[r * n + c] > peaks[c] else peaks[c]


cdef int64_t count_saturated(const real* y, const real* masks, int64_t n, double low,
                             double high) noexcept nogil:
    """How many of y = f(z) · m, of those that dropout keeps, lie outside the bounds of y; the masks
    are what the epilogue left, NULL without dropout.
    """
    cdef real lowest = <real>low, highest = <real>high
    cdef int64_t i, count = 0
    for i in range(n):
        count += y[i] < lowest or y[i] > highest
    if masks != NULL and lowest > ZERO:  # then 0 is outside, be it f(z) or dropped
        for i in range(n):
            count -= masks[i] == ZERO
    return count


cdef void count_dead_units(const KernelContext* ctx, const Op* op, double* sums) noexcept nogil:
    """Count ReLU's dead units in this thread's share of the columns, once all threads have noted
    their peaks.
    """
    cdef int64_t c, rank
    cdef bint alive
    cdef Range mine = thread_range(ctx, op.n_out)
    if op.activation == RELU:
        for c in range(mine.first, mine.last):
            alive = False
            for rank in range(ctx.n_threads):
                alive |= peaks_of(ctx, op, rank)[c] > ZERO
            sums[DEAD] += 0 if alive else 1


cdef void record_delta(const KernelContext* ctx, const Op* op, int64_t batch,
                       double* sums) noexcept nogil:
    """Σ (Σ δ)² over units of this thread's share, where Σ δ is not the gradient of a bias."""
    cdef Range mine = thread_range(ctx, op.n_out)
    cdef real* block_sums = block_scratch(ctx)
    cdef int64_t block, column, n
    for block in range(blocks_of(mine.last - mine.first, SUM_BLOCK)):
        column = mine.first + block * SUM_BLOCK
        n = min(<int64_t>SUM_BLOCK, mine.last - column)
        sum_of_rows(output_gradient_of(ctx, op, 0) + column, batch, n, op.n_out, block_sums)
        sums[DELTA] += moments(block_sums, n, 0).squares
