"""The graph path: one step as a sequence of launches, for wide networks.

Each stage is a kernel, and a captured graph launches them all. Blocks divide a stage among
themselves. The current step is ``control[K]`` up to the loss. `log_step` then increments K, so that
the stages after it work on step K − 1, and the next replay of the graph continues from there. In
inference the same stages work on rows of X.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import (
    control,
    elementwise,
    gemm_large,
    gemm_small,
    gradients,
    loss,
    norm,
    operations,
    statistics,
)
from fastnn._kernels.numba_cuda.kernels.blocks import WARP, block_range, sum_over_warps
from fastnn._kernels.numba_cuda.kernels.persistent import is_finite, write_log
from fastnn._kernels.numba_cuda.kernels.records import operation, optimizer_at
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def _n_rows(ctx):
    """Rows of the workspace that a stage works on.

    In training these are all rows: those beyond the end of a short mini-batch are 0.
    """
    if ctx.control[control.BACKWARD] != 0:
        return ctx.control[control.CAPACITY]
    return ctx.control[control.ROWS]


@device
def _own_rows(ctx):
    """First row and number of rows of this block."""
    first, last = block_range(_n_rows(ctx), cuda.blockIdx.x, cuda.gridDim.x)
    return first, last - first


@device
def _batch(ctx, k):
    """Samples of step k, or rows to predict."""
    if ctx.control[control.BACKWARD] == 0:
        return ctx.control[control.ROWS]
    return ctx.bounds[k + 1] - ctx.bounds[k]


@device
def _step(ctx, k):
    """Number of the chunk's step k, the counter of masks and noise."""
    return ctx.control[control.STEP] + k


# --- forward pass ---------------------------------------------------------------------------------


@device
def load(ctx, index):
    """The mini-batch, or the rows of X to predict, into the workspace."""
    k, (first, n), n_in = ctx.control[control.K], _own_rows(ctx), ctx.ops[0].n_in
    if ctx.control[control.BACKWARD] != 0:
        elementwise.gather(ctx, ctx.bounds[k], first, n, _batch(ctx, k), n_in)
    else:
        elementwise.copy_rows(ctx, ctx.control[control.FIRST] + first, first, n, n_in)


@device
def gemm_forward(ctx, index):
    """A dense operation, by small tiles."""
    op, step = operation(ctx, index), _step(ctx, ctx.control[control.K])
    gemm_small.forward(ctx, op, 0, _n_rows(ctx), step, cuda.blockIdx.x, cuda.gridDim.x)


@device
def gemm_forward_large(ctx, index):
    """A dense operation, by large tiles."""
    op, step = operation(ctx, index), _step(ctx, ctx.control[control.K])
    gemm_large.forward(ctx, op, _n_rows(ctx), step, cuda.blockIdx.x, cuda.gridDim.x)


@device
def batch_statistics(ctx, index):
    """BatchNorm's statistics."""
    op, batch = operation(ctx, index), _batch(ctx, ctx.control[control.K])
    norm.batch_statistics(ctx, op, batch, cuda.blockIdx.x, cuda.gridDim.x)


@device
def operation_forward(ctx, index):
    """An operation that is no product, or the epilogue of cuBLASLt's product."""
    first, n = _own_rows(ctx)
    step = _step(ctx, ctx.control[control.K])
    operations.forward(ctx, operation(ctx, index), first, n, step)


@device
def write_predictions(ctx, index):
    """Outputs of the rows of X."""
    first, n = _own_rows(ctx)
    loss.write_predictions(ctx, ctx.control[control.FIRST] + first, first, n)


# --- loss -----------------------------------------------------------------------------------------


@device
def losses(ctx, index):
    """Each block's part of the loss sums of an evaluation."""
    first, n = _own_rows(ctx)
    loss.add_losses(ctx, ctx.control[control.FIRST] + first, first, n, cuda.blockIdx.x)


@device
def loss_and_gradient(ctx, index):
    """∂C/∂(raw output), and each block's part of the loss."""
    k, (first, n) = ctx.control[control.K], _own_rows(ctx)
    batch, start = _batch(ctx, k), ctx.bounds[k]
    weight_sum = loss.sum_of_weights(ctx, start, batch)
    loss.loss_and_gradient(ctx, start, first, n, batch, weight_sum, cuda.blockIdx.x)


@device
def log_step(ctx, index):
    """The step's loss, by one block, from the sums of ``index`` blocks; then K is incremented."""
    k = ctx.control[control.K]
    value, correct_weight = loss.total_loss(ctx, index)
    weight_sum = loss.sum_of_weights(ctx, ctx.bounds[k], _batch(ctx, k))
    cuda.syncthreads()  # all threads have read K
    if cuda.threadIdx.x == 0:
        write_log(ctx, k, value, weight_sum, correct_weight)
        if is_finite(value) and gradients.is_recorded(ctx, k):
            ctx.control[control.RECORD] += 1


# --- backward pass --------------------------------------------------------------------------------


@device
def epilogue_backward(ctx, index):
    """∂C/∂z from ∂C/∂y."""
    first, n = _own_rows(ctx)
    elementwise.epilogue_backward(ctx, operation(ctx, index), first, n)


