"""A pytest plugin, ``-p guard_pages``: kernels get arrays that lie beside inaccessible pages.

Every array that a compiled engine hands to its kernel lies at the end of a page whose successor, or
at the beginning of one whose predecessor, allows no access. A kernel that reads or writes one
element too many ends the process, however it was compiled; an address sanitizer does not see masked
vectors.
"""

import ctypes
import mmap
import random

import numpy as np

from fastnn._kernels import cpu_engine
from fastnn._kernels.kernel_arguments import KernelArguments

_PROTECT = ctypes.CDLL(None, use_errno=True).mprotect
_PROTECT.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_NO_ACCESS = 0
_random = random.Random(0)


def guarded(array: np.ndarray) -> np.ndarray:
    """A copy that touches an inaccessible page, in most cases with its end."""
    pages = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE + pages + mmap.PAGESIZE), np.uint8)
    for guard in (0, mmap.PAGESIZE + pages):
        if _PROTECT(memory.ctypes.data + guard, mmap.PAGESIZE, _NO_ACCESS) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    first = mmap.PAGESIZE + (pages - array.nbytes if _random.random() < 0.7 else 0)
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    copy.setflags(write=array.flags.writeable)
    return copy


class GuardedCall:
    """The arguments of a kernel with a guarded copy of each array, also of `KernelArguments`."""

    def __init__(self, arguments: tuple):
        self._copied: list[tuple[np.ndarray, np.ndarray]] = []
        self.arguments = tuple(map(self._guarded, arguments))

    def _guarded(self, argument):
        if isinstance(argument, KernelArguments):
            return KernelArguments(*map(self._guarded, argument))
        if not isinstance(argument, np.ndarray) or argument.size == 0:
            return argument
        copy = guarded(argument)
        self._copied.append((argument, copy))
        return copy

    def copy_back(self) -> None:
        """Write what the kernel wrote into the original arrays."""
        for array, copy in self._copied:
            if copy.flags.writeable:
                array[...] = copy


def run_guarded(n, run, arguments, calls_blas, core=None):
    call = GuardedCall(arguments)
    result = _run_in_threads(n, run, call.arguments, calls_blas, core)
    call.copy_back()
    return result


_run_in_threads, cpu_engine.run_in_threads = cpu_engine.run_in_threads, run_guarded
