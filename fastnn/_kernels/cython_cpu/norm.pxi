"""Batch and layer normalisation, for the rows of one thread.

x̂ = (x − μ)/√(σ² + ε) is not stored: the backward pass recomputes it from x, which is kept anyway,
and from μ and 1/√(σ² + ε).

BatchNorm's statistics span all threads' rows. Each thread takes mean and sum of squares about it
over its own rows; after one barrier every thread combines all parts in the same order (Chan, Golub
& LeVeque 1983), so that all hold the same numbers.
"""

# the vectors of n that BatchNorm keeps in each thread's scratch: `opcodes.COLUMN_STATS` of them
cdef enum ColumnStatistic:
    OWN_MEAN
    OWN_SQUARES
    ALL_MEAN
    INVERSE_STD
    OWN_SUM  # Σ δ
    OWN_PRODUCT  # Σ δ x̂


cdef inline real* column_statistic(const KernelContext* ctx, const Op* op, int64_t rank,
                                   int which) noexcept nogil:
    """One vector of the operation's scratch in the part of thread ``rank``."""
    return ctx.scratch + rank * ctx.scratch_stride + op.column_stats + which * op.n_out


# --- batch normalisation --------------------------------------------------------------------------


cdef int64_t batch_norm(const KernelContext* ctx, const Op* op, int64_t first_row, int64_t n_rows,
                        int64_t batch, int64_t phase) noexcept nogil:
    """z = scale · x̂ + shift; returns the next phase of the barrier."""
    cdef int64_t n = op.n_out, r
    cdef const real* x = input_of(ctx, op, first_row)
    cdef real* z = output_of(ctx, op, first_row)
    cdef real* mean = column_statistic(ctx, op, ctx.rank, ALL_MEAN)
    cdef real* inverse_std = column_statistic(ctx, op, ctx.rank, INVERSE_STD)
    cdef real* running_mean = ctx.buffers + op.state
    cdef real* running_var = running_mean + n
    if ctx.training:
        own_statistics(x, n_rows, n, column_statistic(ctx, op, ctx.rank, OWN_MEAN),
                       column_statistic(ctx, op, ctx.rank, OWN_SQUARES))
        phase = barrier_wait(ctx, phase)
        # for now the sum of squares stands in the place of 1/√(σ² + ε)
        combine_statistics(ctx, op, batch, mean, inverse_std)
        if ctx.updates and ctx.rank == 0 and batch > 1:
            move_towards(mean, running_mean, n, 1, <real>op.momentum)
            move_towards(inverse_std, running_var, n, <real>(1.0 / (batch - 1)), <real>op.momentum)
        invert_std(inverse_std, inverse_std, n, <real>(1.0 / batch), <real>op.epsilon)
    else:
        memcpy(mean, running_mean, n * sizeof(real))
        invert_std(running_var, inverse_std, n, 1, <real>op.epsilon)
    for r in range(n_rows):
        normalise_columns(x + r * n, mean, inverse_std, ctx.theta + op.weight, ctx.theta + op.bias,
                          z + r * n, n)
    return phase


cdef void own_statistics(const real* x, int64_t rows, int64_t n, real_target mean,
                         real_target squares) noexcept nogil:
    """Mean of each column, and the sum of squares about it."""
    cdef int64_t r, c
    cdef real one_row = <real>(1.0 / max(rows, 1))
    sum_of_rows(x, rows, n, n, mean)
    scale(mean, n, one_row)
    fill(squares, n, 0)
    for r in range(rows):
        add_squares_about(x + r * n, mean, squares, n)


cdef inline void add_squares_about(const real* x, const real* mean, real_target squares,
                                   int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n):
        squares[c] += (x[c] - mean[c]) * (x[c] - mean[c])


cdef void combine_statistics(const KernelContext* ctx, const Op* op, int64_t batch, real* mean,
                             real* squares) noexcept nogil:
    """Mean and sum of squares over all threads' rows."""
    cdef int64_t n = op.n_out, rows = 0, rank, own
    cdef Range part
    cdef double weight
    fill(mean, n, 0)
    fill(squares, n, 0)
    for rank in range(ctx.n_threads):
        part = partition(batch, rank, ctx.n_threads)
        own = part.last - part.first
        if own > 0:
            weight = <double>own / (rows + own)
            join_statistics(column_statistic(ctx, op, rank, OWN_MEAN),
                            column_statistic(ctx, op, rank, OWN_SQUARES), mean, squares, n,
                            <real>weight, <real>(weight * rows))
            rows += own


cdef inline void join_statistics(const real* own_mean, const real* own_squares, real_target mean,
                                 real_target squares, int64_t n, real weight,
                                 real cross) noexcept nogil:
    cdef int64_t c
    cdef real d
    for c in range(n):
        d = own_mean[c] - mean[c]
        mean[c] += weight * d
        squares[c] += own_squares[c] + cross * d * d