@device
def gemm_input(ctx, index):
    """∂C/∂x of a dense operation, by small tiles."""
    op = operation(ctx, index)
    gemm_small.input_gradient(ctx, op, 0, _n_rows(ctx), cuda.blockIdx.x, cuda.gridDim.x)


@device
def gemm_input_large(ctx, index):
    """∂C/∂x of a dense operation, by large tiles."""
    op = operation(ctx, index)
    gemm_large.input_gradient(ctx, op, _n_rows(ctx), cuda.blockIdx.x, cuda.gridDim.x)


@device
def input_epilogue(ctx, index):
    """The derivative of the operation before, where cuBLASLt computed ∂C/∂x."""
    first, n = _own_rows(ctx)
    elementwise.input_epilogue(ctx, operation(ctx, index), first, n)


@device
def batch_sums(ctx, index):
    """BatchNorm's sums over δ."""
    op, batch = operation(ctx, index), _batch(ctx, ctx.control[control.K] - 1)
    norm.batch_sums(ctx, op, batch, cuda.blockIdx.x, cuda.gridDim.x)


@device
def operation_backward(ctx, index):
    """∂C/∂x of an operation that is not a product."""
    first, n = _own_rows(ctx)
    batch = _batch(ctx, ctx.control[control.K] - 1)
    operations.backward(ctx, operation(ctx, index), first, n, batch)


# --- gradients of parameters, and updates ---------------------------------------------------------


@device
def record_statistics(ctx, index):
    """Statistics of values and δ, if the step is recorded."""
    k, worker, workers = ctx.control[control.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    batch, step = _batch(ctx, k), _step(ctx, k)
    if gradients.is_recorded(ctx, k):
        for i in range(len(ctx.ops)):
            own = statistics.own_row(ctx, ctx.control[control.RECORD] - 1, i, worker, workers)
            statistics.values(ctx, operation(ctx, i), own, batch, step, worker, workers)


@device
def operation_gradient(ctx, index):
    """The gradient of one operation's parameters, or at once their update."""
    k, worker, workers = ctx.control[control.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    op, fused = operation(ctx, index), gradients.is_fused(ctx, k)
    gradients.operation_gradient(ctx, op, _batch(ctx, k), k, fused, worker, workers)


@device
def all_gradients(ctx, index):
    """The same of all operations."""
    k, worker, workers = ctx.control[control.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    gradients.all_gradients(ctx, _batch(ctx, k), k, gradients.is_fused(ctx, k), worker, workers)


@device
def gemm_weight_large(ctx, index):
    """The same of one dense operation, by large tiles."""
    k, worker, workers = ctx.control[control.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    op, fused, optimizer = operation(ctx, index), gradients.is_fused(ctx, k), optimizer_at(ctx, k)
    gemm_large.weight_gradient(ctx, op, _batch(ctx, k), optimizer, fused, worker, workers)


@device
def weight_epilogue(ctx, index):
    """The epilogue of a gradient that cuBLASLt computed, and the bias's gradient.

    Penalties are added, and the parameters are updated if that can be fused.
    """
    op, k, worker, workers = (
        operation(ctx, index),
        ctx.control[control.K] - 1,
        cuda.blockIdx.x,
        cuda.gridDim.x,
    )
    fused, optimizer = gradients.is_fused(ctx, k), optimizer_at(ctx, k)
    result = gemm_small.Result(gemm_small.WEIGHT, op, 0, 0, fused, optimizer)
    lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
    first, last = block_range(op.member_in * op.member_out, worker, workers)
    for e in range(first + cuda.threadIdx.x, last, cuda.blockDim.x):
        g = ctx.gradient[op.weight + e]
        gemm_small.weight_epilogue(ctx, result, e // op.member_out, e % op.member_out, g)
    if op.bias >= 0:
        units = op.member_out
        for column in range(worker * WARP, units, workers * WARP):
            c, total = min(column + lane, units - 1), ctx.work.dtype.type(0)
            for r in range(warp, _batch(ctx, k) * op.members, cuda.blockDim.x // WARP):
                total += ctx.d_work[op.y + r * units + c]
            total = sum_over_warps(ctx.reals, total)
            if warp == 0 and column + lane < units:
                gemm_small.weight_epilogue(ctx, result, op.member_in, c, total)


@device
def gradient_norm(ctx, index):
    """Each block's part of the gradient's squared norm."""
    gradients.sum_of_squares(ctx, cuda.blockIdx.x, cuda.gridDim.x)


@device
def apply_updates(ctx, index):
    """Update with stored gradients, where they are stored."""
    k, worker, workers = ctx.control[control.K] - 1, cuda.blockIdx.x, cuda.gridDim.x
    recorded, updates = gradients.is_recorded(ctx, k), ctx.optimizer[0].code != oc.NO_UPDATE
    if not gradients.is_fused(ctx, k) and (recorded or updates):
        factor = gradients.clipping_factor(ctx, workers)
        for i in range(len(ctx.ops)):
            own = statistics.own_row(ctx, ctx.control[control.RECORD] - 1, i, worker, workers)
            stored = gradients.StoredUpdate(k, factor, recorded, own)
            gradients.apply_update(ctx, operation(ctx, i), stored, worker, workers)


@device
def constrain(ctx, index):
    """Max-norm constraint of one operation."""
    gradients.constrain(ctx, operation(ctx, index), cuda.blockIdx.x, cuda.gridDim.x)
