"""Losses: from raw outputs to per-sample losses and ∂C/∂z, in one pass over the rows of a thread.

C = Σ wᵢℓᵢ / Σ wᵢ, so the gradient of a sample is scaled by its share wᵢ / Σ wᵢ as it is written.
"""

import math

import numpy as np
from numba import config

from fastnn._kernels import opcodes as oc
from fastnn._kernels.dispatch import loop_by_code
from fastnn._kernels.elementary import below, exp, log1p, sigmoid
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.vectors import (
    Corner,
    stack_matrix,
    transpose_part,
    transpose_square,
    vector_length,
)
from fastnn._kernels.scalars import elementwise_loss
from fastnn._kernels.tables import LOSSES

# Classes up to which a softmax takes a vector of samples at a time rather than one sample: rows of
# ten are too short for whole vectors. 128 × 10: 2.0 µs instead of 5.1, 32 × 2: 0.5 instead of 1.1.
_LARGE = 1000  # logits beyond it have their loss taken again: compilers re-order the sums
_NARROW = 0 if config.DISABLE_JIT else 32


@kernel
def loss_and_gradient(loss, z, d, samples, labels, targets, weights, weight_sum):
    """Write ∂C/∂z into ``d``; returns Σ wᵢℓᵢ / Σ w, and Σ w of samples classified correctly.

    Parameters
    ----------
    loss : (1,) opcodes.LOSS, or (k,)
    z, d : (rows, k)
    samples : (rows,) int64
        Which samples the rows are.
    labels : (n,) int64, or empty where there are ``targets``
    targets : (n, k), or empty where there are labels
    weights : (n,), or empty where each sample counts 1
    weight_sum : float
        Σ w over the mini-batch.
    """
    code, constant = loss[0].code, z.dtype.type(loss[0].constant)
    if code == oc.SOFTMAX_CROSS_ENTROPY:
        if len(labels) > 0 and z.shape[1] <= _NARROW:
            return _narrow_softmax(z, d, samples, labels, weights, weight_sum, constant)
        _exponentials(z, d)
    total, correct_weight = 0.0, 0.0
    for r in range(len(z)):
        i = samples[r]
        weight = np.float64(weights[i]) if len(weights) > 0 else 1.0
        if weight == 0:  # a product with what overflowed would be NaN
            d[r, :] = 0
            continue
        exact_share = weight / weight_sum if weight_sum > 0 else 0.0
        share = z.dtype.type(exact_share)
        if len(labels) > 0:
            value = _softmax_label(z[r], d[r], labels[i], share, constant)
            correct = largest(z[r]) == labels[i]
        else:
            if code == oc.SOFTMAX_CROSS_ENTROPY:
                value = _softmax_values(z[r], d[r], targets[i], share, constant)
            else:
                value = _elementwise(code, z[r], d[r], targets[i], share, loss)
            correct = classifies(code) and _is_correct(code, z[r], targets[i])
        total += exact_share * np.float64(value)
        if correct:
            correct_weight += weight
    return total, correct_weight


@inline
def classifies(code):
    return code == oc.SOFTMAX_CROSS_ENTROPY or code == oc.BINARY_CROSS_ENTROPY


@inline
def _is_correct(code, z, t):
    """Whether the largest logit is the target's; a single sigmoid is positive where t > ½."""
    by_largest = len(z) > 1 or code == oc.SOFTMAX_CROSS_ENTROPY
    return largest(z) == largest(t) if by_largest else (z[0] > 0) == (t[0] > 0.5)


@inline
def _elementwise_loop(code, mean, has_levels, z, d, t, share, loss):
    """A loss that is a sum, or mean, of terms that each depend on one output.

    Its constant may differ from output to output.
    """
    scalar = z.dtype.type
    c = scalar(loss[0].constant)
    factor = scalar(1) / scalar(len(z)) if mean else scalar(1)
    value = scalar(0)
    for j in range(len(z)):
        if has_levels:
            c = scalar(loss[j].constant)
        term, slope = elementwise_loss(code, z[j], t[j], c)
        value += term
        d[j] = share * factor * slope
    return factor * value


