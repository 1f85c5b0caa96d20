"""PIECEWISE: y_f = x_f a_f + Σ_t v_t W_ft + b_f for each of the leading columns of x.

v_t is 1 for the bins below x_f and 0 for those above. So Σ_t v_t W_ft = P_k + v_k W_fk, with k the
bin of x_f and P_k = Σ_{t<k} W_ft + b_f: a number costs as much as a row of a table, however many
bins there are. The per-thread scratch holds P, (features, bins, size), in the forward pass.
"""


cdef struct Bin:
    int64_t k
    real share  # v_k; 0 where there are no bins


cdef inline Bin bin_of(const KernelContext* ctx, const Op* op, int64_t f, real x) noexcept nogil:
    """The bin of x_f: the first also for what lies below, the last for what lies above.

    Buffers may hold anything: k is below the number of bins all the same.
    """
    cdef const real* edges = ctx.buffers + op.state + f * (op.bins + 2) + 1
    cdef real bins = edges[-1]
    cdef int64_t low = 0, high, middle
    if not bins >= ONE:
        return Bin(0, ZERO)
    high = op.bins - 1 if bins >= <real>op.bins else <int64_t>bins - 1
    while low < high:
        middle = (low + high + 1) // 2
        if edges[middle] <= x:
            low = middle
        else:
            high = middle - 1
    return Bin(low, (x - edges[low]) / (edges[low + 1] - edges[low]))


cdef inline real* piecewise_scratch(const KernelContext* ctx, const Op* op) noexcept nogil:
    return ctx.scratch + ctx.rank * ctx.scratch_stride + op.column_stats


cdef inline const real* map_of(const KernelContext* ctx, const Op* op, int64_t f) noexcept nogil:
    """W_f, with a_f as its last row."""
    return ctx.theta + op.weight + f * (op.bins + 1) * op.size


cdef void piecewise(const KernelContext* ctx, const Op* op, int64_t first_row,
                    int64_t n_rows) noexcept nogil:
    """z = [y of each feature, the other columns of x]."""
    cdef int64_t size = op.size, r, f
    cdef const real* x
    cdef const real* w
    cdef real* z
    cdef real* sums = piecewise_scratch(ctx, op)
    cdef Bin place
    for f in range(op.features):
        prefix_sums(map_of(ctx, op, f), ctx.theta + op.bias + f * size, sums + f * op.bins * size,
                    op.bins, size)
    for r in range(first_row, first_row + n_rows):
        x, z = input_of(ctx, op, r), output_of(ctx, op, r)
        for f in range(op.features):
            place, w = bin_of(ctx, op, f, x[f]), map_of(ctx, op, f)
            interpolate(sums + (f * op.bins + place.k) * size, w + place.k * size, place.share,
                        w + op.bins * size, x[f], z + f * size, size)
        copy_row(x + op.features, z + op.features * size, op.n_in - op.features)


cdef void prefix_sums(const real* w, const real* b, real* sums, int64_t bins,
                      int64_t size) noexcept nogil:
    """P_t = Σ_{u<t} W_u + b."""
    cdef int64_t t
    memcpy(sums, b, size * sizeof(real))
    for t in range(1, bins):
        sum_of(sums + (t - 1) * size, w + (t - 1) * size, sums + t * size, size)


cdef inline void interpolate(const real* p, const real* w, real share, const real* a, real x,
                             real_target y, int64_t n) noexcept nogil:
    """y = P_k + v_k W_k + x a."""
    cdef int64_t c
    for c in range(n):
        y[c] = p[c] + share * w[c] + x * a[c]


cdef void piecewise_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                             int64_t n_rows) noexcept nogil:
    """∂C/∂x_f = (a_f + W_fk/(e_{k+1} − e_k)) · δ_f; the other columns hand their gradient on."""
    cdef int64_t size = op.size, r, f
    cdef const real* x
    cdef const real* d_z
    cdef const real* w
    cdef const real* edges
    cdef real* d_x
    cdef real d
    cdef Bin place
    for r in range(first_row, first_row + n_rows):
        x, d_z, d_x = (input_of(ctx, op, r), output_gradient_of(ctx, op, r),
                       input_gradient_of(ctx, op, r))
        for f in range(op.features):
            place, w = bin_of(ctx, op, f, x[f]), map_of(ctx, op, f)
            edges = ctx.buffers + op.state + f * (op.bins + 2) + 1
            d = dot(w + op.bins * size, d_z + f * size, size)
            if edges[-1] >= ONE:
                d += (dot(w + place.k * size, d_z + f * size, size)
                      / (edges[place.k + 1] - edges[place.k]))
            pass_gradient(op.x_grad, &d, d_x + f, 1)
        pass_gradient(op.x_grad, d_z + op.features * size, d_x + op.features,
                      op.n_in - op.features)


cdef inline real dot(const real* a, const real* b, int64_t n) noexcept nogil:
    cdef int64_t i
    cdef real total = 0
    for i in range(n):
        total += a[i] * b[i]
    return total


cdef void piecewise_gradient(const KernelContext* ctx, const Op* op, int64_t first, int64_t last,
                             int64_t batch) noexcept nogil:
    """The gradient of the maps of features ``first`` to ``last``.

    ∂C/∂W_t = Σ v_t δ = Σ_{rows of bin t} v_t δ + Σ_{rows of bins above} δ, and ∂C/∂a = Σ x δ.
    """
    cdef int64_t size = op.size, f, r
    cdef real* g
    cdef real* above = piecewise_scratch(ctx, op)  # Σ δ over the rows of each bin
    cdef const real* d_z
    cdef real x
    cdef Bin place
    for f in range(first, last):
        g = ctx.gradient + op.weight + f * (op.bins + 1) * size
        fill(g, (op.bins + 1) * size, 0)
        fill(above, op.bins * size, 0)
        for r in range(batch):
            x, d_z = input_of(ctx, op, r)[f], output_gradient_of(ctx, op, r) + f * size
            place = bin_of(ctx, op, f, x)
            add_scaled(place.share, d_z, g + place.k * size, size)
            add_scaled(x, d_z, g + op.bins * size, size)
            add_to(d_z, above + place.k * size, size)
        add_sums_above(above, g, op.bins, size)


cdef void add_scaled(real factor, const real* source, real_target target,
                     int64_t n) noexcept nogil:
    cdef int64_t i
    for i in range(n):
        target[i] += factor * source[i]


cdef void add_sums_above(real* above, real* g, int64_t bins, int64_t size) noexcept nogil:
    """g_t += Σ_{u>t} above_u."""
    cdef int64_t t
    for t in range(bins - 2, -1, -1):
        add_to(above + (t + 1) * size, g + t * size, size)
        add_to(above + (t + 1) * size, above + t * size, size)
