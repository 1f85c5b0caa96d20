"""Loops over the elements of a value: gather, bias, activation, dropout mask, and their way back.

Every operation ends in the same epilogue y = f(z + bias) · m. Where f′ follows from y (no dropout,
and not GELU, SiLU or Mish) one pass over z does all of it in place, and the backward pass
multiplies by f′(y). Otherwise the forward pass stores f′(z) · m beside y, and the backward pass is
one product.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import philox
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.views import matrix, segment
from fastnn._kernels.scalars import activate, derivative, derivative_from_z


@kernel
def gather(X, order, first, rows):
    """rows[i] = X[order[i], first :]."""
    for i in range(len(order)):
        # a slice: an index that might be negative would not vectorise
        source, target = X[order[i]][first:], rows[i]
        for c in range(len(target)):
            target[c] = source[c]


@kernel
def copy_rows(X, first, rows):
    """rows = X[first : first + len(rows)]."""
    for i in range(len(rows)):
        source, target = X[first + i], rows[i]
        for c in range(len(target)):
            target[c] = source[c]


@kernel
def copy_or_poison(values, x, target):
    """target = values, or NaN where an element of ``x`` is not finite; returns 0, or NaN then."""
    poison = values.dtype.type(0)
    for c in range(len(x)):
        poison += x[c] * values.dtype.type(0)  # 0, or NaN from a NaN or an infinity on
    for c in range(len(target)):
        target[c] = values[c] + poison
    return poison


@kernel
def copy(source, target):
    """target = source, for flat arrays."""
    for i in range(len(source)):
        target[i] = source[i]


@kernel
def add_to(source, target):
    """target += source, for flat arrays."""
    for i in range(len(source)):
        target[i] += source[i]


@kernel
def sum_of(a, b, target):
    """target = a + b, for flat arrays."""
    for i in range(len(target)):
        target[i] = a[i] + b[i]


@kernel
def sum_of_rows(flat, n, first, target):
    """target[c] = Σᵣ rows[r, first + c], where ``flat`` holds rows of n."""
    for c in range(len(target)):
        target[c] = 0
    for start in range(first, len(flat), n):
        row = segment(flat, start, len(target))
        for c in range(len(target)):
            target[c] += row[c]


@inline
def pass_gradient(flag, source, target):
    """Hand a gradient on to an operation's input as the op table says."""
    if flag == oc.GRAD_WRITE:
        copy(source, target)
    elif flag == oc.GRAD_ADD:
        add_to(source, target)


# --- the epilogue ---------------------------------------------------------------------------------


@kernel
def epilogue(frame, op, step, first_row, n_rows):
    """y = f(z + bias) · m in place, for rows of the workspace."""
    n, alpha = op.n_out, frame.work.dtype.type(op.alpha)
    z = matrix(frame.work, op.y * frame.capacity + first_row * n, n_rows, n)
    has_bias = op.code == oc.DENSE and op.bias >= 0  # the shift of a norm is part of z
    bias = segment(frame.theta, op.bias, n) if has_bias else segment(frame.zeros, 0, n)
    stores, drops = op.aux >= 0 and frame.backward, frame.training and op.rate > 0
    if stores:
        aux = matrix(frame.work, op.aux * frame.capacity + first_row * n, n_rows, n)
        _activate_and_store(op.activation, z, aux, bias, alpha)
    elif op.activation != oc.LINEAR or has_bias:
        _activate(op.activation, z, bias, alpha)
    if drops:
        # free until the way back
        masks = matrix(frame.d_work, op.y * frame.capacity + first_row * n, n_rows, n)
        philox.dropout_masks(
            masks, op.rate, first_row, frame.seed, oc.STREAM_MASK + op.stream, step
        )
        _multiply(masks, z)
        if stores:
            _multiply(masks, aux)


@inline
def _multiply(factors, target):
    for r in range(len(target)):
        for c in range(target.shape[1]):
            target[r, c] *= factors[r, c]


@inline
def _activate_and_store(code, z, aux, bias, alpha):
    """z ← f(z + bias) and aux ← f′(z + bias)."""
    if code == oc.GELU or code == oc.SILU or code == oc.MISH:
        _activate_with_derivative(code, z, aux, bias, alpha)
    else:
        _activate(code, z, bias, alpha)
        aux[:, :] = 1
        _multiply_by_derivative(code, aux.reshape(-1), z.reshape(-1), alpha)


@inline
def _activate_loop(code, z, bias, alpha):
    for r in range(len(z)):
        for c in range(len(bias)):
            z[r, c] = activate(code, z[r, c] + bias[c], alpha)


