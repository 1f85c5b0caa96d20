"""Operations with a learnt number for each column: SCALE and PARAMETRIC."""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, advance, divide, sum_over_warps
from fastnn._kernels.numba_cuda.kernels.elementwise import NEEDS_Z, epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device
from fastnn._kernels.scalars import activate, derivative, derivative_from_z


@device
def forward(ctx, op, first_row, n_rows, step):
    """z = scale ⊙ x or x + α ⊙ (f(x) − x), and the epilogue."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for e in range(first_row * n + thread, (first_row + n_rows) * n, threads):
        x, learnt = ctx.work[op.x + e], ctx.theta[op.weight + c]
        z = learnt * x if op.code == oc.SCALE else _parametric(ctx, op, e, x, learnt)
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def _parametric(ctx, op, e, x, alpha):
    """z of element e; for the backward pass ∂z/∂x and f(x) − x are stored."""
    one = ctx.work.dtype.type(1)
    y = activate(op.inner, x, op.alpha)
    if ctx.control[control.BACKWARD] != 0:
        slope = (
            derivative_from_z(op.inner, x, op.alpha)
            if (NEEDS_Z >> op.inner) & 1 != 0
            else derivative(op.inner, y, op.alpha)
        )
        ctx.work[op.slope + e] = one + alpha * (slope - one)
        ctx.work[op.change + e] = y - x
    return x + alpha * (y - x)


@device
def backward(ctx, op, first_row, n_rows):
    """∂C/∂x = scale ⊙ δ or ∂z/∂x ⊙ δ."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    for e in range(first_row * n + thread, (first_row + n_rows) * n, threads):
        factor = ctx.theta[op.weight + c] if op.code == oc.SCALE else ctx.work[op.slope + e]
        d = factor * ctx.d_work[op.y + e]
        ctx.d_work[op.x + e] = ctx.d_work[op.x + e] + d if op.x_grad == oc.GRAD_ADD else d
        r, c = advance(r, c, stride, n)


@device
def column_sum(ctx, op, batch, c):
    """∂C/∂scale = Σ δ ⊙ x, or ∂C/∂α = Σ δ ⊙ (f(x) − x), of column ``c``.

    Every thread of the block must call this, those of a lane with the same column.
    """
    warp, warps = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    factors, total = op.x if op.code == oc.SCALE else op.change, ctx.work.dtype.type(0)
    for r in range(warp, batch, warps):
        e = r * op.n_out + c
        total += ctx.d_work[op.y + e] * ctx.work[factors + e]
    return sum_over_warps(ctx.reals, total)
