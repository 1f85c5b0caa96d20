"""The guard pages of `guard_pages` guard, and every array of a kernel's arguments has them."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="protects pages by mprotect")

TOUCH = """
import ctypes
import numpy as np
from guard_pages import guarded
arrays = [np.arange(n, dtype=dtype) for n in (1, 5, 1024, 5000) for dtype in ("float32", "float64")]
for array in arrays:
    copy = guarded(array)
    assert (copy == array).all() and copy.dtype == array.dtype and copy.flags.writeable
print("within", flush=True)
ctypes.string_at(copy.ctypes.data + copy.nbytes, 1)
ctypes.string_at(copy.ctypes.data - 1, 1)
print("beyond")
"""
EVERY_ARRAY = """
import numpy as np
from builders import EVERYTHING, features, network, targets
import guard_pages
from fastnn._kernels import cpu_engine
seen = []
class Recorded(guard_pages.GuardedCall):
    def __init__(self, arguments):
        super().__init__(arguments)
        plain, kernel_arguments = arguments[1:], arguments[0]
        given = [a for a in (*plain, *kernel_arguments) if isinstance(a, np.ndarray) and a.size]
        assert len(self._copied) == len(given) > 5
        assert all(copy is not array for array, copy in self._copied)
        seen.append(len(given))
guard_pages.GuardedCall = Recorded
X, y, nets = features(9), targets("values", 9), []
for engine in ("{engine}", "numpy"):
    net = network(EVERYTHING, backend=engine)
    net.fit(X, y, epochs=2, batch_size=4)
    nets.append((net.predict(X), net.evaluate(X, y)["loss"]))
assert seen
np.testing.assert_allclose(nets[0][0], nets[1][0], rtol=1e-9)
np.testing.assert_allclose(nets[0][1], nets[1][1], rtol=1e-9)
"""


def run(program):
    paths = {"PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=os.environ | paths, capture_output=True, text=True)


def test_a_touch_beyond_either_end_ends_the_process():
    ended = run(TOUCH)
    assert ended.stdout.split() == ["within"], ended.stderr
    assert ended.returncode < 0


def test_every_array_of_a_kernel_is_guarded_and_copied_back(compiled):
    ended = run(EVERY_ARRAY.replace("{engine}", compiled))
    assert ended.returncode == 0, ended.stderr
