"""What is done to each element alone: the mini-batch gathered, the epilogue y = f(z) · m and its way back, operations that keep the shape.

Threads of a block take neighbouring elements of its rows, so that they read and write memory side by side.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda import frame as fr
from fastnn._kernels.numba_cuda import philox
from fastnn._kernels.numba_cuda.shim import cuda, device
from fastnn._kernels.scalars import activate, derivative, derivative_from_z


@device
def gather(frame, start, first_row, n_rows, batch, n_in):
    """Rows of the mini-batch whose samples begin at ``order[start]``. Rows beyond its end are 0, and so is what comes of them."""
    x = first_row * n_in
    for e in range(cuda.threadIdx.x, n_rows * n_in, cuda.blockDim.x):
        r, c = first_row + e // n_in, e % n_in
        frame.work[x + e] = frame.X[frame.order[start + r] * n_in + c] if r < batch else frame.work.dtype.type(0)


@device
def copy_rows(frame, x_row, first_row, n_rows, n_in):
    """Rows of X from ``x_row`` on, to predict."""
    for e in range(cuda.threadIdx.x, n_rows * n_in, cuda.blockDim.x):
        frame.work[first_row * n_in + e] = frame.X[x_row * n_in + e]


@device
def finish(frame, op, row, column, z, step):
    """y = f(z) · m, written to the workspace, and f′(z) · m where the way back cannot have it from y."""
    real = frame.work.dtype.type
    capacity, alpha, one = frame.control[fr.CAPACITY], real(op.alpha), real(1)
    element = row * op.n_out + column
    y, mask = activate(op.activation, z, alpha), one
    if op.rate > 0 and frame.control[fr.TRAINING] != 0:
        kept = philox.is_kept(op.rate, row, column, op.n_out, frame.control[fr.SEED], oc.STREAM_MASK + op.stream, step)
        mask = real(1.0 / (1.0 - op.rate)) if kept else one - one
    if op.aux >= 0 and frame.control[fr.BACKWARD] != 0:
        needs_z = op.activation == oc.GELU or op.activation == oc.SILU or op.activation == oc.MISH
        slope = derivative_from_z(op.activation, z, alpha) if needs_z else derivative(op.activation, y, alpha)
        frame.work[op.aux * capacity + element] = slope * mask
    frame.work[op.y * capacity + element] = y * mask


@device
def keep_shape(frame, op, first_row, n_rows, step):
    """ADD, NOISE and ELEMENTWISE, epilogue included."""
    n, capacity = op.n_out, frame.control[fr.CAPACITY]
    for e in range(cuda.threadIdx.x, n_rows * n, cuda.blockDim.x):
        row, column = first_row + e // n, e % n
        z = frame.work[op.x * capacity + first_row * n + e]
        if op.code == oc.ADD:
            z += frame.work[op.skip * capacity + first_row * n + e]
        elif op.code == oc.NOISE and frame.control[fr.TRAINING] != 0:
            noise = philox.normal(row, column, n, frame.control[fr.SEED], oc.STREAM_NOISE + op.stream, step)
            z += frame.work.dtype.type(op.std * noise)
        finish(frame, op, row, column, z, step)


@device
def finish_backward(frame, op, first_row, n_rows):
    """∂C/∂z = ∂C/∂y · f′(z) · m in place."""
    capacity, alpha = frame.control[fr.CAPACITY], frame.work.dtype.type(op.alpha)
    if op.aux < 0 and op.activation == oc.LINEAR:
        return
    for e in range(first_row * op.n_out + cuda.threadIdx.x, (first_row + n_rows) * op.n_out, cuda.blockDim.x):
        if op.aux >= 0:
            slope = frame.work[op.aux * capacity + e]
        else:
            slope = derivative(op.activation, frame.work[op.y * capacity + e], alpha)
        frame.d_work[op.y * capacity + e] *= slope


@device
def pass_gradient(frame, op, first_row, n_rows):
    """The way back of an operation that keeps the shape: its δ goes to its inputs."""
    capacity = frame.control[fr.CAPACITY]
    for e in range(first_row * op.n_out + cuda.threadIdx.x, (first_row + n_rows) * op.n_out, cuda.blockDim.x):
        d = frame.d_work[op.y * capacity + e]
        if op.skip_grad == oc.GRAD_ADD:
            frame.d_work[op.skip * capacity + e] += d
        elif op.skip_grad == oc.GRAD_WRITE:
            frame.d_work[op.skip * capacity + e] = d
        if op.x_grad == oc.GRAD_ADD:
            frame.d_work[op.x * capacity + e] += d
        elif op.x_grad == oc.GRAD_WRITE:
            frame.d_work[op.x * capacity + e] = d
