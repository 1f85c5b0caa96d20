"""Loops over the elements of a value: gather, bias, activation, dropout mask; forward and backward.

Every operation ends in the same epilogue y = f(z + bias) · m. Where f′ follows from y (no dropout,
and the activation does not need z) one pass over z does all of it in place, and the backward pass
multiplies by f′(y). Otherwise the forward pass stores f′(z) · m beside y, and the backward pass is
one product.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.dispatch import loop_by_code
from fastnn._kernels.numba_cpu import philox
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.kernel_context import dropout_rate
from fastnn._kernels.numba_cpu.views import matrix, segment
from fastnn._kernels.scalars import activate, derivative, derivative_from_z
from fastnn._kernels.tables import ACTIVATIONS

_NEEDS_Z = tuple(row.needs_z for row in ACTIVATIONS.values())  # by code


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
def copy_or_nan_fill(values, x, target):
    """target = values, or NaN where an element of ``x`` is not finite; returns 0, or NaN then."""
    nan_fill = values.dtype.type(0)
    for c in range(len(x)):
        nan_fill += x[c] * values.dtype.type(0)  # 0, or NaN from a NaN or an infinity on
    for c in range(len(target)):
        target[c] = values[c] + nan_fill
    return nan_fill


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
def epilogue(ctx, op, step, first_row, n_rows):
    """y = f(z + bias) · m in place, for rows of the workspace."""
    n, alpha = op.n_out, ctx.work.dtype.type(op.alpha)
    # Members share the bias of a DENSE.
    rows, width = (n_rows * op.members, op.member_out) if op.code == oc.DENSE else (n_rows, n)
    z = matrix(ctx.work, op.y * ctx.capacity + first_row * n, rows, width)
    # The shift of a norm is part of z.
    has_bias = (op.code == oc.DENSE or op.code == oc.HEADS) and op.bias >= 0
    bias = segment(ctx.theta, op.bias, width) if has_bias else segment(ctx.zeros, 0, width)
    stores, drops = op.aux >= 0 and ctx.backward, ctx.training and op.rate > 0
    if stores:
        aux = matrix(ctx.work, op.aux * ctx.capacity + first_row * n, rows, width)
        activate_and_store(op.activation, z, aux, bias, alpha)
    elif op.activation != oc.LINEAR or has_bias:
        activate_all(op.activation, z, bias, alpha)
    if drops:
        # free until the backward pass
        masks = matrix(ctx.d_work, op.y * ctx.capacity + first_row * n, n_rows, n)
        rate, stream = dropout_rate(ctx, op, step), oc.STREAM_MASK + op.stream
        philox.dropout_masks(masks, rate, first_row, ctx.seed, stream, step)
        masks = masks.reshape(rows, width)
        _multiply(masks, z)
        if stores:
            _multiply(masks, aux)


@inline
def _multiply(factors, target):
    for r in range(len(target)):
        for c in range(target.shape[1]):
            target[r, c] *= factors[r, c]


@inline
def activate_and_store(code, z, aux, bias, alpha):
    """z ← f(z + bias) and aux ← f′(z + bias)."""
    if _NEEDS_Z[code]:
        _activate_with_derivative(code, z, aux, bias, alpha)
    else:
        activate_all(code, z, bias, alpha)
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
def epilogue_backward(ctx, op, first_row, n_rows):
    """∂C/∂z = ∂C/∂y · f′(z) · m in place, for rows of the gradient workspace."""
    n = op.n_out
    d = segment(ctx.d_work, op.y * ctx.capacity + first_row * n, n_rows * n)
    if op.aux >= 0:
        aux = segment(ctx.work, op.aux * ctx.capacity + first_row * n, n_rows * n)
        for i in range(len(d)):
            d[i] *= aux[i]
    elif op.activation != oc.LINEAR:
        y = segment(ctx.work, op.y * ctx.capacity + first_row * n, n_rows * n)
        _multiply_by_derivative(op.activation, d, y, ctx.work.dtype.type(op.alpha))


# --- one loop per activation ----------------------------------------------------------------------

_CODES = {row.code: "" for row in ACTIVATIONS.values()}
_FROM_Z = {row.code: "" for row in ACTIVATIONS.values() if row.needs_z}
_FROM_OUTPUT = {code: "" for code in _CODES if code != oc.LINEAR and code not in _FROM_Z}

activate_all = kernel(loop_by_code("z, bias, alpha", _activate_loop, _CODES))
_activate_with_derivative = kernel(
    loop_by_code("z, aux, bias, alpha", _activate_with_derivative_loop, _FROM_Z)
)
_multiply_by_derivative = kernel(loop_by_code("d, y, alpha", _derivative_loop, _FROM_OUTPUT))
