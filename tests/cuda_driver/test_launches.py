"""Launches and recorded work: the driver's calls, their number and their order."""

import gc

import numpy as np
import pytest
from conftest import N_WORDS, array_at, ptx_of

from fastnn._kernels.numba_cuda.driver import ptx_compiler
from fastnn._kernels.numba_cuda.driver.launch import Launch


def test_a_launch_in_all_its_words(device, fake, arguments):
    device.launch(Launch("first", grid=3, block=64, shared=1000, index=5), list(arguments.values()))
    device.synchronize()
    (seen,) = fake.launches
    assert (seen.name, seen.grid, seen.block, seen.shared, seen.cooperative) == (
        "first",
        3,
        64,
        1000,
        False,
    )
    expected = []
    for buffer in arguments.values():
        expected += [
            0,
            0,
            buffer.n,
            buffer.dtype.itemsize,
            buffer.pointer,
            buffer.n,
            buffer.dtype.itemsize,
        ]
    assert seen.words == [*expected, 5]
    assert len(seen.words) == N_WORDS == 7 * len(arguments) + 1
    assert arguments["labels"].pointer == 0


def test_a_kernel_is_loaded_once_for_each_number_type(device, fake, arguments, monkeypatch):
    asked = []
    monkeypatch.setattr(
        ptx_compiler, "load", lambda *key: asked.append(key) or ptx_compiler.parse(ptx_of(key[0]))
    )
    device.prepare(["once"], np.float32)
    device.prepare(["once"], "float64")
    for _ in range(3):
        device.launch(Launch("once", 1, 32), list(arguments.values()))
    assert asked == [("once", "float32", (9, 0)), ("once", "float64", (9, 0))]


def test_cooperative(device, fake, arguments):
    device.launch(Launch("cooperative", 4, 256, cooperative=True), list(arguments.values()))
    device.synchronize()
    assert fake.launches[0].cooperative


def test_permission_for_more_shared_memory_is_requested(device, fake, arguments):
    before = fake.count("cuFuncSetAttribute")
    for shared in (40 << 10, 48 << 10, 100 << 10, 60 << 10, 227 << 10):
        device.launch(Launch("large", 1, 32, shared), list(arguments.values()))
    device.synchronize()
    assert [seen.shared for seen in fake.launches] == [
        40 << 10,
        48 << 10,
        100 << 10,
        60 << 10,
        227 << 10,
    ]
    assert fake.count("cuFuncSetAttribute") == before + 3
    with pytest.raises(
        RuntimeError,
        match="cuFuncSetAttribute failed with CUDA_ERROR_INVALID_VALUE: invalid argument",
    ):
        device.launch(Launch("large", 1, 32, 228 << 10), list(arguments.values()))


def test_mistakes_of_a_launch(device, arguments):
    with pytest.raises(ValueError, match=f"kernel 'few' takes {N_WORDS} words, not {N_WORDS - 7}"):
        device.launch(Launch("few", 1, 32), list(arguments.values())[:-1])
    with pytest.raises(ValueError, match="kernel 'few' can have 512 threads a block, not 1024"):
        device.launch(Launch("few", 1, 1024), list(arguments.values()))


def test_a_kernel_works_on_the_buffers(device, fake, arguments):
    def run(launch):
        array_at(launch, "theta", np.float32)[:] += launch.words[-1]

    fake.run = run
    device.upload(arguments["theta"], np.arange(3, dtype=np.float32))
    device.launch(Launch("add", 1, 32, index=10), list(arguments.values()))
    np.testing.assert_array_equal(device.download(arguments["theta"]), [10, 11, 12])


# --- recorded -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "launches"),
    [(0, 0), (1, 1), (7, 7), (8, 1), (64, 1), (2 * 64 + 3 * 8 + 5, 2 + 3 + 5)],
)
def test_recorded_work_is_done_as_often_as_wanted(device, fake, arguments, times, launches):
    def step():
        for name in ("a", "b"):
            device.launch(Launch(name, 1, 32), list(arguments.values()))

    device.prepare("ab", np.float32)
    graph = device.record(step)
    device.synchronize()
    assert not fake.launches
    before = fake.count("cuGraphLaunch"), fake.count("cuLaunchKernelEx")
    graph.launch(times)
    device.synchronize()
    assert [seen.name for seen in fake.launches] == ["a", "b"] * times
    assert (fake.count("cuGraphLaunch"), fake.count("cuLaunchKernelEx")) == (
        before[0] + launches,
        before[1],
    )


def test_a_graph_is_made_ready_once(device, fake, arguments):
    device.prepare("a", np.float32)
    graph = device.record(lambda: device.launch(Launch("a", 1, 32), list(arguments.values())))
    before = fake.count("cuGraphInstantiateWithFlags")
    for _ in range(5):
        graph.launch(9)
    assert fake.count("cuGraphInstantiateWithFlags") == before + 2


