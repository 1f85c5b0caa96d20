"""EMBEDDING: the last columns of x hold codes, each of which becomes a row of its table."""

from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.kernel_context import rows_of
from fastnn._kernels.numba_cpu.views import matrix, segment


@inline
def _table_row(first_rows, rows, code, j):
    """The row of code number j, of all tables; what is no code of its table counts as 0.

    Buffers and codes may hold anything: the row is inside the tables all the same.
    """
    row = int(first_rows[j])
    if code > 0 and code < first_rows[j + 1] - first_rows[j]:
        row += int(code)
    return max(0, min(row, rows - 1))


@kernel
def embedding(ctx, op, first_row, n_rows):
    """z = [x without its codes, E₁[code₁], E₂[code₂], …]."""
    passed, size = op.n_in - op.codes, op.size
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    tables = matrix(ctx.theta, op.weight, op.rows, size)
    first_rows = segment(ctx.buffers, op.state, op.codes + 1)
    for r in range(n_rows):
        for c in range(passed):
            z[r, c] = x[r, c]
        for j in range(op.codes):
            row = _table_row(first_rows, op.rows, x[r, passed + j], j)
            for c in range(size):
                z[r, passed + j * size + c] = tables[row, c]


@kernel
def embedding_gradient(ctx, op, first, last, batch):
    """The gradient of the rows from ``first`` to ``last`` of the tables: Σ δ over their uses."""
    passed, size = op.n_in - op.codes, op.size
    x = matrix(ctx.work, op.x * ctx.capacity, batch, op.n_in)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, op.n_out)
    g = matrix(ctx.gradient, op.weight, op.rows, size)
    first_rows = segment(ctx.buffers, op.state, op.codes + 1)
    g[first:last] = 0
    for r in range(batch):
        for j in range(op.codes):
            row = _table_row(first_rows, op.rows, x[r, passed + j], j)
            if first <= row < last:
                for c in range(size):
                    g[row, c] += d_z[r, passed + j * size + c]
