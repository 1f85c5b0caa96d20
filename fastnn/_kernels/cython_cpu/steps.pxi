"""A chunk of mini-batches and what a step is made of; `numba_cpu/steps.py` tells how threads share
it and where they meet.
"""

cdef struct Inputs:
    # The data of a run.
    const real* X
    int64_t n_in
    const int64_t* order
    Targets targets


cdef struct Chunk:
    # A stretch of training, and where its figures go: see `run`.
    const Loss* loss
    const Rule* rule
    const int64_t* bounds
    const double* rates
    int64_t n_steps
    int64_t output
    int64_t step
    int64_t optimizer_step
    double* products
    double* partial
    double* losses
    double* weight_sums
    double* hits
    int64_t every
    double* statistics
    int64_t n_records


cdef int64_t train(const Frame* frame, const Inputs* inputs, const Chunk* chunk) noexcept nogil:
    """`run_chunk` without the numbers below the smallest normal one: a moment of Adam comes to them
    wherever a gradient stays 0.
    """
    cdef uint64_t setting = neglect_tiny()
    cdef int64_t written = run_chunk(frame, inputs, chunk)
    put_back(setting)
    return written


cdef int64_t run_chunk(const Frame* frame, const Inputs* inputs, const Chunk* chunk) noexcept nogil:
    """Take the steps; returns how many losses were written."""
    cdef int64_t phase = 1, record = 0, k, batch, n_rows, per_thread = frame.n_ops * N_STATISTICS
    cdef int64_t n_out = frame.ops[frame.n_ops - 1].n_out
    cdef const int64_t* samples
    cdef const Op* first_op = &frame.ops[0]
    cdef Share mine
    cdef Outcome outcome
    cdef Lesson lesson
    cdef double weight_sum, product_of_factors = chunk.products[0]
    cdef double* measured
    cdef bint recorded, cuts = frame.parts != NULL
    prepare_upcoming(frame, inputs)
    for k in range(chunk.n_steps):
        samples = inputs.order + chunk.bounds[k]
        batch = chunk.bounds[k + 1] - chunk.bounds[k]
        mine = own_share(frame, batch)
        n_rows = mine.last - mine.first
        look_ahead_to(frame, samples + batch, chunk.bounds[k + 2] - chunk.bounds[k + 1] if k + 1 < chunk.n_steps else 0, batch)
        if cuts:
            own_part_of_first(frame, first_op, inputs, samples, batch)
            phase = meet(frame, phase)
        else:
            gather(inputs.X, inputs.n_in, samples + mine.first, n_rows, 0, inputs.n_in, frame.work + mine.first * inputs.n_in)
        phase = forward(frame, NULL, chunk.step + k, mine.first, n_rows, batch, phase)
        recorded = chunk.every > 0 and (chunk.step + k) % chunk.every == 0
        measured = chunk.statistics + (record * frame.n_threads + frame.rank) * per_thread if recorded else NULL
        if recorded:
            measure_values(frame, measured, mine.first, n_rows)
            record = min(record + 1, chunk.n_records - 1)
        weight_sum = weight_sum_of(inputs.targets, samples, batch)
        outcome = loss_and_gradient(
            chunk.loss, rows_of(frame.work, frame, chunk.output, n_out, mine.first),
            rows_of(frame.d_work, frame, chunk.output, n_out, mine.first), n_rows, n_out, samples + mine.first, inputs.targets, weight_sum,
        )
        chunk.partial[frame.rank * PARTIAL] = outcome.loss
        chunk.partial[frame.rank * PARTIAL + 1] = outcome.hits
        phase = backpropagate(frame, mine.first, n_rows, batch, phase)
        phase = meet(frame, phase)

        outcome = whole_outcome(frame, chunk)
        if frame.rank == 0:
            chunk.losses[k], chunk.weight_sums[k], chunk.hits[k] = outcome.loss, weight_sum, outcome.hits
        if not isfinite(outcome.loss):
            return k + 1
        product_of_factors *= momentum_factor(chunk.rule, chunk.optimizer_step + k + 1)
        lesson = Lesson(chunk.rule, rates_of(chunk.rule, chunk.rates[k], chunk.optimizer_step + k + 1, product_of_factors), batch, measured)
        phase = learn(frame, &lesson, chunk.partial, phase)
        if not cuts:  # else the next step's first meeting is this one
            phase = meet(frame, phase)
        if frame.rank == 0:
            chunk.products[0] = product_of_factors
    return chunk.n_steps


cdef Outcome whole_outcome(const Frame* frame, const Chunk* chunk) noexcept nogil:
    """The sum over threads."""
    cdef Outcome whole = Outcome(0, 0)
    cdef int64_t rank
    for rank in range(frame.n_threads):
        whole.loss += chunk.partial[rank * PARTIAL]
        whole.hits += chunk.partial[rank * PARTIAL + 1]
    return whole


