"""The guard pages of `fence` guard."""

import os
import subprocess
import sys

import pytest

TOUCH = """
import ctypes
import numpy as np
from fence import fenced
arrays = [np.arange(n, dtype=dtype) for n in (1, 5, 1024, 5000) for dtype in ("float32", "float64")]
for array in arrays:
    copy = fenced(array)
    assert (copy == array).all() and copy.dtype == array.dtype and copy.flags.writeable
print("within", flush=True)
ctypes.string_at(copy.ctypes.data + copy.nbytes, 1)
ctypes.string_at(copy.ctypes.data - 1, 1)
print("beyond")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="protects pages by mprotect")
def test_a_touch_beyond_either_end_ends_the_process():
    paths = {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", TOUCH], env=os.environ | paths, capture_output=True, text=True
    )
    assert ended.stdout.split() == ["within"], ended.stderr
    assert ended.returncode < 0
