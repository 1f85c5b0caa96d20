"""The kernel that Python calls: a chunk of mini-batches, to train on, to differentiate or to
predict. All threads run it side by side.

A step in thread ``rank``:

1. gather its rows of the mini-batch, carry them through all operations, take the loss and carry its
   gradient all the way back: no thread needs another's rows, but for BatchNorm's statistics;
2. meet: now every δ of the whole mini-batch is there, and nobody reads θ any more;
3. take the gradient of its share of every parameter array over the whole mini-batch, and update
   that share while it is in cache;
4. meet: θ is new.

Where threads share the first product by features (`cuts_features`) step 1 begins with that product
and a meeting for its sums. A thread reads only its own rows of the first weight before, so this
meeting also stands for number 4 of the step before.

Clipping by global norm and max-norm constraints add a meeting each. Plain SGD never stores a
weight's gradient: with α = −η and β = 1 − ηλ₂ the product that would make it updates the weight
itself.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise, norm, philox, update
from fastnn._kernels.numba_cpu import statistics as stats
from fastnn._kernels.numba_cpu.barrier import share, wait
from fastnn._kernels.numba_cpu.compile import inline
from fastnn._kernels.numba_cpu.frame import Frame, cuts_features
from fastnn._kernels.numba_cpu.gradients import learn
from fastnn._kernels.numba_cpu.loss import apply_link, loss_and_gradient
from fastnn._kernels.numba_cpu.vectors import CACHE_LINE, prefetch
from fastnn._kernels.numba_cpu.views import borrow, gemm, matrix, segment


def run(
    rank, n_threads, counter, ops, loss, rule, theta, gradient, slots, buffers, products, work, d_work, zeros, scratch, parts, notes,
    partial, capacity, output, training, backward, labels, targets, weights, order, bounds, rates, seed, step, optimizer_step,
    losses, weight_sums, hits, every, statistics, X, linked, predictions,
):  # fmt: skip
    """Run a chunk as thread ``rank``; return how many losses were written. `NumbaEngine` says what
    the arguments are.

    With ``backward`` false this predicts all of X: outputs go to ``predictions``, raw or
    ``linked``, and it returns 1 if one of its rows was not finite, else 0. With the rule NO_UPDATE
    the gradient, penalties included, is left in ``gradient``, and θ and running statistics stay as
    they are. Every ``every``-th step, if that is not 0, this thread's statistics go to
    ``statistics[record, rank]``.
    """
    frame = Frame(
        rank, n_threads, borrow(counter), borrow(ops), borrow(theta), borrow(gradient), borrow(slots), borrow(buffers), borrow(work),
        borrow(d_work), borrow(zeros), borrow(scratch), borrow(parts), borrow(notes), capacity, training, rule[0].code != oc.NO_UPDATE,
        backward, seed,
    )  # fmt: skip
    X, order, partial, statistics, product = (
        borrow(X),
        borrow(order),
        borrow(partial),
        borrow(statistics),
        products[0],
    )
    n_in, n_out, phase, cuts, record = X.shape[1], ops[len(ops) - 1].n_out, 1, len(parts) > 0, 0
    if not backward:
        return predict(frame, X, output, loss[0].link if linked else oc.IDENTITY, step, predictions)
    for k in range(len(rates)):
        start, batch = bounds[k], bounds[k + 1] - bounds[k]
        first, last = share(batch, rank, n_threads)
        samples = order[start + first : start + last]
        if cuts:
            _own_part(frame, X, order[start : start + batch])
            phase = wait(frame.counter, phase, n_threads)
        else:
            elementwise.gather(X, samples, 0, matrix(frame.work, first * n_in, last - first, n_in))
        if k + 1 < len(rates):
            _prefetch_next(frame, X, labels, targets, order[bounds[k + 1] : bounds[k + 2]])
        phase = forward(frame, X, -1, step + k, first, last - first, batch, phase)
        recorded = every > 0 and (step + k) % every == 0
        measured = statistics[record, rank][: len(ops) if recorded else 0]
        stats.values(frame, measured, first, last - first)
        z = matrix(frame.work, output * capacity + first * n_out, last - first, n_out)
        d_z = matrix(frame.d_work, output * capacity + first * n_out, last - first, n_out)
        weight_sum = _weight_sum(weights, order[start : start + batch])
        value, hit = loss_and_gradient(
            loss[0], z, d_z, samples, labels, targets, weights, weight_sum
        )
        partial[rank, 0], partial[rank, 1] = value, hit
        phase = backpropagate(frame, first, last - first, batch, phase)
        phase = wait(frame.counter, phase, n_threads)

        value, hit = partial[:, 0].sum(), partial[:, 1].sum()
        if rank == 0:
            losses[k], weight_sums[k], hits[k] = value, weight_sum, hit
        if not np.isfinite(value):
            return k + 1
        t = optimizer_step + k + 1
        product *= update.momentum_factor(rule[0], t)
        phase = learn(
            frame,
            rule[0],
            update.rates(rule[0], rates[k], t, product),
            batch,
            partial,
            measured,
            phase,
        )
        if recorded:
            record = min(record + 1, len(statistics) - 1)
        if not cuts:  # else the next step's first meeting is this one
            phase = wait(frame.counter, phase, n_threads)
        if rank == 0:
            products[0] = product
    return len(rates)


@inline
def predict(frame, X, output, link, step, predictions):
    """Outputs of this thread's share of the rows of X, a block at a time. A row that is not finite
    gives NaN, and 1 as the result.

    Where only Dense operations read X they read it where it lies. ``step`` and the phase of the
    barrier mean nothing here; they are variables because a call with constants would be compiled
    once more.
    """
    in_place, block, phase = True, frame.capacity // frame.n_threads, step
    for i in range(len(frame.ops)):
        op = frame.ops[i]
        in_place &= (op.x != oc.INPUT or op.code == oc.DENSE) and (
            op.code != oc.ADD or op.skip != oc.INPUT
        )
    first, last = share(len(X), frame.rank, frame.n_threads)
    n_in, n_out, row, poison = (
        X.shape[1],
        predictions.shape[1],
        frame.rank * block,
        predictions.dtype.type(0),
    )
    for start in range(first, last, block):
        n = min(block, last - start)
        if not in_place:
            elementwise.copy_rows(X, start, matrix(frame.work, row * n_in, n, n_in))
        forward(frame, X, start if in_place else -1, step, row, n, n, phase)
        z = matrix(frame.work, output * frame.capacity + row * n_out, n, n_out)
        apply_link(link, z)
        for r in range(n):
            poison += elementwise.copy_or_poison(z[r], X[start + r], predictions[start + r])
    return 1 if np.isnan(poison) else 0


@inline
def _own_part(frame, X, samples):
    """What this thread's features of X add to the first operation's z, for the whole mini-batch."""
    op = frame.ops[0]
    first, last = share(op.n_in, frame.rank, frame.n_threads)
    x = matrix(frame.work, frame.capacity * first, len(samples), last - first)
    elementwise.gather(X, samples, first, x)
    part = matrix(frame.parts, frame.rank * frame.capacity * op.n_out, len(samples), op.n_out)
    gemm(
        False,
        False,
        1.0,
        x,
        matrix(frame.theta, op.weight + first * op.n_out, last - first, op.n_out),
        0.0,
        part,
    )


@inline
def _sum_parts(frame, op, first_row, z):
    """z, for the rows of this thread, from all threads' parts."""
    n = len(z) * op.n_out
    for rank in range(frame.n_threads):
        part = segment(frame.parts, (rank * frame.capacity + first_row) * op.n_out, n)
        if rank == 0:
            elementwise.copy(part, z.reshape(-1))
        else:
            elementwise.add_to(part, z.reshape(-1))