cdef int64_t predict(const Frame* frame, const Inputs* inputs, int64_t output, int64_t link, int64_t n, real* predictions) noexcept nogil:
    """Outputs of this thread's share of the rows of X, a block at a time. A row that is not finite
    gives NaN, and 1 as the result.

    Where only Dense operations read X they read it where it lies.
    """
    cdef int64_t block = frame.capacity // frame.n_threads, row = frame.rank * block, n_in = inputs.n_in, start, rows, r, i
    cdef int64_t n_out = frame.ops[frame.n_ops - 1].n_out
    cdef const Op* op
    cdef const real* X
    cdef real* z = rows_of(frame.work, frame, output, n_out, row)
    cdef bint in_place = True, poisoned = False
    cdef Share mine = own_share(frame, n)
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        in_place &= (op.x != INPUT or op.code == DENSE) and (op.code != ADD or op.skip != INPUT)
    for i in range(blocks_of(mine.last - mine.first, block)):
        start = mine.first + i * block
        rows = min(block, mine.last - start)
        X = inputs.X + start * n_in
        if not in_place:
            memcpy(frame.work + row * n_in, X, rows * n_in * sizeof(real))
        forward(frame, X if in_place else NULL, 0, row, rows, rows, 1)
        apply_link(link, z, rows, n_out)
        for r in range(rows):
            poisoned |= copy_or_poison(z + r * n_out, n_out, X + r * n_in, n_in, predictions + (start + r) * n_out)
    return poisoned


cdef bint copy_or_poison(const real* values, int64_t n, const real* x, int64_t n_in, real* target) noexcept nogil:
    """target = values, or NaN where an element of x is not finite; returns whether one is not.

    Elements are compared: compilers that may neglect the sign of zero take x · 0 and x − x for 0,
    though they be told of NaN.
    """
    cdef int64_t c
    cdef int strange = 0
    for c in range(n_in):
        strange |= not absolute(x[c]) <= LARGEST
    if strange:
        fill(target, n, <real>NAN)
    else:
        memcpy(target, values, n * sizeof(real))
    return strange


# --- the first product shared by features ---------------------------------------------------------


cdef void own_part_of_first(const Frame* frame, const Op* op, const Inputs* inputs, const int64_t* samples, int64_t batch) noexcept nogil:
    """What this thread's features of X add to the first operation's z, for the whole mini-batch."""
    cdef Share mine = own_share(frame, op.n_in)
    cdef int64_t width = mine.last - mine.first
    cdef real* x = frame.work + frame.capacity * mine.first
    gather(inputs.X, inputs.n_in, samples, batch, mine.first, width, x)
    product(frame, False, False, batch, op.n_out, width, 1, x, width, frame.theta + op.weight + mine.first * op.n_out, op.n_out,
            nothing(), part_of_first(frame, op, frame.rank, 0), op.n_out)


cdef inline real* part_of_first(const Frame* frame, const Op* op, int64_t rank, int64_t row) noexcept nogil:
    return frame.parts + (rank * frame.capacity + row) * op.n_out


cdef void sum_parts(const Frame* frame, const Op* op, int64_t first_row, int64_t n_rows) noexcept nogil:
    """z, for the rows of this thread, from all threads' parts; there are two or more. Not before
    they have met is all of the bias new.
    """
    cdef int64_t n = n_rows * op.n_out, rank, r
    cdef real* z = output_of(frame, op, first_row)
    sum_of(part_of_first(frame, op, 0, first_row), part_of_first(frame, op, 1, first_row), z, n)
    for rank in range(2, frame.n_threads):
        add_to(part_of_first(frame, op, rank, first_row), z, n)
    if op.bias >= 0:
        for r in range(n_rows):
            add_to(frame.theta + op.bias, z + r * op.n_out, op.n_out)


cdef void prepare_upcoming(const Frame* frame, const Inputs* inputs) noexcept nogil:
    """What this thread gathers of a sample: all of it, or its own features."""
    cdef Share columns = own_share(frame, inputs.n_in) if frame.parts != NULL else Share(0, inputs.n_in)
    cdef int64_t size = sizeof(real)
    cdef Upcoming* upcoming = frame.upcoming
    upcoming.features, upcoming.feature_bytes = <const char*>(inputs.X + columns.first), inputs.n_in * size
    # one more if it does not begin where a line does
    upcoming.lines = (columns.last - columns.first) * size // CACHE_LINE + 1
    if inputs.targets.labels != NULL:
        upcoming.targets, upcoming.target_bytes = <const char*>inputs.targets.labels, sizeof(int64_t)
    else:
        upcoming.targets, upcoming.target_bytes = <const char*>inputs.targets.values, frame.ops[frame.n_ops - 1].n_out * size


