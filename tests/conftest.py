"""Fixtures that all tests share; `builders` makes networks and data."""

import os
import signal
import subprocess
import sys

# Before NumPy loads: the test processes occupy the cores, and its threads would spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from builders import COMPILED, ENGINES
from hypothesis import settings

import fastnn as fnn

# These have a process of their own: see test_cuda_processes.
collect_ignore = [
    *([] if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0" else ["cuda"]),
    *([] if "FASTNN_FAKE_CUDA" in os.environ else ["cuda_driver"]),
]

# The first call of a kernel may compile it.
settings.register_profile("fastnn", deadline=None, derandomize=True)
settings.load_profile("fastnn")

# A shell that starts tests in the background has them ignore Ctrl-C, and so would what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session):
    """Compile the Numba engine once, before workers would do so side by side."""
    starts_workers = getattr(session.config.option, "dist", "no") != "no"
    if starts_workers and "numba" in ENGINES and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0":
        subprocess.run([sys.executable, "-m", "fastnn", "warmup"], check=True)


@pytest.fixture(params=ENGINES)
def engine(request):
    """The name of each engine that can run here."""
    return request.param


@pytest.fixture(params=COMPILED)
def compiled(request):
    """The name of each engine that can run here, except the reference."""
    return request.param


@pytest.fixture
def use_threads(monkeypatch):
    """`fastnn.set_num_threads` for one test, in which even the smallest network uses them all."""
    from fastnn._kernels import cpu_engine, threads

    monkeypatch.setattr(threads, "_requested", None)
    monkeypatch.setattr(cpu_engine, "_OPERATIONS_PER_THREAD", 1.0)
    monkeypatch.setattr(cpu_engine, "_OPERATIONS_PER_BARRIER", 1e-3)
    return fnn.set_num_threads
