"""Loops over the elements of a value: gather, activation, dropout mask, and their way back.

Every operation ends in the same epilogue y = f(z) · m; the bias of z comes with the product. Where
f′ follows from y (no dropout, and not GELU, SiLU or Mish) one pass over z does all of it in place,
and the backward pass multiplies by f′(y). Otherwise the forward pass stores f′(z) · m beside y, and
the backward pass is one product.
"""


cdef void gather(const real* X, int64_t n_in, const int64_t* order, int64_t n, int64_t first, int64_t width, real* rows) noexcept nogil:
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


cdef void epilogue(const Frame* frame, const Op* op, int64_t step, int64_t first_row, int64_t n_rows) noexcept nogil:
    """y = f(z) · m in place, for rows of the workspace."""
    cdef int64_t n = n_rows * op.n_out
    cdef real* z = output_of(frame, op, first_row)
    cdef real* aux = rows_of(frame.work, frame, op.aux, op.n_out, first_row)
    cdef real* masks
    cdef bint stores = op.aux >= 0 and frame.backward
    if stores:
        activate_and_store(op.activation, z, aux, n, <real>op.alpha)
    else:
        activate_all(op.activation, z, n, <real>op.alpha)
    if frame.training and op.rate > 0:
        masks = output_gradient_of(frame, op, first_row)  # free until the way back
        dropout_masks(masks, n_rows, op.n_out, op.rate, first_row, frame.seed, STREAM_MASK + op.stream, step)
        multiply(masks, z, n)
        if stores:
            multiply(masks, aux, n)


cdef void activate_and_store(int64_t code, real* z, real* aux, int64_t n, real alpha) noexcept nogil:
    """z ← f(z) and aux ← f′(z)."""
    if code == GELU:
        activate_and_store_loop(GELU, z, aux, n, alpha)
    elif code == SILU:
        activate_and_store_loop(SILU, z, aux, n, alpha)
    elif code == MISH:
        activate_and_store_loop(MISH, z, aux, n, alpha)
    else:
        activate_all(code, z, n, alpha)
        fill(aux, n, 1)
        multiply_by_derivative(code, aux, z, n, alpha)


cdef void epilogue_backward(const Frame* frame, const Op* op, int64_t first_row, int64_t n_rows) noexcept nogil:
    """∂C/∂z = ∂C/∂y · f′(z) · m in place, for rows of the gradient workspace."""
    cdef int64_t n = n_rows * op.n_out
    cdef real* d = output_gradient_of(frame, op, first_row)
    if op.aux >= 0:
        multiply(rows_of(frame.work, frame, op.aux, op.n_out, first_row), d, n)
    else:
        multiply_by_derivative(op.activation, d, output_of(frame, op, first_row), n, <real>op.alpha)


# --- one loop per activation: with a constant code nothing of the chain of ifs is left inside -----


cdef inline void activate_loop(const int code, real* z, int64_t n, real alpha) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        z[i] = activate(code, z[i], alpha)


cdef inline void activate_and_store_loop(const int code, real* z, real_target aux, int64_t n, real alpha) noexcept nogil:
    cdef int64_t i
    cdef real d
    for i in range(n):
        z[i] = activate_with_derivative(code, z[i], alpha, &d)
        aux[i] = d


cdef inline void activate_needing_z_loop(const int code, real* z, int64_t n, real alpha) noexcept nogil:
    cdef int64_t i
    cdef real d
    for i in range(n):
        z[i] = activate_with_derivative(code, z[i], alpha, &d)


cdef inline void derivative_loop(const int code, real_target d, const real* y, int64_t n, real alpha) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        d[i] *= derivative(code, y[i], alpha)


cdef void activate_all(int64_t code, real* z, int64_t n, real alpha) noexcept nogil:
    """z ← f(z)."""
    if code == SIGMOID:
        activate_loop(SIGMOID, z, n, alpha)
    elif code == TANH:
        activate_loop(TANH, z, n, alpha)
    elif code == RELU:
        activate_loop(RELU, z, n, alpha)
    elif code == LEAKY_RELU:
        activate_loop(LEAKY_RELU, z, n, alpha)
    elif code == ELU:
        activate_loop(ELU, z, n, alpha)
    elif code == SELU:
        activate_loop(SELU, z, n, alpha)
    elif code == GELU:
        activate_needing_z_loop(GELU, z, n, alpha)
    elif code == SILU:
        activate_needing_z_loop(SILU, z, n, alpha)
    elif code == MISH:
        activate_needing_z_loop(MISH, z, n, alpha)
    elif code == SOFTPLUS:
        activate_loop(SOFTPLUS, z, n, alpha)
    elif code == SOFTSIGN:
        activate_loop(SOFTSIGN, z, n, alpha)
    elif code == HARD_SIGMOID:
        activate_loop(HARD_SIGMOID, z, n, alpha)
    elif code == HARD_TANH:
        activate_loop(HARD_TANH, z, n, alpha)


cdef void multiply_by_derivative(int64_t code, real* d, const real* y, int64_t n, real alpha) noexcept nogil:
    """d ← d · f′ of what gave y."""
    if code == SIGMOID:
        derivative_loop(SIGMOID, d, y, n, alpha)
    elif code == TANH:
        derivative_loop(TANH, d, y, n, alpha)
    elif code == RELU:
        derivative_loop(RELU, d, y, n, alpha)
    elif code == LEAKY_RELU:
        derivative_loop(LEAKY_RELU, d, y, n, alpha)
    elif code == ELU:
        derivative_loop(ELU, d, y, n, alpha)
    elif code == SELU:
        derivative_loop(SELU, d, y, n, alpha)
    elif code == SOFTPLUS:
        derivative_loop(SOFTPLUS, d, y, n, alpha)
    elif code == SOFTSIGN:
        derivative_loop(SOFTSIGN, d, y, n, alpha)
    elif code == HARD_SIGMOID:
        derivative_loop(HARD_SIGMOID, d, y, n, alpha)
    elif code == HARD_TANH:
        derivative_loop(HARD_TANH, d, y, n, alpha)
