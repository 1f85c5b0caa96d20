"""The simulated device. Tests of the real one are in tests/cuda_driver."""

import sys
from types import ModuleType

import numpy as np
import pytest
from builders import in_threads
from numba import float32

from fastnn._kernels import opcodes
from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS
from fastnn._kernels.numba_cuda.toolchain import available
from fastnn._kernels.numba_cuda.toolchain.shim import SIMULATED, cuda, device

PLACE = {name: place for place, (name, _) in enumerate(ARGUMENTS)}
KINDS = {
    "real": np.float32,
    "int64": np.int64,
    "float64": np.float64,
    "ops": opcodes.OP,
    "loss": opcodes.LOSS,
    "optimizer": opcodes.OPTIMIZER,
}


@device
def scaled(x, op):
    return x * type(x)(op.std)


def reverse(*arguments):
    """Each block reverses its part of θ in shared memory, and scales it by an operation's std."""
    theta, ops, index = arguments[PLACE["theta"]], arguments[PLACE["ops"]], arguments[-1]
    part = cuda.shared.array(0, float32)
    part[cuda.threadIdx.x] = scaled(theta[cuda.grid(1)], ops[index])
    cuda.syncthreads()
    theta[cuda.grid(1)] = part[cuda.blockDim.x - 1 - cuda.threadIdx.x]


def overflow(*arguments):
    theta = arguments[PLACE["theta"]]
    theta[cuda.grid(1)] = theta[cuda.grid(1)] * np.float32(1e30) * np.float32(1e30)


def beyond(*arguments):
    arguments[PLACE["theta"]][8] = 0


@pytest.fixture
def simulated(monkeypatch):
    kernels = ModuleType("kernels")
    kernels.KERNELS = {"reverse": reverse, "overflow": overflow, "beyond": beyond}
    monkeypatch.setitem(sys.modules, "fastnn._kernels.numba_cuda.kernels.entry_points", kernels)
    monkeypatch.setattr("fastnn._kernels.numba_cuda.kernels.entry_points", kernels, raising=False)
    opened = open_device()
    monkeypatch.setattr(opened, "_entries", {})
    return opened


@pytest.fixture
def arguments(simulated):
    made = {
        name: simulated.zeros(8 if kind == "real" else 2, KINDS[kind])
        for name, kind in ARGUMENTS
        if kind != "scalar"
    }
    ops = np.zeros(2, opcodes.OP)
    ops["std"] = 1, 10  # NumPy's records have a method of that name
    simulated.upload(made["ops"], ops)
    simulated.upload(made["theta"], np.arange(8, dtype=np.float32))
    return made


def test_it_is_the_simulator(simulated):
    assert SIMULATED
    assert simulated.simulated
    assert open_device() is simulated
    assert available.unavailable_reason() is None
    assert available.capability() is None


def test_a_kernel_with_blocks_and_shared_memory(simulated, arguments):
    simulated.launch(Launch("reverse", 2, 4, shared=16, index=1), list(arguments.values()))
    np.testing.assert_array_equal(
        simulated.download(arguments["theta"]), [30, 20, 10, 0, 70, 60, 50, 40]
    )


def test_recorded_work_is_done_later_and_often(simulated, arguments):
    def step():
        simulated.launch(Launch("reverse", 1, 8, shared=32), list(arguments.values()))
        simulated.copy(arguments["gradient"], arguments["theta"])
        simulated.fill_zero(arguments["work"])

    simulated.upload(arguments["work"], np.ones(8, np.float32))
    graph = simulated.record(step)
    np.testing.assert_array_equal(simulated.download(arguments["theta"]), np.arange(8))
    graph.launch(3)
    np.testing.assert_array_equal(simulated.download(arguments["gradient"]), np.arange(8)[::-1])
    assert not simulated.download(arguments["work"]).any()
    with pytest.raises(RuntimeError, match="upload cannot be recorded"):
        simulated.record(lambda: simulated.upload(arguments["work"], np.ones(8, np.float32)))
    simulated.synchronize()


def test_numbers_overflow_in_silence(simulated, arguments):
    simulated.launch(Launch("overflow", 1, 8), list(arguments.values()))
    np.testing.assert_array_equal(simulated.download(arguments["theta"]), [0, *[np.inf] * 7])


def test_mistakes_are_seen(simulated, arguments):
    with pytest.raises(IndexError):
        simulated.launch(Launch("beyond", 1, 1), list(arguments.values()))
    with pytest.raises(KeyError):
        simulated.launch(Launch("nothing", 1, 1), list(arguments.values()))
    with pytest.raises(ValueError, match="9 elements of float32 for a buffer of 8 of float32"):
        simulated.upload(arguments["theta"], np.zeros(9, np.float32))
    with pytest.raises(ValueError, match="elements 7 to 9 of a buffer of 8"):
        arguments["theta"].view(7, 2)


def test_memory_that_nobody_wrote_is_nan(simulated):
    assert np.isnan(simulated.download(simulated.empty(3, np.float32))).all()


def test_views_and_arrays_of_any_shape(simulated, arguments):
    view = arguments["theta"].view(2, 4).view(1, 2)
    simulated.upload(view, np.array([[-1], [-2]], np.float32))
    np.testing.assert_array_equal(
        simulated.download(arguments["theta"]), [0, 1, 2, -1, -2, 5, 6, 7]
    )
    target = np.empty((2, 1), np.float32)
    assert simulated.download(view, target) is target
    np.testing.assert_array_equal(target, [[-1], [-2]])


def test_streams_and_pinned_memory(simulated):
    array, buffer = simulated.pinned(4, np.float32), simulated.zeros(4, np.float32)
    array[:] = 5
    event = simulated.upload_aside(buffer, array)
    simulated.wait(event)
    event.synchronize()
    assert (simulated.download(buffer) == 5).all()


def test_an_unowned_view(simulated):
    array = np.arange(6.0).reshape(2, 3)
    buffer = simulated.unowned_view(array)
    array[0, 0] = 9
    np.testing.assert_array_equal(simulated.download(buffer), [9, 1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match="C-contiguous"):
        simulated.unowned_view(array.T)


def test_threads_take_turns(simulated, arguments):
    def work():
        for _ in range(5):
            simulated.launch(Launch("reverse", 1, 8, shared=32), list(arguments.values()))

    in_threads(work, work)
    np.testing.assert_array_equal(simulated.download(arguments["theta"]), np.arange(8))
