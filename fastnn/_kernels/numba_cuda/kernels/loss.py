"""Losses and links: from raw outputs to ∂C/∂z, to reported sums, and to predictions.

A warp takes a row. C = Σ wᵢℓᵢ / Σ wᵢ: the gradient of a sample is scaled by wᵢ / Σ wᵢ as it is
written.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.elementary import exp, sigmoid
from fastnn._kernels.numba_cuda.kernels import control
from fastnn._kernels.numba_cuda.kernels.blocks import (
    WARP,
    block_sum,
    warp_argmax,
    warp_leader_sum,
    warp_sum,
)
from fastnn._kernels.numba_cuda.kernels.records import loss_of
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device
from fastnn._kernels.scalars import elementwise_loss
from fastnn._kernels.tables import LOSSES

NO_INDEX = 1 << 40  # index of a lane that has no element
# A bit for each loss, by its code: whether it is a mean over outputs.
_MEANS = sum(1 << row.code for row in LOSSES.values() if row.elementwise and row.mean)
N_LOSS_SUMS = 3  # sums of each block in an evaluation: Σ wℓ, Σ w, Σ w of correct samples


class Row(NamedTuple):
    """The row that a warp works on."""

    start: Any  # of its raw outputs in the workspace, and of ∂C/∂z
    sample: Any  # index of its target
    width: Any  # outputs
    scale: Any  # float64 that ∂ℓ/∂z is multiplied by
    writes: Any  # whether ∂C/∂z is written


@device
def sum_of_weights(ctx, start, batch):
    """Σ w over the mini-batch whose samples begin at ``order[start]``."""
    if len(ctx.weights) == 0:
        return np.float64(batch)
    total = 0.0
    for i in range(cuda.threadIdx.x, batch, cuda.blockDim.x):
        total += np.float64(ctx.weights[ctx.order[start + i]])
    return block_sum(ctx, total)


@device
def loss_and_gradient(ctx, start, first_row, n_rows, batch, weight_sum, worker):
    """Write ∂C/∂z of rows of the mini-batch; rows beyond its end get 0.

    What the rows add to the loss and to Σ w of correct samples goes to ``sums``, two for a worker.
    """
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    k, members = ctx.ops[len(ctx.ops) - 1].n_out, ctx.loss[0].members
    output = ctx.control[control.OUTPUT] * ctx.control[control.CAPACITY]
    # One division for all rows: a division of float64 takes long.
    total, correct_weight, inverse = 0.0, 0.0, 1.0 / weight_sum if weight_sum > 0 else 0.0
    for first in range(first_row, first_row + n_rows, warps):
        r = first + warp
        inside = r < first_row + n_rows and r < batch
        sample = ctx.order[start + (r if inside else 0)]
        weight = np.float64(ctx.weights[sample]) if len(ctx.weights) > 0 else 1.0
        row_start = output + (r if inside else first_row) * k
        row = Row(row_start, sample, k, weight * inverse, inside)
        value, correct = _row_loss(ctx, row) if members == 1 else _ensemble_loss(ctx, row)
        if inside and lane == 0 and weight > 0:
            total += weight * inverse * np.float64(value)
            correct_weight += weight if correct else 0.0
        if not inside and r < first_row + n_rows:
            for j in range(lane, k, WARP):
                ctx.d_work[output + r * k + j] = ctx.work.dtype.type(0)
    total = warp_leader_sum(ctx, total)
    correct_weight = warp_leader_sum(ctx, correct_weight)
    if cuda.threadIdx.x == 0:
        ctx.sums[2 * worker], ctx.sums[2 * worker + 1] = total, correct_weight


@device
def add_losses(ctx, x_row, first_row, n_rows, worker):
    """Add Σ wℓ, Σ w and Σ w of correct samples of rows of the workspace to the worker's ``sums``.

    The rows are those of X and of the targets from ``x_row`` on. No gradient is written.
    """
    lane, warp, warps = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP
    k, members = ctx.ops[len(ctx.ops) - 1].n_out, ctx.loss[0].members
    output = ctx.control[control.OUTPUT] * ctx.control[control.CAPACITY]
    total, weight_sum, correct_weight = 0.0, 0.0, 0.0
    for first in range(0, n_rows, warps):
        inside = first + warp < n_rows
        r = first + warp if inside else 0
        weight = np.float64(ctx.weights[x_row + r]) if len(ctx.weights) > 0 else 1.0
        row = Row(output + (first_row + r) * k, x_row + r, k, 0.0, False)
        value, correct = _row_loss(ctx, row) if members == 1 else _ensemble_loss(ctx, row)
        if inside and lane == 0 and weight > 0:
            total += weight * np.float64(value)
            weight_sum += weight
            correct_weight += weight if correct else 0.0
    total = warp_leader_sum(ctx, total)
    weight_sum = warp_leader_sum(ctx, weight_sum)
    correct_weight = warp_leader_sum(ctx, correct_weight)
    if cuda.threadIdx.x == 0:
        ctx.sums[N_LOSS_SUMS * worker] += total
        ctx.sums[N_LOSS_SUMS * worker + 1] += weight_sum
        ctx.sums[N_LOSS_SUMS * worker + 2] += correct_weight


@device
def total_loss(ctx, workers):
    """The mini-batch's loss and Σ w of correct samples, from the sums of all workers."""
    total, correct_weight = 0.0, 0.0
    if workers <= WARP:  # each thread adds up all, which takes less time than a barrier
        for i in range(workers):
            total += ctx.sums[2 * i]
            correct_weight += ctx.sums[2 * i + 1]
        return total, correct_weight
    for i in range(cuda.threadIdx.x, workers, cuda.blockDim.x):
        total += ctx.sums[2 * i]
        correct_weight += ctx.sums[2 * i + 1]
    return block_sum(ctx, total), block_sum(ctx, correct_weight)


