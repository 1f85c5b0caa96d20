"""Work on single elements: gathering the mini-batch, the epilogue y = f(z) · m, its backward pass.

Threads of a block take neighbouring elements of its rows, so that their memory accesses coalesce.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import control, philox
from fastnn._kernels.numba_cuda.kernels.blocks import advance, divide
from fastnn._kernels.numba_cuda.kernels.records import dropout_at
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device
from fastnn._kernels.scalars import activate, derivative, derivative_from_z
from fastnn._kernels.tables import ACTIVATIONS

# A bit for each activation, by its code.
NEEDS_Z = sum(1 << row.code for row in ACTIVATIONS.values() if row.needs_z)


@device
def gather(ctx, start, first_row, n_rows, batch, n_in):
    """Rows of the mini-batch whose samples begin at ``order[start]``; rows beyond its end are 0."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n_in), divide(threads, n_in)
    r += first_row
    for e in range(first_row * n_in + thread, (first_row + n_rows) * n_in, threads):
        ctx.work[e] = (
            ctx.X[ctx.order[start + r] * n_in + c] if r < batch else ctx.work.dtype.type(0)
        )
        r, c = advance(r, c, stride, n_in)


@device
def copy_rows(ctx, x_row, first_row, n_rows, n_in):
    """Rows of X from ``x_row`` on, to predict."""
    for e in range(cuda.threadIdx.x, n_rows * n_in, cuda.blockDim.x):
        ctx.work[first_row * n_in + e] = ctx.X[x_row * n_in + e]


@device
def epilogue(ctx, op, row, column, z, step):
    """Write y = f(z) · m, and f′(z) · m where the backward pass cannot compute it from y."""
    one = ctx.work.dtype.type(1)
    element = row * op.n_out + column
    y, mask = activate(op.activation, z, op.alpha), one
    if op.threshold > 0:
        seed, stream = ctx.control[control.SEED], oc.STREAM_MASK + op.stream
        threshold, factor = dropout_at(ctx, op, step)
        kept = philox.is_kept(threshold, row, column, op.n_out, seed, stream, step)
        mask = factor if kept else one - one
    if op.aux >= 0:
        slope = (
            derivative_from_z(op.activation, z, op.alpha)
            if (NEEDS_Z >> op.activation) & 1 != 0
            else derivative(op.activation, y, op.alpha)
        )
        ctx.work[op.aux + element] = slope * mask
    ctx.work[op.y + element] = y * mask


@device
def epilogue_rows(ctx, op, first_row, n_rows, step):
    """z and the epilogue of ADD, NOISE and ELEMENTWISE, and of a DENSE whose x W is computed."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    source = op.y if op.code == oc.DENSE else op.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for e in range(first_row * n + thread, (first_row + n_rows) * n, threads):
        z = ctx.work[source + e]
        if op.code == oc.DENSE and op.bias >= 0:
            z += ctx.theta[op.bias + (c if op.members == 1 else divide(c, op.member_out)[1])]
        elif op.code == oc.ADD:
            z += ctx.work[op.skip + e]
        elif op.code == oc.NOISE and ctx.control[control.TRAINING] != 0:
            seed, stream = ctx.control[control.SEED], oc.STREAM_NOISE + op.stream
            z += ctx.work.dtype.type(op.std * philox.normal(r, c, n, seed, stream, step))
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def epilogue_backward(ctx, op, first_row, n_rows):
    """∂C/∂z = ∂C/∂y · f′(z) · m in place, unless what wrote ∂C/∂y has fused the derivative."""
    if op.code == oc.FEATURE_DENSE and op.inner == oc.RELU:
        _inner_backward(ctx, op, first_row, n_rows)
    if op.derivative_fused != 0 or (op.aux < 0 and op.activation == oc.LINEAR):
        return
    for e in range(
        first_row * op.n_out + cuda.threadIdx.x, (first_row + n_rows) * op.n_out, cuda.blockDim.x
    ):
        slope = (
            ctx.work[op.aux + e]
            if op.aux >= 0
            else derivative(op.activation, ctx.work[op.y + e], op.alpha)
        )
        ctx.d_work[op.y + e] *= slope


@device
def _inner_backward(ctx, op, first_row, n_rows):
    """The derivative of FEATURE_DENSE's own ReLU, which has no other epilogue."""
    encoded = op.features * op.size
    for e in range(cuda.threadIdx.x, n_rows * encoded, cuda.blockDim.x):
        r, c = divide(e, encoded)
        place = op.y + (first_row + r) * op.n_out + c
        d = ctx.d_work[place]
        ctx.d_work[place] = d if ctx.work[place] > 0 else type(d)(0)


@device
def _times_derivative(ctx, op, element, d):
    """∂C/∂x of an element of a dense operation's input, times the previous operation's derivative.

    The op table says by ``x_aux`` and ``x_activation`` whether it is fused here.
    """
    if op.x_aux >= 0:
        d *= ctx.work[op.x_aux + element]
    elif op.x_activation >= 0:
        d *= derivative(op.x_activation, ctx.work[op.x + element], op.x_alpha)
    return d


@device
def input_epilogue(ctx, op, first_row, n_rows):
    """The same in place, where cuBLASLt computed ∂C/∂x."""
    for e in range(
        first_row * op.n_in + cuda.threadIdx.x, (first_row + n_rows) * op.n_in, cuda.blockDim.x
    ):
        place = op.x + e
        ctx.d_work[place] = _times_derivative(ctx, op, e, ctx.d_work[place])


@device
def store_input_gradient(ctx, op, element, d):
    """∂C/∂x of an element of a dense operation's input, written or added."""
    d, place = _times_derivative(ctx, op, element, d), op.x + element
    ctx.d_work[place] = ctx.d_work[place] + d if op.x_grad == oc.GRAD_ADD else d


@device
def elementwise_backward(ctx, op, first_row, n_rows):
    """The backward pass of ADD, NOISE and ELEMENTWISE: δ goes to the inputs."""
    for e in range(
        first_row * op.n_out + cuda.threadIdx.x, (first_row + n_rows) * op.n_out, cuda.blockDim.x
    ):
        d = ctx.d_work[op.y + e]
        if op.skip_grad == oc.GRAD_ADD:
            ctx.d_work[op.skip + e] += d
        elif op.skip_grad == oc.GRAD_WRITE:
            ctx.d_work[op.skip + e] = d
        if op.x_grad == oc.GRAD_ADD:
            ctx.d_work[op.x + e] += d
        elif op.x_grad == oc.GRAD_WRITE:
            ctx.d_work[op.x + e] = d
