"""Members of an ensemble: what each has of its own, their losses and their mean.

A row of a value holds one row of each member, one after the other. Sums over rows that the
gradients of MEMBER_SCALE are made of are taken in the backward pass, while the rows are in cache:
each thread has its own, in its scratch.
"""

cdef enum:
    SCALED_AT_ONCE = 1024  # columns whose sums stay in the first-level cache
    MEMBERS_AT_ONCE = 64  # whose losses are taken in one call


# --- MEMBER_SCALE: z_m = scale_m ⊙ x_m + b_m ------------------------------------------------------


cdef inline bint shares_input(const Op* op) noexcept nogil:
    """Whether several members of MEMBER_SCALE read the same x; then there is no b."""
    return op.members > 1 and op.n_in == op.member_in


cdef inline real* sums_of_thread(const KernelContext* ctx, const Op* op,
                                 int64_t rank) noexcept nogil:
    """Σ δ ⊙ x, then Σ δ, of each column over the rows of a thread."""
    return ctx.scratch + rank * ctx.scratch_stride + op.column_stats


cdef void clear_member_sums(const KernelContext* ctx) noexcept nogil:
    cdef int64_t i
    for i in range(ctx.n_ops):
        if ctx.ops[i].code == MEMBER_SCALE:
            fill(sums_of_thread(ctx, &ctx.ops[i], ctx.rank), 2 * ctx.ops[i].n_out, 0)


cdef void member_scale(const KernelContext* ctx, const Op* op, int64_t first_row,
                       int64_t n_rows) noexcept nogil:
    cdef int64_t n = op.member_out, r, m
    cdef bint shared = shares_input(op)
    cdef const real* x
    cdef const real* w = ctx.theta + op.weight
    cdef const real* b = ctx.theta + op.bias
    cdef real* z
    for r in range(first_row, first_row + n_rows):
        x, z = input_of(ctx, op, r), output_of(ctx, op, r)
        if not shared and op.bias >= 0:
            scaled_and_shifted(x, w, b, z, op.n_out)
        elif not shared:
            product_of(x, w, z, op.n_out)
        else:
            for m in range(op.members):
                product_of(x, w + m * n, z + m * n, n)


cdef void scaled_and_shifted(const real* x, const real* scale, const real* shift, real_target z,
                             int64_t n) noexcept nogil:
    cdef int64_t c
    for c in range(n):
        z[c] = scale[c] * x[c] + shift[c]


cdef void member_scale_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                                int64_t n_rows) noexcept nogil:
    """∂C/∂x_m = scale_m ⊙ δ_m, summed over members where they share x; and the sums over rows."""
    cdef int64_t n = op.member_out, m, block, first, width, column, r, flag
    cdef real* sums = sums_of_thread(ctx, op, ctx.rank)
    cdef bint shared = shares_input(op)
    cdef const real* d
    for m in range(op.members):
        # The first member writes what the others add to.
        flag = GRAD_ADD if shared and m > 0 and op.x_grad != GRAD_NONE else op.x_grad
        for block in range(blocks_of(n, SCALED_AT_ONCE)):
            first = block * SCALED_AT_ONCE
            width, column = min(<int64_t>SCALED_AT_ONCE, n - first), m * n + first
            for r in range(first_row, first_row + n_rows):
                d = output_gradient_of(ctx, op, r) + column
                add_product(d, input_of(ctx, op, r) + (first if shared else column),
                            sums + column, width)
                if op.bias >= 0:
                    add_to(d, sums + op.n_out + column, width)
                product_gradient(flag, d, ctx.theta + op.weight + column,
                                 input_gradient_of(ctx, op, r) + (first if shared else column),
                                 width)


cdef void member_sums(const KernelContext* ctx, const Op* op, int64_t which, int64_t first,
                      int64_t n, real* g) noexcept nogil:
    """g = Σ δ ⊙ x, or Σ δ where ``which`` is 1, of n columns from the first on, over all threads."""
    cdef int64_t rank, column = which * op.n_out + first
    memcpy(g, sums_of_thread(ctx, op, 0) + column, n * sizeof(real))
    for rank in range(1, ctx.n_threads):
        add_to(sums_of_thread(ctx, op, rank) + column, g, n)


# --- HEADS: z_m = x_m W_m + b_m -------------------------------------------------------------------


