"""FEATURE_DENSE: z = [f(v_f W_f + b_f) for the waves v_f of each feature, the other columns of x].

W_f and b_f are those of the feature, or the same for all. A thread takes one number of z or of the
gradient, and adds in a fixed order.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels.blocks import advance, divide
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def n_weights(op):
    """Numbers of all W."""
    return (1 if op.shared != 0 else op.features) * op.parts * op.frequencies * op.size


@device
def bias_length(op):
    """Numbers of all b."""
    return op.size if op.shared != 0 else op.features * op.size


@device
def _map_place(op, f, part):
    """Where in θ the rows of W begin that belong to a part of a feature."""
    map_of = 0 if op.shared != 0 else f
    return op.weight + (map_of * op.parts + part) * op.frequencies * op.size


@device
def _wave_column(op, f, part):
    """The first column of x that belongs to it."""
    return (part * op.features + f) * op.frequencies


@device
def forward(ctx, op, first_row, n_rows, step):
    """z and the epilogue."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride, encoded = divide(thread, n), divide(threads, n), op.features * op.size
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        passed = op.x + (r + 1) * op.n_in - n + c
        z = _encoded(ctx, op, r, c) if c < encoded else ctx.work[passed]
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def _encoded(ctx, op, r, c):
    f, column = divide(c, op.size)
    z = ctx.theta[op.bias + (column if op.shared != 0 else c)]
    for part in range(op.parts):
        v, w = op.x + r * op.n_in + _wave_column(op, f, part), _map_place(op, f, part) + column
        for k in range(op.frequencies):
            z += ctx.work[v + k] * ctx.theta[w + k * op.size]
    return type(z)(0) if op.inner == oc.RELU and z < 0 else z


@device
def backward(ctx, op, first_row, n_rows):
    """∂C/∂v_f = δ_f W_fᵀ; the other columns hand their gradient on."""
    n, thread, threads = op.n_in, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    waves = op.parts * op.features * op.frequencies
    for _ in range(thread, n_rows * n, threads):
        delta, d = op.y + r * op.n_out, ctx.work.dtype.type(0)
        if c < waves:
            block, k = divide(c, op.frequencies)
            part, f = divide(block, op.features)
            w = _map_place(op, f, part) + k * op.size
            for column in range(op.size):
                d += ctx.theta[w + column] * ctx.d_work[delta + f * op.size + column]
        else:
            d = ctx.d_work[delta + op.n_out - n + c]
        ctx.d_work[op.x + r * n + c] = d
        r, c = advance(r, c, stride, n)


@device
def map_gradient(ctx, op, batch, element):
    """∂C/∂W_f = Σ v_f δ_f of one element of all W."""
    row, column = divide(element, op.size)
    block, k = divide(row, op.frequencies)
    own, part = divide(block, op.parts)
    total = ctx.work.dtype.type(0)
    first, last = (0, op.features) if op.shared != 0 else (own, own + 1)
    for f in range(first, last):
        v, delta = op.x + _wave_column(op, f, part) + k, op.y + f * op.size + column
        for r in range(batch):
            total += ctx.work[v + r * op.n_in] * ctx.d_work[delta + r * op.n_out]
    return total


@device
def bias_gradient(ctx, op, batch, element):
    """∂C/∂b_f = Σ δ_f of one element of all b."""
    total = ctx.work.dtype.type(0)
    for f in range(op.features if op.shared != 0 else 1):
        for r in range(batch):
            total += ctx.d_work[op.y + r * op.n_out + f * op.size + element]
    return total
