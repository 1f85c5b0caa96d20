# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True,
# initializedcheck=False, freethreading_compatible=True
"""The kernel of the Cython engine: a chunk of mini-batches, to train on, to differentiate or to
predict. All threads run it side by side.

It keeps the contract of ``numba_cpu/steps.py``, argument by argument, and its way of sharing a step
among threads, which is told there; the arithmetic is its own. Each compiled copy is for one number
type, ``real``, and one level of processor: see `levels`.
"""

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from libc.math cimport NAN, cos, floor, isfinite, log, sqrt
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy

cimport numpy as cnp

include "opcodes.pxi"
include "processor.pxi"

cdef extern from "machine.h":
    ctypedef float real
    const real ZERO, HALF, ONE, TWO, LARGEST
    ctypedef real* real_target  # no source of the same loop overlaps it
    real absolute(real x) noexcept nogil
    real square_root(real x) noexcept nogil
    real logarithm(real x) noexcept nogil
    real multiply_add(real a, real b, real c) noexcept nogil
    real nearest(real x) noexcept nogil
    real power_of_two(real k) noexcept nogil
    real exponent_of(real x) noexcept nogil
    real times_power_of_two(real x, real k) noexcept nogil
    uint64_t neglect_tiny() noexcept nogil
    void put_back(uint64_t setting) noexcept nogil
    void arrive(int64_t* counter) noexcept nogil
    int64_t arrived(int64_t* counter) noexcept nogil
    void relax() noexcept nogil
    void yield_core() noexcept nogil

include "scalars.pxi"
include "frame.pxi"
include "products.pxi"
include "philox.pxi"
include "elementwise.pxi"
include "norm.pxi"
include "loss.pxi"
include "update.pxi"
include "measure.pxi"
include "learn.pxi"
include "steps.pxi"

CALLS_BLAS_HERE = bool(CALLS_BLAS)  # whether `use_blas` must come before `run`


# Fields of an array that is there: reading them raises nothing, so callers need not ask.
cdef inline int64_t len_of(cnp.ndarray array) noexcept:
    return array.shape[0]


cdef inline void* data_or_null(cnp.ndarray array) noexcept:
    return cnp.PyArray_DATA(array) if array.shape[0] > 0 else NULL


def run(
    int rank, int n_threads, cnp.ndarray counter, cnp.ndarray ops, cnp.ndarray loss, cnp.ndarray rule, cnp.ndarray theta,
    cnp.ndarray gradient, cnp.ndarray slots, cnp.ndarray buffers, cnp.ndarray products, cnp.ndarray work, cnp.ndarray d_work,
    cnp.ndarray zeros, cnp.ndarray scratch, cnp.ndarray parts, cnp.ndarray notes, cnp.ndarray partial, int64_t capacity, int64_t output,
    bint training, bint backward, cnp.ndarray labels, cnp.ndarray targets, cnp.ndarray weights, cnp.ndarray order, cnp.ndarray bounds,
    cnp.ndarray rates, uint64_t seed, int64_t step, int64_t optimizer_step, cnp.ndarray losses, cnp.ndarray weight_sums, cnp.ndarray hits,
    int64_t every, cnp.ndarray statistics, cnp.ndarray X, bint linked, cnp.ndarray predictions,
):
    """Run a chunk as thread ``rank``; return how many losses were written. `CpuEngine` says what
    the arguments are.

    With ``backward`` false this predicts all of X: outputs go to ``predictions``, raw or
    ``linked``, and it returns 1 if one of its rows was not finite, else 0. With the rule NO_UPDATE
    the gradient, penalties included, is left in ``gradient``, and θ and running statistics stay as
    they are. Every ``every``-th step, if that is not 0, this thread's statistics go to
    ``statistics[record, rank]``.
    """
    cdef Upcoming upcoming
    cdef const Rule* the_rule = <const Rule*>rule.data
    cdef const Loss* the_loss = <const Loss*>loss.data
    cdef Frame frame = Frame(
        rank, n_threads, <int64_t*>counter.data, <const Op*>ops.data, len_of(ops), <real*>theta.data, len_of(theta), <real*>gradient.data,
        <real*>slots.data, len_of(slots) // max(len_of(theta), 1), <real*>buffers.data, <real*>work.data, <real*>d_work.data,
        <real*>scratch.data, len_of(scratch) // n_threads, <real*>data_or_null(parts), <real*>notes.data,
        len_of(notes) // n_threads, capacity, training, the_rule.code != NO_UPDATE, backward, seed, NULL,
    )
    cdef Inputs inputs = Inputs(<const real*>X.data, X.shape[1], <const int64_t*>order.data, Targets(
        <const int64_t*>data_or_null(labels), <const real*>data_or_null(targets),
        <const real*>data_or_null(weights),
    ))
    cdef Chunk chunk = Chunk(
        the_loss, the_rule, <const int64_t*>bounds.data, <const double*>rates.data, len_of(rates), output, step, optimizer_step,
        <double*>products.data, <double*>partial.data, <double*>losses.data, <double*>weight_sums.data,
        <double*>hits.data, every, <double*>statistics.data, len_of(statistics),
    )
    cdef int64_t link = the_loss.link if linked else IDENTITY, n = len_of(X), result
    cdef real* outputs = <real*>predictions.data
    with nogil:
        if backward:
            frame.upcoming = &upcoming
            result = train(&frame, &inputs, &chunk) if frame.learning else run_chunk(&frame, &inputs, &chunk)
        else:
            result = predict(&frame, &inputs, output, link, n, outputs)
    return result
