"""The persistent path: one kernel takes all steps of a chunk.

It is made for narrow networks, whose steps are shorter than a launch. Each block takes its rows of
the mini-batch forward and backward through all operations without waiting for another block. Then
the blocks synchronise, divide the gradients and updates of all parameters among themselves, and
synchronise again: two grid barriers a step, and four more for each BatchNorm. A grid of one block
needs no grid barrier; it keeps θ and all activations in shared memory. Larger grids keep a copy of
θ there, if it fits, and pass activations to each other through the second-level cache.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import (
    control,
    elementwise,
    gemm_small,
    gradients,
    loss,
    norm,
    operations,
    statistics,
)
from fastnn._kernels.numba_cuda.kernels.blocks import block_range, grid_sync
from fastnn._kernels.numba_cuda.kernels.generated import replacing
from fastnn._kernels.numba_cuda.kernels.records import operation
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

_with_arrays = replacing("theta", "theta_out", "work", "d_work")


@device
def train(ctx, index):
    """All steps of the chunk, with in shared memory what ``control`` says."""
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    outside, n_syncs, record = ctx.theta, 0, 0
    in_shared = ctx.control[control.THETA_IN_SHARED] != 0
    # Not a function of its own: that takes more registers than there are.
    arena = cuda.shared.array(0, ctx.theta.dtype)
    theta, theta_out, work, d_work, used = ctx.theta, ctx.theta, ctx.work, ctx.d_work, 0
    if in_shared:
        used = len(outside)
        theta = arena[:used]
        _copy(outside, theta)
        if workers == 1:
            theta_out = theta
    if ctx.control[control.WORK_IN_SHARED] != 0:
        work = arena[used : used + len(ctx.work)]
        d_work = arena[used + len(ctx.work) : used + 2 * len(ctx.work)]
    cuda.syncthreads()
    ctx = _with_arrays(ctx, theta, theta_out, work, d_work)
    for k in range(ctx.control[control.STEPS]):
        start, batch = ctx.bounds[k], ctx.bounds[k + 1] - ctx.bounds[k]
        first, last = block_range(batch, worker, workers)
        n_syncs = _forward(ctx, k, start, (first, last - first), batch, n_syncs)
        weight_sum = loss.sum_of_weights(ctx, start, batch)
        loss.loss_and_gradient(ctx, start, first, last - first, batch, weight_sum, worker)
        cuda.syncthreads()
        n_syncs = _backward(ctx, first, last - first, batch, n_syncs)
        n_syncs = grid_sync(ctx.control, n_syncs)

        value, correct_weight = loss.total_loss(ctx, workers)
        if worker == 0 and cuda.threadIdx.x == 0:
            write_log(ctx, k, value, weight_sum, correct_weight)
        if not is_finite(value):
            break
        n_syncs = _update(ctx, k, record, batch, n_syncs)
        if gradients.is_recorded(ctx, k):
            record += 1
        if in_shared and workers > 1:
            _copy(outside, theta)
            cuda.syncthreads()
    if in_shared and workers == 1:
        cuda.syncthreads()
        _copy(theta, outside)


@device
def _copy(source, target):
    for i in range(cuda.threadIdx.x, len(source), cuda.blockDim.x):
        target[i] = source[i]


@device
def _forward(ctx, k, start, rows, batch, n_syncs):
    """This block's rows of step k's mini-batch through all operations; return the barrier count.

    ``rows`` is the first row and the number of rows.
    """
    (first_row, n_rows), step = rows, ctx.control[control.STEP] + k
    elementwise.gather(ctx, start, first_row, n_rows, batch, ctx.ops[0].n_in)
    cuda.syncthreads()
    for i in range(len(ctx.ops)):
        op = operation(ctx, i)
        if op.code == oc.BATCH_NORM:
            n_syncs = grid_sync(ctx.control, n_syncs)
            norm.batch_statistics(ctx, op, batch, cuda.blockIdx.x, cuda.gridDim.x)
            n_syncs = grid_sync(ctx.control, n_syncs)
        if op.code == oc.DENSE:
            gemm_small.forward(ctx, op, first_row, n_rows, step, 0, 1)
        else:
            operations.forward(ctx, op, first_row, n_rows, step)
        cuda.syncthreads()
    return n_syncs


@device
def _backward(ctx, first_row, n_rows, batch, n_syncs):
    """∂C/∂z of all operations in this block's rows, from the last to the first.

    Returns the barrier count.
    """
    for i in range(len(ctx.ops) - 1, -1, -1):
        op = operation(ctx, i)
        if operations.needs_gradient(op):
            elementwise.epilogue_backward(ctx, op, first_row, n_rows)
            if op.code == oc.BATCH_NORM:
                n_syncs = grid_sync(ctx.control, n_syncs)
                norm.batch_sums(ctx, op, batch, cuda.blockIdx.x, cuda.gridDim.x)
                n_syncs = grid_sync(ctx.control, n_syncs)
            cuda.syncthreads()
            if op.code != oc.DENSE:
                operations.backward(ctx, op, first_row, n_rows, batch)
            elif op.x_grad != oc.GRAD_NONE:
                gemm_small.input_gradient(ctx, op, first_row, n_rows, 0, 1)
            cuda.syncthreads()
    return n_syncs


@device
def _update(ctx, k, record, batch, n_syncs):
    """Gradient and update of this block's part of every parameter; return the barrier count."""
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    recorded, fused = gradients.is_recorded(ctx, k), gradients.is_fused(ctx, k)
    updates, step = ctx.optimizer[0].code != oc.NO_UPDATE, ctx.control[control.STEP] + k
    constrained = False
    if recorded:
        for i in range(len(ctx.ops)):
            own = statistics.own_row(ctx, record, i, worker, workers)
            statistics.values(ctx, operation(ctx, i), own, batch, step, worker, workers)
    gradients.all_gradients(ctx, batch, k, fused, worker, workers)
    if not fused and (updates or recorded):
        n_syncs = grid_sync(ctx.control, n_syncs)
        if ctx.optimizer[0].clip_norm > 0:
            gradients.sum_of_squares(ctx, worker, workers)
            n_syncs = grid_sync(ctx.control, n_syncs)
        factor = gradients.clipping_factor(ctx, workers)
        for i in range(len(ctx.ops)):
            own = statistics.own_row(ctx, record, i, worker, workers)
            stored = gradients.StoredUpdate(k, factor, recorded, own)
            gradients.apply_update(ctx, operation(ctx, i), stored, worker, workers)
    for i in range(len(ctx.ops)):
        constrained |= ctx.ops[i].max_norm > 0
    if updates and constrained:
        n_syncs = grid_sync(ctx.control, n_syncs)
        for i in range(len(ctx.ops)):
            gradients.constrain(ctx, operation(ctx, i), worker, workers)
    return grid_sync(ctx.control, n_syncs)


