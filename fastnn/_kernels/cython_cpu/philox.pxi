"""Philox4x32-10: dropout masks and Gaussian noise, row by row; `fastnn._kernels.philox` says how
numbers are laid out.
"""

cdef extern from "philox.h":
    ctypedef struct Words:
        uint64_t w0, w1, w2, w3

    Words philox4x32(uint64_t c0, uint64_t c1, uint64_t c2, uint64_t c3, uint64_t k0,
                     uint64_t k1) noexcept nogil


cdef inline Words random_block(int64_t index, uint64_t seed, int64_t stream,
                               int64_t step) noexcept nogil:
    cdef uint64_t low = 0xFFFFFFFF
    return philox4x32(<uint64_t>index & low, <uint64_t>step & low, <uint64_t>step >> 32,
                      <uint64_t>stream, seed & low, seed >> 32)


cdef inline double dropout_rate(const KernelContext* ctx, const Op* op,
                                int64_t step) noexcept nogil:
    """Rate of an operation's dropout at step number ``step``."""
    if op.schedule < 0:
        return op.rate
    return ctx.dropout[(step - ctx.step) * ctx.dropout_stride + op.schedule]


cdef void dropout_masks(const KernelContext* ctx, const Op* op, real* masks, int64_t rows,
                        int64_t first_row, int64_t step) noexcept nogil:
    """Fill ``masks`` (rows, n), which begins at row ``first_row`` of the mini-batch.

    A mask is 0 where a unit is dropped, 1/(1 − rate) elsewhere.
    """
    cdef int64_t n = op.n_out, stream = STREAM_MASK + op.stream
    cdef uint64_t seed = ctx.seed
    cdef double rate = dropout_rate(ctx, op, step)
    cdef uint64_t threshold = <uint64_t>floor(rate * 4294967296.0 + 0.5)
    cdef real kept = <real>(1.0 / (1.0 - rate))
    cdef int64_t blocks = (n + 3) // 4
    cdef int64_t whole = max(n - 3 * blocks, 0)  # blocks whose fourth word is an element of the row
    cdef int64_t r, b, j, first
    cdef real* row
    cdef Words words
    cdef uint64_t* word = &words.w0
    for r in range(rows):
        first = (first_row + r) * blocks
        row = masks + r * n
        mask_blocks(row, row + blocks, row + 2 * blocks, row + 3 * blocks, whole, first, threshold,
                    kept, seed, stream, step)
        for b in range(whole, blocks):
            words = random_block(first + b, seed, stream, step)
            for j in range(4):
                if j * blocks + b < n:
                    row[j * blocks + b] = kept if word[j] >= threshold else 0


# Parameters: one pointer a run, so that the compiler sees that they do not overlap.
cdef inline void mask_blocks(real_target run_0, real_target run_1, real_target run_2,
                             real_target run_3, int64_t n, int64_t first, uint64_t threshold,
                             real kept, uint64_t seed, int64_t stream, int64_t step) noexcept nogil:
    """Masks from n whole blocks: word j of each goes to run j."""
    cdef int64_t b
    cdef Words words
    for b in range(n):
        words = random_block(first + b, seed, stream, step)
        run_0[b] = kept if words.w0 >= threshold else 0
        run_1[b] = kept if words.w1 >= threshold else 0
        run_2[b] = kept if words.w2 >= threshold else 0
        run_3[b] = kept if words.w3 >= threshold else 0


cdef void add_noise(const KernelContext* ctx, const Op* op, real* z, const real* x, int64_t rows,
                    int64_t first_row, int64_t step) noexcept nogil:
    """z = x + std · N(0, 1) by Box–Muller.

    Of the 2n words of a row the first n give radii and the last n angles.
    """
    cdef int64_t n = op.n_out, stream = STREAM_NOISE + op.stream
    cdef uint64_t seed = ctx.seed
    cdef double std = op.std
    cdef int64_t blocks = (2 * n + 3) // 4
    cdef int64_t r, c, first
    cdef double radius, angle
    for r in range(rows):
        first = (first_row + r) * blocks
        for c in range(n):
            radius = sqrt(-2.0 * log(random_uniform(first, c, blocks, seed, stream, step)))
            angle = 6.283185307179586 * random_uniform(first, n + c, blocks, seed, stream, step)
            z[r * n + c] = x[r * n + c] + <real>(std * radius * cos(angle))


cdef inline double random_uniform(int64_t first, int64_t element, int64_t blocks, uint64_t seed,
                                  int64_t stream, int64_t step) noexcept nogil:
    """Element of a row of random words, as a number in (0, 1)."""
    cdef Words words = random_block(first + element % blocks, seed, stream, step)
    cdef uint64_t* word = &words.w0
    return (<double>word[element // blocks] + 0.5) * 2.3283064365386963e-10
