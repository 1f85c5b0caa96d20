"""The kernel that Python calls: a chunk of mini-batches to train on, or rows to predict.

All threads run it at once. A step in thread ``rank``:

1. Gather its rows of the mini-batch, carry them through all operations, take the loss and
   backpropagate: no thread needs another's rows, but for BatchNorm's statistics.
2. Barrier: now δ of the whole mini-batch is there, and no thread reads θ any more.
3. Take the gradient of its share of every parameter array over the whole mini-batch, and update
   that share while it is in cache.
4. Barrier: θ is new.

Where the first GEMM is split-K (`splits_k`), step 1 begins with that GEMM and a barrier for its
partial sums. Before this barrier a thread reads only its own rows of the first weight, so it also
stands for barrier 4 of the step before.

Clipping by global norm and max-norm constraints add a barrier each. Plain SGD never stores a
weight's gradient: with α = −η and β = 1 − ηλ₂ the GEMM that would make it updates the weight.
"""

from typing import NamedTuple

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import (
    columns,
    elementwise,
    embedding,
    ensemble,
    feature_dense,
    norm,
    periodic,
    philox,
    piecewise,
    update,
)
from fastnn._kernels.numba_cpu import statistics as stats
from fastnn._kernels.numba_cpu.barrier import barrier_wait, partition
from fastnn._kernels.numba_cpu.compile import inline
from fastnn._kernels.numba_cpu.gemm import gemm
from fastnn._kernels.numba_cpu.gradients import StepContext, compute_gradients_and_update
from fastnn._kernels.numba_cpu.kernel_context import context_of, rows_of, splits_k
from fastnn._kernels.numba_cpu.loss import apply_link
from fastnn._kernels.numba_cpu.vectors import CACHE_LINE, prefetch
from fastnn._kernels.numba_cpu.views import matrix, segment, unowned_view


class Data(NamedTuple):
    """The samples of a run; see `KernelArguments`."""

    X: np.ndarray
    order: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def run(rank, n_threads, arguments, X, linked, predictions):
    """Run as thread ``rank`` of ``n_threads``; ``arguments`` is a `KernelArguments`.

    A run with ``backward`` returns how many losses were written. Other runs write outputs for all
    rows of X to ``predictions``, raw or ``linked``, and return 1 if a row was not finite, else 0.
    """
    ctx = context_of(rank, n_threads, arguments)
    data = Data(
        unowned_view(X),
        unowned_view(arguments.order),
        unowned_view(arguments.labels),
        unowned_view(arguments.targets),
        unowned_view(arguments.weights),
    )
    if arguments.backward:
        return train(ctx, arguments, data)
    return predict(ctx, arguments, data, linked, predictions)


@inline
def train(ctx, arguments, data):
    """Take the steps of a chunk; returns how many losses were written."""
    bounds, optimizer = arguments.bounds, arguments.optimizer[0]
    thread_sums, statistics = (
        unowned_view(arguments.thread_sums),
        unowned_view(arguments.statistics),
    )
    phase, record, mu_product = 1, 0, arguments.mu_product[0]
    for k in range(len(arguments.rates)):
        samples = data.order[bounds[k] : bounds[k + 1]]
        last = k + 1 == len(arguments.rates)
        following = data.order[bounds[k + 1] : bounds[k + 1] if last else bounds[k + 2]]
        step = arguments.step + k
        recorded = arguments.every > 0 and step % arguments.every == 0
        measured = statistics[record, ctx.rank][: len(ctx.ops) if recorded else 0]
        weight_sum = _weight_sum(data.weights, samples)
        phase = _forward_and_backward(ctx, arguments, data, samples, following, k, measured, phase)
        phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)

        loss, correct = thread_sums[:, 0].sum(), thread_sums[:, 1].sum()
        if ctx.rank == 0:
            arguments.losses[k], arguments.weight_sums[k] = loss, weight_sum
            arguments.correct_weights[k] = correct
        if not np.isfinite(loss):
            return k + 1
        t = arguments.optimizer_step + k + 1
        mu = update.momentum_factor(optimizer, t)
        mu_next = update.momentum_factor(optimizer, t + 1)
        mu_product *= mu
        rates = update.bias_correction(
            optimizer, arguments.rates[k], arguments.decays[k], t, mu, mu_next, mu_product
        )
        this_step = StepContext(optimizer, rates, len(samples), thread_sums)
        phase = compute_gradients_and_update(ctx, this_step, measured, phase)
        if recorded:
            record = min(record + 1, len(statistics) - 1)
        if len(ctx.split_k_partials) == 0:  # the split-K barrier also ends the previous step
            phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
        if ctx.rank == 0:
            arguments.mu_product[0] = mu_product
    return len(arguments.rates)


