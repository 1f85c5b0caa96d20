"""Batch and layer normalisation, for the rows of one thread.

x̂ = (x − μ)/√(σ² + ε) is not stored: the backward pass recomputes it from x, which is kept anyway,
and from μ and 1/√(σ² + ε).

BatchNorm's statistics span all threads' rows. Each thread takes mean and sum of squares about it
over its own rows; after one barrier every thread combines all parts in the same order (Chan, Golub
& LeVeque 1983), so that all hold the same numbers. The per-thread scratch of an operation has
`opcodes.COLUMN_STATS` vectors of n: own mean, own sum of squares; combined mean, combined 1/√(σ² +
ε); own Σ δ, own Σ δ x̂.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu.barrier import barrier_wait, partition
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.views import matrix, segment

_OWN_MEAN, _OWN_SQUARES, _MEAN, _INVERSE_STD, _OWN_SUM, _OWN_PRODUCT = range(oc.COLUMN_STATS)


@inline
def _statistic(ctx, op, rank, which):
    """One vector of the operation's scratch in the part of thread ``rank``."""
    per_thread = len(ctx.scratch) // ctx.n_threads
    return segment(ctx.scratch, rank * per_thread + op.column_stats + which * op.n_out, op.n_out)


@kernel
def batch_norm(ctx, op, first_row, n_rows, batch, phase):
    """z = scale · x̂ + shift; returns the next phase of the barrier."""
    n = op.n_out
    x = matrix(ctx.work, op.x * ctx.capacity + first_row * n, n_rows, n)
    mean, inverse_std = (
        _statistic(ctx, op, ctx.rank, _MEAN),
        _statistic(ctx, op, ctx.rank, _INVERSE_STD),
    )
    running_mean, running_var = (
        segment(ctx.buffers, op.state, n),
        segment(ctx.buffers, op.state + n, n),
    )
    if ctx.training:
        _own_statistics(
            x,
            _statistic(ctx, op, ctx.rank, _OWN_MEAN),
            _statistic(ctx, op, ctx.rank, _OWN_SQUARES),
        )
        phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
        # for now the sum of squares stands in the place of 1/√(σ² + ε)
        _combine(ctx, op, batch, mean, inverse_std)
        if ctx.updates and ctx.rank == 0 and batch > 1:
            momentum = mean.dtype.type(op.momentum)
            for c in range(n):
                running_mean[c] += momentum * (mean[c] - running_mean[c])
                running_var[c] += momentum * (
                    inverse_std[c] / mean.dtype.type(batch - 1) - running_var[c]
                )
        for c in range(n):
            inverse_std[c] = _inverse_root(
                inverse_std[c] / mean.dtype.type(batch) + mean.dtype.type(op.epsilon)
            )
    else:
        for c in range(n):
            mean[c] = running_mean[c]
            inverse_std[c] = _inverse_root(running_var[c] + mean.dtype.type(op.epsilon))
    z = matrix(ctx.work, op.y * ctx.capacity + first_row * n, n_rows, n)
    scale, shift = segment(ctx.theta, op.weight, n), segment(ctx.theta, op.bias, n)
    for r in range(n_rows):
        for c in range(n):
            z[r, c] = (x[r, c] - mean[c]) * inverse_std[c] * scale[c] + shift[c]
    return phase


@inline
def _inverse_root(variance):
    """1/√variance; NaN of a variance that overflowed, as 0 would hide it."""
    scalar = type(variance)
    return scalar(np.nan) if variance == scalar(np.inf) else scalar(1) / np.sqrt(variance)


@inline
def _own_statistics(x, mean, squares):
    """Mean of each column, and the sum of squares about it."""
    rows, n = x.shape
    mean[:] = 0
    squares[:] = 0
    for r in range(rows):
        for c in range(n):
            mean[c] += x[r, c]
    for c in range(n):
        mean[c] /= mean.dtype.type(max(rows, 1))
    for r in range(rows):
        for c in range(n):
            d = x[r, c] - mean[c]
            squares[c] += d * d


