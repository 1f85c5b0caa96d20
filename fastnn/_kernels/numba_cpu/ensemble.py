"""Members of an ensemble: what each has of its own, their losses and their mean.

A row of a value holds one row of each member, one after the other. Sums over rows that the
gradients of MEMBER_SCALE are made of are taken in the backward pass, while the rows are in cache:
each thread has its own, in its scratch.
"""

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu import elementwise, loss
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.gemm import gemm
from fastnn._kernels.numba_cpu.kernel_context import rows_of
from fastnn._kernels.numba_cpu.views import matrix, read_only, segment

_AT_ONCE = 1024  # columns whose sums stay in the first-level cache

# --- MEMBER_SCALE: z_m = scale_m ⊙ x_m + b_m ------------------------------------------------------


@inline
def _sums_of_thread(ctx, op, rank):
    """Σ δ ⊙ x, then Σ δ, of each column over the rows of a thread."""
    per_thread = len(ctx.scratch) // ctx.n_threads
    return segment(ctx.scratch, rank * per_thread + op.column_stats, 2 * op.n_out)


@kernel
def clear_member_sums(ctx):
    for i in range(len(ctx.ops)):
        op = ctx.ops[i]
        if op.code == oc.MEMBER_SCALE:
            sums = _sums_of_thread(ctx, op, ctx.rank)
            for c in range(len(sums)):
                sums[c] = 0


@kernel
def member_scale(ctx, op, first_row, n_rows):
    n = op.member_out
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    for m in range(op.members):
        scale = segment(ctx.theta, op.weight + m * n, n)
        bias = segment(ctx.theta, op.bias + m * n, n) if op.bias >= 0 else segment(ctx.zeros, 0, n)
        first = 0 if op.n_in == op.member_in else m * n
        for r in range(n_rows):
            source, target = x[r][first : first + n], z[r][m * n : (m + 1) * n]
            for c in range(n):
                target[c] = scale[c] * source[c] + bias[c]


@kernel
def member_scale_backward(ctx, op, first_row, n_rows):
    """∂C/∂x_m = scale_m ⊙ δ_m, summed over members where they share x; and the sums over rows."""
    n, is_shared = op.member_out, op.n_in == op.member_in
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    d_x = rows_of(ctx, ctx.d_work, op.x, op.n_in, first_row, n_rows)
    d_z = rows_of(ctx, ctx.d_work, op.y, op.n_out, first_row, n_rows)
    sums = _sums_of_thread(ctx, op, ctx.rank)
    for m in range(op.members):
        # The first member writes what the others add to.
        adds = op.x_grad == oc.GRAD_ADD or (is_shared and m > 0)
        for first in range(0, n, _AT_ONCE):
            width, column = min(_AT_ONCE, n - first), m * n + first
            place = first if is_shared else column
            scale = segment(ctx.theta, op.weight + column, width)
            of_scale, of_bias = sums[column:], sums[op.n_out + column :]
            for r in range(n_rows):
                source, d, target = x[r][place:], d_z[r][column:], d_x[r][place:]
                for c in range(width):
                    of_scale[c] += d[c] * source[c]
                    of_bias[c] += d[c]
                if op.x_grad != oc.GRAD_NONE and adds:
                    for c in range(width):
                        target[c] += scale[c] * d[c]
                elif op.x_grad != oc.GRAD_NONE:
                    for c in range(width):
                        target[c] = scale[c] * d[c]


@kernel
def member_sums(ctx, op, first, g):
    """g = the sums from number ``first`` on, over all threads."""
    for rank in range(ctx.n_threads):
        sums = segment(_sums_of_thread(ctx, op, rank), first, len(g))
        if rank == 0:
            elementwise.copy(sums, g)
        else:
            elementwise.add_to(sums, g)


# --- HEADS: z_m = x_m W_m + b_m; the epilogue adds b ----------------------------------------------


@inline
def _weight_of(ctx, vector, op, m):
    size = op.member_in * op.member_out
    return matrix(vector, op.weight + m * size, op.member_in, op.member_out)


@inline
def _of_member(values, m, width):
    return values[:, m * width : (m + 1) * width]


@kernel
def heads(ctx, op, first_row, n_rows):
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    for m in range(op.members):
        x_m, z_m = _of_member(x, m, op.member_in), _of_member(z, m, op.member_out)
        gemm(False, False, 1.0, x_m, _weight_of(ctx, ctx.theta, op, m), 0.0, z_m)


