"""A plugin of pytest, ``-p fence``: kernels get arrays between which nothing may be touched.

Every array that a compiled engine hands to its kernel lies at the end of a page behind which, or at
the beginning of one before which, no access is allowed. A kernel that reads or writes one element
too many ends the process, however it was compiled; an address sanitizer does not see masked
vectors.
"""

import ctypes
import mmap
import random

import numpy as np

from fastnn._kernels import cpu_engine

_PROTECT = ctypes.CDLL(None, use_errno=True).mprotect
_PROTECT.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_NO_ACCESS = 0
_random = random.Random(0)


def fenced(array: np.ndarray) -> np.ndarray:
    """A copy that touches a page without access, mostly with its end."""
    pages = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = np.frombuffer(mmap.mmap(-1, mmap.PAGESIZE + pages + mmap.PAGESIZE), np.uint8)
    for fence in (0, mmap.PAGESIZE + pages):
        if _PROTECT(memory.ctypes.data + fence, mmap.PAGESIZE, _NO_ACCESS) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    first = mmap.PAGESIZE + (pages - array.nbytes if _random.random() < 0.7 else 0)
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    copy.setflags(write=array.flags.writeable)
    return copy


def run_fenced(n, run, arguments, calls_blas):
    copies = [fenced(a) if isinstance(a, np.ndarray) and a.size else a for a in arguments]
    result = _run_side_by_side(n, run, tuple(copies), calls_blas)
    for array, copy in zip(arguments, copies, strict=True):
        if copy is not array and copy.flags.writeable:
            array[...] = copy
    return result


_run_side_by_side, cpu_engine.run_side_by_side = cpu_engine.run_side_by_side, run_fenced
