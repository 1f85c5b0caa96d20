"""Where a thread finds its share of the arrays of a run, and the barrier between threads.

`KernelContext` itself is generated: see ``tools/generate_pxi.py``.
"""


cdef inline int64_t blocks_of(int64_t n, int64_t size) noexcept nogil:
    """Blocks of this size, the last perhaps smaller, that n elements make."""
    return (n + size - 1) // size


cdef struct Range:
    int64_t first, last


cdef inline Range partition(int64_t n, int64_t rank, int64_t n_threads) noexcept nogil:
    """The part of ``range(n)`` that thread ``rank`` owns."""
    return Range(n * rank // n_threads, n * (rank + 1) // n_threads)


cdef inline Range thread_range(const KernelContext* ctx, int64_t n) noexcept nogil:
    return partition(n, ctx.rank, ctx.n_threads)


cdef inline real* rows_of(real* workspace, const KernelContext* ctx, int64_t column, int64_t width,
                          int64_t row) noexcept nogil:
    """Row ``row`` of the value of this width at a column offset of a workspace."""
    return workspace + column * ctx.capacity + row * width


cdef inline real* output_of(const KernelContext* ctx, const Op* op, int64_t row) noexcept nogil:
    return rows_of(ctx.work, ctx, op.y, op.n_out, row)


cdef inline real* output_gradient_of(const KernelContext* ctx, const Op* op,
                                     int64_t row) noexcept nogil:
    return rows_of(ctx.d_work, ctx, op.y, op.n_out, row)


cdef inline real* input_of(const KernelContext* ctx, const Op* op, int64_t row) noexcept nogil:
    return rows_of(ctx.work, ctx, op.x, op.n_in, row)


cdef inline real* input_gradient_of(const KernelContext* ctx, const Op* op,
                                    int64_t row) noexcept nogil:
    return rows_of(ctx.d_work, ctx, op.x, op.n_in, row)


cdef inline bint splits_k(const KernelContext* ctx, const Op* op) noexcept nogil:
    """Whether threads share this operation's GEMM by features of the input: split-K."""
    return op.x == INPUT and ctx.split_k_partials != NULL


# --- the barrier ----------------------------------------------------------------------------------

cdef extern from "barrier.h":
    void arrive_and_wait(int64_t* barrier, int64_t phase, int64_t n_threads) noexcept nogil


cdef inline int64_t barrier_wait(const KernelContext* ctx, int64_t phase) noexcept nogil:
    """Wait until all threads have reached barrier number ``phase`` ≥ 1; returns the next number."""
    if ctx.n_threads > 1:
        arrive_and_wait(ctx.barrier, phase, ctx.n_threads)
    return phase + 1
