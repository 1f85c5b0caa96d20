"""PERIODIC: z = [cos φ, sin φ if there are two parts, the last columns of x], φ = 2π x_f w_f + b_f.

A thread takes one angle, or one number of the gradient, and adds in a fixed order.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.elementary import cos_sin_turns
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.blocks import advance, divide
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

_TWO_PI = 6.283185307179586


@device
def n_angles(op):
    """Angles of a row."""
    return op.features * op.frequencies


@device
def _first_passed(op):
    """The first column of x that is put out as it is."""
    return op.n_in - (op.n_out - op.parts * n_angles(op))


@device
def forward(ctx, op, first_row, n_rows, step):
    """z and the epilogue; sin φ is stored for the backward pass where z has only cos φ."""
    angles, passed = n_angles(op), _first_passed(op)
    n, thread, threads = angles + op.n_in - passed, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        x = op.x + r * op.n_in
        if c < angles:
            f, _ = divide(c, op.frequencies)
            cosine, sine = _circle(ctx, op, c, ctx.work[x + f])
            epilogue(ctx, op, r, c, cosine, step)
            if op.parts == 2:
                epilogue(ctx, op, r, angles + c, sine, step)
            elif ctx.control[control.BACKWARD] != 0:
                ctx.work[op.slope + r * angles + c] = sine
        else:
            z = ctx.work[x + passed + c - angles]
            epilogue(ctx, op, r, op.parts * angles + c - angles, z, step)
        r, c = advance(r, c, stride, n)


@device
def _circle(ctx, op, angle, x):
    """cos φ and sin φ of an angle of x."""
    turns = x * ctx.theta[op.weight + angle]
    if op.bias >= 0:
        turns += ctx.theta[op.bias + angle] * type(x)(1.0 / _TWO_PI)
    return cos_sin_turns(turns)


@device
def _angle_gradient(ctx, op, r, angle):
    """∂C/∂φ = −sin φ δ, plus cos φ times the δ of the sine."""
    angles, z = n_angles(op), op.y + r * op.n_out + angle
    if op.parts == 2:
        return ctx.work[z] * ctx.d_work[z + angles] - ctx.work[z + angles] * ctx.d_work[z]
    return -ctx.work[op.slope + r * angles + angle] * ctx.d_work[z]


@device
def backward(ctx, op, first_row, n_rows):
    """∂C/∂x_f = 2π Σ_k w_fk ∂C/∂φ_fk; columns put out as they are hand their gradient on."""
    n, thread, threads = op.n_in, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        place, d = op.x + r * n + c, ctx.work.dtype.type(0)
        if c < op.features:
            for angle in range(c * op.frequencies, (c + 1) * op.frequencies):
                d += ctx.theta[op.weight + angle] * _angle_gradient(ctx, op, r, angle)
            d *= ctx.work.dtype.type(_TWO_PI)
        if c >= _first_passed(op):
            column = op.parts * n_angles(op) + c - _first_passed(op)
            d += ctx.d_work[op.y + r * op.n_out + column]
        ctx.d_work[place] = ctx.d_work[place] + d if op.x_grad == oc.GRAD_ADD else d
        r, c = advance(r, c, stride, n)


@device
def angle_gradients(ctx, op, batch, angle):
    """∂C/∂w = 2π Σ x ∂C/∂φ and ∂C/∂b = Σ ∂C/∂φ of one angle."""
    f, _ = divide(angle, op.frequencies)
    d_frequency, d_phase = ctx.work.dtype.type(0), ctx.work.dtype.type(0)
    for r in range(batch):
        d = _angle_gradient(ctx, op, r, angle)
        d_frequency += ctx.work[op.x + r * op.n_in + f] * d
        d_phase += d
    return d_frequency * ctx.work.dtype.type(_TWO_PI), d_phase
