"""The Cython engine: the CPU engine around a compiled module of `levels`."""

import numpy as np

from fastnn._kernels import scipy_blas
from fastnn._kernels.contract import Program
from fastnn._kernels.cpu_engine import CpuEngine
from fastnn._kernels.cython_cpu import levels


class CythonEngine(CpuEngine):
    """The Cython engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        kernels = levels.module(program.dtype)
        if kernels.CALLS_BLAS_HERE:
            kernels.use_blas(_blas_product(program.dtype))
        super().__init__(program, kernels.run, calls_blas=kernels.CALLS_BLAS_HERE)


def _blas_product(dtype: np.dtype) -> object:
    """The matrix product of the BLAS that SciPy has, as a capsule."""
    with scipy_blas.alone() as cython_blas:
        return cython_blas.__pyx_capi__["sgemm" if dtype == np.float32 else "dgemm"]
