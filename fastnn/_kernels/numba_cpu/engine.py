"""The Numba engine: the CPU engine around the kernel of `steps`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np

from fastnn._kernels.contract import DTYPES, Program
from fastnn._kernels.cpu_engine import CpuEngine
from fastnn._kernels.numba_cpu import steps
from fastnn._kernels.numba_cpu.compile import entry, load
from fastnn._kernels.numba_cpu.gemm import NEEDS_BLAS
from fastnn._kernels.thread_pool import Run

# A kernel is compiled for one number type at a time, as few need both.
KERNELS = {dtype: entry(steps.run, dtype) for dtype in DTYPES}


class NumbaEngine(CpuEngine):
    """The Numba engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        super().__init__(
            program,
            KERNELS[program.dtype.name],
            calls_blas=NEEDS_BLAS,
            parallel=not numba.config.DISABLE_JIT,
        )
        self._loaded: Callable[..., int] | None = None

    def _records(self, array: np.ndarray) -> Any:
        """Records whose fields are attributes; NumPy's own are that in compiled code alone."""
        if not numba.config.DISABLE_JIT:
            return array
        return [
            SimpleNamespace(**dict(zip(array.dtype.names, record.item(), strict=True)))
            for record in array
        ]

    def _data(self, array: np.ndarray) -> np.ndarray:
        """A read-only view: one type for the compiler, whatever the user passed."""
        view = np.asarray(array).view()
        view.setflags(write=False)
        return view

    def _specialised(self, arguments: tuple) -> Callable[..., int]:
        if self._loaded is None:
            self._loaded = load(self._run, self.program.dtype.name, arguments)
        return self._loaded

    def _in_threads(
        self, threads: int, run: Callable[..., int], arguments: tuple, core: int | None = None
    ) -> Run:
        if self._loaded is None:
            self._specialised((0, threads, *arguments))
        return super()._in_threads(threads, run, arguments, core)
