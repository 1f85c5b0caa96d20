"""What a step learns: the gradient of this thread's share of every parameter array over the whole
mini-batch, and its update.

A weight's gradient is worked through in blocks that stay in the second-level cache: each is updated
with as soon as it is known. Only where something wants the whole gradient first (clipping by global
norm, or a user) is it stored. Plain SGD never has one at all: with α = −η and β = 1 − ηλ₂ the
product that would make it updates the weight itself.
"""

cdef enum:
    # numbers that each thread has in `partial`, a cache line: loss, hits, squares of its gradients
    PARTIAL = 8
    BLOCK = 24576  # elements of a block: 96 KiB of float32, a tenth of a second-level cache
    # elements of δ up to which a block takes whole rows of a weight; beyond, part of δ that stays
    # in cache
    LARGEST_DELTA = 131072
    TILE_ROWS = 12  # blocks are whole tiles high


cdef struct Part:
    # This thread's part of a weight (n_in, n_out), as rows of it, or of a scale, as rows of one
    # element.
    int64_t offset  # in θ
    int64_t first  # row
    int64_t rows
    int64_t width


cdef struct Matrix:
    const real* data
    int64_t stride


cdef struct Lesson:
    # What is the same for all operations of a step.
    const Rule* rule
    Rates now
    int64_t batch
    double* statistics  # a row for each operation, or NULL


cdef inline Part own_part(const Frame* frame, const Op* op) noexcept nogil:
    cdef bint dense = op.code == DENSE
    cdef Share rows = own_share(frame, op.n_in if dense else op.n_out)
    cdef int64_t width = op.n_out if dense else 1
    return Part(op.weight + rows.first * width, rows.first, rows.last - rows.first, width)


cdef inline Matrix own_inputs(const Frame* frame, const Op* op) noexcept nogil:
    """The columns of the operation's input that meet this thread's rows of the weight, over the
    whole mini-batch.
    """
    cdef Share mine = own_share(frame, op.n_in)
    if cuts_features(frame, op):
        return Matrix(frame.work + frame.capacity * mine.first, mine.last - mine.first)
    return Matrix(input_of(frame, op, 0) + mine.first, op.n_in)


cdef int64_t learn(const Frame* frame, const Lesson* lesson, double* partial, int64_t phase) noexcept nogil:
    """Gradient and update of this thread's share of every parameter array; returns the next phase
    of the barrier.
    """
    cdef const Rule* rule = lesson.rule
    cdef bint updates = rule.code != NO_UPDATE, at_once = updates and rule.clip_norm == 0, constrained = False
    cdef double squares = 0
    cdef int64_t i
    cdef const Op* op
    cdef double* own = NULL
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        if lesson.statistics != NULL:
            own = lesson.statistics + i * N_STATISTICS
            count_dead_units(frame, op, own)
        if op.weight < 0:
            continue
        constrained |= op.max_norm > 0
        if op.code == DENSE and at_once:
            learn_weight(frame, lesson, op, own)
        else:
            squares += weight_gradient(frame, lesson, op, own)
            if at_once:
                update_weight(frame, lesson, op, own)
        if op.bias >= 0:
            squares += bias_gradient(frame, lesson, op, own)
            if at_once:
                update_bias(frame, lesson, op)
        elif own != NULL:
            measure_delta_without_bias(frame, op, lesson.batch, own)
    if updates and rule.clip_norm > 0:
        partial[frame.rank * PARTIAL + 2] = squares
        phase = meet(frame, phase)
        clip_and_update(frame, lesson, partial)
    if updates and constrained:
        phase = meet(frame, phase)
        constrain(frame)
    return phase


# --- a weight, block by block ---------------------------------------------------------------------


cdef void learn_weight(const Frame* frame, const Lesson* lesson, const Op* op, double* own) noexcept nogil:
    """Gradient and update of this thread's rows of a weight, without ever having all of the
    gradient.
    """
    cdef const Rule* rule = lesson.rule
    cdef bint plain = rule.code == SGD and rule.beta1 == 0 and rule.clip_value == 0
    if plain and op.l1 == 0 and own == NULL:
        descend(frame, op, lesson.batch, -lesson.now.eta, 1 - lesson.now.eta * (op.l2 + rule.weight_decay))
    else:
        learn_by_blocks(frame, lesson, op, own)


