"""A stretch of training in one kernel: blocks that stay where they are and take step after step.

Made for narrow networks, whose steps are too short to be launched one by one. Each block carries
its rows of the mini-batch through all operations and back without waiting for another; then the
blocks meet, share the gradient and update of every parameter, and meet again. Two meetings a step,
four more for each BatchNorm. One block alone does not even meet, and keeps θ and all activations on
chip; several keep a copy of θ there, if it fits, and hand activations over through the second-level
cache.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import (
    elementwise,
    gemm_small,
    gradients,
    loss,
    norm,
    operations,
)
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels import statistics as stats
from fastnn._kernels.numba_cuda.kernels.blocks import meet, share
from fastnn._kernels.numba_cuda.kernels.frame import Frame
from fastnn._kernels.numba_cuda.kernels.records import operation
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def train(frame, index):
    """All steps of the chunk, with θ and the workspaces in shared memory as far as ``control`` says
    that they fit.
    """
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    outside, met, record, on_chip = frame.theta, 0, 0, frame.control[fr.THETA_ON_CHIP] != 0
    arena = cuda.shared.array(0, frame.theta.dtype)
    theta, home, work, d_work, used = frame.theta, frame.theta, frame.work, frame.d_work, 0
    if on_chip:
        used = len(outside)
        theta = arena[:used]
        _copy(outside, theta)
        if workers == 1:
            home = theta
    if frame.control[fr.WORK_ON_CHIP] != 0:
        work = arena[used : used + len(frame.work)]
        d_work = arena[used + len(frame.work) : used + 2 * len(frame.work)]
    cuda.syncthreads()
    frame = Frame(
        frame.ops, frame.loss, frame.rule, theta, frame.gradient, frame.slots, frame.buffers, work, d_work, frame.scratch, frame.X,
        frame.labels, frame.targets, frame.weights, frame.order, frame.bounds, frame.rates, frame.control, frame.sums, frame.log,
        frame.statistics, frame.predictions, home, frame.tiles, frame.reals, frame.doubles, frame.places,
    )  # fmt: skip
    for k in range(frame.control[fr.STEPS]):
        start, batch = frame.bounds[k], frame.bounds[k + 1] - frame.bounds[k]
        first, last = share(batch, worker, workers)
        met = _there(frame, k, start, first, last - first, batch, met)
        all_weights = loss.weight_sum(frame, start, batch)
        loss.loss_and_gradient(frame, start, first, last - first, batch, all_weights, worker)
        cuda.syncthreads()
        met = _back(frame, first, last - first, batch, met)
        met = meet(frame.control, met)

        value, hits = loss.total_loss(frame, workers)
        if worker == 0 and cuda.threadIdx.x == 0:
            write_log(frame, k, value, all_weights, hits)
        if not is_finite(value):
            break
        met = _learn(frame, k, record, batch, met)
        if gradients.is_recorded(frame, k):
            record += 1
        if on_chip and workers > 1:
            _copy(outside, theta)
            cuda.syncthreads()
    if on_chip and workers == 1:
        cuda.syncthreads()
        _copy(theta, outside)


@device
def _copy(source, target):
    for i in range(cuda.threadIdx.x, len(source), cuda.blockDim.x):
        target[i] = source[i]


@device
def _there(frame, k, start, first_row, n_rows, batch, met):
    """This block's rows of step k's mini-batch through all operations; returns how often blocks
    have met.
    """
    step, worker, workers = frame.control[fr.STEP] + k, cuda.blockIdx.x, cuda.gridDim.x
    elementwise.gather(frame, start, first_row, n_rows, batch, frame.ops[0].n_in)
    cuda.syncthreads()
    for i in range(len(frame.ops)):
        op = operation(frame, i)
        if op.code == oc.BATCH_NORM:
            met = meet(frame.control, met)
            norm.batch_statistics(frame, op, batch, worker, workers)
            met = meet(frame.control, met)
        if op.code == oc.DENSE:
            gemm_small.forward(frame, op, first_row, n_rows, step, 0, 1)
        else:
            operations.forward(frame, op, first_row, n_rows, step)
        cuda.syncthreads()
    return met


@device
def _back(frame, first_row, n_rows, batch, met):
    """From ∂C/∂(raw output) to ∂C/∂z of every operation, over this block's rows; returns how often
    blocks have met.
    """
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    for i in range(len(frame.ops) - 1, -1, -1):
        op = operation(frame, i)
        if operations.is_learnt(op):
            elementwise.finish_backward(frame, op, first_row, n_rows)
            if op.code == oc.BATCH_NORM:
                met = meet(frame.control, met)
                norm.batch_sums(frame, op, batch, worker, workers)
                met = meet(frame.control, met)
            cuda.syncthreads()
            if op.code != oc.DENSE:
                operations.backward(frame, op, first_row, n_rows, batch)
            elif op.x_grad != oc.GRAD_NONE:
                gemm_small.input_gradient(frame, op, first_row, n_rows, 0, 1)
            cuda.syncthreads()
    return met


@device
def _learn(frame, k, record, batch, met):
    """Gradient and update of this block's share of every parameter; returns how often blocks have
    met.
    """
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    recorded, fused, updates = (
        gradients.is_recorded(frame, k),
        gradients.is_fused(frame, k),
        frame.rule[0].code != oc.NO_UPDATE,
    )
    step, constrained = frame.control[fr.STEP] + k, False
    if recorded:
        for i in range(len(frame.ops)):
            stats.values(
                frame,
                operation(frame, i),
                stats.own_row(frame, record, i, worker, workers),
                batch,
                step,
                worker,
                workers,
            )
    gradients.all_gradients(frame, batch, k, fused, worker, workers)
    if not fused and (updates or recorded):
        met = meet(frame.control, met)
        if frame.rule[0].clip_norm > 0:
            gradients.sum_of_squares(frame, worker, workers)
            met = meet(frame.control, met)
        factor = gradients.clipping_factor(frame, workers)
        for i in range(len(frame.ops)):
            own = stats.own_row(frame, record, i, worker, workers)
            gradients.apply(frame, operation(frame, i), own, recorded, k, factor, worker, workers)
    for i in range(len(frame.ops)):
        constrained |= frame.ops[i].max_norm > 0
    if updates and constrained:
        met = meet(frame.control, met)
        for i in range(len(frame.ops)):
            gradients.constrain(frame, operation(frame, i), worker, workers)
    return meet(frame.control, met)


@device
def is_finite(value):
    """Whether it is neither NaN nor infinite."""
    return value - value == 0


@device
def write_log(frame, k, value, all_weights, hits):
    """Enter step k into the log, by one thread; a loss that is not finite is the last."""
    steps = frame.control[fr.STEPS]
    frame.log[k], frame.log[steps + k], frame.log[2 * steps + k] = value, all_weights, hits
    frame.control[fr.K] = k + 1
    if not is_finite(value):
        frame.control[fr.STOPPED] = 1


@device
def predict(frame, index):
    """Outputs of rows FIRST to FIRST + ROWS of X, a block of rows at a time in each block's part of
    the workspace.
    """
    worker, workers = cuda.blockIdx.x, cuda.gridDim.x
    at_once, rows = frame.control[fr.CAPACITY] // workers, frame.control[fr.ROWS]
    own = worker * at_once
    for first in range(worker * at_once, rows, workers * at_once):
        n = min(at_once, rows - first)
        elementwise.copy_rows(frame, frame.control[fr.FIRST] + first, own, n, frame.ops[0].n_in)
        cuda.syncthreads()
        for i in range(len(frame.ops)):
            op = operation(frame, i)
            if op.code == oc.DENSE:
                gemm_small.forward(frame, op, own, n, 0, 0, 1)
            else:
                operations.forward(frame, op, own, n, 0)
            cuda.syncthreads()
        loss.write_predictions(frame, frame.control[fr.FIRST] + first, own, n)
        cuda.syncthreads()
