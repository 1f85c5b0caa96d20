"""Statistics of a step: what `opcodes.DELTA` to `opcodes.SATURATED` name, this thread's part of
each sum.

``own`` is the row of N_STATISTICS sums of one operation, or NULL where nothing is measured. Long
sums are taken in the network's number type a stretch at a time, which is several times faster than
in float64, and again in float64 where squares underflow or overflow, as those of gradients do that
vanish or explode.
"""


cdef struct Moments:
    double total, squares


cdef Moments moments(const real* values, int64_t n, real shift) noexcept nogil:
    """Σ (v − shift) and Σ (v − shift)²."""
    cdef Moments sums = Moments(0, 0)
    cdef real a, b, v
    cdef double exact
    cdef int64_t block, first, end, i
    for block in range(blocks_of(n, STRETCH)):
        first = block * STRETCH
        end = min(first + STRETCH, n)
        a, b = 0, 0
        for i in range(first, end):
            v = values[i] - shift
            a += v
            b += v * v
        # nothing was lost to underflow or overflow in float32
        if b > <real>1e-25 and b < <real>1e35:
            sums.total += <double>a
            sums.squares += <double>b
        else:
            for i in range(first, end):
                exact = <double>values[i] - <double>shift
                sums.total += exact
                sums.squares += exact * exact
    return sums


cdef inline real* peaks_of(const Frame* frame, const Op* op, int64_t rank) noexcept nogil:
    """The largest output of each unit among the rows of thread ``rank``, or 0."""
    return frame.notes + rank * frame.notes_per_thread + op.y


cdef void measure_values(const Frame* frame, double* statistics, int64_t first_row, int64_t n_rows) noexcept nogil:
    """Sums over what each operation puts out for the rows of this thread."""
    cdef int64_t i, n
    cdef const Op* op
    cdef const real* y
    cdef double* own
    cdef double low, high
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        own = statistics + i * N_STATISTICS
        y = output_of(frame, op, first_row)
        n = n_rows * op.n_out
        add_moments(own, y, n)
        if op.activation == RELU:
            note_peaks(y, n_rows, op.n_out, peaks_of(frame, op, frame.rank))
        elif saturates(op.activation, &low, &high):
            own[SATURATED] += count_saturated(frame, op, y, output_gradient_of(frame, op, first_row), n, low, high)


cdef void add_moments(double* own, const real* y, int64_t n) noexcept nogil:
    """Sums about one of the values: about 0 rounding would hide a small variance, as where all
    units are saturated.
    """
    cdef Moments sums
    cdef double shift
    if n > 0:
        shift = <double>y[0]
        sums = moments(y, n, y[0])
        own[VALUES] += sums.total + n * shift
        own[SQUARES] += sums.squares + 2 * shift * sums.total + n * shift * shift


cdef void note_peaks(const real* y, int64_t rows, int64_t n, real_target peaks) noexcept nogil:
    cdef int64_t r, c
    fill(peaks, n, 0)
    for r in range(rows):
        for c in range(n):
            peaks[c] = y[r * n + c] if y[r * n + c] > peaks[c] else peaks[c]


cdef int64_t count_saturated(const Frame* frame, const Op* op, const real* y, const real* masks, int64_t n, double low,
                             double high) noexcept nogil:
    """How many of y = f(z) · m, of those that dropout keeps, have f(z) outside the bounds; the
    masks are what the epilogue left.
    """
    cdef bint drops = frame.training and op.rate > 0
    cdef double kept = 1.0 - op.rate if drops else 1.0
    cdef real lowest = <real>(low / kept), highest = <real>(high / kept)
    cdef int64_t i, count = 0
    for i in range(n):
        count += y[i] < lowest or y[i] > highest
    if drops and lowest > ZERO:  # then 0 is outside, be it f(z) or dropped
        for i in range(n):
            count -= masks[i] == ZERO
    return count


cdef void count_dead_units(const Frame* frame, const Op* op, double* own) noexcept nogil:
    """Count ReLU's dead units in this thread's share of the columns, once all threads have noted
    their peaks.
    """
    cdef int64_t c, rank
    cdef bint alive
    cdef Share mine = own_share(frame, op.n_out)
    if op.activation == RELU:
        for c in range(mine.first, mine.last):
            alive = False
            for rank in range(frame.n_threads):
                alive |= peaks_of(frame, op, rank)[c] > ZERO
            own[DEAD] += 0 if alive else 1


cdef void measure_delta_without_bias(const Frame* frame, const Op* op, int64_t batch, double* own) noexcept nogil:
    """Σ (Σ δ)² over units of this thread's share, where there is no bias whose gradient Σ δ is."""
    cdef Share mine = own_share(frame, op.n_out)
    cdef real* sums = frame.notes + (frame.rank + 1) * frame.notes_per_thread - STRETCH
    cdef int64_t block, column, n
    for block in range(blocks_of(mine.last - mine.first, STRETCH)):
        column = mine.first + block * STRETCH
        n = min(<int64_t>STRETCH, mine.last - column)
        sum_of_rows(output_gradient_of(frame, op, 0) + column, batch, n, op.n_out, sums)
        own[DELTA] += moments(sums, n, 0).squares
