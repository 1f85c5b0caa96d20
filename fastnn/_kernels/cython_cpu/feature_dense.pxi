"""FEATURE_DENSE: z = [f(v_f W_f + b_f) for the waves v_f of each feature, the other columns of x].

The waves of a feature lie in one or two parts of x, side by side in each: a part of a feature is
one GEMM. W_f and b_f are those of the feature, or the same for all.
"""


cdef inline int64_t map_row(const Op* op, int64_t f, int64_t part) noexcept nogil:
    """The first row of W that belongs to a part of a feature."""
    return ((0 if op.shared else f) * op.parts + part) * op.frequencies


cdef inline int64_t wave_column(const Op* op, int64_t f, int64_t part) noexcept nogil:
    """The first column of x that belongs to it."""
    return (part * op.features + f) * op.frequencies


cdef inline int64_t map_rows(const Op* op) noexcept nogil:
    """Rows of all W."""
    return (1 if op.shared else op.features) * op.parts * op.frequencies


cdef inline int64_t map_bias_length(const Op* op) noexcept nogil:
    """Numbers of all b."""
    return op.size if op.shared else op.features * op.size


cdef inline const real* map_part(const KernelContext* ctx, const Op* op, int64_t f,
                                 int64_t part) noexcept nogil:
    """The rows of W that belong to a part of a feature."""
    return ctx.theta + op.weight + map_row(op, f, part) * op.size


cdef void feature_dense(const KernelContext* ctx, const Op* op, int64_t first_row,
                        int64_t n_rows) noexcept nogil:
    """z, of rows of the workspace."""
    cdef int64_t size = op.size, encoded = op.features * op.size, f, part, r
    cdef const real* x = input_of(ctx, op, first_row)
    cdef real* z = output_of(ctx, op, first_row)
    cdef SourceMatrix before
    cdef OutputMatrix target
    for f in range(op.features):
        before = SourceMatrix(1, ctx.theta + op.bias + (0 if op.shared else f * size), 0)
        target = OutputMatrix(z + f * size, op.n_out)
        for part in range(op.parts):
            gemm(ctx, GemmShape(n_rows, size, op.frequencies), 1,
                 operand(x + wave_column(op, f, part), op.n_in),
                 operand(map_part(ctx, op, f, part), size), before, target)
            before = SourceMatrix(1, target.data, op.n_out)
    for r in range(n_rows):
        if op.inner == RELU:
            cut_below_zero(z + r * op.n_out, encoded)
        copy_row(x + r * op.n_in + op.n_in - (op.n_out - encoded), z + r * op.n_out + encoded,
                 op.n_out - encoded)


cdef void cut_below_zero(real_target z, int64_t n) noexcept nogil:
    """max(z, 0); NaN stays."""
    cdef int64_t c
    for c in range(n):
        z[c] = ZERO if z[c] < ZERO else z[c]


cdef void feature_dense_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                                 int64_t n_rows) noexcept nogil:
    """∂C/∂v_f = δ_f W_fᵀ, with ReLU's derivative in δ; the other columns hand their gradient on."""
    cdef int64_t size = op.size, encoded = op.features * op.size, f, part, r
    cdef const real* z = output_of(ctx, op, first_row)
    cdef real* d_z = output_gradient_of(ctx, op, first_row)
    cdef real* d_x = input_gradient_of(ctx, op, first_row)
    for r in range(n_rows):
        if op.inner == RELU:
            keep_where_positive(z + r * op.n_out, d_z + r * op.n_out, encoded)
        copy_row(d_z + r * op.n_out + encoded, d_x + r * op.n_in + op.n_in - (op.n_out - encoded),
                 op.n_out - encoded)
    for f in range(op.features):
        for part in range(op.parts):
            gemm(ctx, GemmShape(n_rows, op.frequencies, size), 1,
                 operand(d_z + f * size, op.n_out), transposed(map_part(ctx, op, f, part), size),
                 no_source(), OutputMatrix(d_x + wave_column(op, f, part), op.n_in))


cdef void keep_where_positive(const real* z, real_target d_z, int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n):
        d_z[c] = d_z[c] if z[c] > ZERO else ZERO


cdef void map_gradient(const KernelContext* ctx, const Op* op, int64_t first, int64_t last,
                       int64_t batch) noexcept nogil:
    """∂C/∂W_f = Σ v_fᵀ δ_f of rows ``first`` to ``last`` of all W."""
    cdef int64_t f, part, row, low, high
    cdef const real* v
    cdef real* g
    for f in range(op.features):
        for part in range(op.parts):
            row = map_row(op, f, part)
            low, high = max(first, row), min(last, row + op.frequencies)
            if low >= high:
                continue
            v = input_of(ctx, op, 0) + wave_column(op, f, part) + low - row
            g = ctx.gradient + op.weight + low * op.size
            gemm(ctx, GemmShape(high - low, op.size, batch), 1, transposed(v, op.n_in),
                 operand(output_gradient_of(ctx, op, 0) + f * op.size, op.n_out),
                 SourceMatrix(1 if op.shared and f > 0 else 0, g, op.size),
                 OutputMatrix(g, op.size))


cdef void map_bias_gradient(const KernelContext* ctx, const Op* op, Range mine,
                            int64_t batch) noexcept nogil:
    """∂C/∂b_f = Σ δ_f."""
    cdef int64_t n = mine.last - mine.first, r, f
    cdef real* g = ctx.gradient + op.bias + mine.first
    fill(g, n, 0)
    for r in range(batch):
        for f in range(op.features if op.shared else 1):
            add_to(output_gradient_of(ctx, op, r) + f * op.size + mine.first, g, n)
