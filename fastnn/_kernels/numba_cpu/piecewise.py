"""PIECEWISE: y_f = x_f a_f + Σ_t v_t W_ft + b_f for each of the leading columns of x.

v_t is 1 for the bins below x_f and 0 for those above. So Σ_t v_t W_ft = P_k + v_k W_fk, with k the
bin of x_f and P_k = Σ_{t<k} W_ft + b_f: a number costs as much as a row of a table, however many
bins there are. The per-thread scratch holds P, (features, bins, size), in the forward pass.
"""

from fastnn._kernels import opcodes as oc
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.kernel_context import rows_of
from fastnn._kernels.numba_cpu.views import matrix, segment


@inline
def _edges_of(ctx, op, f):
    """The number of bins of a feature, and their edges."""
    place = op.state + f * (op.bins + 2)
    count = ctx.buffers[place]
    n = op.bins if count >= op.bins else int(count) if count >= 1 else 0
    return n, segment(ctx.buffers, place + 1, op.bins + 1)


@inline
def _bin_of(n, edges, x):
    """The bin of x and its share: the first also for what lies below, the last for what lies above.

    Buffers may hold anything: the bin is below the number of bins all the same.
    """
    if n == 0:
        return 0, edges.dtype.type(0)
    low, high = 0, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        if edges[middle] <= x:
            low = middle
        else:
            high = middle - 1
    return low, (x - edges[low]) / (edges[low + 1] - edges[low])


@inline
def _scratch(ctx, op):
    per_thread = len(ctx.scratch) // ctx.n_threads
    n = op.features * op.bins
    return matrix(ctx.scratch, ctx.rank * per_thread + op.column_stats, n, op.size)


@inline
def _map_of(ctx, vector, op, f):
    """W_f, with a_f as its last row, in a vector like θ."""
    rows = op.bins + 1
    return matrix(vector, op.weight + f * rows * op.size, rows, op.size)


@kernel
def piecewise(ctx, op, first_row, n_rows):
    """z = [y of each feature, the other columns of x]."""
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    z = rows_of(ctx, ctx.work, op.y, op.n_out, first_row, n_rows)
    sums, size = _scratch(ctx, op), op.size
    for f in range(op.features):
        w, bias = _map_of(ctx, ctx.theta, op, f), segment(ctx.theta, op.bias + f * size, size)
        first = f * op.bins
        for c in range(size):
            sums[first, c] = bias[c]
        for t in range(1, op.bins):
            for c in range(size):
                sums[first + t, c] = sums[first + t - 1, c] + w[t - 1, c]
    for f in range(op.features):
        w = _map_of(ctx, ctx.theta, op, f)
        n, edges = _edges_of(ctx, op, f)
        for r in range(n_rows):
            k, share = _bin_of(n, edges, x[r, f])
            for c in range(size):
                z[r, f * size + c] = (
                    sums[f * op.bins + k, c] + share * w[k, c] + x[r, f] * w[op.bins, c]
                )
    shift = op.features * size - op.features
    for r in range(n_rows):
        for c in range(op.features, op.n_in):
            z[r, c + shift] = x[r, c]


@kernel
def piecewise_backward(ctx, op, first_row, n_rows):
    """∂C/∂x_f = (a_f + W_fk/(e_{k+1} − e_k)) · δ_f; the other columns hand their gradient on."""
    x = rows_of(ctx, ctx.work, op.x, op.n_in, first_row, n_rows)
    d_z = rows_of(ctx, ctx.d_work, op.y, op.n_out, first_row, n_rows)
    d_x = rows_of(ctx, ctx.d_work, op.x, op.n_in, first_row, n_rows)
    size, adds, zero = op.size, op.x_grad == oc.GRAD_ADD, d_x.dtype.type(0)
    for f in range(op.features):
        w = _map_of(ctx, ctx.theta, op, f)
        n, edges = _edges_of(ctx, op, f)
        for r in range(n_rows):
            k, _ = _bin_of(n, edges, x[r, f])
            direct, through = zero, zero
            for c in range(size):
                direct += w[op.bins, c] * d_z[r, f * size + c]
                through += w[k, c] * d_z[r, f * size + c]
            if n > 0:
                direct += through / (edges[k + 1] - edges[k])
            d_x[r, f] = d_x[r, f] + direct if adds else direct
    shift = op.features * size - op.features
    for r in range(n_rows):
        for c in range(op.features, op.n_in):
            d = d_z[r, c + shift]
            d_x[r, c] = d_x[r, c] + d if adds else d


@kernel
def piecewise_gradient(ctx, op, first, last, batch):
    """The gradient of the maps of features ``first`` to ``last``.

    ∂C/∂W_t = Σ v_t δ = Σ_{rows of bin t} v_t δ + Σ_{rows of bins above} δ, and ∂C/∂a = Σ x δ.
    """
    x = matrix(ctx.work, op.x * ctx.capacity, batch, op.n_in)
    d_z = matrix(ctx.d_work, op.y * ctx.capacity, batch, op.n_out)
    above, size = _scratch(ctx, op), op.size  # above: Σ δ over the rows of each bin
    for f in range(first, last):
        g = _map_of(ctx, ctx.gradient, op, f)
        n, edges = _edges_of(ctx, op, f)
        g[:] = 0
        above[: op.bins] = 0
        for r in range(batch):
            k, share = _bin_of(n, edges, x[r, f])
            for c in range(size):
                d = d_z[r, f * size + c]
                g[k, c] += share * d
                g[op.bins, c] += x[r, f] * d
                above[k, c] += d
        for t in range(op.bins - 2, -1, -1):
            for c in range(size):
                g[t, c] += above[t + 1, c]
                above[t, c] += above[t + 1, c]
