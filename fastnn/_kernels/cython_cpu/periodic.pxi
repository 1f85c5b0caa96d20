"""PERIODIC: z = [cos φ, sin φ if there are two parts, the last columns of x], φ = 2π x_f w_f + b_f.

`slope` holds sin φ, and from the backward pass on ∂C/∂φ.
"""


cdef inline real two_pi() noexcept nogil:
    return <real>6.283185307179586


cdef inline int64_t n_angles(const Op* op) noexcept nogil:
    """Angles of a row."""
    return op.features * op.frequencies


cdef inline int64_t first_passed(const Op* op) noexcept nogil:
    """The first column of x that is put out as it is."""
    return op.n_in - (op.n_out - op.parts * n_angles(op))


cdef inline real* angle_rows(const KernelContext* ctx, const Op* op, int64_t row) noexcept nogil:
    return rows_of(ctx.work, ctx, op.slope, n_angles(op), row)


cdef void periodic(const KernelContext* ctx, const Op* op, int64_t first_row,
                   int64_t n_rows) noexcept nogil:
    """z and sin φ."""
    cdef int64_t n = n_angles(op), k = op.frequencies, r, f
    cdef const real* x
    cdef const real* w = ctx.theta + op.weight
    cdef real* z
    cdef real* sines
    for r in range(first_row, first_row + n_rows):
        x, z, sines = input_of(ctx, op, r), output_of(ctx, op, r), angle_rows(ctx, op, r)
        for f in range(op.features):
            if op.bias >= 0:
                shifted_turns(x[f], w + f * k, ctx.theta + op.bias + f * k, z + f * k, k)
            else:
                turns(x[f], w + f * k, z + f * k, k)
        cosines_and_sines(z, sines, n)
        if op.parts == 2:
            memcpy(z + n, sines, n * sizeof(real))
        copy_row(x + first_passed(op), z + op.parts * n, op.n_in - first_passed(op))


cdef inline void shifted_turns(real x, const real* w, const real* b, real_target t,
                               int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        t[i] = multiply_add(x, w[i], b[i] * (ONE / two_pi()))


cdef inline void turns(real x, const real* w, real_target t, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        t[i] = x * w[i]


cdef void cosines_and_sines(real_target z, real_target sines, int64_t n) noexcept nogil:
    """z ← cos 2πz, and sin 2πz."""
    cdef int64_t i
    for i in range(n):
        z[i] = cos_sin_turns(z[i], &sines[i])


cdef void periodic_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                            int64_t n_rows) noexcept nogil:
    """∂C/∂φ = −sin φ δ, plus cos φ times the δ of the sines."""
    cdef int64_t n = n_angles(op), r
    cdef const real* d_z
    cdef real* d_angles
    for r in range(first_row, first_row + n_rows):
        d_z, d_angles = output_gradient_of(ctx, op, r), angle_rows(ctx, op, r)
        multiply_negated(d_z, d_angles, n)
        if op.parts == 2:
            add_product(output_of(ctx, op, r), d_z + n, d_angles, n)
        if op.x_grad != GRAD_NONE:
            number_gradients(ctx, op, d_angles, d_z, input_gradient_of(ctx, op, r))


cdef void multiply_negated(const real* factors, real_target target, int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] *= -factors[i]


cdef void number_gradients(const KernelContext* ctx, const Op* op, const real* d_angles,
                           const real* d_z, real* d_x) noexcept nogil:
    """∂C/∂x_f = 2π Σ_k w_fk ∂C/∂φ_fk, plus the gradient of the columns that are put out as they are.
    """
    cdef int64_t k = op.frequencies, passed = first_passed(op), c
    cdef real d
    for c in range(op.n_in):
        d = ZERO
        if c < op.features:
            d = two_pi() * dot(ctx.theta + op.weight + c * k, d_angles + c * k, k)
        if c >= passed:
            d += d_z[op.parts * n_angles(op) + c - passed]
        pass_gradient(op.x_grad, &d, d_x + c, 1)


cdef void frequency_gradient(const KernelContext* ctx, const Op* op, int64_t first, int64_t last,
                             int64_t batch) noexcept nogil:
    """∂C/∂w_f = 2π Σ x_f ∂C/∂φ_f of features ``first`` to ``last``."""
    cdef int64_t k = op.frequencies, f
    for f in range(first, last):
        gemm(ctx, GemmShape(1, k, batch), two_pi(),
             transposed(input_of(ctx, op, 0) + f, op.n_in),
             operand(angle_rows(ctx, op, 0) + f * k, n_angles(op)), no_source(),
             OutputMatrix(ctx.gradient + op.weight + f * k, k))


cdef void phase_gradient(const KernelContext* ctx, const Op* op, Range mine,
                         int64_t batch) noexcept nogil:
    """∂C/∂b = Σ ∂C/∂φ."""
    sum_of_rows(angle_rows(ctx, op, 0) + mine.first, batch, mine.last - mine.first, n_angles(op),
                ctx.gradient + op.bias + mine.first)
