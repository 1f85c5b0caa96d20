"""PIECEWISE: y_f = x_f a_f + Σ_t v_t W_ft + b_f for each of the leading columns of x.

v_t is 1 for the bins below x_f and 0 for those above. A thread takes one number of z or of the
gradient, and adds in a fixed order.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cuda.kernels.blocks import advance, block_range, divide
from fastnn._kernels.numba_cuda.kernels.elementwise import epilogue
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device


@device
def _edges_of(ctx, op, f):
    """The number of bins of a feature, and the place of their first edge."""
    place = op.state + f * (op.bins + 2)
    count = ctx.buffers[place]
    n = op.bins if count >= op.bins else int(count) if count >= 1 else 0
    return n, place + 1


@device
def _bin_of(ctx, n, edges, x):
    """The bin of x and its share: the first also for what lies below, the last for what lies above.

    Buffers may hold anything: the bin is below the number of bins all the same.
    """
    if n == 0:
        return 0, ctx.work.dtype.type(0)
    low, high = 0, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        if ctx.buffers[edges + middle] <= x:
            low = middle
        else:
            high = middle - 1
    left = ctx.buffers[edges + low]
    return low, (x - left) / (ctx.buffers[edges + low + 1] - left)


@device
def forward(ctx, op, first_row, n_rows, step):
    """z = [y of each feature, the other columns of x], and the epilogue."""
    n, thread, threads = op.n_out, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride, encoded = divide(thread, n), divide(threads, n), op.features * op.size
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        x = op.x + r * op.n_in
        if c < encoded:
            f, column = divide(c, op.size)
            z = _encoded(ctx, op, f, column, ctx.work[x + f])
        else:
            z = ctx.work[x + op.features + c - encoded]
        epilogue(ctx, op, r, c, z, step)
        r, c = advance(r, c, stride, n)


@device
def _encoded(ctx, op, f, column, x):
    """Number ``column`` of y_f."""
    bins, edges = _edges_of(ctx, op, f)
    k, share = _bin_of(ctx, bins, edges, x)
    w = op.weight + f * (op.bins + 1) * op.size + column
    total = ctx.theta[op.bias + f * op.size + column]
    for t in range(k):
        total += ctx.theta[w + t * op.size]
    return total + share * ctx.theta[w + k * op.size] + x * ctx.theta[w + op.bins * op.size]


@device
def backward(ctx, op, first_row, n_rows):
    """∂C/∂x_f = (a_f + W_fk/(e_{k+1} − e_k)) · δ_f; the other columns hand their gradient on."""
    n, thread, threads = op.n_in, cuda.threadIdx.x, cuda.blockDim.x
    (r, c), stride = divide(thread, n), divide(threads, n)
    r += first_row
    for _ in range(thread, n_rows * n, threads):
        place = op.x + r * n + c
        if c < op.features:
            d = _number_gradient(ctx, op, r, c, ctx.work[place])
        else:
            passed = op.features * op.size - op.features + c
            d = ctx.d_work[op.y + r * op.n_out + passed]
        ctx.d_work[place] = ctx.d_work[place] + d if op.x_grad == oc.GRAD_ADD else d
        r, c = advance(r, c, stride, n)


@device
def _number_gradient(ctx, op, r, f, x):
    bins, edges = _edges_of(ctx, op, f)
    k, _ = _bin_of(ctx, bins, edges, x)
    w = op.weight + f * (op.bins + 1) * op.size
    d_z, direct = op.y + r * op.n_out + f * op.size, ctx.work.dtype.type(0)
    through = direct
    for column in range(op.size):
        d = ctx.d_work[d_z + column]
        direct += ctx.theta[w + op.bins * op.size + column] * d
        through += ctx.theta[w + k * op.size + column] * d
    if bins > 0:
        direct += through / (ctx.buffers[edges + k + 1] - ctx.buffers[edges + k])
    return direct


@device
def own_elements(op, worker, workers):
    """First and last + 1 of the elements of the maps that this block computes the gradient of."""
    return block_range(op.features * (op.bins + 1) * op.size, worker, workers)


@device
def map_gradient(ctx, op, batch, element):
    """∂C/∂W_ft = Σ v_t δ, or ∂C/∂a_f = Σ x δ, of one element of the maps."""
    f, within = divide(element, (op.bins + 1) * op.size)
    t, column = divide(within, op.size)
    bins, edges = _edges_of(ctx, op, f)
    total, one = ctx.work.dtype.type(0), ctx.work.dtype.type(1)
    for r in range(batch):
        x = ctx.work[op.x + r * op.n_in + f]
        v = x
        if t < op.bins:
            k, share = _bin_of(ctx, bins, edges, x)
            v = share if t == k else one if t < k else one - one
        total += v * ctx.d_work[op.y + r * op.n_out + f * op.size + column]
    return total


@device
def bias_gradient(ctx, op, batch, element):
    """∂C/∂b = Σ δ of one element of the bias."""
    total = ctx.work.dtype.type(0)
    for r in range(batch):
        total += ctx.d_work[op.y + r * op.n_out + element]
    return total
