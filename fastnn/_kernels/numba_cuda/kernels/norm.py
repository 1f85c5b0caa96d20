"""Batch and layer normalisation.

x̂ = (x − μ)/√(σ² + ε) is not stored. The backward pass computes it again from x, which is kept
anyway, and from μ and 1/√(σ² + ε).

BatchNorm reduces along columns: a block takes 32 columns, a lane each, and its warps divide the
rows among themselves. There is a grid barrier before and after, so that the sums do not depend on
the number of blocks. LayerNorm reduces along rows: a warp takes a row.
"""

import math

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.blocks import (
    WARP,
    advance,
    divide,
    sum_over_warps,
    warp_sum,
)
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

# Vectors of n_out in the scratch of a BatchNorm: μ, 1/√(σ² + ε), Σ δ, Σ δ x̂.
MEAN, INVERSE_STD, SUM, PRODUCT = range(4)


@device
def batch_statistics(ctx, op, batch, worker, workers):
    """μ and 1/√(σ² + ε) of this worker's columns.

    In training they are those of the mini-batch, in inference the running statistics.
    """
    real, n = ctx.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    training, momentum = ctx.control[control.TRAINING] != 0, op.momentum
    for first in range(worker * WARP, n, workers * WARP):
        c = first + lane
        x, inside = op.x + min(c, n - 1), c < n
        mean, variance = real(0), real(0)
        if training:
            total, squares = real(0), real(0)
            for r in range(warp, batch, warps):
                total += ctx.work[x + r * n]
            mean = sum_over_warps(ctx.reals, total) / real(batch)
            for r in range(warp, batch, warps):
                d = ctx.work[x + r * n] - mean
                squares += d * d
            squares = sum_over_warps(ctx.reals, squares)
            variance = squares / real(batch)
            if inside and warp == 0 and batch > 1 and ctx.control[control.UPDATES_BUFFERS] != 0:
                old_mean = ctx.buffers[op.state + c]
                old_variance = ctx.buffers[op.state + n + c]
                ctx.buffers[op.state + c] = old_mean + momentum * (mean - old_mean)
                ctx.buffers[op.state + n + c] = old_variance + momentum * (
                    squares / real(batch - 1) - old_variance
                )
        elif inside:
            mean, variance = ctx.buffers[op.state + c], ctx.buffers[op.state + n + c]
        if inside and warp == 0:
            ctx.scratch[op.column_stats + MEAN * n + c] = mean
            ctx.scratch[op.column_stats + INVERSE_STD * n + c] = _inverse_root(
                variance + op.epsilon
            )


@device
def _inverse_root(variance):
    """1/√variance; NaN of a variance that overflowed, as 0 would hide it."""
    real = type(variance)
    return real(math.nan) if variance == math.inf else real(1) / real(math.sqrt(variance))


@device
def batch_norm(ctx, op, first_row, n_rows, step):
    """z = scale · x̂ + shift and the epilogue, for rows of the mini-batch."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        normalised = _normalised(ctx, op, ctx.work[op.x + r * n + c], c)
        z = normalised * ctx.theta[op.weight + c] + ctx.theta[op.bias + c]
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def _normalised(ctx, op, x, c):
    mean = ctx.scratch[op.column_stats + MEAN * op.n_out + c]
    inverse_std = ctx.scratch[op.column_stats + INVERSE_STD * op.n_out + c]
    return (x - mean) * inverse_std


@device
def batch_sums(ctx, op, batch, worker, workers):
    """Σ δ and Σ δ x̂ of this worker's columns: the gradients of shift and scale."""
    real, n = ctx.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    for first in range(worker * WARP, n, workers * WARP):
        c = min(first + lane, n - 1)
        total, product = real(0), real(0)
        for r in range(warp, batch, warps):
            d = ctx.d_work[op.y + r * n + c]
            total += d
            product += d * _normalised(ctx, op, ctx.work[op.x + r * n + c], c)
        total, product = sum_over_warps(ctx.reals, total), sum_over_warps(ctx.reals, product)
        if warp == 0 and first + lane < n:
            ctx.scratch[op.column_stats + SUM * n + c] = total
            ctx.scratch[op.column_stats + PRODUCT * n + c] = product