_ELEMENTWISE = {
    row.code: f"{row.mean}, {len(row.levels) > 0}, " for row in LOSSES.values() if row.elementwise
}
_elementwise = inline(
    loop_by_code("z, d, t, share, loss", _elementwise_loop, _ELEMENTWISE, exhaustive=True)
)


@kernel
def apply_link(link, z):
    """Turn raw outputs (rows, k) into what ``predict`` gives, in place."""
    flat = z.reshape(-1)
    if link == oc.SOFTMAX:
        _exponentials(z, z)
        for r in range(len(z)):
            row, total = z[r], z.dtype.type(0)
            for j in range(len(row)):
                total += row[j]
            scale = z.dtype.type(1) / total
            for j in range(len(row)):
                row[j] *= scale
    elif link == oc.LOGISTIC:
        for i in range(len(flat)):
            flat[i] = sigmoid(flat[i])
    elif link == oc.EXPONENTIAL:
        for i in range(len(flat)):
            flat[i] = exp(flat[i])
    elif link == oc.SORTED:
        for r in range(len(z)):
            _sort(z[r])


@inline
def _sort(row):
    """Sort a few numbers by insertion, NaN last."""
    for j in range(1, len(row)):
        x, i = row[j], j
        while i > 0 and (row[i - 1] > x or (np.isnan(row[i - 1]) and not np.isnan(x))):
            row[i] = row[i - 1]
            i -= 1
        row[i] = x


@inline
def _exponentials(z, p):
    """p = exp(z − max z) row by row.

    The exponentials of all rows are one loop: a row alone is often too short for whole vectors.
    """
    for r in range(len(z)):
        row, target, highest = z[r], p[r], z[r, 0]
        for j in range(1, len(row)):
            highest = row[j] if row[j] > highest else highest
        for j in range(len(row)):
            target[j] = row[j] - highest
    flat = p.reshape(-1)
    for i in range(len(flat)):
        flat[i] = exp(flat[i])


@kernel
def _narrow_softmax(z, d, samples, labels, weights, weight_sum, smoothing):
    """`loss_and_gradient` of labels, for as many samples at a time as a vector has lanes.

    Transposed, each sample is a column.
    """
    one, k = z.dtype.type(1), z.shape[1]
    # what it is, but not a constant: such short loops would be unrolled to scalars
    lanes = min(vector_length(z), vector_length(z) + k)
    transposed, of_sample = stack_matrix(z, _NARROW, 1), stack_matrix(z, 6, 1)
    highest, best, total = of_sample[0], of_sample[1], of_sample[2]
    plain_sum, log_total, share = of_sample[3], of_sample[4], of_sample[5]
    value, correct_weight, rest = 0.0, 0.0, smoothing / z.dtype.type(k)
    unit = 1.0 / weight_sum if weight_sum > 0 else 0.0
    for start in range(0, len(z), lanes):
        rows = min(lanes, len(z) - start)
        for column in range(0, k, lanes):
            transpose_square(
                Corner(z, start, column), rows, k - column, Corner(transposed, column, 0)
            )
        _clear_uncounted(transposed, k, samples[start : start + rows], weights)
        for r in range(lanes):
            highest[r], best[r], total[r], plain_sum[r], share[r] = transposed[0, r], 0, 0, 0, 0
        for j in range(k):
            for r in range(lanes):
                best[r] = z.dtype.type(j) if transposed[j, r] > highest[r] else best[r]
                highest[r] = transposed[j, r] if transposed[j, r] > highest[r] else highest[r]
        for j in range(k):
            for r in range(lanes):
                # from the largest: large logits would round away what tells them apart
                difference = transposed[j, r] - highest[r]
                p = exp(difference)
                transposed[j, r] = p
                plain_sum[r] += difference
                total[r] += p
        for r in range(lanes):
            log_total[r] = _log_of_sum(total[r])
        for r in range(rows):
            i = samples[start + r]
            weight = np.float64(weights[i]) if len(weights) > 0 else 1.0
            if weight == 0:
                continue
            share[r] = z.dtype.type(weight * unit)
            expected = (one - smoothing) * (z[start + r, labels[i]] - highest[r])
            loss = log_total[r] - (expected + rest * plain_sum[r])
            if not np.isfinite(loss) or abs(highest[r]) > _LARGE:
                loss = _exact_label_loss(z[start + r], labels[i], log_total[r], smoothing)
            value += weight * unit * np.float64(loss)
            correct_weight += weight if best[r] == labels[i] else 0.0
        for r in range(lanes):
            total[r] = share[r] / total[r]
        for j in range(k):
            for r in range(lanes):
                transposed[j, r] = transposed[j, r] * total[r] - rest * share[r]
        for column in range(0, k, lanes):
            transpose_part(
                Corner(transposed, column, 0), k - column, rows, Corner(d, start, column)
            )
        for r in range(rows):
            d[start + r, labels[samples[start + r]]] -= share[r] * (one - smoothing)
    return value, correct_weight


