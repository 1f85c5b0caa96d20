"""The CUDA engine without a GPU, in other processes.

The simulator must be chosen before Numba is imported, and the fake driver before CUDA is loaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn._kernels.numba_cuda.toolchain import available

HERE = Path(__file__).parent
MISSING = available.compiler_missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def run_tests(folder, processes, **variables):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        str(processes),
        "-p",
        "no:cacheprovider",
        str(HERE / folder),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | variables, cwd=HERE.parent
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_in_the_simulator():
    run_tests("cuda", 2, NUMBA_ENABLE_CUDASIM="1")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fake driver is for Linux")
@pytest.mark.skipif(
    shutil.which("cc") is None, reason="there is no C compiler to build the fake driver"
)
def test_on_a_fake_driver(tmp_path):
    library = tmp_path / "libcuda.so.1"
    source = HERE / "cuda_driver" / "fake_driver.c"
    subprocess.run(
        ["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source, "-lpthread"],
        check=True,
    )
    paths = os.environ.get("LD_LIBRARY_PATH")
    variables = {
        "LD_LIBRARY_PATH": f"{tmp_path}:{paths}" if paths else str(tmp_path),
        "FASTNN_FAKE_CUDA": str(library),
    }
    run_tests("cuda_driver", 0, NUMBA_ENABLE_CUDASIM="0", **variables)
    run_tests("cuda_driver/test_engine.py", 0, NUMBA_ENABLE_CUDASIM="1", **variables)
