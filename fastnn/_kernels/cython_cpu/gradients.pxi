"""The gradient of this thread's share of every parameter array over the mini-batch, and its update.

A weight's gradient is worked through in blocks that stay in the second-level cache: the optimiser
uses each block as soon as it is there. The whole gradient is stored only where something needs all
of it first (clipping by global norm, or a user). Plain SGD never stores it: with α = −η and
β = 1 − ηλ₂ the GEMM that would make it updates the weight itself.
"""

cdef enum:
    BLOCK = 24576  # elements of a block: 96 KiB of float32, a tenth of a second-level cache
    # Elements of δ up to which a block takes whole rows of a weight; beyond, part of δ that stays
    # in cache.
    LARGEST_DELTA = 131072
    TILE_ROWS = 12  # blocks are whole tiles high


cdef struct WeightRows:
    # This thread's rows of a weight or of tables, or elements of a scale as rows of one.
    int64_t offset  # in θ
    int64_t rows
    int64_t width


cdef struct StepContext:
    # What is the same for all operations of a step.
    StepRates rates
    int64_t batch
    double* statistics  # a row of sums for each operation, or NULL


cdef inline WeightRows thread_rows(const KernelContext* ctx, const Op* op) noexcept nogil:
    cdef WeightRows whole = weight_rows(op)
    cdef Range mine = thread_range(ctx, whole.rows)
    return WeightRows(op.weight + mine.first * whole.width, mine.last - mine.first, whole.width)


cdef inline WeightRows weight_rows(const Op* op) noexcept nogil:
    """All rows of a weight."""
    if op.code == DENSE:
        return WeightRows(op.weight, op.member_in, op.member_out)
    if op.code == HEADS:
        return WeightRows(op.weight, op.members * op.member_in, op.member_out)
    if op.code == EMBEDDING:
        return WeightRows(op.weight, op.rows, op.size)
    if op.code == PIECEWISE:
        return WeightRows(op.weight, op.features, (op.bins + 1) * op.size)
    if op.code == PERIODIC:
        return WeightRows(op.weight, op.features, op.frequencies)
    if op.code == FEATURE_DENSE:
        return WeightRows(op.weight, map_rows(op), op.size)
    return WeightRows(op.weight, op.n_out, 1)


cdef inline int64_t bias_length(const Op* op) noexcept nogil:
    """Numbers of a bias or shift."""
    if op.code == DENSE:
        return op.member_out
    if op.code == PIECEWISE:
        return op.features * op.size
    if op.code == PERIODIC:
        return n_angles(op)
    if op.code == FEATURE_DENSE:
        return map_bias_length(op)
    return op.n_out


cdef inline bint has_bias_everywhere(const Op* op) noexcept nogil:
    """Whether the gradient of a bias is Σ δ of every unit."""
    cdef bint encodes = op.code == PIECEWISE or op.code == PERIODIC or op.code == FEATURE_DENSE
    cdef bint is_shared = op.code == DENSE and op.members > 1
    return op.bias >= 0 and not encodes and not is_shared


cdef inline Operand thread_inputs(const KernelContext* ctx, const Op* op) noexcept nogil:
    """xᵀ for the columns of the input that multiply this thread's rows of the weight."""
    cdef Range mine = thread_range(ctx, op.member_in)
    if splits_k(ctx, op):
        return transposed(ctx.work + ctx.capacity * mine.first, mine.last - mine.first)
    return transposed(input_of(ctx, op, 0) + mine.first, op.member_in)


cdef inline Operand delta_of(const KernelContext* ctx, const Op* op) noexcept nogil:
    """δ over the whole mini-batch."""
    return operand(output_gradient_of(ctx, op, 0), op.member_out)


cdef int64_t compute_gradients_and_update(const KernelContext* ctx, const StepContext* step,
                                          int64_t phase) noexcept nogil:
    """Gradient and update of this thread's share of every parameter array.

    Returns the next phase of the barrier.
    """
    cdef bint clips_norm = ctx.updates and ctx.optimizer.clip_norm > 0, constrained = False
    cdef bint at_once = ctx.updates and not clips_norm
    cdef double squares = 0, length
    cdef int64_t i
    cdef const Op* op
    cdef double* sums = NULL
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if step.statistics != NULL:
            sums = step.statistics + i * N_STATISTICS
            count_dead_units(ctx, op, sums)
        if op.weight < 0:
            continue
        constrained |= op.max_norm > 0
        if op.code == DENSE and at_once:
            update_dense_weight(ctx, step, op, sums)
        else:
            squares += weight_gradient(ctx, step, op, sums)
            if at_once:
                update_weight(ctx, step, op, sums)
        if op.bias >= 0:
            squares += bias_gradient(ctx, step, op, sums)
            if at_once:
                update_bias(ctx, step, op)
        if sums != NULL and not has_bias_everywhere(op):
            record_delta(ctx, op, step.batch, sums)
    if clips_norm:
        ctx.thread_sums[ctx.rank * ctx.thread_sums_stride + 2] = squares
        phase = barrier_wait(ctx, phase)
        squares = total_squares(ctx)
        length = sqrt(squares)
        if not isfinite(squares):
            length = scaled_norm(ctx)
            phase = barrier_wait(ctx, phase)  # all have read the gradient, which shrinks now
        clip_and_update(ctx, step, length)
    if ctx.updates and constrained:
        phase = barrier_wait(ctx, phase)
        constrain(ctx)
    return phase