@inline
def _combine(ctx, op, batch, mean, squares):
    """Mean and sum of squares over all threads' rows."""
    one, n = mean.dtype.type(1), op.n_out
    mean[:] = 0
    squares[:] = 0
    rows = 0
    for rank in range(ctx.n_threads):
        first, last = partition(batch, rank, ctx.n_threads)
        if last == first:
            continue
        own_mean, own_squares = (
            _statistic(ctx, op, rank, _OWN_MEAN),
            _statistic(ctx, op, rank, _OWN_SQUARES),
        )
        weight = one * (last - first) / (rows + last - first)
        cross = weight * rows
        for c in range(n):
            d = own_mean[c] - mean[c]
            mean[c] += mean.dtype.type(weight) * d
            squares[c] += own_squares[c] + mean.dtype.type(cross) * d * d
        rows += last - first


@kernel
def batch_norm_backward(ctx, op, first_row, n_rows, batch, phase):
    """∂C/∂x, ∂C/∂scale and ∂C/∂shift; returns the next phase of the barrier."""
    n = op.n_out
    x = matrix(ctx.work, op.x * ctx.capacity + first_row * n, n_rows, n)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity + first_row * n, n_rows, n)
    mean, inverse_std = (
        _statistic(ctx, op, ctx.rank, _MEAN),
        _statistic(ctx, op, ctx.rank, _INVERSE_STD),
    )
    own_sum, own_product = (
        _statistic(ctx, op, ctx.rank, _OWN_SUM),
        _statistic(ctx, op, ctx.rank, _OWN_PRODUCT),
    )
    own_sum[:] = 0
    own_product[:] = 0
    for r in range(n_rows):
        for c in range(n):
            own_sum[c] += d_z[r, c]
            own_product[c] += d_z[r, c] * (x[r, c] - mean[c]) * inverse_std[c]
    phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
    d_scale, d_shift = segment(ctx.gradient, op.weight, n), segment(ctx.gradient, op.bias, n)
    first, last = partition(n, ctx.rank, ctx.n_threads)
    for c in range(first, last):
        d_scale[c], d_shift[c] = 0, 0
        for rank in range(ctx.n_threads):
            d_scale[c] += _statistic(ctx, op, rank, _OWN_PRODUCT)[c]
            d_shift[c] += _statistic(ctx, op, rank, _OWN_SUM)[c]
    if op.x_grad == oc.GRAD_NONE:
        return phase
    _batch_norm_input_gradient(ctx, op, first_row, n_rows, batch)
    return phase


@inline
def _batch_norm_input_gradient(ctx, op, first_row, n_rows, batch):
    """∂C/∂x = scale/√(σ² + ε) · (δ − mean δ − x̂ · mean δ x̂).

    Outside training μ and σ are running statistics and do not depend on x.
    """
    n = op.n_out
    x = matrix(ctx.work, op.x * ctx.capacity + first_row * n, n_rows, n)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity + first_row * n, n_rows, n)
    mean, inverse_std = (
        _statistic(ctx, op, ctx.rank, _MEAN),
        _statistic(ctx, op, ctx.rank, _INVERSE_STD),
    )
    d_x = matrix(ctx.d_work, op.x * ctx.capacity + first_row * n, n_rows, n)
    scale = segment(ctx.theta, op.weight, n)
    kept = d_x.dtype.type(1 if op.x_grad == oc.GRAD_ADD else 0)
    share_of_one = d_x.dtype.type(1.0 / batch if ctx.training else 0.0)
    # the barrier has passed: nobody reads our part of the first two vectors any more
    for c in range(n):
        mean_d, mean_product = d_x.dtype.type(0), d_x.dtype.type(0)
        for rank in range(ctx.n_threads):
            mean_d += _statistic(ctx, op, rank, _OWN_SUM)[c]
            mean_product += _statistic(ctx, op, rank, _OWN_PRODUCT)[c]
        _statistic(ctx, op, ctx.rank, _OWN_MEAN)[c] = mean_d * share_of_one
        _statistic(ctx, op, ctx.rank, _OWN_SQUARES)[c] = mean_product * share_of_one
    mean_d, mean_product = (
        _statistic(ctx, op, ctx.rank, _OWN_MEAN),
        _statistic(ctx, op, ctx.rank, _OWN_SQUARES),
    )
    for r in range(n_rows):
        for c in range(n):
            normalised = (x[r, c] - mean[c]) * inverse_std[c]
            d = scale[c] * inverse_std[c] * (d_z[r, c] - mean_d[c] - normalised * mean_product[c])
            d_x[r, c] = d + (d_x[r, c] if kept > 0 else d - d)


