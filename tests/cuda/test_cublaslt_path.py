"""The graph path with cuBLASLt's products, against the reference."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn._kernels.numba_cuda.toolchain import available


@pytest.mark.skipif(
    available.packages_missing() is not None,
    reason="numba-cuda, which has the simulator, is not installed",
)
def test_networks_train_with_cublaslt():
    here = Path(__file__).parent
    paths = [str(here.parents[1]), str(here.parent), str(here), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "NUMBA_ENABLE_CUDASIM": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    done = subprocess.run(
        [sys.executable, str(here / "cublaslt_path.py")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" products, ") == 4
