"""Reasons why the CUDA engine cannot run: missing packages.

Drivers and GPUs are in tests/cuda_driver/test_process.py.
"""

import importlib.util
import subprocess
import sys

import pytest

import fastnn as fnn
from fastnn._kernels.numba_cuda.toolchain import available

INSTALL = 'pip install "fastnn[cuda]"'


@pytest.fixture(autouse=True)
def no_simulator(monkeypatch):
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)


@pytest.fixture
def installed(monkeypatch):
    """Say which modules are installed, of those that matter; with them there is a driver."""

    def say(*modules):
        def find_spec(name):
            if name.startswith("cuda.") and "cuda" not in modules:
                raise ModuleNotFoundError("No module named 'cuda'")
            return object() if name in modules else None

        monkeypatch.setattr(available.importlib.util, "find_spec", find_spec)
        monkeypatch.setattr(available, "_ask_driver", lambda: (None, (9, 0)))

    return say


CASES = {
    "all": (["numba", "numba_cuda", "cuda", "cuda.bindings"], None),
    "its successor beside it": (
        ["numba", "numba_cuda", "numba_cuda_mlir", "cuda", "cuda.bindings"],
        None,
    ),
    "its successor alone": (
        ["numba", "numba_cuda_mlir", "cuda", "cuda.bindings"],
        f"numba-cuda is not installed: {INSTALL} "
        "(numba-cuda-mlir cannot compile these kernels yet)",
    ),
    "no numba": (["numba_cuda", "cuda", "cuda.bindings"], f"numba is not installed: {INSTALL}"),
    "numba alone, which has an old CUDA target": (
        ["numba"],
        f"numba-cuda is not installed: {INSTALL}",
    ),
    "no bindings": (["numba", "numba_cuda", "cuda"], f"cuda-bindings is not installed: {INSTALL}"),
    "no bindings of anything": (
        ["numba", "numba_cuda"],
        f"cuda-bindings is not installed: {INSTALL}",
    ),
}


@pytest.mark.parametrize(("modules", "reason"), CASES.values(), ids=CASES)
def test_the_package_that_is_missing(installed, modules, reason):
    installed(*modules)
    assert available.unavailable_reason() == reason
    assert available.capability() == (None if reason else (9, 0))


def test_no_driver(installed, monkeypatch):
    ask = available._ask_driver
    installed("numba", "numba_cuda", "cuda", "cuda.bindings")
    monkeypatch.setattr(available, "_ask_driver", ask)
    monkeypatch.setattr(available, "_LIBRARY", "libno_such_driver.so.1")
    ask.cache_clear()
    try:
        missing = (
            "no NVIDIA driver is installed (libno_such_driver.so.1 is not there): "
            "install NVIDIA's, 580 or newer"
        )
        assert available.unavailable_reason() == missing
    finally:
        ask.cache_clear()


@pytest.mark.parametrize(("value", "simulated"), [("1", True), ("0", False), ("", False)])
def test_the_simulator_needs_no_driver(installed, monkeypatch, value, simulated):
    installed("numba", "numba_cuda", "cuda", "cuda.bindings")
    monkeypatch.setattr(available, "_ask_driver", lambda: ("no driver", None))
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", value)
    assert available.unavailable_reason() == (None if simulated else "no driver")
    assert available.capability() is None


def test_a_network_is_told_and_so_is_who_asks(installed):
    installed("numba")
    status = fnn.backends()["cuda"]
    assert status == f"unavailable: numba-cuda is not installed: {INSTALL}"
    with pytest.raises(
        RuntimeError,
        match=r"backend 'cuda' cannot run here: numba-cuda is not installed: "
        r"pip install \"fastnn\[cuda\]\"; avail",
    ):
        fnn.mlp([2, 2], backend="cuda")


def test_asking_does_not_load_numba():
    code = (
        "import sys; from fastnn._kernels.numba_cuda.toolchain import available; "
        "available.unavailable_reason(); print('numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is not None, reason="numba-cuda is installed"
)
def test_the_target_is_not_loaded_without_its_package():
    with pytest.raises(ImportError, match="numba-cuda is not installed"):
        importlib.import_module("fastnn._kernels.numba_cuda.toolchain.shim")
