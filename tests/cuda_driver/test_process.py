"""The device in its process: opened once, shared by threads, unusable after a fork, or missing."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from builders import in_threads
from cuda.bindings import driver

from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.toolchain import available


def test_what_it_is(device):
    assert (device.name, device.compute_capability, device.multiprocessors) == (
        "Fake GPU",
        (9, 0),
        4,
    )
    assert device.shared_per_block == 227 << 10
    assert device.memory > 0
    assert not device.simulated
    assert device.stream == int(device.compute)


def test_it_is_opened_once(device):
    assert open_device() is device
    assert available.unavailable_reason() is None
    assert available.capability() == (9, 0)


def test_a_thread_has_its_own_context_back(device):
    def work():
        found = device.download(device.zeros(3, np.float32))
        return found, int(driver.cuCtxGetCurrent()[1])

    found, context = in_threads(work)[0]
    assert not found.any()
    assert context == 0


def test_threads_share_the_device(device):
    def work():
        for value in range(50):
            buffer = device.zeros(100, np.int64)
            device.upload(buffer, np.full(100, value))
            assert (device.download(buffer) == value).all()
        return "done"

    assert in_threads(*[work] * 4) == ["done"] * 4


def test_nothing_of_another_threads_is_recorded(device):
    results, buffer = [], device.zeros(3, np.int64)
    other = threading.Thread(
        target=lambda: results.append(device.download(device.zeros(2, np.int64)).sum())
    )

    def step():
        other.start()
        other.join(0.2)
        assert not results  # it waits
        device.fill_zero(buffer)

    graph = device.record(step)
    other.join(60)
    assert results == [0]
    device.upload(buffer, np.ones(3, np.int64))
    graph.launch()
    assert not device.download(buffer).any()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # where other threads live
def test_a_forked_process_is_told(device):
    buffer = device.zeros(3, np.float32)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            open_device().download(buffer)
        except BaseException as error:
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    assert said.startswith("RuntimeError: this process was forked from one that had used the GPU")
    assert "get_context('spawn')" in said
    assert not device.download(buffer).any()


# --- where there is none --------------------------------------------------------------------------

_PRINT_REASON = (
    "from fastnn._kernels.numba_cuda.toolchain import available; "
    "print(available.unavailable_reason())"
)
REASONS = {
    "fine": ({}, None),
    "a newer driver": ({"FAKE_CUDA_VERSION": "13020"}, None),
    "no GPU": ({"FAKE_CUDA_INIT": "100"}, "the NVIDIA driver finds no GPU"),
    "no GPU after all": ({"FAKE_CUDA_DEVICES": "0"}, "the NVIDIA driver finds no GPU"),
    "hidden": (
        {"FAKE_CUDA_INIT": "100", "CUDA_VISIBLE_DEVICES": ""},
        "the NVIDIA driver finds no GPU (CUDA_VISIBLE_DEVICES is '')",
    ),
    "forked": (
        {"FAKE_CUDA_INIT": "3"},
        "the NVIDIA driver does not start here: this process was forked from one that used it; "
        "start pro",
    ),
    "stand-in": (
        {"FAKE_CUDA_INIT": "34"},
        "no NVIDIA driver is installed (libcuda.so.1 is the toolkit's stand-in for it): "
        "install NVIDIA's, 580 or newer",
    ),
    "other": (
        {"FAKE_CUDA_INIT": "700"},
        "the NVIDIA driver does not start: an illegal memory access was encountered (error 700)",
    ),
    "unknown": (
        {"FAKE_CUDA_INIT": "4321"},
        "the NVIDIA driver does not start: no message (error 4321)",
    ),
    "old GPU": (
        {"FAKE_CUDA_CAPABILITY": "70"},
        "the GPU has compute capability 7.0; 7.5 or higher is needed (Turing, of 2018, or newer)",
    ),
    "oldest GPU": ({"FAKE_CUDA_CAPABILITY": "75"}, None),
}


def said(code, **variables):
    """What a new process prints."""
    environment = {
        key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"
    } | variables
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("variables", "reason"), REASONS.values(), ids=REASONS)
def test_unavailable_reason(variables, reason):
    answer = said(_PRINT_REASON, **variables)
    assert answer.startswith(str(reason))


def test_an_old_driver():
    compiler = available._compiler()
    if compiler[1] == (0, 0):
        pytest.skip(
            "the compiler is not of NVIDIA's packages, which alone say of which CUDA it is: "
            "no driver is too old for it"
        )
    answer = said(
        _PRINT_REASON,
        FAKE_CUDA_VERSION="12040",
    )
    assert answer.startswith(
        "the NVIDIA driver is of CUDA 12.4 and cannot read what the compiler of CUDA "
        f"{compiler[1][0]}.{compiler[1][1]}"
    )
    assert answer.endswith(f'pip install "{compiler[0]}==12.4.*"')


def test_opening_says_the_reason():
    code = """
from fastnn._kernels.numba_cuda.driver.device import open_device
try:
    open_device()
except RuntimeError as error:
    print(error)
"""
    assert said(code, FAKE_CUDA_INIT="100").startswith("the NVIDIA driver finds no GPU")


def test_it_starts_without_numba():
    code = """
import sys
from fastnn._kernels.numba_cuda.driver.device import open_device
print(open_device().name, "numba" in sys.modules)
"""
    assert said(code) == "Fake GPU False"