@inline
def _prefetch_next(frame, X, labels, targets, samples):
    """Samples in a random order are seldom in cache: what this thread gathers of the next
    mini-batch comes while it works on this one.

    The first lines of a row are enough; the processor sees where a longer one is going, and more
    requests than it can hold would stall it.
    """
    first, last = share(len(samples), frame.rank, frame.n_threads)
    for i in samples[first:last]:
        if len(labels) > 0:
            prefetch(labels, i, 0)
        else:
            prefetch(targets, i, 0)
    first_line, lines = 0, min(8, X.shape[1] * X.itemsize // CACHE_LINE + 1)
    if len(frame.parts) > 0:
        first_line, lines = (
            share(X.shape[1], frame.rank, frame.n_threads)[0] * X.itemsize // CACHE_LINE,
            max(1, lines // frame.n_threads),
        )
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
def forward(frame, X, x_row, step, first_row, n_rows, batch, phase):
    """All operations over the rows of this thread; returns the next phase of the barrier.

    The input is in the workspace, or in X from row ``x_row`` ≥ 0 on.
    """
    for i in range(len(frame.ops)):
        op = frame.ops[i]
        if op.code == oc.DENSE:
            w = matrix(frame.theta, op.weight, op.n_in, op.n_out)
            z = matrix(frame.work, op.y * frame.capacity + first_row * op.n_out, n_rows, op.n_out)
            if cuts_features(frame, op):
                _sum_parts(frame, op, first_row, z)
            elif op.x == oc.INPUT and x_row >= 0:
                gemm(False, False, 1.0, X[x_row : x_row + n_rows], w, 0.0, z)
            else:
                gemm(
                    False,
                    False,
                    1.0,
                    matrix(
                        frame.work, op.x * frame.capacity + first_row * op.n_in, n_rows, op.n_in
                    ),
                    w,
                    0.0,
                    z,
                )
        elif op.code == oc.BATCH_NORM:
            phase = norm.batch_norm(frame, op, first_row, n_rows, batch, phase)
        elif op.code == oc.LAYER_NORM:
            norm.layer_norm(frame, op, first_row, n_rows)
        else:
            _shape_keeping(frame, op, step, first_row, n_rows)
        elementwise.epilogue(frame, op, step, first_row, n_rows)
    return phase


@inline
def _shape_keeping(frame, op, step, first_row, n_rows):
    """ADD, NOISE and ELEMENTWISE: z from x, element by element."""
    n = n_rows * op.n_out
    x = segment(frame.work, op.x * frame.capacity + first_row * op.n_out, n)
    z = segment(frame.work, op.y * frame.capacity + first_row * op.n_out, n)
    if op.code == oc.ADD:
        elementwise.sum_of(
            x, segment(frame.work, op.skip * frame.capacity + first_row * op.n_out, n), z
        )
    elif op.code == oc.NOISE and frame.training:
        shape = (n_rows, op.n_out)
        philox.add_noise(
            z.reshape(shape),
            x.reshape(shape),
            op.std,
            first_row,
            frame.seed,
            oc.STREAM_NOISE + op.stream,
            step,
        )
    else:
        elementwise.copy(x, z)


@inline
def backpropagate(frame, first_row, n_rows, batch, phase):
    """From ∂C/∂(raw output) to ∂C/∂z of every operation, over the rows of this thread; returns the
    next phase of the barrier.
    """
    for i in range(len(frame.ops) - 1, -1, -1):
        op = frame.ops[i]
        if op.weight < 0 and op.x_grad == oc.GRAD_NONE and op.skip_grad == oc.GRAD_NONE:
            continue
        elementwise.epilogue_backward(frame, op, first_row, n_rows)
        if op.code == oc.BATCH_NORM:
            phase = norm.batch_norm_backward(frame, op, first_row, n_rows, batch, phase)
        elif op.x_grad == oc.GRAD_NONE and op.skip_grad == oc.GRAD_NONE:
            continue
        elif op.code == oc.DENSE:
            d_z = matrix(
                frame.d_work, op.y * frame.capacity + first_row * op.n_out, n_rows, op.n_out
            )
            d_x = matrix(frame.d_work, op.x * frame.capacity + first_row * op.n_in, n_rows, op.n_in)
            beta = 1.0 if op.x_grad == oc.GRAD_ADD else 0.0
            gemm(
                False, True, 1.0, d_z, matrix(frame.theta, op.weight, op.n_in, op.n_out), beta, d_x
            )
        elif op.code == oc.LAYER_NORM:
            norm.layer_norm_backward(frame, op, first_row, n_rows)
        else:
            n = n_rows * op.n_out
            d_z = segment(frame.d_work, op.y * frame.capacity + first_row * op.n_out, n)
            if op.code == oc.ADD:
                d_skip = segment(frame.d_work, op.skip * frame.capacity + first_row * op.n_out, n)
                elementwise.pass_gradient(op.skip_grad, d_z, d_skip)
            elementwise.pass_gradient(
                op.x_grad,
                d_z,
                segment(frame.d_work, op.x * frame.capacity + first_row * op.n_out, n),
            )
    return phase
