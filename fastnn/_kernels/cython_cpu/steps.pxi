"""A chunk of mini-batches and what a step is made of.

`numba_cpu/steps.py` describes how threads share a step and where the barriers stand.
"""


cdef int64_t train(const KernelContext* ctx) noexcept nogil:
    """`run_chunk` with subnormals flushed to 0.

    Adam's m becomes subnormal wherever a gradient stays 0.
    """
    cdef uint64_t mode = enable_ftz_daz()
    cdef int64_t written = run_chunk(ctx)
    restore_fp_mode(mode)
    return written


cdef int64_t run_chunk(const KernelContext* ctx) noexcept nogil:
    """Take the steps of a chunk; returns how many losses were written."""
    cdef int64_t phase = 1, record = 0, k, t
    cdef double mu, mu_product = ctx.mu_product[0]
    cdef StepContext step
    cdef LossSums sums
    init_prefetch(ctx)
    for k in range(ctx.n_rates):
        step.batch = ctx.bounds[k + 1] - ctx.bounds[k]
        step.statistics = statistics_of(ctx, k, &record)
        phase = forward_and_backward(ctx, k, &step, phase)
        phase = barrier_wait(ctx, phase)

        sums = total_loss(ctx)
        if ctx.rank == 0:
            ctx.losses[k], ctx.correct_weights[k] = sums.loss, sums.correct_weight
            ctx.weight_sums[k] = weight_sum_of(ctx, ctx.order + ctx.bounds[k], step.batch)
        if not isfinite(sums.loss):
            return k + 1
        t = ctx.optimizer_step + k + 1
        mu = momentum_factor(ctx.optimizer, t)
        mu_product *= mu
        step.rates = bias_correction(ctx.optimizer, ctx.rates[k], ctx.decays[k], t, mu, mu_product)
        phase = compute_gradients_and_update(ctx, &step, phase)
        if ctx.split_k_partials == NULL:  # the split-K barrier also ends the previous step
            phase = barrier_wait(ctx, phase)
        if ctx.rank == 0:
            ctx.mu_product[0] = mu_product
    return ctx.n_rates


cdef int64_t forward_and_backward(const KernelContext* ctx, int64_t k, const StepContext* step,
                                  int64_t phase) noexcept nogil:
    """Gather, forward pass, loss and backward pass of mini-batch k, for the rows of this thread.

    Returns the next phase of the barrier.
    """
    cdef const int64_t* samples = ctx.order + ctx.bounds[k]
    cdef Range mine = thread_range(ctx, step.batch)
    cdef int64_t n_rows = mine.last - mine.first, n_out = ctx.ops[ctx.n_ops - 1].n_out
    cdef real* z = rows_of(ctx.work, ctx, ctx.output, n_out, mine.first)
    cdef real* d_z = rows_of(ctx.d_work, ctx, ctx.output, n_out, mine.first)
    cdef LossSums sums
    prefetch_following(ctx, k, step.batch)
    if ctx.split_k_partials != NULL:
        split_k_gemm(ctx, samples, step.batch)
        phase = barrier_wait(ctx, phase)
    else:
        gather(ctx.X, ctx.n_inputs, samples + mine.first, n_rows, 0, ctx.n_inputs,
               ctx.work + mine.first * ctx.n_inputs)
    clear_member_sums(ctx)
    if ctx.block_rows > 0 and step.statistics == NULL:
        ensemble_blocks(ctx, k, step.batch)
        return phase
    phase = forward(ctx, NULL, ctx.step + k, mine.first, n_rows, step.batch, phase)
    if step.statistics != NULL:
        record_values(ctx, step.statistics, ctx.step + k, mine.first, n_rows)
    sums = loss_of_rows(ctx, z, d_z, n_rows, samples + mine.first,
                        weight_sum_of(ctx, samples, step.batch))
    write_thread_sums(ctx, sums)
    return backpropagate(ctx, mine.first, n_rows, step.batch, phase)


