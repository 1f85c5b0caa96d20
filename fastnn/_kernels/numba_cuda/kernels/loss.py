"""Losses and links: from raw outputs to ∂C/∂z and to the sums that are reported, and from raw
outputs to predictions. A warp takes a row.

C = Σ wᵢℓᵢ / Σ wᵢ, so the gradient of a sample is scaled by its share wᵢ / Σ wᵢ as it is written.
"""

import math

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.blocks import (
    WARP,
    block_sum,
    leader_sum,
    row_largest,
    row_sum,
)
from fastnn._kernels.numba_cuda.kernels.records import loss_of
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device
from fastnn._kernels.scalars import exp, log1p, sigmoid

NOWHERE = 1 << 40  # index of a lane that has no element


@device
def weight_sum(frame, start, batch):
    """Σ w over the mini-batch whose samples begin at ``order[start]``."""
    if len(frame.weights) == 0:
        return np.float64(batch)
    total = 0.0
    for i in range(cuda.threadIdx.x, batch, cuda.blockDim.x):
        total += np.float64(frame.weights[frame.order[start + i]])
    return block_sum(frame, total)


@device
def loss_and_gradient(frame, start, first_row, n_rows, batch, all_weights, worker):
    """Write ∂C/∂z of rows of the mini-batch, and what they add to the loss and the weighted hits to
    ``sums``; rows beyond the end get 0.
    """
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    loss, k = loss_of(frame), frame.ops[len(frame.ops) - 1].n_out
    output = frame.control[fr.OUTPUT] * frame.control[fr.CAPACITY]
    # a division of float64 for each row would take long
    total, hits, whole = 0.0, 0.0, 1.0 / all_weights if all_weights > 0 else 0.0
    for first in range(first_row, first_row + n_rows, warps):
        r = first + warp
        inside = r < first_row + n_rows and r < batch
        row = output + (r if inside else first_row) * k
        sample = frame.order[start + (r if inside else 0)]
        weight = np.float64(frame.weights[sample]) if len(frame.weights) > 0 else 1.0
        share = weight * whole
        if loss.code == oc.SOFTMAX_CROSS_ENTROPY:
            value, hit = _softmax(frame, loss, row, sample, k, share, inside)
        elif loss.code == oc.BINARY_CROSS_ENTROPY:
            value, hit = _binary(frame, loss, row, sample, k, share, inside)
        else:
            value, hit = _regression(frame, loss, row, sample, k, share, inside), False
        if inside and lane == 0:
            total += share * np.float64(value)
            hits += weight if hit else 0.0
        if not inside and r < first_row + n_rows:
            for j in range(lane, k, WARP):
                frame.d_work[output + r * k + j] = frame.work.dtype.type(0)
    total = leader_sum(frame, total)
    hits = leader_sum(frame, hits)
    if cuda.threadIdx.x == 0:
        frame.sums[2 * worker], frame.sums[2 * worker + 1] = total, hits


@device
def total_loss(frame, workers):
    """The mini-batch's loss and weighted hits, from the parts of all workers."""
    total, hits = 0.0, 0.0
    if workers <= WARP:  # each thread adds up all, which takes less time than to meet
        for i in range(workers):
            total += frame.sums[2 * i]
            hits += frame.sums[2 * i + 1]
        return total, hits
    for i in range(cuda.threadIdx.x, workers, cuda.blockDim.x):
        total += frame.sums[2 * i]
        hits += frame.sums[2 * i + 1]
    return block_sum(frame, total), block_sum(frame, hits)


@device
def _target(frame, sample, j, k):
    """t of output j: of a label 1 or 0."""
    if len(frame.labels) > 0:
        return frame.work.dtype.type(1 if frame.labels[sample] == j else 0)
    return frame.targets[sample * k + j]


@device
def _softmax(frame, loss, row, sample, k, share, inside):
    """ℓ = Σ q (log Σ exp z − z) with q = (1 − ε) t + ε/k; ∂ℓ/∂z = softmax(z) Σ q − q."""
    real, lane = frame.work.dtype.type, cuda.threadIdx.x % WARP
    smoothing, rest = loss.label_smoothing, loss.label_smoothing / real(k)
    highest, best = _largest(frame, frame.work, row, k)
    total, mass, value = real(0), real(0), real(0)
    for j in range(lane, k, WARP):
        total += exp(frame.work[row + j] - highest)
    total = row_sum(frame, total)
    log_total = real(math.log(total))
    for j in range(lane, k, WARP):
        q = (real(1) - smoothing) * _target(frame, sample, j, k) + rest
        mass += q
        if q != 0:
            value += q * (log_total - (frame.work[row + j] - highest))
    value = row_sum(frame, value)
    mass = row_sum(frame, mass) if len(frame.labels) == 0 else real(1)
    if inside:
        for j in range(lane, k, WARP):
            q = (real(1) - smoothing) * _target(frame, sample, j, k) + rest
            frame.d_work[row + j] = real(share) * (
                exp(frame.work[row + j] - highest) / total * mass - q
            )
    if len(frame.labels) > 0:
        return value, best == frame.labels[sample]
    return value, best == _largest(frame, frame.targets, sample * k, k)[1]