def test_copies_and_fills_are_recorded_in_order(device, fake, arguments):
    def run(launch):
        array_at(launch, "theta", np.float32)[:] += 1

    def step():
        device.copy(arguments["gradient"], arguments["theta"])
        device.launch(Launch("add", 1, 32), list(arguments.values()))
        device.fill_zero(arguments["work"])

    fake.run = run
    device.prepare(["add"], np.float32)
    graph = device.record(step)
    device.upload(arguments["theta"], np.full(3, 5, np.float32))
    device.upload(arguments["work"], np.full(3, 5, np.float32))
    graph.launch(10)
    assert (device.download(arguments["theta"]) == 15).all()
    assert (device.download(arguments["gradient"]) == 14).all()
    assert not device.download(arguments["work"]).any()


def test_a_graph_keeps_its_buffers(device, fake, arguments):
    device.prepare("a", np.float32)
    graph = device.record(lambda: device.launch(Launch("a", 1, 32), list(arguments.values())))
    arguments.clear()
    gc.collect()
    device.synchronize()
    graph.launch(3)
    device.synchronize()
    assert len(fake.launches) == 3
    destroyed = fake.count("cuGraphDestroy"), fake.count("cuGraphExecDestroy")
    graph.launch(8)  # in flight when it is let go
    del graph
    used = fake.used
    device.synchronize()
    assert len(fake.launches) == 11
    assert fake.used < used
    assert (fake.count("cuGraphDestroy"), fake.count("cuGraphExecDestroy")) == (
        destroyed[0] + 2,
        destroyed[1] + 2,
    )


def test_garbage_of_a_recording_is_left_until_it_ends(device, fake, arguments):
    device.prepare("a", np.float32)
    lost = [device.empty(10, np.float32)]

    def step():
        lost.clear()
        gc.collect()
        device.launch(Launch("a", 1, 32), list(arguments.values()))

    freed = fake.count("cuMemFree")
    device.record(step).launch()
    assert fake.count("cuMemFree") == freed
    device.synchronize()
    assert fake.count("cuMemFree") > freed


@pytest.mark.parametrize(
    "what",
    [
        "upload",
        "download",
        "synchronize",
        "memory",
        "the first use of kernel 'unheard'",
        "a recording",
        "a graph",
        "upload_aside",
        "wait",
    ],
)
def test_what_cannot_be_recorded(device, arguments, what):
    theta, array = arguments["theta"], device.pinned(arguments["theta"].n, np.float32)
    event = device.upload_aside(device.empty(theta.n, np.float32), array)
    graph = device.record(lambda: None)
    work = {
        "upload": lambda: device.upload(theta, np.zeros(3, np.float32)),
        "download": lambda: device.download(theta),
        "synchronize": device.synchronize,
        "memory": lambda: device.zeros(3, np.float32),
        "the first use of kernel 'unheard'": lambda: device.launch(
            Launch("unheard", 1, 32), list(arguments.values())
        ),
        "a recording": lambda: device.record(lambda: None),
        "a graph": graph.launch,
        "upload_aside": lambda: device.upload_aside(theta, array),
        "wait": lambda: device.wait(event),
    }[what]
    with pytest.raises(RuntimeError, match=f"^{what} cannot be recorded"):
        device.record(work)
    device.upload(theta, np.ones(3, np.float32))  # and the device is none the worse for it
    assert device.download(theta).all()


# --- failures -------------------------------------------------------------------------------------


def test_an_error_has_cudas_words(device, fake):
    fake.fail("cuMemsetD8Async", 1)
    with pytest.raises(
        RuntimeError,
        match=r"^cuMemsetD8Async failed with CUDA_ERROR_INVALID_VALUE: invalid argument$",
    ):
        device.zeros(3, np.float32)
    fake.fail("cuMemsetD8Async", 12345)
    with pytest.raises((RuntimeError, ValueError), match="12345"):
        device.zeros(3, np.float32)


def test_a_newer_compiler_than_the_driver_takes(device, fake):
    fake.fail("cuModuleLoadDataEx", 222)
    with pytest.raises(
        RuntimeError,
        match=r"UNSUPPORTED_PTX_VERSION: .*; the compiler is newer than the driver: .*nvidia-nvvm",
    ):
        device.prepare(["newer"], np.float32)


def test_bad_ptx_has_the_assemblers_words(device, monkeypatch):
    code = ptx_compiler.Code("nonsense", "broken", N_WORDS)
    monkeypatch.setattr(ptx_compiler, "load", lambda *key: code)
    with pytest.raises(RuntimeError, match="CUDA_ERROR_INVALID_PTX") as caught:
        device.prepare(["broken"], np.float32)
    assert caught.value.__notes__ == ["while loading the CUDA kernel 'broken': ptxas: no entry"]


def test_memory_that_runs_out_elsewhere(device, fake):
    fake.fail("cuModuleLoadDataEx", 2)
    with pytest.raises(
        MemoryError,
        match=r"cuModuleLoadDataEx failed .*; on the GPU, where \S+ MiB of 64\.0 MiB are free",
    ):
        device.prepare(["another"], np.float32)