cdef void ensemble_blocks(const KernelContext* ctx, int64_t k, int64_t batch) noexcept nogil:
    """Forward pass, loss and backward pass of this thread's rows, a few rows at a time.

    The members' values of so few rows stay in the second-level cache.
    """
    cdef const int64_t* samples = ctx.order + ctx.bounds[k]
    cdef Range mine = thread_range(ctx, batch)
    cdef int64_t n_out = ctx.ops[ctx.n_ops - 1].n_out, row = mine.first, rows
    cdef double weight_sum = weight_sum_of(ctx, samples, batch)
    cdef LossSums sums = LossSums(0, 0), of_block
    while row < mine.last:
        rows = min(ctx.block_rows, mine.last - row)
        forward(ctx, NULL, ctx.step + k, row, rows, batch, 1)
        of_block = loss_of_rows(ctx, rows_of(ctx.work, ctx, ctx.output, n_out, row),
                                rows_of(ctx.d_work, ctx, ctx.output, n_out, row), rows,
                                samples + row, weight_sum)
        sums.loss += of_block.loss
        sums.correct_weight += of_block.correct_weight
        backpropagate(ctx, row, rows, batch, 1)
        row += rows
    write_thread_sums(ctx, sums)


cdef inline void write_thread_sums(const KernelContext* ctx, LossSums sums) noexcept nogil:
    cdef double* own = ctx.thread_sums + ctx.rank * ctx.thread_sums_stride
    own[0], own[1] = sums.loss, sums.correct_weight


cdef LossSums total_loss(const KernelContext* ctx) noexcept nogil:
    """The sums over all threads."""
    cdef LossSums total = LossSums(0, 0)
    cdef int64_t rank
    for rank in range(ctx.n_threads):
        total.loss += ctx.thread_sums[rank * ctx.thread_sums_stride]
        total.correct_weight += ctx.thread_sums[rank * ctx.thread_sums_stride + 1]
    return total


cdef double* statistics_of(const KernelContext* ctx, int64_t k, int64_t* record) noexcept nogil:
    """This thread's sums of step k, a row for each operation; NULL where it is not recorded."""
    cdef int64_t row = record[0] * ctx.n_threads + ctx.rank
    if ctx.every == 0 or (ctx.step + k) % ctx.every != 0:
        return NULL
    record[0] = min(record[0] + 1, ctx.n_statistics - 1)
    return ctx.statistics + row * ctx.n_ops * N_STATISTICS


