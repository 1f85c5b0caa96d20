"""What one thread sees of a run, and the arrays in its flat vectors."""

cdef extern from "upcoming.h":
    ctypedef struct Upcoming:
        const char* features
        const char* targets
        int64_t feature_bytes, target_bytes, lines
    enum:
        CACHE_LINE
    void look_ahead(Upcoming* upcoming, const int64_t* samples, int64_t n_samples, double multiplications) noexcept nogil
    void ask_for(Upcoming* upcoming, int64_t multiplications) noexcept nogil


cdef struct Frame:
    # The buffers and constants of a run, the same in every thread but for `rank`: see
    # numba_cpu/frame.py for what each holds.
    int64_t rank, n_threads
    int64_t* counter
    const Op* ops
    int64_t n_ops
    real* theta
    int64_t n_theta  # its length, and that of each slot
    real* gradient
    real* slots
    int64_t n_slots
    real* buffers
    real* work
    real* d_work
    real* scratch
    int64_t scratch_per_thread
    real* parts  # NULL unless threads share the first product by features
    real* notes
    int64_t notes_per_thread
    int64_t capacity
    bint training
    bint learning
    bint backward
    uint64_t seed
    Upcoming* upcoming  # NULL in a prediction


cdef inline int64_t blocks_of(int64_t n, int64_t size) noexcept nogil:
    """Blocks of this size, the last perhaps smaller, that n elements make."""
    return (n + size - 1) // size


cdef struct Share:
    int64_t first, last


cdef inline Share share(int64_t n, int64_t rank, int64_t n_threads) noexcept nogil:
    """The part of ``range(n)`` that thread ``rank`` owns."""
    return Share(n * rank // n_threads, n * (rank + 1) // n_threads)


cdef inline Share own_share(const Frame* frame, int64_t n) noexcept nogil:
    return share(n, frame.rank, frame.n_threads)


cdef inline real* rows_of(real* workspace, const Frame* frame, int64_t column, int64_t width, int64_t row) noexcept nogil:
    """Row ``row`` of the value of this width at a column offset of a workspace."""
    return workspace + column * frame.capacity + row * width


cdef inline real* output_of(const Frame* frame, const Op* op, int64_t row) noexcept nogil:
    return rows_of(frame.work, frame, op.y, op.n_out, row)


cdef inline real* output_gradient_of(const Frame* frame, const Op* op, int64_t row) noexcept nogil:
    return rows_of(frame.d_work, frame, op.y, op.n_out, row)


cdef inline real* input_of(const Frame* frame, const Op* op, int64_t row) noexcept nogil:
    return rows_of(frame.work, frame, op.x, op.n_in, row)


cdef inline real* input_gradient_of(const Frame* frame, const Op* op, int64_t row) noexcept nogil:
    return rows_of(frame.d_work, frame, op.x, op.n_in, row)


cdef inline bint cuts_features(const Frame* frame, const Op* op) noexcept nogil:
    """Whether threads share this operation's product by features of the input rather than by rows:
    see numba_cpu/frame.py.
    """
    return op.x == INPUT and frame.parts != NULL


# --- how threads meet -----------------------------------------------------------------------------

cdef enum:
    SPINS_BEFORE_YIELD = 1024


cdef inline int64_t meet(const Frame* frame, int64_t phase) noexcept nogil:
    """Wait until all threads have come to their ``phase``-th meeting, 1 being the first; returns
    the number of the next.
    """
    cdef int64_t spins = 0
    if frame.n_threads > 1:
        arrive(frame.counter)
        while arrived(frame.counter) < phase * frame.n_threads:
            relax()
            spins += 1
            if spins > SPINS_BEFORE_YIELD:
                yield_core()
    return phase + 1