cdef inline void move_towards(const real* values, real_target running, int64_t n, real factor,
                              real momentum) noexcept nogil:
    """running ← running + momentum · (factor · values − running)."""
    cdef int64_t c
    for c in range(n):
        running[c] += momentum * (values[c] * factor - running[c])


cdef inline void invert_std(const real* squares, real* inverse_std, int64_t n, real factor,
                            real epsilon) noexcept nogil:
    """1/√(factor · squares + ε)."""
    cdef int64_t c
    for c in range(n):
        inverse_std[c] = inverse_root(squares[c] * factor + epsilon)


cdef inline real inverse_root(real variance) noexcept nogil:
    """1/√variance; NaN of a variance that overflowed, as 0 would hide it."""
    return <real>NAN if variance > LARGEST else ONE / square_root(variance)


cdef inline void normalise_columns(const real* x, const real* mean, const real* inverse_std,
                                   const real* scales, const real* shifts, real_target z,
                                   int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n):
        z[c] = (x[c] - mean[c]) * inverse_std[c] * scales[c] + shifts[c]


cdef int64_t batch_norm_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                                 int64_t n_rows, int64_t batch, int64_t phase) noexcept nogil:
    """∂C/∂x, ∂C/∂scale and ∂C/∂shift; returns the next phase of the barrier."""
    cdef int64_t n = op.n_out, r, rank
    cdef const real* x = input_of(ctx, op, first_row)
    cdef const real* d_z = output_gradient_of(ctx, op, first_row)
    cdef const real* mean = column_statistic(ctx, op, ctx.rank, ALL_MEAN)
    cdef const real* inverse_std = column_statistic(ctx, op, ctx.rank, INVERSE_STD)
    cdef real* own_sum = column_statistic(ctx, op, ctx.rank, OWN_SUM)
    cdef real* own_product = column_statistic(ctx, op, ctx.rank, OWN_PRODUCT)
    fill(own_sum, n, 0)
    fill(own_product, n, 0)
    for r in range(n_rows):
        add_scale_gradients(x + r * n, d_z + r * n, mean, inverse_std, own_product, own_sum, n)
    phase = barrier_wait(ctx, phase)
    cdef Range mine = thread_range(ctx, n)
    sum_over_threads(ctx, op, OWN_PRODUCT, mine.first, mine.last - mine.first,
                     ctx.gradient + op.weight + mine.first)
    sum_over_threads(ctx, op, OWN_SUM, mine.first, mine.last - mine.first,
                     ctx.gradient + op.bias + mine.first)
    if op.x_grad != GRAD_NONE:
        batch_norm_input_gradient(ctx, op, first_row, n_rows, batch)
    return phase


cdef inline void add_scale_gradients(const real* x, const real* d_z, const real* mean,
                                     const real* inverse_std, real_target scale_gradient,
                                     real_target shift_gradient, int64_t n) noexcept nogil:
    """Σ δ x̂ and Σ δ, a row's part of them."""
    cdef int64_t c
    for c in range(n):
        shift_gradient[c] += d_z[c]
        scale_gradient[c] += d_z[c] * (x[c] - mean[c]) * inverse_std[c]


cdef void sum_over_threads(const KernelContext* ctx, const Op* op, int which, int64_t first,
                           int64_t n, real* target) noexcept nogil:
    cdef int64_t rank
    fill(target, n, 0)
    for rank in range(ctx.n_threads):
        add_to(column_statistic(ctx, op, rank, which) + first, target, n)


cdef void batch_norm_input_gradient(const KernelContext* ctx, const Op* op, int64_t first_row,
                                    int64_t n_rows, int64_t batch) noexcept nogil:
    """∂C/∂x = scale/√(σ² + ε) · (δ − mean δ − x̂ · mean δ x̂).

    Outside training μ and σ are running statistics and do not depend on x.
    """
    cdef int64_t n = op.n_out, r
    cdef const real* x = input_of(ctx, op, first_row)
    cdef const real* d_z = output_gradient_of(ctx, op, first_row)
    cdef real* d_x = input_gradient_of(ctx, op, first_row)
    cdef const real* mean = column_statistic(ctx, op, ctx.rank, ALL_MEAN)
    cdef const real* inverse_std = column_statistic(ctx, op, ctx.rank, INVERSE_STD)
    # The barrier has passed: nobody reads our part of the first two vectors any more.
    cdef real* mean_d = column_statistic(ctx, op, ctx.rank, OWN_MEAN)
    cdef real* mean_product = column_statistic(ctx, op, ctx.rank, OWN_SQUARES)
    cdef real share_of_one = <real>(1.0 / batch if ctx.training else 0.0)
    sum_over_threads(ctx, op, OWN_SUM, 0, n, mean_d)
    sum_over_threads(ctx, op, OWN_PRODUCT, 0, n, mean_product)
    scale(mean_d, n, share_of_one)
    scale(mean_product, n, share_of_one)
    for r in range(n_rows):
        column_input_gradient(op.x_grad == GRAD_ADD, x + r * n, d_z + r * n, mean, inverse_std,
                              ctx.theta + op.weight, mean_d, mean_product, d_x + r * n, n)