@inline
def _activate_with_derivative_loop(code, z, aux, bias, alpha):
    """z ← f(z + bias) and aux ← f′(z + bias), which share an exponential."""
    for r in range(len(z)):
        for c in range(len(bias)):
            x = z[r, c] + bias[c]
            z[r, c], aux[r, c] = activate(code, x, alpha), derivative_from_z(code, x, alpha)


@inline
def _derivative_loop(code, d, y, alpha):
    for i in range(len(d)):
        d[i] *= derivative(code, y[i], alpha)


@kernel
def epilogue_backward(frame, op, first_row, n_rows):
    """∂C/∂z = ∂C/∂y · f′(z) · m in place, for rows of the gradient workspace."""
    n = op.n_out
    d = segment(frame.d_work, op.y * frame.capacity + first_row * n, n_rows * n)
    if op.aux >= 0:
        aux = segment(frame.work, op.aux * frame.capacity + first_row * n, n_rows * n)
        for i in range(len(d)):
            d[i] *= aux[i]
    elif op.activation != oc.LINEAR:
        y = segment(frame.work, op.y * frame.capacity + first_row * n, n_rows * n)
        _multiply_by_derivative(op.activation, d, y, frame.work.dtype.type(op.alpha))


# --- one loop per activation: with a constant code nothing of the chain of ifs is left inside -----


@kernel
def _activate(code, z, bias, alpha):
    if code == oc.LINEAR:
        _activate_loop(oc.LINEAR, z, bias, alpha)
    elif code == oc.SIGMOID:
        _activate_loop(oc.SIGMOID, z, bias, alpha)
    elif code == oc.TANH:
        _activate_loop(oc.TANH, z, bias, alpha)
    elif code == oc.RELU:
        _activate_loop(oc.RELU, z, bias, alpha)
    elif code == oc.LEAKY_RELU:
        _activate_loop(oc.LEAKY_RELU, z, bias, alpha)
    elif code == oc.ELU:
        _activate_loop(oc.ELU, z, bias, alpha)
    elif code == oc.SELU:
        _activate_loop(oc.SELU, z, bias, alpha)
    elif code == oc.GELU:
        _activate_loop(oc.GELU, z, bias, alpha)
    elif code == oc.SILU:
        _activate_loop(oc.SILU, z, bias, alpha)
    elif code == oc.MISH:
        _activate_loop(oc.MISH, z, bias, alpha)
    elif code == oc.SOFTPLUS:
        _activate_loop(oc.SOFTPLUS, z, bias, alpha)
    elif code == oc.SOFTSIGN:
        _activate_loop(oc.SOFTSIGN, z, bias, alpha)
    elif code == oc.HARD_SIGMOID:
        _activate_loop(oc.HARD_SIGMOID, z, bias, alpha)
    elif code == oc.HARD_TANH:
        _activate_loop(oc.HARD_TANH, z, bias, alpha)


@kernel
def _activate_with_derivative(code, z, aux, bias, alpha):
    if code == oc.GELU:
        _activate_with_derivative_loop(oc.GELU, z, aux, bias, alpha)
    elif code == oc.SILU:
        _activate_with_derivative_loop(oc.SILU, z, aux, bias, alpha)
    elif code == oc.MISH:
        _activate_with_derivative_loop(oc.MISH, z, aux, bias, alpha)


@kernel
def _multiply_by_derivative(code, d, y, alpha):
    if code == oc.SIGMOID:
        _derivative_loop(oc.SIGMOID, d, y, alpha)
    elif code == oc.TANH:
        _derivative_loop(oc.TANH, d, y, alpha)
    elif code == oc.RELU:
        _derivative_loop(oc.RELU, d, y, alpha)
    elif code == oc.LEAKY_RELU:
        _derivative_loop(oc.LEAKY_RELU, d, y, alpha)
    elif code == oc.ELU:
        _derivative_loop(oc.ELU, d, y, alpha)
    elif code == oc.SELU:
        _derivative_loop(oc.SELU, d, y, alpha)
    elif code == oc.SOFTPLUS:
        _derivative_loop(oc.SOFTPLUS, d, y, alpha)
    elif code == oc.SOFTSIGN:
        _derivative_loop(oc.SOFTSIGN, d, y, alpha)
    elif code == oc.HARD_SIGMOID:
        _derivative_loop(oc.HARD_SIGMOID, d, y, alpha)
    elif code == oc.HARD_TANH:
        _derivative_loop(oc.HARD_TANH, d, y, alpha)
