"""One operation forward and back, over rows of the mini-batch: what the persistent kernel and the
kernels of the graph have in common.

Rows ``first_row … first_row + n_rows − 1`` belong to the calling block alone. Dense operations are
in `products`; BatchNorm's sums over the mini-batch are taken before, by `norm.batch_statistics` and
`norm.batch_sums`.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels import elementwise, norm
from fastnn._kernels.numba_cuda.toolchain.shim import device


@device
def forward(frame, op, first_row, n_rows, step):
    """z and its epilogue of operations that are not products, and of those whose product is there
    already.
    """
    if op.code == oc.BATCH_NORM:
        norm.batch_norm(frame, op, first_row, n_rows, step)
    elif op.code == oc.LAYER_NORM:
        norm.layer_norm(frame, op, first_row, n_rows, step)
    else:
        elementwise.finish_rows(frame, op, first_row, n_rows, step)


@device
def is_learnt(op):
    """Whether anything at or before the operation has to know its gradient."""
    return op.weight >= 0 or op.x_grad != oc.GRAD_NONE or op.skip_grad != oc.GRAD_NONE


@device
def backward(frame, op, first_row, n_rows, batch):
    """From ∂C/∂z to the gradient of the inputs of an operation that is not a product."""
    if op.code == oc.BATCH_NORM:
        if op.x_grad != oc.GRAD_NONE:
            norm.batch_norm_backward(frame, op, first_row, n_rows, batch)
    elif op.code == oc.LAYER_NORM:
        if op.x_grad != oc.GRAD_NONE:
            norm.layer_norm_backward(frame, op, first_row, n_rows)
    elif op.code != oc.DENSE:
        elementwise.pass_gradient(frame, op, first_row, n_rows)
