# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, freethreading_compatible=True
"""The kernel of the Cython engine; each compiled copy is for one number type and one level of processor."""

cimport numpy as cnp

include "opcodes.pxi"
include "processor.pxi"

cdef extern from "machine.h":
    ctypedef float real


def run(int rank, int n_threads, cnp.ndarray counter):
    """Run a chunk."""
    return sizeof(real)