# --- a weight, block by block ---------------------------------------------------------------------


cdef void update_dense_weight(const KernelContext* ctx, const StepContext* step, const Op* op,
                              double* sums) noexcept nogil:
    """Gradient and update of this thread's rows of a weight; the gradient is never whole."""
    cdef const Optimizer* optimizer = ctx.optimizer
    cdef bint plain_sgd = (optimizer.code == SGD and optimizer.beta1 == 0
                           and optimizer.clip_value == 0)
    if plain_sgd and op.l1 == 0 and sums == NULL:
        fused_sgd_update(ctx, step, op)
    else:
        blocked_weight_update(ctx, step, op, sums)


cdef void fused_sgd_update(const KernelContext* ctx, const StepContext* step,
                           const Op* op) noexcept nogil:
    """W ← (1 − η(λ₂ + decay)) W − η xᵀ δ, as one GEMM."""
    cdef WeightRows part = thread_rows(ctx, op)
    cdef double eta = step.rates.eta * op.weight_rate
    cdef double beta = 1 - eta * (op.l2 + step.rates.decay * op.weight_decay)
    cdef real* w = ctx.theta + part.offset
    cdef GemmShape shape = GemmShape(part.rows, part.width, step.batch * op.members)
    gemm(ctx, shape, <real>(-eta * op.factor), thread_inputs(ctx, op), delta_of(ctx, op),
         SourceMatrix(<real>beta, w, part.width), OutputMatrix(w, part.width))