cdef void descend(const Frame* frame, const Op* op, int64_t batch, double alpha, double beta) noexcept nogil:
    """W ← β W + α xᵀ δ."""
    cdef Part part = own_part(frame, op)
    cdef Matrix x = own_inputs(frame, op)
    cdef real* w = frame.theta + part.offset
    product(frame, True, False, part.rows, part.width, batch, <real>alpha, x.data, x.stride, output_gradient_of(frame, op, 0), part.width,
            matrix(<real>beta, w, part.width), w, part.width)


cdef void learn_by_blocks(const Frame* frame, const Lesson* lesson, const Op* op, double* own) noexcept nogil:
    """One block after the other: whole rows, or parts of them where δ is large."""
    cdef Part part = own_part(frame, op)
    cdef Matrix x = own_inputs(frame, op)
    cdef int64_t n_out = op.n_out, batch = lesson.batch, breadth = n_out, height, column, row, rows, columns, stretches, length, start, i, j, k
    cdef const real* d_z = output_gradient_of(frame, op, 0)
    # the same memory for every block, which keeps it in cache
    cdef real* g = frame.gradient + part.offset
    if batch * n_out > LARGEST_DELTA:
        breadth = min(n_out, max(<int64_t>128, LARGEST_DELTA // (2 * batch) // 32 * 32))
    height = max(<int64_t>TILE_ROWS, BLOCK // breadth // TILE_ROWS * TILE_ROWS)
    for j in range(blocks_of(n_out, breadth)):
        column = j * breadth
        columns = min(breadth, n_out - column)
        for k in range(blocks_of(part.rows, height)):
            row = k * height
            rows = min(height, part.rows - row)
            product(frame, True, False, rows, columns, batch, 1, x.data + row, x.stride, d_z + column, n_out, nothing(), g, columns)
            # of weights that lie next to each other in memory
            stretches = 1 if columns == n_out else rows
            length = rows * columns // stretches
            start = part.offset + row * n_out + column
            if op.l1 > 0 or op.l2 > 0:
                for i in range(stretches):
                    add_penalties(frame.theta + start + i * n_out, g + i * length, length, <real>op.l1, <real>op.l2)
            if own != NULL:
                own[GRADIENT] += moments(g, rows * columns, 0).squares
            if lesson.rule.clip_value > 0:
                clip(g, rows * columns, <real>lesson.rule.clip_value)
            for i in range(stretches):
                update_measured(frame, lesson, lesson.rule.weight_decay, start + i * n_out, g + i * length, length, own)


# --- whole gradients ------------------------------------------------------------------------------


cdef double weight_gradient(const Frame* frame, const Lesson* lesson, const Op* op, double* own) noexcept nogil:
    """The gradient of this thread's share of a weight, penalties included and clipped by value;
    returns its sum of squares if needed.
    """
    cdef Part part = own_part(frame, op)
    cdef Matrix x
    cdef int64_t n = part.rows * part.width
    cdef real* g = frame.gradient + part.offset
    if op.code == DENSE:
        x = own_inputs(frame, op)
        product(frame, True, False, part.rows, part.width, lesson.batch, 1, x.data, x.stride, output_gradient_of(frame, op, 0), part.width,
                nothing(), g, part.width)
        if op.l1 > 0 or op.l2 > 0:
            add_penalties(frame.theta + part.offset, g, n, <real>op.l1, <real>op.l2)
    elif op.code == LAYER_NORM:
        layer_norm_parameter_gradients(frame, op, lesson.batch)
    if own != NULL:
        own[GRADIENT] += moments(g, n, 0).squares
        if lesson.rule.code == NO_UPDATE:
            own[WEIGHT] += moments(frame.theta + part.offset, n, 0).squares
    return clip_and_measure(lesson.rule, g, n)


cdef double bias_gradient(const Frame* frame, const Lesson* lesson, const Op* op, double* own) noexcept nogil:
    """The same for a bias, Σ δ over the mini-batch; a norm's shift has its gradient already."""
    cdef Share mine = own_share(frame, op.n_out)
    cdef int64_t n = mine.last - mine.first
    cdef real* g = frame.gradient + op.bias + mine.first
    if op.code == DENSE:
        sum_of_rows(output_gradient_of(frame, op, 0) + mine.first, lesson.batch, n, op.n_out, g)
    if own != NULL:
        own[DELTA] += moments(g, n, 0).squares
    return clip_and_measure(lesson.rule, g, n)


cdef double clip_and_measure(const Rule* rule, real* g, int64_t n) noexcept nogil:
    if rule.clip_value > 0:
        clip(g, n, <real>rule.clip_value)
    return sum_of_squares(g, n) if rule.clip_norm > 0 else 0


# --- updates --------------------------------------------------------------------------------------


cdef Moved update_range(const Frame* frame, const Lesson* lesson, double decay, int64_t offset, const real* g, int64_t n) noexcept nogil:
    """Update the parameters from element ``offset`` of θ on with their gradient."""
    cdef real* m = frame.slots + offset
    return update(lesson.rule, lesson.now, decay, frame.theta + offset, g, m, m + frame.n_theta, n)


cdef void update_measured(const Frame* frame, const Lesson* lesson, double decay, int64_t offset, const real* g, int64_t n,
                          double* own) noexcept nogil:
    """`update_range`; how long the weights are and how far they moved is measured a stretch at a
    time, in the network's number type.
    """
    cdef int64_t i, first
    cdef Moved sums
    if own == NULL:
        update_range(frame, lesson, decay, offset, g, n)
        return
    for i in range(blocks_of(n, STRETCH)):
        first = i * STRETCH
        sums = update_range(frame, lesson, decay, offset + first, g + first, min(<int64_t>STRETCH, n - first))
        own[WEIGHT] += sums.squares
        own[UPDATE] += sums.moved


cdef void update_weight(const Frame* frame, const Lesson* lesson, const Op* op, double* own) noexcept nogil:
    """Weight decay is for weights, not for scales."""
    cdef Part part = own_part(frame, op)
    cdef double decay = lesson.rule.weight_decay if op.code == DENSE else 0
    update_measured(frame, lesson, decay, part.offset, frame.gradient + part.offset, part.rows * part.width, own)


cdef void update_bias(const Frame* frame, const Lesson* lesson, const Op* op) noexcept nogil:
    cdef Share mine = own_share(frame, op.n_out)
    cdef int64_t offset = op.bias + mine.first
    update_range(frame, lesson, 0, offset, frame.gradient + offset, mine.last - mine.first)


cdef void clip_and_update(const Frame* frame, const Lesson* lesson, const double* partial) noexcept nogil:
    """Clipping by global norm: the gradient shrinks, then this thread's shares are updated."""
    cdef double squares = 0, length
    cdef int64_t rank, i
    cdef const Op* op
    cdef Part part
    cdef Share mine
    for rank in range(frame.n_threads):
        squares += partial[rank * PARTIAL + 2]
    length = sqrt(squares)
    cdef real factor = <real>(lesson.rule.clip_norm / length) if length > lesson.rule.clip_norm else 1
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        if op.weight >= 0:
            part = own_part(frame, op)
            scale(frame.gradient + part.offset, part.rows * part.width, factor)
            update_weight(frame, lesson, op, NULL if lesson.statistics == NULL else lesson.statistics + i * N_STATISTICS)
        if op.bias >= 0:
            mine = own_share(frame, op.n_out)
            scale(frame.gradient + op.bias + mine.first, mine.last - mine.first, factor)
            update_bias(frame, lesson, op)


cdef void constrain(const Frame* frame) noexcept nogil:
    """Max-norm constraints, a share of the columns each."""
    cdef int64_t i
    cdef const Op* op
    cdef Share mine
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        if op.max_norm > 0:
            mine = own_share(frame, op.n_out)
            limit_columns(frame.theta + op.weight, op.n_in, op.n_out, mine.first, mine.last, op.max_norm)