@device
def is_finite(value):
    """Whether it is neither NaN nor infinite."""
    return value - value == 0


@device
def write_log(ctx, k, value, weight_sum, correct_weight):
    """Enter step k into the log, by one thread; a loss that is not finite is the last."""
    steps = ctx.control[control.STEPS]
    ctx.log[k], ctx.log[steps + k], ctx.log[2 * steps + k] = value, weight_sum, correct_weight
    ctx.control[control.K] = k + 1
    if not is_finite(value):
        ctx.control[control.STOPPED] = 1


@device
def predict(ctx, index):
    """Outputs of ROWS rows of X from FIRST on, through the link."""
    _predict(ctx, False)


@device
def evaluate(ctx, index):
    """The same, and each block's part of the loss sums."""
    _predict(ctx, True)


@device
def _predict(ctx, evaluates):
    """A block of rows at a time, in each block's part of the workspace."""
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    at_once, rows = ctx.control[control.CAPACITY] // workers, ctx.control[control.ROWS]
    own = worker * at_once
    for first in range(worker * at_once, rows, workers * at_once):
        n, x_row = min(at_once, rows - first), ctx.control[control.FIRST] + first
        elementwise.copy_rows(ctx, x_row, own, n, ctx.ops[0].n_in)
        cuda.syncthreads()
        for i in range(len(ctx.ops)):
            op = operation(ctx, i)
            if op.code == oc.DENSE:
                gemm_small.forward(ctx, op, own, n, 0, 0, 1)
            else:
                operations.forward(ctx, op, own, n, 0)
            cuda.syncthreads()
        loss.write_predictions(ctx, x_row, own, n)
        if evaluates:
            loss.add_losses(ctx, x_row, own, n, worker)
        cuda.syncthreads()