cdef void heads(const KernelContext* ctx, const Op* op, int64_t first_row,
                int64_t n_rows) noexcept nogil:
    cdef int64_t n_in = op.member_in, units = op.member_out, m
    cdef SourceMatrix bias = bias_of(ctx, op)
    for m in range(op.members):
        gemm(ctx, GemmShape(n_rows, units, n_in), 1,
             operand(input_of(ctx, op, first_row) + m * n_in, op.n_in),
             operand(ctx.theta + op.weight + m * n_in * units, units), bias,
             OutputMatrix(output_of(ctx, op, first_row) + m * units, op.n_out))
        bias.data += units


cdef void heads_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                         int64_t n_rows) noexcept nogil:
    """∂C/∂x_m = δ_m W_mᵀ."""
    cdef int64_t n_in = op.member_in, units = op.member_out, m
    cdef SourceMatrix before = no_source()
    cdef real* d_x = input_gradient_of(ctx, op, first_row)
    for m in range(op.members):
        if op.x_grad == GRAD_ADD:
            before = SourceMatrix(1, d_x, op.n_in)
        gemm(ctx, GemmShape(n_rows, n_in, units), 1,
             operand(output_gradient_of(ctx, op, first_row) + m * units, op.n_out),
             transposed(ctx.theta + op.weight + m * n_in * units, units), before,
             OutputMatrix(d_x, op.n_in))
        d_x += n_in


cdef void heads_gradient(const KernelContext* ctx, const Op* op, int64_t first, int64_t last,
                         int64_t batch) noexcept nogil:
    """The gradient of rows ``first`` to ``last`` of all members' W, which lie one below the other."""
    cdef int64_t n_in = op.member_in, units = op.member_out, row = first, m, n
    while row < last:
        m = row // n_in
        n = min(last, (m + 1) * n_in) - row
        # Row (m, i) of the weights multiplies column (m, i) of the input.
        gemm(ctx, GemmShape(n, units, batch), 1, transposed(input_of(ctx, op, 0) + row, op.n_in),
             operand(output_gradient_of(ctx, op, 0) + m * units, op.n_out), no_source(),
             OutputMatrix(ctx.gradient + op.weight + row * units, units))
        row += n


# --- losses and predictions -----------------------------------------------------------------------


cdef LossSums loss_of_rows(const KernelContext* ctx, const real* z, real* d, int64_t rows,
                           const int64_t* samples, double weight_sum) noexcept nogil:
    """`loss_and_gradient` of rows of all members: the mean of the members' losses.

    To each member the same sample weighs 1/members of its weight.
    """
    cdef int64_t members = ctx.loss.members, width = ctx.ops[ctx.n_ops - 1].n_out
    cdef int64_t units, r, m, n, block
    cdef int64_t[MEMBERS_AT_ONCE] same
    cdef LossSums sums = LossSums(0, 0)
    if members == 1:
        return loss_and_gradient(ctx, z, d, rows, width, samples, weight_sum)
    units = width // members
    for r in range(rows):
        for m in range(MEMBERS_AT_ONCE):
            same[m] = samples[r]
        for block in range(blocks_of(members, MEMBERS_AT_ONCE)):
            m = block * MEMBERS_AT_ONCE
            n = min(<int64_t>MEMBERS_AT_ONCE, members - m)
            sums.loss += loss_and_gradient(ctx, z + m * units, d + m * units, n, units, same,
                                           members * weight_sum).loss
        if classifies(ctx.loss.code) and answers_correctly(ctx, z, units, samples[r]):
            sums.correct_weight += weight_of(ctx, samples[r])
        z += width
        d += width
    return sums


cdef bint answers_correctly(const KernelContext* ctx, const real* z, int64_t units,
                            int64_t sample) noexcept nogil:
    """Whether the mean of the members' predictions is right, from their raw outputs of a sample."""
    cdef int64_t members = ctx.loss.members
    cdef real* p = ctx.scratch + ctx.rank * ctx.scratch_stride + ctx.loss.linked
    memcpy(p, z, members * units * sizeof(real))
    apply_link(ctx.loss.link, p, members, units)
    average_members(p, 1, members, units)
    if ctx.labels != NULL:
        return largest(p, units) == ctx.labels[sample]
    if units > 1:
        return largest(p, units) == largest(ctx.targets + sample * units, units)
    return (p[0] > HALF) == (ctx.targets[sample] > HALF)


cdef void average_members(real* z, int64_t rows, int64_t members, int64_t units) noexcept nogil:
    """The outputs of the first member of each row become the mean over members."""
    cdef int64_t r, m
    for r in range(rows):
        for m in range(1, members):
            add_to(z + m * units, z, units)
        scale(z, units, ONE / members)
        z += members * units