@device
def batch_norm_backward(ctx, op, first_row, n_rows, batch):
    """∂C/∂x = scale/√(σ² + ε) · (δ − mean δ − x̂ · mean δ x̂).

    Running statistics do not depend on x, so in inference the means are left out. Rows beyond the
    end of a short mini-batch get 0, because cuBLASLt's product for a weight's gradient reads them.
    """
    real, n = ctx.work.dtype.type, op.n_out
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    part = real(1.0 / batch) if ctx.control[control.TRAINING] != 0 else real(0)
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        x, column = op.x + r * n + c, op.column_stats + c
        mean_d = ctx.scratch[column + SUM * n] * part
        mean_product = ctx.scratch[column + PRODUCT * n] * part
        normalised = _normalised(ctx, op, ctx.work[x], c)
        d = ctx.d_work[op.y + r * n + c] - mean_d - normalised * mean_product
        d *= ctx.theta[op.weight + c] * ctx.scratch[column + INVERSE_STD * n]
        d = d if r < batch else real(0)
        ctx.d_work[x] = ctx.d_work[x] + d if op.x_grad == oc.GRAD_ADD else d
        r, c = advance(r, c, stride, n)


@device
def layer_norm(ctx, op, first_row, n_rows, step):
    """z = scale · x̂ + shift and the epilogue.

    Each row's μ and 1/√(σ² + ε) are kept for the backward pass.
    """
    real, n = ctx.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    for first in range(first_row, first_row + n_rows, warps):
        inside = first + warp < first_row + n_rows
        r = first + warp if inside else first_row
        x, total, squares = op.x + r * n, real(0), real(0)
        for c in range(lane, n, WARP):
            total += ctx.work[x + c]
        mean = warp_sum(ctx, total) / real(n)
        for c in range(lane, n, WARP):
            squares += (ctx.work[x + c] - mean) * (ctx.work[x + c] - mean)
        variance = warp_sum(ctx, squares) / real(n)
        inverse_std = _inverse_root(variance + op.epsilon)
        if inside:
            for c in range(lane, n, WARP):
                normalised = (ctx.work[x + c] - mean) * inverse_std
                z = normalised * ctx.theta[op.weight + c] + ctx.theta[op.bias + c]
                epilogue(ctx, op, r, c, z, step)
            if lane == 0:
                ctx.work[op.row_stats + 2 * r] = mean
                ctx.work[op.row_stats + 2 * r + 1] = inverse_std


@device
def layer_norm_backward(ctx, op, first_row, n_rows):
    """∂C/∂x = 1/√(σ² + ε) · (d − mean d − x̂ · mean d x̂) with d = scale · δ, row by row."""
    real, n = ctx.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    for first in range(first_row, first_row + n_rows, warps):
        inside = first + warp < first_row + n_rows
        r = first + warp if inside else first_row
        x, d_z, total, product = op.x + r * n, op.y + r * n, real(0), real(0)
        mean, inverse_std = ctx.work[op.row_stats + 2 * r], ctx.work[op.row_stats + 2 * r + 1]
        for c in range(lane, n, WARP):
            d = ctx.d_work[d_z + c] * ctx.theta[op.weight + c]
            total += d
            product += d * (ctx.work[x + c] - mean) * inverse_std
        mean_d, mean_product = warp_sum(ctx, total) / real(n), warp_sum(ctx, product) / real(n)
        if inside:
            for c in range(lane, n, WARP):
                d = ctx.d_work[d_z + c] * ctx.theta[op.weight + c]
                d = inverse_std * (
                    d - mean_d - (ctx.work[x + c] - mean) * inverse_std * mean_product
                )
                ctx.d_work[x + c] = ctx.d_work[x + c] + d if op.x_grad == oc.GRAD_ADD else d


@device
def layer_sums(ctx, op, batch, c):
    """Σ δ and Σ δ x̂ of column ``c``.

    Every thread of the block must call this, those of a lane with the same column.
    """
    real, n = ctx.work.dtype.type, op.n_out
    warp, warps = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    total, product = real(0), real(0)
    for r in range(warp, batch, warps):
        d, row = ctx.d_work[op.y + r * n + c], op.row_stats + 2 * r
        total += d
        product += d * (ctx.work[op.x + r * n + c] - ctx.work[row]) * ctx.work[row + 1]
    return sum_over_warps(ctx.reals, total), sum_over_warps(ctx.reals, product)