@kernel
def layer_norm(ctx, op, first_row, n_rows):
    """z = scale · x̂ + shift, with each row's mean and 1/√(σ² + ε) kept for the backward pass."""
    n = op.n_out
    x = matrix(ctx.work, op.x * ctx.capacity + first_row * n, n_rows, n)
    z = matrix(ctx.work, op.y * ctx.capacity + first_row * n, n_rows, n)
    statistics = matrix(ctx.work, op.row_stats * ctx.capacity + first_row * 2, n_rows, 2)
    scale, shift = segment(ctx.theta, op.weight, n), segment(ctx.theta, op.bias, n)
    scalar = x.dtype.type
    for r in range(n_rows):
        mean, squares = scalar(0), scalar(0)
        for c in range(n):
            mean += x[r, c]
        mean /= scalar(n)
        for c in range(n):
            squares += (x[r, c] - mean) * (x[r, c] - mean)
        inverse_std = _inverse_root(squares / scalar(n) + scalar(op.epsilon))
        statistics[r, 0], statistics[r, 1] = mean, inverse_std
        for c in range(n):
            z[r, c] = (x[r, c] - mean) * inverse_std * scale[c] + shift[c]


@kernel
def layer_norm_backward(ctx, op, first_row, n_rows):
    """∂C/∂x = 1/√(σ² + ε) · (d − mean d − x̂ · mean d x̂) with d = scale · δ, row by row."""
    n = op.n_out
    x = matrix(ctx.work, op.x * ctx.capacity + first_row * n, n_rows, n)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity + first_row * n, n_rows, n)
    d_x = matrix(ctx.d_work, op.x * ctx.capacity + first_row * n, n_rows, n)
    statistics = matrix(ctx.work, op.row_stats * ctx.capacity + first_row * 2, n_rows, 2)
    scale, scalar, adds = segment(ctx.theta, op.weight, n), x.dtype.type, op.x_grad == oc.GRAD_ADD
    for r in range(n_rows):
        mean, inverse_std = statistics[r, 0], statistics[r, 1]
        mean_d, mean_product = scalar(0), scalar(0)
        for c in range(n):
            d = d_z[r, c] * scale[c]
            mean_d += d
            mean_product += d * (x[r, c] - mean) * inverse_std
        mean_d /= scalar(n)
        mean_product /= scalar(n)
        for c in range(n):
            d = inverse_std * (
                d_z[r, c] * scale[c] - mean_d - (x[r, c] - mean) * inverse_std * mean_product
            )
            d_x[r, c] = d_x[r, c] + d if adds else d


@kernel
def layer_norm_parameter_gradients(ctx, op, batch):
    """∂C/∂scale and ∂C/∂shift over all rows, for the columns that this thread owns."""
    n = op.n_out
    x = matrix(ctx.work, op.x * ctx.capacity, batch, n)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, n)
    statistics = matrix(ctx.work, op.row_stats * ctx.capacity, batch, 2)
    d_scale, d_shift = segment(ctx.gradient, op.weight, n), segment(ctx.gradient, op.bias, n)
    first, last = partition(n, ctx.rank, ctx.n_threads)
    d_scale[first:last] = 0
    d_shift[first:last] = 0
    for r in range(batch):
        for c in range(first, last):
            d_scale[c] += d_z[r, c] * (x[r, c] - statistics[r, 0]) * statistics[r, 1]
            d_shift[c] += d_z[r, c]