@inline
def _forward_and_backward(ctx, arguments, data, samples, following, k, measured, phase):
    """Part 1 of a step, for the rows of this thread; returns the next phase of the barrier.

    ``following`` are the samples of the next mini-batch, which are prefetched.
    """
    n_in, batch, step = data.X.shape[1], len(samples), arguments.step + k
    first, last = partition(batch, ctx.rank, ctx.n_threads)
    own, n_rows = samples[first:last], last - first
    if len(ctx.split_k_partials) > 0:
        _split_k_gemm(ctx, data.X, samples)
        phase = barrier_wait(ctx.barrier, phase, ctx.n_threads)
    else:
        elementwise.gather(data.X, own, 0, matrix(ctx.work, first * n_in, n_rows, n_in))
    _prefetch_next(ctx, data, following)
    ensemble.clear_member_sums(ctx)
    weight_sum, loss, correct = _weight_sum(data.weights, samples), 0.0, 0.0
    # Members' values of a few rows stay in the second-level cache. Other networks take all at once,
    # and so do recorded steps, whose statistics want all rows.
    in_blocks = arguments.block_rows > 0 and len(measured) == 0
    at_once = arguments.block_rows if in_blocks else max(n_rows, 1)
    for row in range(first, max(last, first + 1), at_once):
        rows = min(at_once, last - row)
        phase = forward(ctx, data.X, -1, step, row, rows, batch, phase)
        stats.values(ctx, measured, step, row, rows)
        block = own[row - first : row - first + rows]
        of_block = ensemble.loss_of_rows(ctx, arguments, data, row, rows, block, weight_sum)
        loss += of_block[0]
        correct += of_block[1]
        phase = backpropagate(ctx, row, rows, batch, phase)
    arguments.thread_sums[ctx.rank, 0], arguments.thread_sums[ctx.rank, 1] = loss, correct
    return phase