# Parameters: one pointer a vector, so that the compiler sees that the target overlaps none.
cdef inline void column_input_gradient(bint adds, const real* x, const real* d_z, const real* mean,
                                       const real* inverse_std, const real* scales,
                                       const real* mean_d, const real* mean_product,
                                       real_target d_x, int64_t n) noexcept nogil:
    cdef int64_t c
    cdef real d
    for c in range(n):
        d = scales[c] * inverse_std[c] * (
            d_z[c] - mean_d[c] - (x[c] - mean[c]) * inverse_std[c] * mean_product[c]
        )
        d_x[c] = d_x[c] + d if adds else d


# --- layer normalisation --------------------------------------------------------------------------


cdef inline real* row_statistics(const KernelContext* ctx, const Op* op,
                                 int64_t row) noexcept nogil:
    """Mean and 1/√(σ² + ε) of a row."""
    return rows_of(ctx.work, ctx, op.row_stats, 2, row)


cdef void layer_norm(const KernelContext* ctx, const Op* op, int64_t first_row,
                     int64_t n_rows) noexcept nogil:
    """z = scale · x̂ + shift, with each row's mean and 1/√(σ² + ε) kept for the backward pass."""
    cdef int64_t n = op.n_out, r
    cdef const real* x
    cdef real* kept
    for r in range(first_row, first_row + n_rows):
        x = input_of(ctx, op, r)
        kept = row_statistics(ctx, op, r)
        kept[0] = total_of(x, n) / n
        kept[1] = inverse_root(squares_about(x, kept[0], n) / n + <real>op.epsilon)
        normalise_row(x, kept[0], kept[1], ctx.theta + op.weight, ctx.theta + op.bias,
                      output_of(ctx, op, r), n)


cdef inline real total_of(const real* x, int64_t n) noexcept nogil:
    cdef int64_t c
    cdef real total = 0
    for c in range(n):
        total += x[c]
    return total


cdef inline real squares_about(const real* x, real mean, int64_t n) noexcept nogil:
    cdef int64_t c
    cdef real squares = 0
    for c in range(n):
        squares += (x[c] - mean) * (x[c] - mean)
    return squares


cdef inline void normalise_row(const real* x, real mean, real inverse_std, const real* scales,
                               const real* shifts, real_target z, int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n):
        z[c] = (x[c] - mean) * inverse_std * scales[c] + shifts[c]


cdef void layer_norm_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                              int64_t n_rows) noexcept nogil:
    """∂C/∂x = 1/√(σ² + ε) · (d − mean d − x̂ · mean d x̂) with d = scale · δ, row by row."""
    cdef int64_t r
    for r in range(first_row, first_row + n_rows):
        row_input_gradient(op.x_grad == GRAD_ADD, input_of(ctx, op, r),
                           output_gradient_of(ctx, op, r), row_statistics(ctx, op, r),
                           ctx.theta + op.weight, input_gradient_of(ctx, op, r), op.n_out)


cdef inline void row_input_gradient(bint adds, const real* x, const real* d_z, const real* kept,
                                    const real* scales, real_target d_x,
                                    int64_t n) noexcept nogil:
    cdef int64_t c
    cdef real mean = kept[0], inverse_std = kept[1], mean_d = 0, mean_product = 0, d
    for c in range(n):
        d = d_z[c] * scales[c]
        mean_d += d
        mean_product += d * (x[c] - mean) * inverse_std
    mean_d /= n
    mean_product /= n
    for c in range(n):
        d = inverse_std * (d_z[c] * scales[c] - mean_d - (x[c] - mean) * inverse_std * mean_product)
        d_x[c] = d_x[c] + d if adds else d


cdef void layer_norm_parameter_gradients(const KernelContext* ctx, const Op* op,
                                         int64_t batch) noexcept nogil:
    """∂C/∂scale and ∂C/∂shift over all rows, for the columns that this thread owns."""
    cdef int64_t r
    cdef Range mine = thread_range(ctx, op.n_out)
    cdef int64_t n = mine.last - mine.first
    cdef real* d_scale = ctx.gradient + op.weight + mine.first
    cdef real* d_shift = ctx.gradient + op.bias + mine.first
    fill(d_scale, n, 0)
    fill(d_shift, n, 0)
    for r in range(batch):
        add_row_gradients(input_of(ctx, op, r) + mine.first,
                          output_gradient_of(ctx, op, r) + mine.first,
                          row_statistics(ctx, op, r), d_scale, d_shift, n)


cdef inline void add_row_gradients(const real* x, const real* d_z, const real* kept,
                                   real_target d_scale, real_target d_shift,
                                   int64_t n) noexcept nogil:
    cdef int64_t c
    cdef real mean = kept[0], inverse_std = kept[1]
    for c in range(n):
        d_scale[c] += d_z[c] * (x[c] - mean) * inverse_std
        d_shift[c] += d_z[c]