@inline
def _clear_uncounted(transposed, k, samples, weights):
    """Zeros as outputs of samples of weight 0: a product with what overflowed would be NaN."""
    if len(weights) > 0:
        for r in range(len(samples)):
            if weights[samples[r]] == 0:
                for j in range(k):
                    transposed[j, r] = 0


@kernel
def _exact_label_loss(z, label, log_total, smoothing):
    """The loss of a label where z is so large that differences overflow, or lose what is small."""
    highest, rest = z[largest(z)], smoothing / z.dtype.type(len(z))
    expected = (z.dtype.type(1) - smoothing) * (z[label] - highest)
    for j in range(len(z)):
        expected += rest * below(z[j], highest)
    return log_total - expected


@inline
def _log_of_sum(total):
    """log of a sum of up to 32 exponentials whose largest is 1, without branches.

    `log1p` is for numbers up to 1.
    """
    of = type(total)
    power = of(0)
    for exponent in (4, 2, 1):
        reaches = total >= of(1 << exponent)
        total = total * of(0.5**exponent) if reaches else total
        power += of(exponent) if reaches else of(0)
    return log1p(total - of(1)) + power * of(math.log(2.0))


@inline
def largest(row):
    """Index of the first largest element."""
    best = 0
    for j in range(1, len(row)):
        if row[j] > row[best]:
            best = j
    return best


@inline
def _normaliser(z, p):
    """From p = exp(z − max z): 1 / Σ p, log Σ p, and max z."""
    best, total = largest(z), z.dtype.type(0)
    for j in range(len(z)):
        total += p[j]
    return z.dtype.type(1) / total, z.dtype.type(math.log(total)), z[best]


@inline
def _softmax_label(z, d, label, share, smoothing):
    """ℓ = log Σ exp z − Σ q z with q = (1 − ε) onehot + ε/k; ∂ℓ/∂z = softmax(z) − q.

    Before, ``d`` is exp(z − max z).
    """
    one, k = z.dtype.type(1), z.dtype.type(len(z))
    scale, log_total, highest = _normaliser(z, d)
    rest = smoothing / k
    expected = (one - smoothing) * (z[label] - highest)
    for j in range(len(z)):
        expected += rest * (z[j] - highest)
        d[j] = share * (d[j] * scale - rest)
    d[label] -= share * (one - smoothing)
    value = log_total - expected
    if not np.isfinite(value) or abs(highest) > _LARGE:
        return _exact_label_loss(z, label, log_total, smoothing)
    return value


@inline
def _softmax_values(z, d, t, share, smoothing):
    """ℓ = Σ q (log Σ exp z − z) with q = (1 − ε) t + ε/k; ∂ℓ/∂z = softmax(z) Σ q − q.

    Before, ``d`` is exp(z − max z).
    """
    one, rest = z.dtype.type(1), smoothing / z.dtype.type(len(z))
    scale, log_total, highest = _normaliser(z, d)
    mass, value = z.dtype.type(0), z.dtype.type(0)
    for j in range(len(z)):
        q = (one - smoothing) * t[j] + rest
        mass += q
        value += q * (log_total - (z[j] - highest))
    if not np.isfinite(value) or abs(highest) > _LARGE:
        value = z.dtype.type(0)
        for j in range(len(z)):
            q = (one - smoothing) * t[j] + rest
            value += q * (log_total - below(z[j], highest))
    for j in range(len(z)):
        d[j] = share * (d[j] * scale * mass - ((one - smoothing) * t[j] + rest))
    return value