@inline
def predict(ctx, arguments, data, linked, predictions):
    """Outputs of this thread's share of the rows of X, a block at a time.

    A row that is not finite gives NaN, and 1 as the result. Where only Dense operations read X they
    read it in place. The step and the phase of the barrier mean nothing here; they are variables
    because a call with constants would be compiled once more.
    """
    X, in_place, step = data.X, True, arguments.step
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        in_place &= (op.x != oc.INPUT or op.code == oc.DENSE) and (
            op.code != oc.ADD or op.skip != oc.INPUT
        )
    first, last = partition(len(X), ctx.rank, ctx.n_threads)
    block, n_in, members = ctx.capacity // ctx.n_threads, X.shape[1], arguments.loss[0].members
    n_out = ctx.ops[len(ctx.ops) - 1].n_out
    link = arguments.loss[0].link if linked else oc.IDENTITY
    row, nan_fill, loss, correct = ctx.rank * block, predictions.dtype.type(0), 0.0, 0.0
    weight_sum = _weight_sum(data.weights, data.order)
    for start in range(first, last, block):
        n = min(block, last - start)
        if not in_place:
            elementwise.copy_rows(X, start, matrix(ctx.work, row * n_in, n, n_in))
        forward(ctx, X, start if in_place else -1, step, row, n, n, step)
        offset = arguments.output * ctx.capacity + row * n_out
        z = matrix(ctx.work, offset, n, n_out)
        if arguments.evaluates:
            samples = data.order[start : start + n]
            block_loss, block_correct = ensemble.loss_of_rows(
                ctx, arguments, data, row, n, samples, weight_sum
            )
            loss += block_loss
            correct += block_correct
        apply_link(link, z.reshape(n * members, n_out // members))
        if linked and members > 1:
            ensemble.average_members(z, members)
        for r in range(n):
            nan_fill += elementwise.copy_or_nan_fill(z[r], X[start + r], predictions[start + r])
    arguments.thread_sums[ctx.rank, 0], arguments.thread_sums[ctx.rank, 1] = loss, correct
    return 1 if np.isnan(nan_fill) else 0


@inline
def _split_k_gemm(ctx, X, samples):
    """What this thread's features of X add to the first operation's z, for the whole mini-batch."""
    op = ctx.ops[0]
    first, last = partition(op.n_in, ctx.rank, ctx.n_threads)
    x = matrix(ctx.work, ctx.capacity * first, len(samples), last - first)
    elementwise.gather(X, samples, first, x)
    part = matrix(ctx.split_k_partials, ctx.rank * ctx.capacity * op.n_out, len(samples), op.n_out)
    gemm(
        False,
        False,
        op.factor,
        x,
        matrix(ctx.theta, op.weight + first * op.n_out, last - first, op.n_out),
        0.0,
        part,
    )


@inline
def _reduce_split_k(ctx, op, first_row, z):
    """z, for the rows of this thread, from the partial sums of all threads."""
    n = len(z) * op.n_out
    for rank in range(ctx.n_threads):
        part = segment(ctx.split_k_partials, (rank * ctx.capacity + first_row) * op.n_out, n)
        if rank == 0:
            elementwise.copy(part, z.reshape(-1))
        else:
            elementwise.add_to(part, z.reshape(-1))


@inline
def _prefetch_next(ctx, data, samples):
    """Prefetch what this thread gathers of the next mini-batch: samples are seldom in cache.

    The first lines of a row are enough: the hardware prefetcher continues along a longer one, and
    more requests than the core can hold would stall it.
    """
    X = data.X
    first, last = partition(len(samples), ctx.rank, ctx.n_threads)
    for i in samples[first:last]:
        if len(data.labels) > 0:
            prefetch(data.labels, i, 0)
        else:
            prefetch(data.targets, i, 0)
    first_line, lines = 0, min(8, X.shape[1] * X.itemsize // CACHE_LINE + 1)
    if len(ctx.split_k_partials) > 0:
        first_feature = partition(X.shape[1], ctx.rank, ctx.n_threads)[0]
        first_line = first_feature * X.itemsize // CACHE_LINE
        lines = max(1, lines // ctx.n_threads)
        first, last = 0, len(samples)
    for i in samples[first:last]:
        for line in range(first_line, first_line + lines):
            prefetch(X, i, line)


@inline
def _weight_sum(weights, samples):
    """Σ w over the mini-batch."""
    total = float(len(samples))
    if len(weights) > 0:
        total = 0.0
        for i in samples:
            total += np.float64(weights[i])
    return total


# --- the operations -------------------------------------------------------------------------------


@inline
def forward(ctx, X, x_row, step, first_row, n_rows, batch, phase):
    """All operations over the rows of this thread; returns the next phase of the barrier.

    The input is in the workspace, or in X from row ``x_row`` ≥ 0 on.
    """
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        if op.code == oc.DENSE:
            w = matrix(ctx.theta, op.weight, op.member_in, op.member_out)
            z = _member_rows(ctx, ctx.work, op.y, op, op.member_out, first_row, n_rows)
            if splits_k(ctx, op):
                _reduce_split_k(ctx, op, first_row, z)
            elif op.x == oc.INPUT and x_row >= 0:
                gemm(False, False, op.factor, X[x_row : x_row + n_rows], w, 0.0, z)
            else:
                x = _member_rows(ctx, ctx.work, op.x, op, op.member_in, first_row, n_rows)
                gemm(False, False, op.factor, x, w, 0.0, z)
        elif op.code == oc.BATCH_NORM:
            phase = norm.batch_norm(ctx, op, first_row, n_rows, batch, phase)
        elif op.code == oc.LAYER_NORM:
            norm.layer_norm(ctx, op, first_row, n_rows)
        elif op.code == oc.SCALE:
            columns.scale_columns(ctx, op, first_row, n_rows)
        elif op.code == oc.EMBEDDING:
            embedding.embedding(ctx, op, first_row, n_rows)
        elif op.code == oc.PARAMETRIC:
            columns.parametric(ctx, op, first_row, n_rows)
        elif op.code == oc.PIECEWISE:
            piecewise.piecewise(ctx, op, first_row, n_rows)
        elif op.code == oc.PERIODIC:
            periodic.periodic(ctx, op, first_row, n_rows)
        elif op.code == oc.FEATURE_DENSE:
            feature_dense.feature_dense(ctx, op, first_row, n_rows)
        elif op.code == oc.MEMBER_SCALE:
            ensemble.member_scale(ctx, op, first_row, n_rows)
        elif op.code == oc.HEADS:
            ensemble.heads(ctx, op, first_row, n_rows)
        else:
            _elementwise_op(ctx, op, step, first_row, n_rows)
        elementwise.epilogue(ctx, op, step, first_row, n_rows)
    return phase


@inline
def _member_rows(ctx, workspace, column, op, width, first_row, n_rows):
    """Rows of a value, or of its gradient, with a row for each member."""
    return rows_of(ctx, workspace, column, width, first_row * op.members, n_rows * op.members)


@inline
def _elementwise_op(ctx, op, step, first_row, n_rows):
    """ADD, NOISE and ELEMENTWISE: z from x, element by element."""
    n, row = n_rows * op.n_out, first_row * op.n_out
    x = segment(ctx.work, op.x * ctx.capacity + row, n)
    z = segment(ctx.work, op.y * ctx.capacity + row, n)
    if op.code == oc.ADD:
        elementwise.sum_of(x, segment(ctx.work, op.skip * ctx.capacity + row, n), z)
    elif op.code == oc.NOISE and ctx.training:
        shape, stream = (n_rows, op.n_out), oc.STREAM_NOISE + op.stream
        philox.add_noise(
            z.reshape(shape), x.reshape(shape), op.std, first_row, ctx.seed, stream, step
        )
    else:
        elementwise.copy(x, z)


@inline
def backpropagate(ctx, first_row, n_rows, batch, phase):
    """From ∂C/∂(raw output) to ∂C/∂z of every operation, over the rows of this thread.

    Returns the next phase of the barrier.
    """
    for i in range(len(ctx.ops) - 1, -1, -1):
        op = ctx.ops[i]
        if op.weight < 0 and op.x_grad == oc.GRAD_NONE and op.skip_grad == oc.GRAD_NONE:
            continue
        elementwise.epilogue_backward(ctx, op, first_row, n_rows)
        if op.code == oc.BATCH_NORM:
            phase = norm.batch_norm_backward(ctx, op, first_row, n_rows, batch, phase)
        elif op.code == oc.PERIODIC:
            periodic.periodic_backward(ctx, op, first_row, n_rows)
        elif op.code == oc.MEMBER_SCALE:
            ensemble.member_scale_backward(ctx, op, first_row, n_rows)
        elif op.x_grad == oc.GRAD_NONE and op.skip_grad == oc.GRAD_NONE:
            continue
        elif op.code == oc.DENSE:
            d_z = _member_rows(ctx, ctx.d_work, op.y, op, op.member_out, first_row, n_rows)
            d_x = _member_rows(ctx, ctx.d_work, op.x, op, op.member_in, first_row, n_rows)
            w = matrix(ctx.theta, op.weight, op.member_in, op.member_out)
            beta = 1.0 if op.x_grad == oc.GRAD_ADD else 0.0
            gemm(False, True, op.factor, d_z, w, beta, d_x)
        elif op.code == oc.LAYER_NORM:
            norm.layer_norm_backward(ctx, op, first_row, n_rows)
        elif op.code == oc.SCALE:
            columns.scale_columns_backward(ctx, op, first_row, n_rows)
        elif op.code == oc.PARAMETRIC:
            columns.parametric_backward(ctx, op, first_row, n_rows)
        elif op.code == oc.PIECEWISE:
            piecewise.piecewise_backward(ctx, op, first_row, n_rows)
        elif op.code == oc.FEATURE_DENSE:
            feature_dense.feature_dense_backward(ctx, op, first_row, n_rows)
        elif op.code == oc.HEADS:
            ensemble.heads_backward(ctx, op, first_row, n_rows)
        else:
            _elementwise_op_backward(ctx, op, first_row, n_rows)
    return phase


@inline
def _elementwise_op_backward(ctx, op, first_row, n_rows):
    n, row = n_rows * op.n_out, first_row * op.n_out
    d_z = segment(ctx.d_work, op.y * ctx.capacity + row, n)
    if op.code == oc.ADD:
        d_skip = segment(ctx.d_work, op.skip * ctx.capacity + row, n)
        elementwise.pass_gradient(op.skip_grad, d_z, d_skip)
    d_x = segment(ctx.d_work, op.x * ctx.capacity + row, n)
    elementwise.pass_gradient(op.x_grad, d_z, d_x)
