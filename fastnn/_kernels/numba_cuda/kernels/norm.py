"""Batch and layer normalisation.

x̂ = (x − μ)/√(σ² + ε) is not stored: the way back works it out again from x, which is kept anyway,
and from μ and 1/√(σ² + ε).

BatchNorm's sums run down columns: a block takes 32 columns, a lane each, and its warps share the
rows. Blocks meet before and after, so that the numbers do not depend on how many there are.
LayerNorm's sums run along rows: a warp takes a row.
"""

import math

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, advance, divide, lane_sum, row_sum
from fastnn._kernels.numba_cuda.kernels.elementwise import finish
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

# vectors of n_out in the scratch of a BatchNorm: μ, 1/√(σ² + ε), Σ δ, Σ δ x̂
MEAN, INVERSE_STD, SUM, PRODUCT = range(4)


@device
def batch_statistics(frame, op, batch, worker, workers):
    """μ and 1/√(σ² + ε) of this worker's columns, over the mini-batch or, in inference, as they
    were learnt.
    """
    real, n = frame.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    training, momentum = frame.control[fr.TRAINING] != 0, op.momentum
    for first in range(worker * WARP, n, workers * WARP):
        c = first + lane
        x, inside = op.x + min(c, n - 1), c < n
        mean, variance = real(0), real(0)
        if training:
            total, squares = real(0), real(0)
            for r in range(warp, batch, warps):
                total += frame.work[x + r * n]
            mean = lane_sum(frame.reals, total) / real(batch)
            for r in range(warp, batch, warps):
                d = frame.work[x + r * n] - mean
                squares += d * d
            squares = lane_sum(frame.reals, squares)
            variance = squares / real(batch)
            if inside and warp == 0 and batch > 1 and frame.control[fr.LEARNING] != 0:
                old_mean, old_variance = (
                    frame.buffers[op.state + c],
                    frame.buffers[op.state + n + c],
                )
                frame.buffers[op.state + c] = old_mean + momentum * (mean - old_mean)
                frame.buffers[op.state + n + c] = old_variance + momentum * (
                    squares / real(batch - 1) - old_variance
                )
        elif inside:
            mean, variance = frame.buffers[op.state + c], frame.buffers[op.state + n + c]
        if inside and warp == 0:
            frame.scratch[op.column_stats + MEAN * n + c] = mean
            frame.scratch[op.column_stats + INVERSE_STD * n + c] = real(1) / real(
                math.sqrt(variance + op.epsilon)
            )


@device
def batch_norm(frame, op, first_row, n_rows, step):
    """z = scale · x̂ + shift and the epilogue, for rows of the mini-batch."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        normalised = _normalised(frame, op, frame.work[op.x + r * n + c], c)
        finish(
            frame,
            op,
            r,
            c,
            normalised * frame.theta[op.weight + c] + frame.theta[op.bias + c],
            step,
        )
        r, c = advance(r, c, stride, n)


@device
def _normalised(frame, op, x, c):
    mean, inverse_std = (
        frame.scratch[op.column_stats + MEAN * op.n_out + c],
        frame.scratch[op.column_stats + INVERSE_STD * op.n_out + c],
    )
    return (x - mean) * inverse_std


@device
def batch_sums(frame, op, batch, worker, workers):
    """Σ δ and Σ δ x̂ of this worker's columns: the gradients of shift and scale."""
    real, n = frame.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    for first in range(worker * WARP, n, workers * WARP):
        c = min(first + lane, n - 1)
        total, product = real(0), real(0)
        for r in range(warp, batch, warps):
            d = frame.d_work[op.y + r * n + c]
            total += d
            product += d * _normalised(frame, op, frame.work[op.x + r * n + c], c)
        total, product = lane_sum(frame.reals, total), lane_sum(frame.reals, product)
        if warp == 0 and first + lane < n:
            frame.scratch[op.column_stats + SUM * n + c] = total
            frame.scratch[op.column_stats + PRODUCT * n + c] = product


