"""The whole engine on `CudaDevice`: a fake driver for memory and streams, kernels in the simulator.

Mistakes with streams, graphs and memory that the simulated device forgives show here.
"""

import ctypes
import traceback

import numpy as np
import pytest
from conftest import ptx_of

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.numba_cuda.driver import ptx_compiler
from fastnn._kernels.numba_cuda.driver.driver import CudaDevice
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS
from fastnn._kernels.numba_cuda.kernels.op_table import OPERATION
from fastnn._kernels.numba_cuda.runtime import plan
from fastnn._kernels.numba_cuda.toolchain import available

if not available.simulated():
    pytest.skip(
        "the fake driver runs no kernels: NUMBA_ENABLE_CUDASIM=1, as tests/test_cuda_processes.py "
        "sets, has Numba run them",
        allow_module_level=True,
    )

from fastnn._kernels.numba_cuda import engine
from fastnn._kernels.numba_cuda.driver import gpu_arrays
from fastnn._kernels.numba_cuda.driver.simulated_blocks import blocks
from fastnn._kernels.numba_cuda.driver.simulator import SimulatedDevice

X = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 1)


@pytest.fixture(scope="module")
def both():
    device = CudaDevice()
    like = SimulatedDevice()
    # The engine makes the same plan for both.
    for name in ("simulated", "cooperative", "multiprocessors", "warp_block", "shared_per_block"):
        setattr(device, name, getattr(like, name))
    return device, like


@pytest.fixture
def driver(fake, both, monkeypatch):
    """The device that networks on "cuda" use; an error in a kernel fails the test."""
    device, like = both
    monkeypatch.setattr(
        ptx_compiler,
        "load",
        lambda name, dtype, capability: ptx_compiler.parse(ptx_of(f"{name}__{dtype}")),
    )
    monkeypatch.setattr(engine, "open_device", lambda: device)
    monkeypatch.setattr(gpu_arrays, "open_device", lambda: device)
    errors = []

    def run(launch):
        try:
            name, _, dtype = launch.name.rpartition("__")
            arrays = arrays_of(launch, dtype)
            with blocks(at_once=False):
                like._entry(name)[launch.grid, launch.block, 0, launch.shared](arrays)
        except BaseException:  # ctypes would print and forget it
            errors.append(traceback.format_exc())

    fake.run = run
    yield device
    device.synchronize()
    assert not errors, errors[0]


def arrays_of(launch, dtype):
    """A kernel's arguments as the simulator takes them, over the fake device's memory."""
    from fastnn._kernels.numba_cuda.driver.simulator import _as_kernels_see

    kinds = {
        "real": dtype,
        "int64": "int64",
        "float64": "float64",
        "ops": OPERATION,
        "loss": opcodes.LOSS,
        "optimizer": opcodes.OPTIMIZER,
    }
    arrays = []
    for place, (_, kind) in enumerate(ARGUMENTS[:-1]):
        n, itemsize, pointer = launch.words[7 * place + 2 : 7 * place + 5]
        memory = (ctypes.c_char * (n * itemsize)).from_address(pointer) if n else b""
        arrays.append(_as_kernels_see(np.frombuffer(memory, kinds[kind])))
    return (*arrays, launch.words[-1])


def network(backend):
    layers = [fnn.Dense(6, "gelu"), fnn.BatchNorm(), fnn.Dropout(0.2), fnn.Dense(3)]
    return fnn.Network(layers, inputs=4, loss="softmax_cross_entropy", backend=backend, seed=3)


def trained(backend, **fitting):
    net = network(backend)
    rule = fnn.Adam(0.01, clip_norm=1.0)
    history = net.fit(X, Y, epochs=2, batch_size=8, optimizer=rule, progress=False, **fitting)
    return net, history


def check(net, history):
    twin, expected = trained("numpy")
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-4)
    for name, array in twin.parameters.items():
        np.testing.assert_allclose(net.parameters[name], array, atol=1e-4)
    np.testing.assert_allclose(net.predict(X), twin.predict(X), atol=1e-4)


def test_the_persistent_path(driver, fake):
    before = fake.count("cuGraphLaunch")
    check(*trained("cuda"))
    assert fake.count("cuGraphLaunch") == before


def test_the_graph_path(driver, fake, monkeypatch):
    monkeypatch.setattr(plan, "MAX_WIDTH", 2)
    before = fake.count("cuGraphLaunch")
    check(*trained("cuda"))
    assert fake.count("cuGraphLaunch") > before


def test_streamed_samples(driver, fake, monkeypatch):
    monkeypatch.setattr(engine.sample_transfer, "_RESIDENT_FRACTION", 0.0)
    monkeypatch.setattr(engine.sample_transfer, "PIECE_BYTES", 8 * 24)  # a mini-batch
    before = fake.count("cuStreamWaitEvent")
    check(*trained("cuda"))
    assert fake.count("cuStreamWaitEvent") > before


def test_gradients(driver):
    net, twin = network("cuda"), network("numpy")
    _, gradients = net.gradients(X, Y)
    for name, array in twin.gradients(X, Y)[1].items():
        np.testing.assert_allclose(gradients[name], array, atol=1e-5)


def test_memory_is_given_back(driver, fake):
    net = network("cuda")
    net.predict(X)
    used = fake.used
    del net
    driver.synchronize()
    assert fake.used < used


def test_the_gpu_runs_out_of_memory_anywhere(driver, fake, monkeypatch):
    """The network is consistent wherever memory ran out: as after the last complete chunk."""
    # So that samples are never streamed.
    monkeypatch.setattr(engine.sample_transfer, "memory_left", lambda device, taken: 1 << 20)
    said, history = [], None
    for room in range(1000, 200_000, 900):
        driver.synchronize()
        fake.memory(fake.used + room)
        net, twin = network("cuda"), network("numpy")
        try:
            history = net.fit(
                X,
                Y,
                epochs=2,
                batch_size=8,
                optimizer=fnn.Adam(0.01, clip_norm=1.0),
                progress=False,
            )
        except MemoryError as error:
            said.append(str(error))
        fake.memory(64 << 20)
        if history is not None:
            break
        assert net.state.device_state is None
        if net.state.step == 0:
            np.testing.assert_array_equal(net.state.theta, twin.state.theta)
        np.testing.assert_allclose(net.predict(X), net.copy(backend="numpy").predict(X), atol=1e-5)
        net = None
    assert len(said) > 3
    assert all("were asked of the GPU, where" in words for words in said)
    check(net, history)


def test_the_rows_of_many_outputs_are_predicted_few_at_a_time(driver, monkeypatch):
    monkeypatch.setattr(plan, "MAX_WIDTH", 2)
    monkeypatch.setattr(engine, "_PREDICTION_BYTES", 7 * 3 * 4)
    monkeypatch.setattr(engine, "_MIN_PREDICTION_ROWS", 1)
    net, twin = network("cuda"), network("numpy")
    np.testing.assert_allclose(net.predict(X), twin.predict(X), atol=1e-6)
    assert net.engine._workspace["predictions"].n < 20 * 3 + (1 << 18)
    assert net.engine._workspace.capacity == 7
