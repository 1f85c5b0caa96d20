# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, freethreading_compatible=True
"""The kernel of the Cython engine: a chunk of mini-batches to train on, or rows to predict.

It takes the arguments of ``numba_cpu/steps.py`` and shares a step among threads in the same way,
which is described there. The arithmetic is its own. Each compiled copy is for one dtype, ``real``,
and one level of processor: see `levels`.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.math cimport NAN, cos, floor, isfinite, isnan, log, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cimport numpy as cnp

include "opcodes.pxi"
include "processor.pxi"

cdef extern from "machine.h":
    ctypedef float real
    const real ZERO, HALF, ONE, TWO, LARGEST, SMALLEST
    ctypedef real* real_target  # no source of the same loop overlaps it
    real absolute(real x) noexcept nogil
    real square_root(real x) noexcept nogil
    real logarithm(real x) noexcept nogil
    real multiply_add(real a, real b, real c) noexcept nogil
    double multiply_add_double(double a, double b, double c) noexcept nogil
    real nearest(real x) noexcept nogil
    real power_of_two(real k) noexcept nogil
    real exponent_of(real x) noexcept nogil
    real times_power_of_two(real x, real k) noexcept nogil
    uint64_t enable_ftz_daz() noexcept nogil
    void restore_fp_mode(uint64_t mode) noexcept nogil

cdef extern from "prefetch.h":
    ctypedef struct PrefetchQueue:
        const char* features
        const char* targets
        int64_t feature_bytes, target_bytes, lines
    enum:
        CACHE_LINE
    void prefetch_begin(PrefetchQueue* queue, const int64_t* samples, int64_t n_samples,
                        double multiplications) noexcept nogil
    void prefetch_advance(PrefetchQueue* queue, int64_t multiplications) noexcept nogil


# Fields of an array that is there: reading them raises nothing, so callers need not ask.
cdef inline int64_t row_stride_of(cnp.ndarray array) noexcept:
    return array.shape[1] if array.ndim > 1 else 1


cdef inline void* data_or_null(cnp.ndarray array) noexcept:
    return cnp.PyArray_DATA(array) if cnp.PyArray_SIZE(array) > 0 else NULL


include "arguments.pxi"
include "scalars.pxi"
include "kernel_context.pxi"
include "gemm.pxi"
include "philox.pxi"
include "update.pxi"
include "dispatch.pxi"
include "elementwise.pxi"
include "norm.pxi"
include "columns.pxi"
include "embedding.pxi"
include "piecewise.pxi"
include "periodic.pxi"
include "feature_dense.pxi"
include "loss.pxi"
include "ensemble.pxi"
include "statistics.pxi"
include "gradients.pxi"
include "steps.pxi"

CALLS_BLAS_HERE = bool(CALLS_BLAS)  # whether `use_blas` must come before `run`


def run(int64_t rank, int64_t n_threads, object arguments, cnp.ndarray X, bint linked,
        cnp.ndarray predictions):
    """Run as thread ``rank`` of ``n_threads``; ``arguments`` is a `KernelArguments`.

    A run with ``backward`` returns how many losses were written. Other runs write outputs for all
    rows of X to ``predictions``, raw or ``linked``, and return 1 if a row was not finite, else 0.
    """
    cdef PrefetchQueue queue
    cdef KernelContext ctx = context_of(rank, n_threads, <tuple>arguments)
    ctx.X, ctx.n_inputs = <const real*>X.data, X.shape[1]
    cdef int64_t n = X.shape[0], result
    cdef real* outputs = <real*>predictions.data
    with nogil:
        if ctx.backward:
            ctx.prefetch_queue = &queue
            result = train(&ctx) if ctx.updates else run_chunk(&ctx)
        else:
            result = predict(&ctx, n, linked, outputs)
    return result