cdef void blocked_weight_update(const KernelContext* ctx, const StepContext* step, const Op* op,
                                double* sums) noexcept nogil:
    """One block after the other: whole rows, or parts of them where δ is large."""
    cdef WeightRows part = thread_rows(ctx, op)
    cdef Operand x = thread_inputs(ctx, op), delta = delta_of(ctx, op)
    cdef int64_t n_out = op.member_out, batch = step.batch * op.members, breadth = n_out
    cdef int64_t height, column, row, j, k
    cdef GemmShape shape
    # The same memory for every block, which keeps it in cache.
    cdef real* g = ctx.gradient + part.offset
    if batch * n_out > LARGEST_DELTA:
        breadth = min(n_out, max(<int64_t>128, LARGEST_DELTA // (2 * batch) // 32 * 32))
    height = max(<int64_t>TILE_ROWS, BLOCK // breadth // TILE_ROWS * TILE_ROWS)
    for j in range(blocks_of(n_out, breadth)):
        column = j * breadth
        for k in range(blocks_of(part.rows, height)):
            row = k * height
            shape = GemmShape(min(height, part.rows - row), min(breadth, n_out - column), batch)
            gemm(ctx, shape, <real>op.factor, transposed(x.data + row, x.stride), operand(delta.data + column,
                                                                            n_out),
                 no_source(), OutputMatrix(g, shape.n))
            update_block(ctx, step, op, shape, part.offset + row * n_out + column, g, sums)


cdef void update_block(const KernelContext* ctx, const StepContext* step, const Op* op,
                       GemmShape shape, int64_t start, real* g, double* sums) noexcept nogil:
    """Update the block (m, n) of a weight that begins at element ``start`` of θ."""
    # Runs of weights that lie next to each other in memory.
    cdef int64_t width = op.member_out, runs = 1 if shape.n == width else shape.m
    cdef int64_t n = shape.m * shape.n, length = n // runs, i
    cdef const Optimizer* optimizer = ctx.optimizer
    if op.l1 > 0 or op.l2 > 0:
        for i in range(runs):
            add_penalties(ctx.theta + start + i * width, g + i * length, length, <real>op.l1,
                          <real>op.l2)
    if sums != NULL:
        sums[GRADIENT] += moments(g, n, 0).squares
    if optimizer.clip_value > 0:
        clip(g, n, <real>optimizer.clip_value)
    for i in range(runs):
        update_recorded(ctx, step, weight_factors(step, op), start + i * width, g + i * length,
                        length, sums)


# --- whole gradients ------------------------------------------------------------------------------


cdef double weight_gradient(const KernelContext* ctx, const StepContext* step, const Op* op,
                            double* sums) noexcept nogil:
    """The gradient of this thread's share of a weight, penalties included and clipped by value.

    Returns its sum of squares where the global norm is clipped, else 0.
    """
    cdef WeightRows part = thread_rows(ctx, op)
    cdef int64_t n = part.rows * part.width, row
    cdef real* g = ctx.gradient + part.offset
    if op.code == DENSE:
        gemm(ctx, GemmShape(part.rows, part.width, step.batch * op.members), <real>op.factor,
             thread_inputs(ctx, op), delta_of(ctx, op), no_source(), OutputMatrix(g, part.width))
        if op.l1 > 0 or op.l2 > 0:
            add_penalties(ctx.theta + part.offset, g, n, <real>op.l1, <real>op.l2)
    elif op.code == LAYER_NORM:
        layer_norm_parameter_gradients(ctx, op, step.batch)
    elif op.code == EMBEDDING:
        row = (part.offset - op.weight) // op.size
        embedding_gradient(ctx, op, row, row + part.rows, step.batch)
    elif op.code == PIECEWISE:
        row = (part.offset - op.weight) // part.width
        piecewise_gradient(ctx, op, row, row + part.rows, step.batch)
    elif op.code == PERIODIC:
        row = (part.offset - op.weight) // part.width
        frequency_gradient(ctx, op, row, row + part.rows, step.batch)
    elif op.code == FEATURE_DENSE:
        row = (part.offset - op.weight) // part.width
        map_gradient(ctx, op, row, row + part.rows, step.batch)
    elif op.code == HEADS:
        row = (part.offset - op.weight) // part.width
        heads_gradient(ctx, op, row, row + part.rows, step.batch)
    elif op.code == MEMBER_SCALE:
        member_sums(ctx, op, 0, part.offset - op.weight, n, g)
    elif op.code == SCALE or op.code == PARAMETRIC:
        column_gradients(ctx, op, step.batch)
    if sums != NULL:
        sums[GRADIENT] += moments(g, n, 0).squares
        if not ctx.updates:
            sums[WEIGHT] += moments(ctx.theta + part.offset, n, 0).squares
    return clip_and_sum_squares(ctx.optimizer, g, n)


cdef double bias_gradient(const KernelContext* ctx, const StepContext* step, const Op* op,
                          double* sums) noexcept nogil:
    """The same for a bias, Σ δ over the mini-batch; a norm's shift has its gradient already."""
    cdef Range mine = thread_range(ctx, bias_length(op))
    cdef int64_t n = mine.last - mine.first
    cdef real* g = ctx.gradient + op.bias + mine.first
    if op.code == DENSE:
        sum_of_rows(output_gradient_of(ctx, op, 0) + mine.first, step.batch * op.members, n,
                    op.member_out, g)
    elif op.code == PIECEWISE or op.code == HEADS:
        sum_of_rows(output_gradient_of(ctx, op, 0) + mine.first, step.batch, n, op.n_out, g)
    elif op.code == PERIODIC:
        phase_gradient(ctx, op, mine, step.batch)
    elif op.code == FEATURE_DENSE:
        map_bias_gradient(ctx, op, mine, step.batch)
    elif op.code == MEMBER_SCALE:
        member_sums(ctx, op, 1, mine.first, n, g)
    if sums != NULL and has_bias_everywhere(op):
        sums[DELTA] += moments(g, n, 0).squares
    return clip_and_sum_squares(ctx.optimizer, g, n)


cdef double clip_and_sum_squares(const Optimizer* optimizer, real* g, int64_t n) noexcept nogil:
    if optimizer.clip_value > 0:
        clip(g, n, <real>optimizer.clip_value)
    return sum_of_squares(g, n) if optimizer.clip_norm > 0 else 0


# --- updates --------------------------------------------------------------------------------------


cdef struct Factors:
    double rate  # of the learning rate
    double decay  # weight decay


cdef inline Factors weight_factors(const StepContext* step, const Op* op) noexcept nogil:
    return Factors(op.weight_rate, step.rates.decay * op.weight_decay)


cdef WeightSums update_range(const KernelContext* ctx, const StepContext* step, Factors factors,
                             int64_t offset, const real* g, int64_t n) noexcept nogil:
    """Update the parameters from element ``offset`` of θ on with their gradient."""
    cdef real* m = ctx.slots + offset  # slots that the optimiser lacks are not touched
    cdef StepRates rates = step.rates
    rates.eta *= factors.rate
    rates.step *= factors.rate
    rates.step_gradient *= factors.rate
    rates.decay = factors.decay
    return update_by_code(ctx.optimizer, &rates, ctx.theta + offset, g, m, m + ctx.slots_stride, n)


cdef void update_recorded(const KernelContext* ctx, const StepContext* step, Factors factors,
                          int64_t offset, const real* g, int64_t n, double* sums) noexcept nogil:
    """`update_range`, recording Σ w² and Σ (Δw)², `SUM_BLOCK` elements at a time."""
    cdef int64_t i, first, length
    cdef WeightSums block
    cdef real* before
    cdef real* w
    if sums == NULL:
        update_range(ctx, step, factors, offset, g, n)
        return
    before = block_scratch(ctx)
    for i in range(blocks_of(n, SUM_BLOCK)):
        first = i * SUM_BLOCK
        length = min(<int64_t>SUM_BLOCK, n - first)
        w = ctx.theta + offset + first
        memcpy(before, w, length * sizeof(real))
        block = update_range(ctx, step, factors, offset + first, g + first, length)
        if not is_exact(block.squares):
            block.squares = moments(before, length, 0).squares
        if not is_exact(block.moved):
            block.moved = squared_distance(w, before, length)
        sums[WEIGHT] += block.squares
        sums[UPDATE] += block.moved


cdef void update_weight(const KernelContext* ctx, const StepContext* step, const Op* op,
                        double* sums) noexcept nogil:
    cdef WeightRows part = thread_rows(ctx, op)
    update_recorded(ctx, step, weight_factors(step, op), part.offset, ctx.gradient + part.offset,
                    part.rows * part.width, sums)


cdef void update_bias(const KernelContext* ctx, const StepContext* step,
                      const Op* op) noexcept nogil:
    cdef Range mine = thread_range(ctx, bias_length(op))
    cdef int64_t offset = op.bias + mine.first
    cdef Factors factors = Factors(op.bias_rate, step.rates.decay * op.bias_decay)
    update_range(ctx, step, factors, offset, ctx.gradient + offset, mine.last - mine.first)


cdef double total_squares(const KernelContext* ctx) noexcept nogil:
    """Σ g² over all threads."""
    cdef double squares = 0
    cdef int64_t rank
    for rank in range(ctx.n_threads):
        squares += ctx.thread_sums[rank * ctx.thread_sums_stride + 2]
    return squares


cdef double scaled_norm(const KernelContext* ctx) noexcept nogil:
    """‖g‖ where Σ g² overflows, by each thread alone."""
    cdef double total = 0
    cdef int64_t i
    cdef const Op* op
    cdef WeightRows whole
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if op.weight >= 0:
            whole = weight_rows(op)
            total += scaled_squares(ctx.gradient + op.weight, whole.rows * whole.width, 1)
        if op.bias >= 0:
            total += scaled_squares(ctx.gradient + op.bias, bias_length(op), 1)
    return norm_of_scaled(total)


cdef void clip_and_update(const KernelContext* ctx, const StepContext* step,
                          double length) noexcept nogil:
    """Clipping by global norm, which ``length`` is: the gradient shrinks, then this thread's shares
    are updated.
    """
    cdef int64_t i
    cdef const Op* op
    cdef WeightRows part
    cdef Range mine
    cdef double longest = ctx.optimizer.clip_norm
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if op.weight >= 0:
            part = thread_rows(ctx, op)
            shorten(ctx.gradient + part.offset, part.rows * part.width, longest, length)
            update_weight(ctx, step, op,
                          NULL if step.statistics == NULL else step.statistics + i * N_STATISTICS)
        if op.bias >= 0:
            mine = thread_range(ctx, bias_length(op))
            shorten(ctx.gradient + op.bias + mine.first, mine.last - mine.first, longest, length)
            update_bias(ctx, step, op)


cdef void constrain(const KernelContext* ctx) noexcept nogil:
    """Max-norm constraints, a share of the columns each."""
    cdef int64_t i
    cdef const Op* op
    cdef Range mine
    for i in range(ctx.n_ops):
        op = &ctx.ops[i]
        if op.max_norm > 0:
            mine = thread_range(ctx, op.member_out)
            limit_columns(ctx.theta + op.weight, op.member_in, op.member_out, mine.first, mine.last,
                          op.max_norm)
