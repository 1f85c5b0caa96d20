"""Operations with a learnt number for each column: SCALE and PARAMETRIC."""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise
from fastnn._kernels.numba_cpu.barrier import partition
from fastnn._kernels.numba_cpu.compile import kernel
from fastnn._kernels.numba_cpu.kernel_context import rows_of
from fastnn._kernels.numba_cpu.views import matrix, segment


@kernel
def scale_columns(ctx, op, first_row, n_rows):
    """z = scale ⊙ x."""
    x = rows_of(ctx, ctx.work, op.x, op.n_out, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    scale = segment(ctx.theta, op.weight, op.n_out)
    for r in range(n_rows):
        for c in range(op.n_out):
            z[r, c] = scale[c] * x[r, c]


@kernel
def scale_columns_backward(ctx, op, first_row, n_rows):
    """∂C/∂x = scale ⊙ δ."""
    d_z = rows_of(ctx, ctx.d_work, op.y, op.n_out, first_row, n_rows)
    d_x = rows_of(ctx, ctx.d_work, op.x, op.n_out, first_row, n_rows)
    scale = segment(ctx.theta, op.weight, op.n_out)
    for r in range(n_rows):
        for c in range(op.n_out):
            d = scale[c] * d_z[r, c]
            d_x[r, c] = d_x[r, c] + d if op.x_grad == oc.GRAD_ADD else d


@kernel
def parametric(ctx, op, first_row, n_rows):
    """z = x + α ⊙ (f(x) − x); for the backward pass ∂z/∂x and f(x) − x are stored."""
    n = op.n_out
    x = rows_of(ctx, ctx.work, op.x, n, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, n, first_row, n_rows)
    change = rows_of(ctx, ctx.work, op.change, n, first_row, n_rows)
    alpha, constant = segment(ctx.theta, op.weight, n), ctx.work.dtype.type(op.alpha)
    elementwise.copy(x.reshape(-1), z.reshape(-1))
    if ctx.backward:
        slope = rows_of(ctx, ctx.work, op.slope, n, first_row, n_rows)
        elementwise.activate_and_store(op.inner, z, slope, segment(ctx.zeros, 0, n), constant)
        for r in range(n_rows):
            for c in range(n):
                slope[r, c] = 1 + alpha[c] * (slope[r, c] - 1)
    else:
        elementwise.activate_all(op.inner, z, segment(ctx.zeros, 0, n), constant)
    for r in range(n_rows):
        for c in range(n):
            change[r, c] = z[r, c] - x[r, c]
            z[r, c] = x[r, c] + alpha[c] * change[r, c]


@kernel
def parametric_backward(ctx, op, first_row, n_rows):
    """∂C/∂x = ∂z/∂x ⊙ δ."""
    n, row = n_rows * op.n_out, first_row * op.n_out
    slope = segment(ctx.work, op.slope * ctx.capacity + row, n)
    d_z = segment(ctx.d_work, op.y * ctx.capacity + row, n)
    d_x = segment(ctx.d_work, op.x * ctx.capacity + row, n)
    for i in range(n):
        d = slope[i] * d_z[i]
        d_x[i] = d_x[i] + d if op.x_grad == oc.GRAD_ADD else d


@kernel
def column_gradients(ctx, op, batch):
    """∂C/∂scale = Σ δ ⊙ x, or ∂C/∂α = Σ δ ⊙ (f(x) − x), for the columns that this thread owns."""
    first, last = partition(op.n_out, ctx.rank, ctx.n_threads)
    column = op.x if op.code == oc.SCALE else op.change
    factors = matrix(ctx.work, column * ctx.capacity, batch, op.n_out)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, op.n_out)
    g = segment(ctx.gradient, op.weight, op.n_out)
    g[first:last] = 0
    for r in range(batch):
        for c in range(first, last):
            g[c] += d_z[r, c] * factors[r, c]
