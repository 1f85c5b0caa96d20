"""FEATURE_DENSE: z = [f(v_f W_f + b_f) for the waves v_f of each feature, the other columns of x].

The waves of a feature lie in one or two parts of x, side by side in each: a part of a feature is
one GEMM. W_f and b_f are those of the feature, or the same for all.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise
from fastnn._kernels.numba_cpu.barrier import partition
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.gemm import gemm
from fastnn._kernels.numba_cpu.kernel_context import rows_of
from fastnn._kernels.numba_cpu.views import matrix, segment


@inline
def _map_row(op, f, part):
    """The first row of W that belongs to a part of a feature."""
    return ((0 if op.shared != 0 else f) * op.parts + part) * op.frequencies


@inline
def _waves_of(op, x, f, part, first, last):
    """Waves ``first`` to ``last`` of a part of a feature, as columns of x."""
    start = (part * op.features + f) * op.frequencies
    return x[:, start + first : start + last]


@inline
def map_rows(op):
    """Rows of all W."""
    return (1 if op.shared != 0 else op.features) * op.parts * op.frequencies


@inline
def bias_length(op):
    """Numbers of all b."""
    return op.size if op.shared != 0 else op.features * op.size


@kernel
def feature_dense(ctx, op, first_row, n_rows):
    """z, of rows of the workspace."""
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    size, encoded, zero = op.size, op.features * op.size, z.dtype.type(0)
    bias = segment(ctx.theta, op.bias, bias_length(op))
    for r in range(n_rows):
        for f in range(op.features if op.shared != 0 else 1):
            elementwise.copy(bias, z[r, f * len(bias) : (f + 1) * len(bias)])
        elementwise.copy(x[r, op.n_in - op.n_out + encoded :], z[r, encoded:])
    for f in range(op.features):
        for part in range(op.parts):
            start = op.weight + _map_row(op, f, part) * size
            w = matrix(ctx.theta, start, op.frequencies, size)
            v = _waves_of(op, x, f, part, 0, op.frequencies)
            gemm(False, False, 1.0, v, w, 1.0, z[:, f * size : (f + 1) * size])
    if op.inner == oc.RELU:
        for r in range(n_rows):
            for c in range(encoded):
                z[r, c] = zero if z[r, c] < 0 else z[r, c]


@kernel
def feature_dense_backward(ctx, op, first_row, n_rows):
    """∂C/∂v_f = δ_f W_fᵀ, with ReLU's derivative in δ; the other columns hand their gradient on."""
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    d_z = rows_of(ctx, ctx.d_work, op.y, op.n_out, first_row, n_rows)
    d_x = rows_of(ctx, ctx.d_work, op.x, op.n_in, first_row, n_rows)
    size, encoded, zero = op.size, op.features * op.size, z.dtype.type(0)
    if op.inner == oc.RELU:
        for r in range(n_rows):
            for c in range(encoded):
                d_z[r, c] = d_z[r, c] if z[r, c] > 0 else zero
    for f in range(op.features):
        for part in range(op.parts):
            start = op.weight + _map_row(op, f, part) * size
            w = matrix(ctx.theta, start, op.frequencies, size)
            d_v = _waves_of(op, d_x, f, part, 0, op.frequencies)
            gemm(False, True, 1.0, d_z[:, f * size : (f + 1) * size], w, 0.0, d_v)
    for r in range(n_rows):
        elementwise.copy(d_z[r, encoded:], d_x[r, op.n_in - op.n_out + encoded :])


@kernel
def map_gradient(ctx, op, first, last, batch):
    """∂C/∂W_f = Σ v_fᵀ δ_f of rows ``first`` to ``last`` of all W."""
    x = matrix(ctx.work, op.x * ctx.capacity, batch, op.n_in)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, op.n_out)
    for f in range(op.features):
        delta = d_z[:, f * op.size : (f + 1) * op.size]
        for part in range(op.parts):
            row = _map_row(op, f, part)
            low, high = max(first, row), min(last, row + op.frequencies)
            if low < high:
                g = matrix(ctx.gradient, op.weight + low * op.size, high - low, op.size)
                beta = 1.0 if op.shared != 0 and f > 0 else 0.0
                v = _waves_of(op, x, f, part, low - row, high - row)
                gemm(True, False, 1.0, v, delta, beta, g)


@kernel
def map_bias_gradient(ctx, op, batch):
    """∂C/∂b_f = Σ δ_f, for the numbers of b that this thread owns."""
    first, last = partition(bias_length(op), ctx.rank, ctx.n_threads)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, op.n_out)
    g, zero = segment(ctx.gradient, op.bias + first, last - first), d_z.dtype.type(0)
    for i in range(len(g)):
        g[i] = zero
    for r in range(batch):
        for f in range(op.features if op.shared != 0 else 1):
            for i in range(len(g)):
                g[i] += d_z[r, f * op.size + first + i]
