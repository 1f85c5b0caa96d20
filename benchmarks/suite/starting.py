"""Start-up costs: importing, compiling, and the first step of a new process."""

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time

from .engines import ENGINES, REFERENCE

_RUNS = 5
_WARM, _FIRST = 19, 20  # widths of input

# One step of a network as wide as the argument; its loss.
_STEP = """
import sys
import numpy as np
import fastnn as fnn
engine, inputs = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
X, y = rng.random((32, inputs), dtype=np.float32), rng.integers(0, 7, 32)
net = fnn.mlp([inputs, 41, 7], backend=engine)
print(net.fit(X, y, batch_size=32, progress=False)["loss"][0], flush=True)
"""


def _first_step(engine, inputs, **environment):
    """Seconds from the start of a process to the end of its first step, and that step's loss."""
    command = [sys.executable, "-c", _STEP, engine, str(inputs)]
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError(f"{engine}: the process ended with status {process.returncode}")
    return seconds, float(line)


def _check(engine, inputs, loss):
    _, expected = _first_step(REFERENCE, inputs)
    if not math.isclose(loss, expected, rel_tol=1e-4):
        raise AssertionError(f"{engine}: the first step has a loss of {loss} instead of {expected}")


class FirstStep:
    """A process of its own for each figure, from its start to the end of its first step."""

    params = ENGINES
    param_names = ("engine",)

    def setup(self, engine):
        _, loss = _first_step(engine, _WARM)  # fills the cache of compiled kernels
        _check(engine, _WARM, loss)

    def track_first_step_seconds(self, engine):
        """With compiled kernels in their cache, and a network whose widths no process has seen."""
        return statistics.median(_first_step(engine, _FIRST + run)[0] for run in range(_RUNS))

    track_first_step_seconds.unit = "seconds"

    def track_compile_seconds(self, engine):
        """With an empty cache."""
        with tempfile.TemporaryDirectory() as cache:
            seconds, loss = _first_step(engine, _FIRST, NUMBA_CACHE_DIR=cache)
        _check(engine, _FIRST, loss)
        return seconds

    track_compile_seconds.unit = "seconds"


def timeraw_import():
    """The package alone."""
    return "import fastnn"


def timeraw_import_network():
    """What a network is built of."""
    return "from fastnn import Adam, Dense, Network"
