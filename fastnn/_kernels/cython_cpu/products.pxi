"""Matrix products: the register tile of tile.h, and BLAS where that is faster.

BLAS comes from ``scipy.linalg.cython_blas``: its function is handed over as a capsule (`use_blas`)
by the engine that needs it, so that a machine with AVX-512, where the tile is always faster, never
waits for SciPy to be imported.
"""

cdef extern from "tile.h":
    ctypedef struct Addend:
        real beta
        const real* data
        int64_t stride

    enum:
        CALLS_BLAS  # whether this level ever does
        WIDTH  # elements of a vector
    const int64_t LARGEST_B  # elements of B up to which the tile is used where BLAS is called too
    void copy_row(const real* source, real* target, int64_t n) noexcept nogil
    void tile_product(bint transpose_a, bint transpose_b, int64_t m, int64_t n, int64_t depth, real alpha, const real* a, int64_t a_stride,
                      const real* b, int64_t b_stride, Addend add, real* c, int64_t c_stride, Upcoming* upcoming) noexcept nogil
    void turn(const real* source, int64_t stride, int64_t rows, int64_t columns, real* target, int64_t target_stride) noexcept nogil
    void turn_back(const real* source, int64_t stride, int64_t rows, int64_t columns, real* target, int64_t target_stride) noexcept nogil

ctypedef void (*BlasProduct)(char*, char*, int*, int*, int*, real*, real*, int*, real*, int*, real*, real*, int*) noexcept nogil
cdef BlasProduct blas_product = NULL


def use_blas(capsule):
    """Call this BLAS function: the capsule of ``sgemm`` or ``dgemm`` that SciPy's Cython interface
    exports.
    """
    global blas_product
    blas_product = <BlasProduct>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef inline Addend nothing() noexcept nogil:
    return Addend(0, NULL, 0)


cdef inline Addend matrix(real beta, const real* data, int64_t stride) noexcept nogil:
    return Addend(beta, data, stride)


cdef inline Addend bias_of(const Frame* frame, const Op* op) noexcept nogil:
    return Addend(1, frame.theta + op.bias, 0) if op.bias >= 0 else nothing()


cdef void product(const Frame* frame, bint transpose_a, bint transpose_b, int64_t m, int64_t n, int64_t depth, real alpha, const real* a, int64_t a_stride,
                  const real* b, int64_t b_stride, Addend add, real* c, int64_t c_stride) noexcept nogil:
    """C ← α op(A) op(B) + β D, for row-major matrices whose rows lie as many elements apart as
    their stride says.
    """
    if m <= 0 or n <= 0:
        return
    if not CALLS_BLAS or depth * n <= LARGEST_B or depth == 0:
        tile_product(transpose_a, transpose_b, m, n, depth, alpha, a, a_stride, b, b_stride, add, c, c_stride, frame.upcoming)
    else:
        by_blas(transpose_a, transpose_b, m, n, depth, alpha, a, a_stride, b, b_stride, add, c, c_stride)
        if frame.upcoming != NULL:
            ask_for(frame.upcoming, m * n * depth)


cdef void by_blas(bint transpose_a, bint transpose_b, int64_t m, int64_t n, int64_t depth, real alpha, const real* a, int64_t a_stride,
                  const real* b, int64_t b_stride, Addend add, real* c, int64_t c_stride) noexcept nogil:
    """A row-major C is a column-major Cᵀ = op(B)ᵀ op(A)ᵀ, hence the swapped operands."""
    cdef char normal = b'N', transposed = b'T'
    cdef int rows = <int>m, columns = <int>n, inner = <int>depth, lda = <int>a_stride, ldb = <int>b_stride, ldc = <int>c_stride
    cdef int64_t i
    if add.beta != ZERO and add.data != c:
        for i in range(m):
            memcpy(c + i * c_stride, add.data + i * add.stride, n * sizeof(real))
    blas_product(&transposed if transpose_b else &normal, &transposed if transpose_a else &normal, &columns, &rows, &inner, &alpha,
                 <real*>b, &ldb, <real*>a, &lda, &add.beta, c, &ldc)


cdef void sum_of_rows(const real* rows, int64_t n_rows, int64_t n, int64_t stride, real* target) noexcept nogil:
    """target[c] = Σᵣ rows[r, c]: the product of a row of ones, which is one element read again and
    again, with the rows.
    """
    cdef real one = 1
    if n > 0:
        tile_product(True, False, 1, n, n_rows, 1, &one, 0, rows, stride, nothing(), target, n, NULL)
