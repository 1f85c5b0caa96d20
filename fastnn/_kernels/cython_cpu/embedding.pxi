"""EMBEDDING: the last columns of x hold codes, each of which becomes a row of its table."""


cdef inline int64_t table_row(const KernelContext* ctx, const Op* op, const real* codes,
                              int64_t j) noexcept nogil:
    """The row of code number j, of all tables; what is no code of its table counts as 0.

    Buffers and codes may hold anything: the row is inside the tables all the same.
    """
    cdef const real* first = ctx.buffers + op.state + j
    cdef real code = codes[j]
    cdef int64_t row = <int64_t>first[0]
    if code > ZERO and code < first[1] - first[0]:
        row += <int64_t>code
    return max(<int64_t>0, min(row, op.rows - 1))


cdef void embedding(const KernelContext* ctx, const Op* op, int64_t first_row,
                    int64_t n_rows) noexcept nogil:
    """z = [x without its codes, E₁[code₁], E₂[code₂], …]."""
    cdef int64_t passed = op.n_in - op.codes, r, j
    cdef const real* x
    cdef real* z
    for r in range(first_row, first_row + n_rows):
        x, z = input_of(ctx, op, r), output_of(ctx, op, r)
        copy_row(x, z, passed)
        for j in range(op.codes):
            copy_row(ctx.theta + op.weight + table_row(ctx, op, x + passed, j) * op.size,
                     z + passed + j * op.size, op.size)


cdef void embedding_gradient(const KernelContext* ctx, const Op* op, int64_t first, int64_t last,
                             int64_t batch) noexcept nogil:
    """The gradient of the rows from ``first`` to ``last`` of the tables: Σ δ over their uses."""
    cdef int64_t passed = op.n_in - op.codes, r, j, row
    cdef const real* x
    cdef const real* d_z
    cdef real* g = ctx.gradient + op.weight
    fill(g + first * op.size, (last - first) * op.size, 0)
    for r in range(batch):
        x, d_z = input_of(ctx, op, r) + passed, output_gradient_of(ctx, op, r) + passed
        for j in range(op.codes):
            row = table_row(ctx, op, x, j)
            if first <= row < last:
                add_to(d_z + j * op.size, g + row * op.size, op.size)
