"""One operation forward and backward over rows of the mini-batch, on both paths.

Rows ``first_row … first_row + n_rows − 1`` belong to the calling block alone. Matrix products are
in `gemm_small` and `gemm_large`. `norm.batch_statistics` and `norm.batch_sums` reduce over the
mini-batch beforehand.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import (
    columns,
    elementwise,
    embedding,
    ensemble,
    feature_dense,
    norm,
    periodic,
    piecewise,
)
from fastnn._kernels.numba_cuda.toolchain.shim import device


@device
def forward(ctx, op, first_row, n_rows, step):
    """z and its epilogue of an operation that is no product, or whose product is computed."""
    if op.code == oc.BATCH_NORM:
        norm.batch_norm(ctx, op, first_row, n_rows, step)
    elif op.code == oc.LAYER_NORM:
        norm.layer_norm(ctx, op, first_row, n_rows, step)
    elif op.code == oc.SCALE or op.code == oc.PARAMETRIC:
        columns.forward(ctx, op, first_row, n_rows, step)
    elif op.code == oc.EMBEDDING:
        embedding.forward(ctx, op, first_row, n_rows, step)
    elif op.code == oc.PIECEWISE:
        piecewise.forward(ctx, op, first_row, n_rows, step)
    elif op.code == oc.PERIODIC:
        periodic.forward(ctx, op, first_row, n_rows, step)
    elif op.code == oc.FEATURE_DENSE:
        feature_dense.forward(ctx, op, first_row, n_rows, step)
    elif op.code == oc.MEMBER_SCALE or op.code == oc.HEADS:
        ensemble.forward(ctx, op, first_row, n_rows, step)
    else:
        elementwise.epilogue_rows(ctx, op, first_row, n_rows, step)


@device
def needs_gradient(op):
    """Whether the operation, or one before it, has parameters."""
    return op.weight >= 0 or op.x_grad != oc.GRAD_NONE or op.skip_grad != oc.GRAD_NONE


@device
def backward(ctx, op, first_row, n_rows, batch):
    """From ∂C/∂z to the gradient of the inputs of an operation that is not a product."""
    if op.code == oc.BATCH_NORM:
        if op.x_grad != oc.GRAD_NONE:
            norm.batch_norm_backward(ctx, op, first_row, n_rows, batch)
    elif op.code == oc.LAYER_NORM:
        if op.x_grad != oc.GRAD_NONE:
            norm.layer_norm_backward(ctx, op, first_row, n_rows)
    elif op.code == oc.SCALE or op.code == oc.PARAMETRIC:
        if op.x_grad != oc.GRAD_NONE:
            columns.backward(ctx, op, first_row, n_rows)
    elif op.code == oc.PIECEWISE:
        if op.x_grad != oc.GRAD_NONE:
            piecewise.backward(ctx, op, first_row, n_rows)
    elif op.code == oc.PERIODIC:
        if op.x_grad != oc.GRAD_NONE:
            periodic.backward(ctx, op, first_row, n_rows)
    elif op.code == oc.FEATURE_DENSE:
        feature_dense.backward(ctx, op, first_row, n_rows)
    elif op.code == oc.MEMBER_SCALE or op.code == oc.HEADS:
        if op.x_grad != oc.GRAD_NONE:
            ensemble.backward(ctx, op, first_row, n_rows)
    elif op.code != oc.DENSE and op.code != oc.EMBEDDING:
        elementwise.elementwise_backward(ctx, op, first_row, n_rows)
