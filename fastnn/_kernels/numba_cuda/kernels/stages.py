"""One step as a row of launches, for wide networks: each stage is a kernel, and a captured graph
launches them all.

Blocks divide a stage among themselves. The step at hand is ``control[K]`` up to the loss;
`conclude` then counts it, so that stages after it are those of step K − 1, and the next replay of
the graph goes on from there. In inference the same stages work on rows of X.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import (
    elementwise,
    gemm_large,
    gemm_small,
    loss,
    norm,
    operations,
)
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels import gradients as _gradients
from fastnn._kernels.numba_cuda.kernels import statistics as stats
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, lane_sum, share
from fastnn._kernels.numba_cuda.kernels.persistent import is_finite, write_log
from fastnn._kernels.numba_cuda.kernels.records import operation, rule_at
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def _n_rows(frame):
    """Rows of the workspace that are used: in training all, as those beyond the end of a short
    mini-batch are 0.
    """
    return frame.control[fr.CAPACITY] if frame.control[fr.BACKWARD] != 0 else frame.control[fr.ROWS]


@device
def _own_rows(frame):
    """First row and number of rows of this block."""
    first, last = share(_n_rows(frame), cuda.blockIdx.x, cuda.gridDim.x)
    return first, last - first


@device
def _batch(frame, k):
    """Samples of step k, or rows to predict."""
    if frame.control[fr.BACKWARD] == 0:
        return frame.control[fr.ROWS]
    return frame.bounds[k + 1] - frame.bounds[k]


@device
def _step(frame, k):
    """Number of the chunk's step k, the counter of masks and noise."""
    return frame.control[fr.STEP] + k


# --- the way forward ------------------------------------------------------------------------------


@device
def load(frame, index):
    """The mini-batch, or the rows of X to predict, into the workspace."""
    k, (first, n) = frame.control[fr.K], _own_rows(frame)
    if frame.control[fr.BACKWARD] != 0:
        elementwise.gather(frame, frame.bounds[k], first, n, _batch(frame, k), frame.ops[0].n_in)
    else:
        elementwise.copy_rows(frame, frame.control[fr.FIRST] + first, first, n, frame.ops[0].n_in)


@device
def dense(frame, index):
    """A dense operation, by small tiles."""
    step = _step(frame, frame.control[fr.K])
    gemm_small.forward(
        frame, operation(frame, index), 0, _n_rows(frame), step, cuda.blockIdx.x, cuda.gridDim.x
    )


@device
def wide_dense(frame, index):
    """A dense operation, by large tiles."""
    gemm_large.forward(
        frame,
        operation(frame, index),
        _n_rows(frame),
        _step(frame, frame.control[fr.K]),
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )


@device
def statistics(frame, index):
    """BatchNorm's statistics."""
    norm.batch_statistics(
        frame,
        operation(frame, index),
        _batch(frame, frame.control[fr.K]),
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )


@device
def other(frame, index):
    """An operation that is not a product, or what a product of the library leaves to do."""
    first, n = _own_rows(frame)
    operations.forward(frame, operation(frame, index), first, n, _step(frame, frame.control[fr.K]))


@device
def predictions(frame, index):
    """Outputs of the rows of X."""
    first, n = _own_rows(frame)
    loss.write_predictions(frame, frame.control[fr.FIRST] + first, first, n)


# --- the loss -------------------------------------------------------------------------------------


@device
def loss_and_gradient(frame, index):
    """∂C/∂(raw output), and each block's part of the loss."""
    k, (first, n) = frame.control[fr.K], _own_rows(frame)
    batch, start = _batch(frame, k), frame.bounds[k]
    loss.loss_and_gradient(
        frame, start, first, n, batch, loss.weight_sum(frame, start, batch), cuda.blockIdx.x
    )


@device
def conclude(frame, index):
    """The step's loss, by one block, from the parts of ``index`` blocks; from here on the step is
    counted.
    """
    k = frame.control[fr.K]
    value, hits = loss.total_loss(frame, index)
    all_weights = loss.weight_sum(frame, frame.bounds[k], _batch(frame, k))
    cuda.syncthreads()  # all threads have read which step it is
    if cuda.threadIdx.x == 0:
        write_log(frame, k, value, all_weights, hits)
        if is_finite(value) and _gradients.is_recorded(frame, k):
            frame.control[fr.RECORD] += 1


# --- the way back ---------------------------------------------------------------------------------


@device
def finish_backward(frame, index):
    """∂C/∂z from ∂C/∂y."""
    first, n = _own_rows(frame)
    elementwise.finish_backward(frame, operation(frame, index), first, n)


