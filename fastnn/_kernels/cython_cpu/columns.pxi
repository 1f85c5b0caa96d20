"""Operations with a learnt number for each column: SCALE and PARAMETRIC."""


cdef void scale_columns(const KernelContext* ctx, const Op* op, int64_t first_row,
                        int64_t n_rows) noexcept nogil:
    """z = scale ⊙ x."""
    cdef int64_t r
    for r in range(first_row, first_row + n_rows):
        product_of(input_of(ctx, op, r), ctx.theta + op.weight, output_of(ctx, op, r), op.n_out)


cdef void product_of(const real* a, const real* b, real_target target, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] = a[i] * b[i]


cdef void add_product(const real* a, const real* b, real_target target, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] += a[i] * b[i]


cdef void product_gradient(int64_t flag, const real* a, const real* b, real* target,
                           int64_t n) noexcept nogil:
    """Hand the gradient a ⊙ b on to an operation's input as the op table says."""
    if flag == GRAD_WRITE:
        product_of(a, b, target, n)
    elif flag == GRAD_ADD:
        add_product(a, b, target, n)


cdef void scale_columns_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                                 int64_t n_rows) noexcept nogil:
    """∂C/∂x = scale ⊙ δ."""
    cdef int64_t r
    for r in range(first_row, first_row + n_rows):
        product_gradient(op.x_grad, output_gradient_of(ctx, op, r), ctx.theta + op.weight,
                         input_gradient_of(ctx, op, r), op.n_out)


cdef void parametric(const KernelContext* ctx, const Op* op, int64_t first_row,
                     int64_t n_rows) noexcept nogil:
    """z = x + α ⊙ (f(x) − x); for the backward pass ∂z/∂x and f(x) − x are stored."""
    cdef int64_t n = n_rows * op.n_out, r
    cdef real* z = output_of(ctx, op, first_row)
    cdef real* slope = rows_of(ctx.work, ctx, op.slope, op.n_out, first_row)
    memcpy(z, input_of(ctx, op, first_row), n * sizeof(real))
    if ctx.backward:
        activate_and_store(op.inner, z, slope, n, <real>op.alpha)
    else:
        activate_all(op.inner, z, n, <real>op.alpha)
    for r in range(first_row, first_row + n_rows):
        if ctx.backward:
            mix_slope(ctx.theta + op.weight, rows_of(ctx.work, ctx, op.slope, op.n_out, r),
                      op.n_out)
        mix(input_of(ctx, op, r), ctx.theta + op.weight,
            rows_of(ctx.work, ctx, op.change, op.n_out, r), output_of(ctx, op, r), op.n_out)


cdef void mix(const real* x, const real* alpha, real* change, real_target z,
              int64_t n) noexcept nogil:
    """z ← x + α ⊙ (z − x), where z is f(x), and change ← f(x) − x."""
    cdef int64_t c
    for c in range(n):
        change[c] = z[c] - x[c]
        z[c] = x[c] + alpha[c] * change[c]


cdef void mix_slope(const real* alpha, real_target slope, int64_t n) noexcept nogil:
    """∂z/∂x ← 1 + α ⊙ (f′(x) − 1)."""
    cdef int64_t c
    for c in range(n):
        slope[c] = ONE + alpha[c] * (slope[c] - ONE)


cdef void parametric_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                              int64_t n_rows) noexcept nogil:
    """∂C/∂x = ∂z/∂x ⊙ δ."""
    product_gradient(op.x_grad, output_gradient_of(ctx, op, first_row),
                     rows_of(ctx.work, ctx, op.slope, op.n_out, first_row),
                     input_gradient_of(ctx, op, first_row), n_rows * op.n_out)


cdef void column_gradients(const KernelContext* ctx, const Op* op, int64_t batch) noexcept nogil:
    """∂C/∂scale = Σ δ ⊙ x, or ∂C/∂α = Σ δ ⊙ (f(x) − x), for the columns that this thread owns."""
    cdef Range mine = thread_range(ctx, op.n_out)
    cdef int64_t n = mine.last - mine.first, r, column = op.x if op.code == SCALE else op.change
    cdef real* g = ctx.gradient + op.weight + mine.first
    fill(g, n, 0)
    for r in range(batch):
        add_product(output_gradient_of(ctx, op, r) + mine.first,
                    rows_of(ctx.work, ctx, column, op.n_out, r) + mine.first, g, n)