@device
def batch_norm_backward(frame, op, first_row, n_rows, batch):
    """∂C/∂x = scale/√(σ² + ε) · (δ − mean δ − x̂ · mean δ x̂); statistics that were learnt do not
    depend on x.

    Rows beyond the end of a short mini-batch get 0: the library's product for the gradient of a
    weight goes over them too.
    """
    real, n = frame.work.dtype.type, op.n_out
    part, thread, threads = (
        real(1.0 / batch) if frame.control[fr.TRAINING] != 0 else real(0),
        cuda.threadIdx.x,
        cuda.blockDim.x,
    )
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        x, column = op.x + r * n + c, op.column_stats + c
        mean_d, mean_product = (
            frame.scratch[column + SUM * n] * part,
            frame.scratch[column + PRODUCT * n] * part,
        )
        d = (
            frame.d_work[op.y + r * n + c]
            - mean_d
            - _normalised(frame, op, frame.work[x], c) * mean_product
        )
        d *= frame.theta[op.weight + c] * frame.scratch[column + INVERSE_STD * n]
        d = d if r < batch else real(0)
        frame.d_work[x] = frame.d_work[x] + d if op.x_grad == oc.GRAD_ADD else d
        r, c = advance(r, c, stride, n)


@device
def layer_norm(frame, op, first_row, n_rows, step):
    """z = scale · x̂ + shift and the epilogue; each row's μ and 1/√(σ² + ε) are kept for the way
    back.
    """
    real, n = frame.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    for first in range(first_row, first_row + n_rows, warps):
        inside = first + warp < first_row + n_rows
        r = first + warp if inside else first_row
        x, total, squares = op.x + r * n, real(0), real(0)
        for c in range(lane, n, WARP):
            total += frame.work[x + c]
        mean = row_sum(frame, total) / real(n)
        for c in range(lane, n, WARP):
            squares += (frame.work[x + c] - mean) * (frame.work[x + c] - mean)
        variance = row_sum(frame, squares) / real(n)
        inverse_std = real(1) / real(math.sqrt(variance + op.epsilon))
        if inside:
            for c in range(lane, n, WARP):
                normalised = (frame.work[x + c] - mean) * inverse_std
                finish(
                    frame,
                    op,
                    r,
                    c,
                    normalised * frame.theta[op.weight + c] + frame.theta[op.bias + c],
                    step,
                )
            if lane == 0:
                frame.work[op.row_stats + 2 * r] = mean
                frame.work[op.row_stats + 2 * r + 1] = inverse_std


@device
def layer_norm_backward(frame, op, first_row, n_rows):
    """∂C/∂x = 1/√(σ² + ε) · (d − mean d − x̂ · mean d x̂) with d = scale · δ, row by row."""
    real, n = frame.work.dtype.type, op.n_out
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    for first in range(first_row, first_row + n_rows, warps):
        inside = first + warp < first_row + n_rows
        r = first + warp if inside else first_row
        x, d_z, total, product = op.x + r * n, op.y + r * n, real(0), real(0)
        mean, inverse_std = frame.work[op.row_stats + 2 * r], frame.work[op.row_stats + 2 * r + 1]
        for c in range(lane, n, WARP):
            d = frame.d_work[d_z + c] * frame.theta[op.weight + c]
            total += d
            product += d * (frame.work[x + c] - mean) * inverse_std
        mean_d, mean_product = row_sum(frame, total) / real(n), row_sum(frame, product) / real(n)
        if inside:
            for c in range(lane, n, WARP):
                d = frame.d_work[d_z + c] * frame.theta[op.weight + c]
                d = inverse_std * (
                    d - mean_d - (frame.work[x + c] - mean) * inverse_std * mean_product
                )
                frame.d_work[x + c] = frame.d_work[x + c] + d if op.x_grad == oc.GRAD_ADD else d


@device
def layer_sums(frame, op, batch, c):
    """Σ δ and Σ δ x̂ of column ``c``; every thread of the block must call this, those of a lane
    with the same column.
    """
    real, n = frame.work.dtype.type, op.n_out
    warp, warps = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    total, product = real(0), real(0)
    for r in range(warp, batch, warps):
        d, row = frame.d_work[op.y + r * n + c], op.row_stats + 2 * r
        total += d
        product += d * (frame.work[op.x + r * n + c] - frame.work[row]) * frame.work[row + 1]
    return lane_sum(frame.reals, total), lane_sum(frame.reals, product)