@device
def _binary(frame, loss, row, sample, k, share, inside):
    """ℓ = Σ max(z, 0) + log(1 + e^−|z|) − q z with q = (1 − ε) t + ε/2; ∂ℓ/∂z = σ(z) − q."""
    real, lane = frame.work.dtype.type, cuda.threadIdx.x % WARP
    zero, smoothing, value = real(0), loss.label_smoothing, real(0)
    for j in range(lane, k, WARP):
        z = frame.work[row + j]
        q = (real(1) - smoothing) * frame.targets[sample * k + j] + real(0.5) * smoothing
        positive = zero if z < 0 else z  # this way round NaN passes
        value += positive + log1p(exp(-abs(z))) - q * z
        if inside:
            frame.d_work[row + j] = real(share) * (sigmoid(z) - q)
    value = row_sum(frame, value)
    if k > 1:
        return value, _largest(frame, frame.work, row, k)[1] == _largest(
            frame, frame.targets, sample * k, k
        )[1]
    return value, (frame.work[row] > 0) == (frame.targets[sample] > 0.5)


@device
def _regression(frame, loss, row, sample, k, share, inside):
    """The losses of z − t and Poisson's, which are means over outputs but for QUADRATIC, a sum."""
    real, lane = frame.work.dtype.type, cuda.threadIdx.x % WARP
    half, delta, value = real(0.5), loss.delta, real(0)
    mean = real(1) if loss.code == oc.QUADRATIC else real(1) / real(k)
    for j in range(lane, k, WARP):
        z, t = frame.work[row + j], frame.targets[sample * k + j]
        e = z - t
        sign = real(1) if e > 0 else real(-1) if e < 0 else e
        if loss.code == oc.QUADRATIC:
            part, d = half * e * e, e
        elif loss.code == oc.MSE:
            part, d = e * e, e + e
        elif loss.code == oc.MAE:
            part, d = abs(e), sign
        elif loss.code == oc.HUBER:
            near = abs(e) < delta
            part, d = (
                half * e * e if near else delta * (abs(e) - half * delta),
                e if near else delta * sign,
            )
        else:  # POISSON
            rate = exp(z)
            part, d = rate - t * z, rate - t
        value += part
        if inside:
            frame.d_work[row + j] = real(share) * mean * d
    return row_sum(frame, value) * mean


@device
def _largest(frame, values, first, k):
    """The largest of k values and its place, for all lanes of the warp."""
    lane = cuda.threadIdx.x % WARP
    best, place = values[first], NOWHERE if lane > 0 else 0
    for j in range(lane, k, WARP):
        if values[first + j] > best or j == lane:
            best, place = values[first + j], j
    return row_largest(frame, best, place)


@device
def write_predictions(frame, x_row, first_row, n_rows):
    """Outputs of rows of the workspace, linked as ``control`` says, to ``predictions``; NaN where
    the row of X is not finite.
    """
    real, lane = frame.work.dtype.type, cuda.threadIdx.x % WARP
    warp, warps, link = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP, frame.control[fr.LINK]
    n_in, k = frame.ops[0].n_in, frame.ops[len(frame.ops) - 1].n_out
    output = frame.control[fr.OUTPUT] * frame.control[fr.CAPACITY]
    for first in range(0, n_rows, warps):
        inside = first + warp < n_rows
        r = first + warp if inside else 0
        row, highest, total, poison = output + (first_row + r) * k, real(0), real(1), real(0)
        for j in range(lane, n_in, WARP):
            poison += frame.X[(x_row + r) * n_in + j] * real(0)
        poison = row_sum(frame, poison)
        if link == oc.SOFTMAX:
            highest, _ = _largest(frame, frame.work, row, k)
            total = real(0)
            for j in range(lane, k, WARP):
                total += exp(frame.work[row + j] - highest)
            total = row_sum(frame, total)
        if inside:
            for j in range(lane, k, WARP):
                z = frame.work[row + j]
                y = (
                    exp(z - highest) / total
                    if link == oc.SOFTMAX
                    else sigmoid(z)
                    if link == oc.LOGISTIC
                    else z
                )
                y = exp(z) if link == oc.EXPONENTIAL else y
                frame.predictions[(x_row - frame.control[fr.FIRST] + r) * k + j] = y + poison
            if lane == 0 and poison != 0:
                frame.control[fr.POISONED] = 1