cdef int64_t predict(const KernelContext* ctx, int64_t n, bint linked,
                     real* predictions) noexcept nogil:
    """Outputs of this thread's share of the n rows of X, a block at a time.

    A row that is not finite gives NaN, and 1 as the result. Where only Dense operations read X they
    read it in place.
    """
    cdef int64_t block = ctx.capacity // ctx.n_threads, row = ctx.rank * block, start, rows, r, i
    cdef int64_t n_in = ctx.n_inputs, n_out = ctx.ops[ctx.n_ops - 1].n_out
    cdef real* z = rows_of(ctx.work, ctx, ctx.output, n_out, row)
    cdef real* d_z = rows_of(ctx.d_work, ctx, ctx.output, n_out, row)
    cdef int64_t members = ctx.loss.members
    cdef bint averages = linked and members > 1, in_place = reads_in_place(ctx), nonfinite = False
    cdef int64_t link = ctx.loss.link if linked else IDENTITY
    cdef int64_t width = n_out // members if averages else n_out
    cdef double weight_sum = weight_sum_of(ctx, ctx.order, n) if ctx.evaluates else 1
    cdef LossSums sums = LossSums(0, 0), of_block
    cdef Range mine = thread_range(ctx, n)
    cdef const real* X
    for i in range(blocks_of(mine.last - mine.first, block)):
        start = mine.first + i * block
        rows = min(block, mine.last - start)
        X = ctx.X + start * n_in
        if not in_place:
            memcpy(ctx.work + row * n_in, X, rows * n_in * sizeof(real))
        forward(ctx, X if in_place else NULL, 0, row, rows, rows, 1)
        if ctx.evaluates:
            of_block = loss_of_rows(ctx, z, d_z, rows, ctx.order + start, weight_sum)
            sums.loss += of_block.loss
            sums.correct_weight += of_block.correct_weight
        apply_link(link, z, rows * members, n_out // members)
        if averages:
            average_members(z, rows, members, n_out // members)
        for r in range(rows):
            nonfinite |= copy_or_nan_fill(z + r * n_out, width, X + r * n_in, n_in,
                                          predictions + (start + r) * width)
    write_thread_sums(ctx, sums)
    return nonfinite


cdef bint reads_in_place(const KernelContext* ctx) noexcept nogil:
    """Whether only Dense operations read the input."""
    cdef int64_t i
    cdef const Op* op
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if (op.x == INPUT and op.code != DENSE) or (op.code == ADD and op.skip == INPUT):
            return False
    return True


cdef bint copy_or_nan_fill(const real* values, int64_t n, const real* x, int64_t n_in,
                           real* target) noexcept nogil:
    """target = values, or NaN where an element of x is not finite; returns whether one is not.

    Elements are compared: compilers that may neglect the sign of zero take x · 0 and x − x for 0,
    though they be told of NaN.
    """
    cdef int64_t c
    cdef int nonfinite = 0
    for c in range(n_in):
        nonfinite |= not absolute(x[c]) <= LARGEST
    if nonfinite:
        fill(target, n, <real>NAN)
    else:
        memcpy(target, values, n * sizeof(real))
    return nonfinite


# --- the first GEMM as split-K --------------------------------------------------------------------


cdef void split_k_gemm(const KernelContext* ctx, const int64_t* samples,
                       int64_t batch) noexcept nogil:
    """What this thread's features of X add to the first operation's z, for the whole mini-batch."""
    cdef const Op* op = &ctx.ops[0]
    cdef Range mine = thread_range(ctx, op.n_in)
    cdef int64_t width = mine.last - mine.first
    cdef real* x = ctx.work + ctx.capacity * mine.first
    gather(ctx.X, ctx.n_inputs, samples, batch, mine.first, width, x)
    gemm(ctx, GemmShape(batch, op.n_out, width), <real>op.factor, operand(x, width),
         operand(ctx.theta + op.weight + mine.first * op.n_out, op.n_out), no_source(),
         OutputMatrix(split_k_partial(ctx, op, ctx.rank, 0), op.n_out))


cdef inline real* split_k_partial(const KernelContext* ctx, const Op* op, int64_t rank,
                                  int64_t row) noexcept nogil:
    return ctx.split_k_partials + rank * ctx.split_k_partials_stride + row * op.n_out


cdef void reduce_split_k(const KernelContext* ctx, const Op* op, int64_t first_row,
                         int64_t n_rows) noexcept nogil:
    """z, for the rows of this thread, from the partial sums of all threads; there are two or more.

    The bias is added here: it may be new only since the barrier.
    """
    cdef int64_t n = n_rows * op.n_out, rank, r
    cdef real* z = output_of(ctx, op, first_row)
    sum_of(split_k_partial(ctx, op, 0, first_row), split_k_partial(ctx, op, 1, first_row), z, n)
    for rank in range(2, ctx.n_threads):
        add_to(split_k_partial(ctx, op, rank, first_row), z, n)
    if op.bias >= 0:
        for r in range(n_rows):
            add_to(ctx.theta + op.bias, z + r * op.n_out, op.n_out)


# --- prefetch of the next mini-batch --------------------------------------------------------------


cdef void init_prefetch(const KernelContext* ctx) noexcept nogil:
    """What this thread gathers of a sample: all of it, or its own features."""
    cdef Range columns = Range(0, ctx.n_inputs)
    cdef int64_t size = sizeof(real)
    cdef PrefetchQueue* queue = ctx.prefetch_queue
    if ctx.split_k_partials != NULL:
        columns = thread_range(ctx, ctx.n_inputs)
    queue.features, queue.feature_bytes = <const char*>(ctx.X + columns.first), ctx.n_inputs * size
    # One line more where the columns do not begin at a line.
    queue.lines = (columns.last - columns.first) * size // CACHE_LINE + 1
    if ctx.labels != NULL:
        queue.targets, queue.target_bytes = <const char*>ctx.labels, sizeof(int64_t)
    else:
        queue.targets = <const char*>ctx.targets
        queue.target_bytes = ctx.ops[ctx.n_ops - 1].n_out // ctx.loss.members * size


cdef void prefetch_following(const KernelContext* ctx, int64_t k, int64_t batch) noexcept nogil:
    """Schedule the prefetch, during step k, of what this thread gathers of mini-batch k + 1."""
    cdef int64_t n = ctx.bounds[k + 2] - ctx.bounds[k + 1] if k + 1 < ctx.n_rates else 0
    cdef Range mine = thread_range(ctx, n) if ctx.split_k_partials == NULL else Range(0, n)
    cdef int64_t i, passes, total = 0
    cdef const Op* op
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if op.code == DENSE:
            passes = 2 + (op.x_grad != GRAD_NONE)
            total += passes * op.members * op.member_in * op.member_out
    prefetch_begin(ctx.prefetch_queue, ctx.order + ctx.bounds[k + 1] + mine.first,
                   mine.last - mine.first, <double>(total * batch // ctx.n_threads))


# --- the operations -------------------------------------------------------------------------------


cdef int64_t forward(const KernelContext* ctx, const real* X, int64_t step, int64_t first_row,
                     int64_t n_rows, int64_t batch, int64_t phase) noexcept nogil:
    """All operations over the rows of this thread; returns the next phase of the barrier.

    The input is in the workspace, or in X.
    """
    cdef int64_t i
    cdef const Op* op
    cdef const real* x
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if op.code == DENSE and splits_k(ctx, op):
            reduce_split_k(ctx, op, first_row, n_rows)
        elif op.code == DENSE:
            x = X if X != NULL and op.x == INPUT else input_of(ctx, op, first_row)
            gemm(ctx, GemmShape(n_rows * op.members, op.member_out, op.member_in),
                 <real>op.factor, operand(x, op.member_in),
                 operand(ctx.theta + op.weight, op.member_out), bias_of(ctx, op),
                 OutputMatrix(output_of(ctx, op, first_row), op.member_out))
        elif op.code == BATCH_NORM:
            phase = batch_norm(ctx, op, first_row, n_rows, batch, phase)
        elif op.code == LAYER_NORM:
            layer_norm(ctx, op, first_row, n_rows)
        elif op.code == SCALE:
            scale_columns(ctx, op, first_row, n_rows)
        elif op.code == EMBEDDING:
            embedding(ctx, op, first_row, n_rows)
        elif op.code == PARAMETRIC:
            parametric(ctx, op, first_row, n_rows)
        elif op.code == PIECEWISE:
            piecewise(ctx, op, first_row, n_rows)
        elif op.code == PERIODIC:
            periodic(ctx, op, first_row, n_rows)
        elif op.code == FEATURE_DENSE:
            feature_dense(ctx, op, first_row, n_rows)
        elif op.code == MEMBER_SCALE:
            member_scale(ctx, op, first_row, n_rows)
        elif op.code == HEADS:
            heads(ctx, op, first_row, n_rows)
        else:
            elementwise_op(ctx, op, step, first_row, n_rows)
        epilogue(ctx, op, step, first_row, n_rows)
    return phase


cdef void elementwise_op(const KernelContext* ctx, const Op* op, int64_t step, int64_t first_row,
                         int64_t n_rows) noexcept nogil:
    """ADD, NOISE and ELEMENTWISE: z from x, element by element."""
    cdef int64_t n = n_rows * op.n_out
    cdef const real* x = rows_of(ctx.work, ctx, op.x, op.n_out, first_row)
    cdef real* z = output_of(ctx, op, first_row)
    if op.code == ADD:
        sum_of(x, rows_of(ctx.work, ctx, op.skip, op.n_out, first_row), z, n)
    elif op.code == NOISE and ctx.training:
        add_noise(ctx, op, z, x, n_rows, first_row, step)
    else:
        memcpy(z, x, n * sizeof(real))


cdef int64_t backpropagate(const KernelContext* ctx, int64_t first_row, int64_t n_rows,
                           int64_t batch, int64_t phase) noexcept nogil:
    """From ∂C/∂(raw output) to ∂C/∂z of every operation, over the rows of this thread.

    Returns the next phase of the barrier.
    """
    cdef int64_t i
    cdef const Op* op
    cdef bint passes_on
    for i in range(ctx.n_ops - 1, -1, -1):
        op = &ctx.ops[i]
        passes_on = op.x_grad != GRAD_NONE or op.skip_grad != GRAD_NONE
        if op.weight < 0 and not passes_on:
            continue
        epilogue_backward(ctx, op, first_row, n_rows)
        if op.code == BATCH_NORM:
            phase = batch_norm_backward(ctx, op, first_row, n_rows, batch, phase)
        elif op.code == PERIODIC:
            periodic_backward(ctx, op, first_row, n_rows)
        elif op.code == MEMBER_SCALE:
            member_scale_backward(ctx, op, first_row, n_rows)
        elif not passes_on:
            continue
        elif op.code == DENSE:
            dense_input_gradient(ctx, op, first_row, n_rows)
        elif op.code == LAYER_NORM:
            layer_norm_backward(ctx, op, first_row, n_rows)
        elif op.code == SCALE:
            scale_columns_backward(ctx, op, first_row, n_rows)
        elif op.code == PARAMETRIC:
            parametric_backward(ctx, op, first_row, n_rows)
        elif op.code == PIECEWISE:
            piecewise_backward(ctx, op, first_row, n_rows)
        elif op.code == FEATURE_DENSE:
            feature_dense_backward(ctx, op, first_row, n_rows)
        elif op.code == HEADS:
            heads_backward(ctx, op, first_row, n_rows)
        else:
            elementwise_op_backward(ctx, op, first_row, n_rows)
    return phase


cdef void dense_input_gradient(const KernelContext* ctx, const Op* op, int64_t first_row,
                               int64_t n_rows) noexcept nogil:
    """∂C/∂x = δ Wᵀ, added to what another consumer of x has written before."""
    cdef real* d_x = input_gradient_of(ctx, op, first_row)
    cdef SourceMatrix before = no_source()
    if op.x_grad == GRAD_ADD:
        before = SourceMatrix(1, d_x, op.member_in)
    gemm(ctx, GemmShape(n_rows * op.members, op.member_in, op.member_out), <real>op.factor,
         operand(output_gradient_of(ctx, op, first_row), op.member_out),
         transposed(ctx.theta + op.weight, op.member_out), before,
         OutputMatrix(d_x, op.member_in))


cdef void elementwise_op_backward(const KernelContext* ctx, const Op* op, int64_t first_row,
                                  int64_t n_rows) noexcept nogil:
    cdef int64_t n = n_rows * op.n_out
    cdef const real* d_z = output_gradient_of(ctx, op, first_row)
    if op.code == ADD:
        pass_gradient(op.skip_grad, d_z, rows_of(ctx.d_work, ctx, op.skip, op.n_out, first_row), n)
    pass_gradient(op.x_grad, d_z, rows_of(ctx.d_work, ctx, op.x, op.n_out, first_row), n)
