"""PERIODIC: z = [cos φ, sin φ if there are two parts, the last columns of x], φ = 2π x_f w_f + b_f.

`slope` holds sin φ, and from the backward pass on ∂C/∂φ.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.elementary import cos_sin_turns
from fastnn._kernels.numba_cpu import elementwise
from fastnn._kernels.numba_cpu.barrier import partition
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.gemm import gemm
from fastnn._kernels.numba_cpu.kernel_context import rows_of
from fastnn._kernels.numba_cpu.views import matrix, segment

_TWO_PI = 6.283185307179586


@inline
def n_angles(op):
    """Angles of a row."""
    return op.features * op.frequencies


@kernel
def periodic(ctx, op, first_row, n_rows):
    """z and sin φ."""
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    n = n_angles(op)
    sines = rows_of(ctx, ctx.work, op.slope, n, first_row, n_rows)
    frequency = segment(ctx.theta, op.weight, n)
    phase = segment(ctx.theta, op.bias, n) if op.bias >= 0 else segment(ctx.zeros, 0, n)
    per_turn = z.dtype.type(1.0 / _TWO_PI)
    passed = op.n_out - op.parts * n
    for r in range(n_rows):
        for f in range(op.features):  # by itself, as this loop is short
            for k in range(f * op.frequencies, (f + 1) * op.frequencies):
                z[r, k] = x[r, f]
        for i in range(n):
            z[r, i], sines[r, i] = cos_sin_turns(z[r, i] * frequency[i] + phase[i] * per_turn)
        if op.parts == 2:
            elementwise.copy(sines[r], z[r, n : 2 * n])
        elementwise.copy(x[r, op.n_in - passed :], z[r, op.parts * n :])


@kernel
def periodic_backward(ctx, op, first_row, n_rows):
    """∂C/∂φ = −sin φ δ, plus cos φ times the δ of the sines; ∂C/∂x_f = 2π Σ_k w_fk ∂C/∂φ_fk."""
    n = n_angles(op)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    d_z = rows_of(ctx, ctx.d_work, op.y, op.n_out, first_row, n_rows)
    d_angles = rows_of(ctx, ctx.work, op.slope, n, first_row, n_rows)  # sin φ before
    for r in range(n_rows):
        for i in range(n):
            d_angles[r, i] = -d_angles[r, i] * d_z[r, i]
        if op.parts == 2:
            for i in range(n):
                d_angles[r, i] += z[r, i] * d_z[r, n + i]
    if op.x_grad != oc.GRAD_NONE:
        _input_gradient(
            ctx, op, d_angles, d_z, rows_of(ctx, ctx.d_work, op.x, op.n_in, first_row, n_rows)
        )


@inline
def _input_gradient(ctx, op, d_angles, d_z, d_x):
    frequency, n = segment(ctx.theta, op.weight, n_angles(op)), n_angles(op)
    first_passed, k_of_one = op.n_in - (op.n_out - op.parts * n), op.frequencies
    two_pi, adds = d_x.dtype.type(_TWO_PI), op.x_grad == oc.GRAD_ADD
    for r in range(len(d_x)):
        for c in range(op.n_in):
            d = d_x.dtype.type(0)
            if c < op.features:
                for i in range(c * k_of_one, (c + 1) * k_of_one):
                    d += frequency[i] * d_angles[r, i]
                d *= two_pi
            if c >= first_passed:
                d += d_z[r, op.parts * n + c - first_passed]
            d_x[r, c] = d_x[r, c] + d if adds else d


@kernel
def frequency_gradient(ctx, op, first, last, batch):
    """∂C/∂w_f = 2π Σ x_f ∂C/∂φ_f of features ``first`` to ``last``."""
    x = matrix(ctx.work, op.x * ctx.capacity, batch, op.n_in)
    d_angles = matrix(ctx.work, op.slope * ctx.capacity, batch, n_angles(op))
    for f in range(first, last):
        k = f * op.frequencies
        g = matrix(ctx.gradient, op.weight + k, 1, op.frequencies)
        d = d_angles[:, k : k + op.frequencies]
        gemm(True, False, _TWO_PI, x[:, f : f + 1], d, 0.0, g)


@kernel
def phase_gradient(ctx, op, batch):
    """∂C/∂b = Σ ∂C/∂φ, for the phases that this thread owns."""
    n = n_angles(op)
    first, last = partition(n, ctx.rank, ctx.n_threads)
    d_angles = segment(ctx.work, op.slope * ctx.capacity, batch * n)
    elementwise.sum_of_rows(
        d_angles, n, first, segment(ctx.gradient, op.bias + first, last - first)
    )
