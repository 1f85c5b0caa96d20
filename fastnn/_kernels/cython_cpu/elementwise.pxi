"""Loops over the elements of a value: gather, activation, dropout mask; forward and backward.

Every operation ends in the same epilogue y = f(z) · m; the bias of z comes with the GEMM. Where f′
follows from y (no dropout, and the activation does not need z) one pass over z does all of it in
place, and the backward pass multiplies by f′(y). Otherwise the forward pass stores f′(z) · m beside
y, and the backward pass is one product.
"""


cdef void gather(const real* X, int64_t n_in, const int64_t* order, int64_t n, int64_t first,
                 int64_t width, real* rows) noexcept nogil:
    """rows[i] = X[order[i], first : first + width]."""
    cdef int64_t i
    for i in range(n):
        copy_row(X + order[i] * n_in + first, rows + i * width, width)


cdef void add_to(const real* source, real_target target, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] += source[i]


cdef void sum_of(const real* a, const real* b, real_target target, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] = a[i] + b[i]


cdef void multiply(const real* factors, real_target target, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] *= factors[i]


cdef void scale(real* target, int64_t n, real factor) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] *= factor


cdef void fill(real* target, int64_t n, real value) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] = value


cdef void pass_gradient(int64_t flag, const real* source, real* target, int64_t n) noexcept nogil:
    """Hand a gradient on to an operation's input as the op table says."""
    if flag == GRAD_WRITE:
        memcpy(target, source, n * sizeof(real))
    elif flag == GRAD_ADD:
        add_to(source, target, n)


# --- the epilogue ---------------------------------------------------------------------------------


cdef void epilogue(const KernelContext* ctx, const Op* op, int64_t step, int64_t first_row,
                   int64_t n_rows) noexcept nogil:
    """y = f(z) · m in place, for rows of the workspace."""
    cdef int64_t n = n_rows * op.n_out
    cdef real* z = output_of(ctx, op, first_row)
    cdef real* aux = rows_of(ctx.work, ctx, op.aux, op.n_out, first_row)
    cdef real* masks
    cdef bint stores = op.aux >= 0 and ctx.backward
    if stores:
        activate_and_store(op.activation, z, aux, n, <real>op.alpha)
    else:
        activate_all(op.activation, z, n, <real>op.alpha)
    if ctx.training and op.rate > 0:
        masks = output_gradient_of(ctx, op, first_row)  # free until the backward pass
        dropout_masks(ctx, op, masks, n_rows, first_row, step)
        multiply(masks, z, n)
        if stores:
            multiply(masks, aux, n)


cdef void activate_and_store(int64_t code, real* z, real* aux, int64_t n,
                             real alpha) noexcept nogil:
    """z ← f(z) and aux ← f′(z)."""
    if needs_z(code):
        activate_with_derivative(code, z, aux, n, alpha)
    else:
        activate_all(code, z, n, alpha)
        fill(aux, n, 1)
        multiply_by_derivative(code, aux, z, n, alpha)


cdef void epilogue_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                            int64_t n_rows) noexcept nogil:
    """∂C/∂z = ∂C/∂y · f′(z) · m in place, for rows of the gradient workspace."""
    cdef int64_t n = n_rows * op.n_out
    cdef real* d = output_gradient_of(ctx, op, first_row)
    if op.aux >= 0:
        multiply(rows_of(ctx.work, ctx, op.aux, op.n_out, first_row), d, n)
    else:
        multiply_by_derivative(op.activation, d, output_of(ctx, op, first_row), n, <real>op.alpha)
