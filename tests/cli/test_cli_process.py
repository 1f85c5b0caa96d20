"""The command line as a process of its own."""

import subprocess
import sys

import numpy as np
import pytest
from cli_cases import npz, save


def process(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


def test_as_a_module():
    result = process("train", "nothing.csv")
    assert (result.returncode, result.stdout, result.stderr) == (
        2,
        "",
        "fastnn: there is no file nothing.csv\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_leaves_early():
    save()
    npz(X=np.ones((20_000, 2)))
    command = [
        sys.executable,
        "-m",
        "fastnn",
        "predict",
        "plain.fastnn",
        "d.npz",
        "--backend",
        "numpy",
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""


def test_the_library_stays_light():
    heavy = {"click", "rich", "pyarrow", "numba", "scipy"}
    code = f"import sys, fastnn; print(*{heavy} & set(sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )
