"""Tests that need an NVIDIA GPU; where there is none, each is skipped with the reason.

    python -m pytest -n 0 tests/gpu
    FASTNN_TEST_GPU_SIMULATOR=1 NUMBA_ENABLE_CUDASIM=1 python -m pytest -n 0 tests/gpu
        runs those marked `simulator` on Numba's simulator
    FASTNN_TEST_GPU_BACKEND=cython python -m pytest -n 0 tests/gpu
        tries the tests themselves on an engine that needs no GPU

On a GPU the tests of all engines also run for "cuda": FASTNN_TEST_ENGINES=numpy,cuda python -m
pytest -n 0 tests/test_contract.py …
"""

import os

import pytest
from gpu_cases import BACKEND, SIMULATED

import fastnn as fnn

# Numba reads the variable when it is imported.
if SIMULATED and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
    pytest.exit(
        "FASTNN_TEST_GPU_SIMULATOR=1 needs NUMBA_ENABLE_CUDASIM=1 from the start of the process",
        returncode=4,
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "simulator: small enough for Numba's CUDA simulator")
    config.addinivalue_line("markers", "real: looks inside the CUDA engine, or at the GPU itself")


def pytest_runtest_setup(item):
    status = fnn.backends()[BACKEND]
    if status != "available":
        pytest.skip(f"backend {BACKEND!r}: {status}")
    if SIMULATED and item.get_closest_marker("simulator") is None:
        pytest.skip("too large for Numba's simulator: only what is marked `simulator` runs there")
    if item.get_closest_marker("real") is not None and (SIMULATED or BACKEND != "cuda"):
        pytest.skip(
            "looks at the GPU itself, or inside the CUDA engine: "
            "not for the simulator, nor for a CPU engine in its place"
        )