@kernel
def heads_backward(ctx, op, first_row, n_rows):
    """∂C/∂x_m = δ_m W_mᵀ."""
    d_x = rows_of(ctx, ctx.d_work, op.x, op.n_in, first_row, n_rows)
    d_z = rows_of(ctx, ctx.d_work, op.y, op.n_out, first_row, n_rows)
    beta = 1.0 if op.x_grad == oc.GRAD_ADD else 0.0
    for m in range(op.members):
        d_x_m, d_m = _of_member(d_x, m, op.member_in), _of_member(d_z, m, op.member_out)
        gemm(False, True, 1.0, d_m, _weight_of(ctx, ctx.theta, op, m), beta, d_x_m)


@kernel
def heads_gradient(ctx, op, first, last, batch):
    """The gradient of rows ``first`` to ``last`` of all members' W, one below the other."""
    n_in, units, row = op.member_in, op.member_out, first
    x = matrix(ctx.work, op.x * ctx.capacity, batch, op.n_in)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, op.n_out)
    while row < last:
        m = row // n_in
        n = min(last, (m + 1) * n_in) - row
        g = matrix(ctx.gradient, op.weight + row * units, n, units)
        # Row (m, i) of the weights multiplies column (m, i) of the input.
        gemm(True, False, 1.0, x[:, row : row + n], _of_member(d_z, m, units), 0.0, g)
        row += n


# --- losses and predictions -----------------------------------------------------------------------


@inline
def loss_of_rows(ctx, arguments, data, row, n_rows, samples, weight_sum):
    """`loss.loss_and_gradient` of rows of the workspace, whose ``samples`` are given."""
    n_out = ctx.ops[len(ctx.ops) - 1].n_out
    offset = arguments.output * ctx.capacity + row * n_out
    z, d_z = matrix(ctx.work, offset, n_rows, n_out), matrix(ctx.d_work, offset, n_rows, n_out)
    if ctx.loss[0].members > 1:
        return _loss_of_members(ctx, z, d_z, data, samples, weight_sum)
    return loss.loss_and_gradient(
        ctx.loss, z, d_z, samples, data.labels, data.targets, data.weights, weight_sum
    )


@inline
def _loss_of_members(ctx, z, d_z, data, samples, weight_sum):
    """The mean of the members' losses: to each the same sample weighs 1/members of its weight."""
    members, total, correct_weight = ctx.loss[0].members, 0.0, 0.0
    units = z.shape[1] // members
    same = np.empty(members, np.int64)
    for r in range(len(z)):
        same[:] = samples[r]
        of_members, d_members = z[r].reshape(members, units), d_z[r].reshape(members, units)
        value, _ = loss.loss_and_gradient(
            ctx.loss, of_members, d_members, read_only(same), data.labels, data.targets,
            data.weights, members * weight_sum,
        )  # fmt: skip
        total += value
        if loss.classifies(ctx.loss[0].code) and _answers_correctly(
            ctx, of_members, data, samples[r]
        ):
            weights = data.weights
            correct_weight += np.float64(weights[samples[r]]) if len(weights) > 0 else 1.0
    return total, correct_weight


@kernel
def _answers_correctly(ctx, z, data, sample):
    """Whether the mean of the members' predictions is right, from their raw outputs of a sample."""
    (members, units), record = z.shape, ctx.loss[0]
    per_thread = len(ctx.scratch) // ctx.n_threads
    p = matrix(ctx.scratch, ctx.rank * per_thread + record.linked, members, units)
    elementwise.copy(z.reshape(-1), p.reshape(-1))
    loss.apply_link(record.link, p)
    average_members(p.reshape(1, members * units), members)
    mean = p[0]
    if len(data.labels) > 0:
        return loss.largest(mean) == data.labels[sample]
    if units > 1:
        return loss.largest(mean) == loss.largest(data.targets[sample])
    return (mean[0] > 0.5) == (data.targets[sample, 0] > 0.5)


@kernel
def average_members(z, members):
    """The outputs of the first member of each row become the mean over members."""
    units = z.shape[1] // members
    for r in range(len(z)):
        row = z[r]
        for m in range(1, members):
            for c in range(units):
                row[c] += row[m * units + c]
        for c in range(units):
            row[c] /= z.dtype.type(members)
