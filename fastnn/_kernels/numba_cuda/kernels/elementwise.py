"""What is done to each element alone: the mini-batch gathered, the epilogue y = f(z) · m and its
way back, operations that keep the shape.

Threads of a block take neighbouring elements of its rows, so that they read and write memory side
by side.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels import philox
from fastnn._kernels.numba_cuda.kernels.blocks import advance, divide
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device
from fastnn._kernels.scalars import activate, derivative, derivative_from_z


@device
def gather(frame, start, first_row, n_rows, batch, n_in):
    """Rows of the mini-batch whose samples begin at ``order[start]``. Rows beyond its end are 0,
    and so is what comes of them.
    """
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n_in), divide(threads, n_in)
    r += first_row
    for e in range(first_row * n_in + thread, (first_row + n_rows) * n_in, threads):
        frame.work[e] = (
            frame.X[frame.order[start + r] * n_in + c] if r < batch else frame.work.dtype.type(0)
        )
        r, c = advance(r, c, stride, n_in)


@device
def copy_rows(frame, x_row, first_row, n_rows, n_in):
    """Rows of X from ``x_row`` on, to predict."""
    for e in range(cuda.threadIdx.x, n_rows * n_in, cuda.blockDim.x):
        frame.work[first_row * n_in + e] = frame.X[x_row * n_in + e]


@device
def finish(frame, op, row, column, z, step):
    """y = f(z) · m, written to the workspace, and f′(z) · m where the way back cannot have it from
    y.
    """
    one = frame.work.dtype.type(1)
    element = row * op.n_out + column
    y, mask = activate(op.activation, z, op.alpha), one
    if op.threshold > 0:
        kept = philox.is_kept(
            op.threshold,
            row,
            column,
            op.n_out,
            frame.control[fr.SEED],
            oc.STREAM_MASK + op.stream,
            step,
        )
        mask = op.kept if kept else one - one
    if op.aux >= 0:
        needs_z = op.activation == oc.GELU or op.activation == oc.SILU or op.activation == oc.MISH
        slope = (
            derivative_from_z(op.activation, z, op.alpha)
            if needs_z
            else derivative(op.activation, y, op.alpha)
        )
        frame.work[op.aux + element] = slope * mask
    frame.work[op.y + element] = y * mask


@device
def finish_rows(frame, op, first_row, n_rows, step):
    """z and the epilogue element by element: ADD, NOISE, ELEMENTWISE, and a DENSE whose product
    came from the library without its bias.
    """
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    source = op.y if op.code == oc.DENSE else op.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for e in range(first_row * n + thread, (first_row + n_rows) * n, threads):
        z = frame.work[source + e]
        if op.code == oc.DENSE and op.bias >= 0:
            z += frame.theta[op.bias + c]
        elif op.code == oc.ADD:
            z += frame.work[op.skip + e]
        elif op.code == oc.NOISE and frame.control[fr.TRAINING] != 0:
            noise = philox.normal(
                r, c, n, frame.control[fr.SEED], oc.STREAM_NOISE + op.stream, step
            )
            z += frame.work.dtype.type(op.std * noise)
        finish(frame, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def finish_backward(frame, op, first_row, n_rows):
    """∂C/∂z = ∂C/∂y · f′(z) · m in place, where it does not come so."""
    if op.finished != 0 or (op.aux < 0 and op.activation == oc.LINEAR):
        return
    for e in range(
        first_row * op.n_out + cuda.threadIdx.x, (first_row + n_rows) * op.n_out, cuda.blockDim.x
    ):
        slope = (
            frame.work[op.aux + e]
            if op.aux >= 0
            else derivative(op.activation, frame.work[op.y + e], op.alpha)
        )
        frame.d_work[op.y + e] *= slope


@device
def _times_slope(frame, op, element, d):
    """∂C/∂x of an element of a dense operation's input, with the slope of the operation before
    where that has nothing else to wait for.
    """
    if op.x_aux >= 0:
        d *= frame.work[op.x_aux + element]
    elif op.x_activation >= 0:
        d *= derivative(op.x_activation, frame.work[op.x + element], op.x_alpha)
    return d


@device
def finish_input(frame, op, first_row, n_rows):
    """The same in place, where the product came from the library."""
    for e in range(
        first_row * op.n_in + cuda.threadIdx.x, (first_row + n_rows) * op.n_in, cuda.blockDim.x
    ):
        place = op.x + e
        frame.d_work[place] = _times_slope(frame, op, e, frame.d_work[place])


@device
def store_input_gradient(frame, op, element, d):
    """∂C/∂x of an element of a dense operation's input, written or added."""
    d, place = _times_slope(frame, op, element, d), op.x + element
    frame.d_work[place] = frame.d_work[place] + d if op.x_grad == oc.GRAD_ADD else d


@device
def pass_gradient(frame, op, first_row, n_rows):
    """The way back of an operation that keeps the shape: its δ goes to its inputs."""
    for e in range(
        first_row * op.n_out + cuda.threadIdx.x, (first_row + n_rows) * op.n_out, cuda.blockDim.x
    ):
        d = frame.d_work[op.y + e]
        if op.skip_grad == oc.GRAD_ADD:
            frame.d_work[op.skip + e] += d
        elif op.skip_grad == oc.GRAD_WRITE:
            frame.d_work[op.skip + e] = d
        if op.x_grad == oc.GRAD_ADD:
            frame.d_work[op.x + e] += d
        elif op.x_grad == oc.GRAD_WRITE:
            frame.d_work[op.x + e] = d
