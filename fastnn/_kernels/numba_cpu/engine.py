"""The Numba engine: the CPU engine around the kernel of `steps`."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np

from fastnn._kernels.contract import Program
from fastnn._kernels.cpu_engine import CpuEngine
from fastnn._kernels.numba_cpu import steps
from fastnn._kernels.numba_cpu.compile import specialised
from fastnn._kernels.numba_cpu.tile import NEEDS_BLAS


class NumbaEngine(CpuEngine):
    """The Numba engine; see `fastnn._kernels.contract.Engine` for what each method does."""

    def __init__(self, program: Program):
        super().__init__(program, steps.run, calls_blas=NEEDS_BLAS, parallel=not numba.config.DISABLE_JIT)

    def _records(self, array: np.ndarray) -> Any:
        """Records whose fields are attributes: in compiled code they are; without the JIT NumPy's are not."""
        if not numba.config.DISABLE_JIT:
            return array
        return [SimpleNamespace(**dict(zip(array.dtype.names, record.item(), strict=True))) for record in array]

    def _data(self, array: np.ndarray) -> np.ndarray:
        """A read-only view: one type for the compiler, whatever the user passed."""
        view = np.asarray(array).view()
        view.setflags(write=False)
        return view

    def _specialised(self, arguments: tuple) -> Callable[..., int]:
        return specialised(self._run, arguments)
