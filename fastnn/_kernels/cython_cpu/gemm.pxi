"""Matrix products: the register tile of gemm_tile.h, and BLAS where that is faster.

BLAS comes from ``scipy.linalg.cython_blas``: its function is handed over as a capsule (`use_blas`)
by the engine that needs it, so that a machine with AVX-512, where the tile is always faster, never
waits for SciPy to be imported.
"""

cdef extern from "gemm_tile.h":
    ctypedef struct GemmShape:
        int64_t m, n, depth
    ctypedef struct Operand:
        const real* data
        int64_t stride
        bint transposed
    ctypedef struct SourceMatrix:
        real beta
        const real* data
        int64_t stride
    ctypedef struct OutputMatrix:
        real* data
        int64_t stride

    enum:
        CALLS_BLAS  # whether this level ever does
        WIDTH  # elements of a vector
    const int64_t LARGEST_B  # elements of B up to which the tile is used where BLAS is called too
    void copy_row(const real* source, real* target, int64_t n) noexcept nogil
    void gemm_tiled(GemmShape shape, real alpha, Operand a, Operand b, SourceMatrix d,
                    OutputMatrix c, PrefetchQueue* queue) noexcept nogil
    void transpose_pack(const real* source, int64_t stride, int64_t rows, int64_t columns,
                        real* target, int64_t target_stride) noexcept nogil
    void transpose_back(const real* source, int64_t stride, int64_t rows, int64_t columns,
                        real* target, int64_t target_stride) noexcept nogil

# BLAS's own signature.
ctypedef void (*BlasGemm)(char*, char*, int*, int*, int*, real*, real*, int*, real*, int*, real*,
                          real*, int*) noexcept nogil
cdef BlasGemm blas_gemm = NULL


def use_blas(capsule):
    """Call this BLAS function: ``sgemm`` or ``dgemm`` as SciPy's Cython interface exports them."""
    global blas_gemm
    blas_gemm = <BlasGemm>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule))


cdef inline Operand operand(const real* data, int64_t stride) noexcept nogil:
    return Operand(data, stride, False)


cdef inline Operand transposed(const real* data, int64_t stride) noexcept nogil:
    return Operand(data, stride, True)


cdef inline SourceMatrix no_source() noexcept nogil:
    return SourceMatrix(0, NULL, 0)


cdef inline SourceMatrix bias_of(const KernelContext* ctx, const Op* op) noexcept nogil:
    """A bias as a matrix whose rows are 0 apart."""
    return SourceMatrix(1, ctx.theta + op.bias, 0) if op.bias >= 0 else no_source()


cdef inline void gemm(const KernelContext* ctx, GemmShape shape, real alpha, Operand a, Operand b,
                      SourceMatrix d, OutputMatrix c) noexcept nogil:
    """C ← α op(A) op(B) + β D, for row-major matrices."""
    if shape.m <= 0 or shape.n <= 0:
        return
    if not CALLS_BLAS or shape.depth * shape.n <= LARGEST_B or shape.depth == 0:
        gemm_tiled(shape, alpha, a, b, d, c, ctx.prefetch_queue)
    else:
        by_blas(shape, alpha, a, b, d, c)
        if ctx.prefetch_queue != NULL:
            prefetch_advance(ctx.prefetch_queue, shape.m * shape.n * shape.depth)


cdef void by_blas(GemmShape shape, real alpha, Operand a, Operand b, SourceMatrix d,
                  OutputMatrix c) noexcept nogil:
    """A row-major C is a column-major Cᵀ = op(B)ᵀ op(A)ᵀ, hence the swapped operands."""
    cdef char[2] flags = [b'N', b'T']
    cdef int m = <int>shape.m, n = <int>shape.n, depth = <int>shape.depth
    cdef int lda = <int>a.stride, ldb = <int>b.stride, ldc = <int>c.stride
    cdef int64_t i
    if d.beta != ZERO and d.data != c.data:
        for i in range(shape.m):
            memcpy(c.data + i * c.stride, d.data + i * d.stride, shape.n * sizeof(real))
    blas_gemm(&flags[b.transposed], &flags[a.transposed], &n, &m, &depth, &alpha, <real*>b.data,
              &ldb, <real*>a.data, &lda, &d.beta, c.data, &ldc)


cdef void sum_of_rows(const real* rows, int64_t n_rows, int64_t n, int64_t stride,
                      real* target) noexcept nogil:
    """target[c] = Σᵣ rows[r, c]: a row of ones, one element read at stride 0, times the rows."""
    cdef real one = 1
    if n > 0:
        gemm_tiled(GemmShape(1, n, n_rows), 1, transposed(&one, 0), operand(rows, stride),
                   no_source(),
                   OutputMatrix(target, n), NULL)