@device
def _row_loss(ctx, row):
    """ℓ of a row, and whether it is classified correctly; ∂C/∂z is written if the row says so."""
    loss = loss_of(ctx)
    if loss.code == oc.SOFTMAX_CROSS_ENTROPY:
        return _softmax(ctx, loss, row)
    return _elementwise(ctx, loss, row)


@device
def _ensemble_loss(ctx, row):
    """The mean of the members' ℓ, and whether the mean of their predictions is right."""
    loss = loss_of(ctx)
    units, value = row.width // loss.members, ctx.work.dtype.type(0)
    for m in range(loss.members):
        scale, start = row.scale / loss.members, row.start + m * units
        value += _row_loss(ctx, Row(start, row.sample, units, scale, row.writes))[0]
    value /= ctx.work.dtype.type(loss.members)
    if loss.code != oc.SOFTMAX_CROSS_ENTROPY and loss.code != oc.BINARY_CROSS_ENTROPY:
        return value, False
    if units == 1 and loss.code == oc.BINARY_CROSS_ENTROPY:
        is_one = _mean_linked(ctx, loss.link, row.start, units, 0) > 0.5
        return value, is_one == (ctx.targets[row.sample] > 0.5)
    best = _largest_mean(ctx, loss.link, row.start, units)
    if len(ctx.labels) > 0:
        return value, best == ctx.labels[row.sample]
    return value, best == _argmax(ctx, ctx.targets, row.sample * units, units)[1]


@device
def _mean_linked(ctx, link, start, units, j):
    """The mean over members of output j through the link.

    All lanes of a warp must call this, each with its own j; beyond the last it gives nothing.
    """
    members, total, real = ctx.loss[0].members, ctx.work.dtype.type(0), ctx.work.dtype.type
    for m in range(members):
        row = start + m * units
        highest, sum_exp = _normaliser(ctx, link, row, units)
        if j < units:
            source = _source(ctx, link, row, units, j)
            total += _linked(link, ctx.work[row + source], highest, sum_exp)
    return total / real(members)


@device
def _largest_mean(ctx, link, start, units):
    """Index of the output whose mean over members is largest, for all lanes of the warp."""
    lane = cuda.threadIdx.x % WARP
    best, index = ctx.work.dtype.type(0), NO_INDEX
    for first in range(0, units, WARP):
        mean = _mean_linked(ctx, link, start, units, first + lane)
        if first + lane < units and (mean > best or first == 0):
            best, index = mean, first + lane
    return warp_argmax(ctx, best, index)[1]


@device
def _normaliser(ctx, link, row, k):
    """Of a row under softmax its largest output and its Σ exp; nothing else needs them."""
    real, lane = ctx.work.dtype.type, cuda.threadIdx.x % WARP
    highest, total = real(0), real(1)
    if link == oc.SOFTMAX:
        highest, _ = _argmax(ctx, ctx.work, row, k)
        total = real(0)
        for j in range(lane, k, WARP):
            total += exp(ctx.work[row + j] - highest)
        total = warp_sum(ctx, total)
    return highest, total


@device
def _weighted(weight, d):
    """weight · d in d's type, but 0 for a weight of 0, whatever d is."""
    return type(d)(weight) * d if weight > 0 else type(d)(0)


@device
def _target(ctx, row, j):
    """t of output j: of a label 1 or 0."""
    if len(ctx.labels) > 0:
        return ctx.work.dtype.type(1 if ctx.labels[row.sample] == j else 0)
    return ctx.targets[row.sample * row.width + j]


@device
def _softmax(ctx, loss, row):
    """ℓ = Σ q (log Σ exp z − z) with q = (1 − ε) t + ε/k; ∂ℓ/∂z = softmax(z) Σ q − q."""
    real, lane, k = ctx.work.dtype.type, cuda.threadIdx.x % WARP, row.width
    smoothing, rest = loss.constant, loss.constant / real(k)
    highest, best = _argmax(ctx, ctx.work, row.start, k)
    total, mass, value = real(0), real(0), real(0)
    for j in range(lane, k, WARP):
        total += exp(ctx.work[row.start + j] - highest)
    total = warp_sum(ctx, total)
    log_total = real(math.log(total))
    for j in range(lane, k, WARP):
        q = (real(1) - smoothing) * _target(ctx, row, j) + rest
        mass += q
        if q != 0:
            value += q * (log_total - (ctx.work[row.start + j] - highest))
    value = warp_sum(ctx, value)
    mass = warp_sum(ctx, mass) if len(ctx.labels) == 0 else real(1)
    if row.writes:
        for j in range(lane, k, WARP):
            q = (real(1) - smoothing) * _target(ctx, row, j) + rest
            softmax = exp(ctx.work[row.start + j] - highest) / total
            ctx.d_work[row.start + j] = _weighted(row.scale, softmax * mass - q)
    if len(ctx.labels) > 0:
        return value, best == ctx.labels[row.sample]
    return value, best == _argmax(ctx, ctx.targets, row.sample * k, k)[1]