@device
def dense_input(frame, index):
    """∂C/∂x of a dense operation, by small tiles."""
    gemm_small.input_gradient(
        frame, operation(frame, index), 0, _n_rows(frame), cuda.blockIdx.x, cuda.gridDim.x
    )


@device
def wide_input(frame, index):
    """∂C/∂x of a dense operation, by large tiles."""
    gemm_large.input_gradient(
        frame, operation(frame, index), _n_rows(frame), cuda.blockIdx.x, cuda.gridDim.x
    )


@device
def finish_input(frame, index):
    """The slope of the operation before, where ∂C/∂x came from the library."""
    first, n = _own_rows(frame)
    elementwise.finish_input(frame, operation(frame, index), first, n)


@device
def sums(frame, index):
    """BatchNorm's sums over δ."""
    norm.batch_sums(
        frame,
        operation(frame, index),
        _batch(frame, frame.control[fr.K] - 1),
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )


@device
def other_backward(frame, index):
    """∂C/∂x of an operation that is not a product."""
    first, n = _own_rows(frame)
    operations.backward(
        frame, operation(frame, index), first, n, _batch(frame, frame.control[fr.K] - 1)
    )


# --- what is learnt -------------------------------------------------------------------------------


@device
def measure_values(frame, index):
    """Statistics of values and δ, if the step is recorded."""
    k, worker, workers = frame.control[fr.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    if _gradients.is_recorded(frame, k):
        for i in range(len(frame.ops)):
            own = stats.own_row(frame, frame.control[fr.RECORD] - 1, i, worker, workers)
            stats.values(
                frame, operation(frame, i), own, _batch(frame, k), _step(frame, k), worker, workers
            )


@device
def gradient(frame, index):
    """The gradient of one operation's parameters, or at once their update."""
    k = frame.control[fr.K] - 1
    fused = _gradients.is_fused(frame, k)
    _gradients.gradients_of(
        frame, operation(frame, index), _batch(frame, k), k, fused, cuda.blockIdx.x, cuda.gridDim.x
    )


@device
def gradients(frame, index):
    """The same of all operations."""
    k = frame.control[fr.K] - 1
    _gradients.all_gradients(
        frame, _batch(frame, k), k, _gradients.is_fused(frame, k), cuda.blockIdx.x, cuda.gridDim.x
    )


@device
def wide_gradient(frame, index):
    """The same of one dense operation, by large tiles."""
    k = frame.control[fr.K] - 1
    fused = _gradients.is_fused(frame, k)
    rule = rule_at(frame, k)
    gemm_large.weight_gradient(
        frame,
        operation(frame, index),
        _batch(frame, k),
        rule,
        fused,
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )


@device
def finish_gradient(frame, index):
    """The rest of a gradient whose product came from the library: penalties, the bias's part, and
    the update if it can be made at once.
    """
    op, k, worker, workers = (
        operation(frame, index),
        frame.control[fr.K] - 1,
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )
    fused, rule = _gradients.is_fused(frame, k), rule_at(frame, k)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    first, last = share(op.n_in * op.n_out, worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        gemm_small.learn_weight(
            frame, op, fused, rule, e // op.n_out, e % op.n_out, frame.gradient[op.weight + e]
        )
    if op.bias >= 0:
        for column in range(worker * WARP, op.n_out, workers * WARP):
            c, total = min(column + lane, op.n_out - 1), frame.work.dtype.type(0)
            for r in range(warp, _batch(frame, k), cuda.blockDim.x // WARP):
                total += frame.d_work[op.y + r * op.n_out + c]
            total = lane_sum(frame.reals, total)
            if warp == 0 and column + lane < op.n_out:
                gemm_small.learn_weight(frame, op, fused, rule, op.n_in, c, total)


@device
def squares(frame, index):
    """Parts of the gradient's squared length."""
    _gradients.sum_of_squares(frame, cuda.blockIdx.x, cuda.gridDim.x)


@device
def apply(frame, index):
    """Update with stored gradients, where they are."""
    k, worker, workers = frame.control[fr.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    recorded = _gradients.is_recorded(frame, k)
    if not _gradients.is_fused(frame, k) and (recorded or frame.rule[0].code != oc.NO_UPDATE):
        factor = _gradients.clipping_factor(frame, workers)
        for i in range(len(frame.ops)):
            own = stats.own_row(frame, frame.control[fr.RECORD] - 1, i, worker, workers)
            _gradients.apply(frame, operation(frame, i), own, recorded, k, factor, worker, workers)


@device
def constrain(frame, index):
    """Max-norm constraint of one operation."""
    _gradients.constrain(frame, operation(frame, index), cuda.blockIdx.x, cuda.gridDim.x)
