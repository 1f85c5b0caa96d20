"""The Cython engine: the CPU engine around a compiled module of `levels`."""

from fastnn._kernels.contract import Program
from fastnn._kernels.cpu_engine import CpuEngine
from fastnn._kernels.cython_cpu import levels


class CythonEngine(CpuEngine):
    """The Cython engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        super().__init__(program, levels.module(program.dtype).run, calls_blas=False)