cdef void look_ahead_to(const Frame* frame, const int64_t* samples, int64_t n, int64_t batch) noexcept nogil:
    """Have the next ``n`` samples asked for during a step of ``batch``: those that this thread
    gathers.
    """
    cdef Share mine = own_share(frame, n) if frame.parts == NULL else Share(0, n)
    cdef int64_t i, passes, total = 0
    cdef const Op* op
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        if op.code == DENSE:
            passes = 2 + (op.x_grad != GRAD_NONE)
            total += passes * op.n_in * op.n_out
    look_ahead(frame.upcoming, samples + mine.first, mine.last - mine.first, <double>(total * batch // frame.n_threads))


# --- the operations -------------------------------------------------------------------------------


cdef int64_t forward(const Frame* frame, const real* X, int64_t step, int64_t first_row, int64_t n_rows, int64_t batch,
                     int64_t phase) noexcept nogil:
    """All operations over the rows of this thread; returns the next phase of the barrier. The input
    is in the workspace, or in X.
    """
    cdef int64_t i
    cdef const Op* op
    cdef const real* x
    for i in range(frame.n_ops):
        op = &frame.ops[i]
        if op.code == DENSE and cuts_features(frame, op):
            sum_parts(frame, op, first_row, n_rows)
        elif op.code == DENSE:
            x = X if X != NULL and op.x == INPUT else input_of(frame, op, first_row)
            product(frame, False, False, n_rows, op.n_out, op.n_in, 1, x, op.n_in, frame.theta + op.weight, op.n_out, bias_of(frame, op),
                    output_of(frame, op, first_row), op.n_out)
        elif op.code == BATCH_NORM:
            phase = batch_norm(frame, op, first_row, n_rows, batch, phase)
        elif op.code == LAYER_NORM:
            layer_norm(frame, op, first_row, n_rows)
        else:
            shape_keeping(frame, op, step, first_row, n_rows)
        epilogue(frame, op, step, first_row, n_rows)
    return phase


cdef void shape_keeping(const Frame* frame, const Op* op, int64_t step, int64_t first_row, int64_t n_rows) noexcept nogil:
    """ADD, NOISE and ELEMENTWISE: z from x, element by element."""
    cdef int64_t n = n_rows * op.n_out
    cdef const real* x = rows_of(frame.work, frame, op.x, op.n_out, first_row)
    cdef real* z = output_of(frame, op, first_row)
    if op.code == ADD:
        sum_of(x, rows_of(frame.work, frame, op.skip, op.n_out, first_row), z, n)
    elif op.code == NOISE and frame.training:
        add_noise(z, x, n_rows, op.n_out, op.std, first_row, frame.seed, STREAM_NOISE + op.stream, step)
    else:
        memcpy(z, x, n * sizeof(real))


cdef int64_t backpropagate(const Frame* frame, int64_t first_row, int64_t n_rows, int64_t batch, int64_t phase) noexcept nogil:
    """From ∂C/∂(raw output) to ∂C/∂z of every operation, over the rows of this thread; returns the
    next phase of the barrier.
    """
    cdef int64_t i
    cdef const Op* op
    cdef bint passes_on
    for i in range(frame.n_ops - 1, -1, -1):
        op = &frame.ops[i]
        passes_on = op.x_grad != GRAD_NONE or op.skip_grad != GRAD_NONE
        if op.weight < 0 and not passes_on:
            continue
        epilogue_backward(frame, op, first_row, n_rows)
        if op.code == BATCH_NORM:
            phase = batch_norm_backward(frame, op, first_row, n_rows, batch, phase)
        elif not passes_on:
            continue
        elif op.code == DENSE:
            dense_input_gradient(frame, op, first_row, n_rows)
        elif op.code == LAYER_NORM:
            layer_norm_backward(frame, op, first_row, n_rows)
        else:
            shape_keeping_backward(frame, op, first_row, n_rows)
    return phase


cdef void dense_input_gradient(const Frame* frame, const Op* op, int64_t first_row, int64_t n_rows) noexcept nogil:
    """∂C/∂x = δ Wᵀ."""
    cdef real* d_x = input_gradient_of(frame, op, first_row)
    cdef Addend arrived_before = matrix(1, d_x, op.n_in) if op.x_grad == GRAD_ADD else nothing()
    product(frame, False, True, n_rows, op.n_in, op.n_out, 1, output_gradient_of(frame, op, first_row), op.n_out, frame.theta + op.weight, op.n_out,
            arrived_before, d_x, op.n_in)


cdef void shape_keeping_backward(const Frame* frame, const Op* op, int64_t first_row, int64_t n_rows) noexcept nogil:
    cdef int64_t n = n_rows * op.n_out
    cdef const real* d_z = output_gradient_of(frame, op, first_row)
    if op.code == ADD:
        pass_gradient(op.skip_grad, d_z, rows_of(frame.d_work, frame, op.skip, op.n_out, first_row), n)
    pass_gradient(op.x_grad, d_z, rows_of(frame.d_work, frame, op.x, op.n_out, first_row), n)