@device
def _elementwise(ctx, loss, row):
    """The other losses: sums or means over outputs."""
    real, lane, k = ctx.work.dtype.type, cuda.threadIdx.x % WARP, row.width
    mean = real(1) / real(k) if (_MEANS >> loss.code) & 1 != 0 else real(1)
    value = real(0)
    for j in range(lane, k, WARP):
        z, t = ctx.work[row.start + j], ctx.targets[row.sample * k + j]
        c = real(ctx.loss[j].constant) if loss.code == oc.QUANTILE else loss.constant
        part, d = elementwise_loss(loss.code, z, t, c)
        value += part
        if row.writes:
            ctx.d_work[row.start + j] = _weighted(row.scale, mean * d)
    value = warp_sum(ctx, value) * mean
    if loss.code != oc.BINARY_CROSS_ENTROPY:
        return value, False
    if k > 1:
        best = _argmax(ctx, ctx.work, row.start, k)[1]
        return value, best == _argmax(ctx, ctx.targets, row.sample * k, k)[1]
    return value, (ctx.work[row.start] > 0) == (ctx.targets[row.sample] > 0.5)


@device
def _argmax(ctx, values, first, k):
    """The largest of k values and its index, for all lanes of the warp."""
    lane = cuda.threadIdx.x % WARP
    best, index = values[first], NO_INDEX if lane > 0 else 0
    for j in range(lane, k, WARP):
        if values[first + j] > best or j == lane:
            best, index = values[first + j], j
    return warp_argmax(ctx, best, index)


@device
def write_predictions(ctx, x_row, first_row, n_rows):
    """Outputs of rows of the workspace to ``predictions``, through the link that ``control`` names.

    Where the row of X is not finite, the outputs are NaN and NONFINITE is set.
    """
    real, lane = ctx.work.dtype.type, cuda.threadIdx.x % WARP
    warp, warps, link = cuda.threadIdx.x // WARP, cuda.blockDim.x // WARP, ctx.control[control.LINK]
    n_in, k = ctx.ops[0].n_in, ctx.ops[len(ctx.ops) - 1].n_out
    averages, members = ctx.control[control.AVERAGES] != 0, ctx.loss[0].members
    units = k // members if averages else k
    output = ctx.control[control.OUTPUT] * ctx.control[control.CAPACITY]
    for first in range(0, n_rows, warps):
        inside = first + warp < n_rows
        r = first + warp if inside else 0
        row, nan_fill = output + (first_row + r) * k, real(0)
        for j in range(lane, n_in, WARP):
            nan_fill += ctx.X[(x_row + r) * n_in + j] * real(0)
        nan_fill = warp_sum(ctx, nan_fill)  # 0, or NaN
        highest, total = _normaliser(ctx, oc.IDENTITY if averages else link, row, k)
        place = (x_row - ctx.control[control.FIRST] + r) * units
        for column in range(0, units, WARP):
            j, y = column + lane, nan_fill
            if averages:
                y += _mean_linked(ctx, link, row, units, j)
            elif j < k:
                y += _linked(link, ctx.work[row + _source(ctx, link, row, k, j)], highest, total)
            if inside and j < units:
                ctx.predictions[place + j] = y
        if inside and lane == 0 and nan_fill != 0:
            ctx.control[control.NONFINITE] = 1


@device
def _source(ctx, link, row, k, j):
    """Which of the k outputs of a row the link puts in place j: of SORTED the j-th smallest."""
    if link == oc.SORTED:
        for i in range(k):
            if _rank(ctx, row, k, i) == j:
                return i
    return j


@device
def _rank(ctx, row, k, j):
    """How many outputs of a row lie before output j in ascending order, NaN last."""
    z, rank = ctx.work[row + j], 0
    for i in range(k):
        other = ctx.work[row + i]
        before = other < z or (math.isnan(z) and not math.isnan(other))
        after = z < other or (math.isnan(other) and not math.isnan(z))
        if before or (i < j and not after):
            rank += 1
    return rank


@device
def _linked(link, z, highest, total):
    """A raw output through a link; for softmax with the row's largest output and its Σ exp."""
    if link == oc.SOFTMAX:
        return exp(z - highest) / total
    if link == oc.LOGISTIC:
        return sigmoid(z)
    if link == oc.EXPONENTIAL:
        return exp(z)
    return z
