"""Memory, copies and events.

The fake driver runs work as late as possible, so memory that is freed or changed too early shows.
"""

import gc

import numpy as np
import pytest

from fastnn._kernels.numba_cuda.driver.driver import _STAGING


@pytest.mark.parametrize("n", [1, 1000, _STAGING // 4, _STAGING // 4 + 1])
def test_an_array_may_be_changed_once_it_is_uploaded(device, n):
    array = np.arange(n, dtype=np.float32)
    buffer = device.empty(n, np.float32)
    device.upload(buffer, array)
    array[:] = -1
    np.testing.assert_array_equal(device.download(buffer), np.arange(n))


def test_more_uploads_than_the_staging_memory_holds(device):
    n = _STAGING // 3
    buffers = [device.empty(n, np.uint8) for _ in range(8)]
    for value, buffer in enumerate(buffers):
        device.upload(buffer, np.full(n, value, np.uint8))
    for value, buffer in enumerate(buffers):
        assert (device.download(buffer) == value).all()


def test_shapes_do_not_matter_but_sizes_and_types_do(device):
    buffer = device.empty(6, np.float64)
    device.upload(buffer, np.arange(6.0).reshape(3, 2).T)
    target = np.empty((2, 3))
    assert device.download(buffer, target) is target
    np.testing.assert_array_equal(target, [[0, 2, 4], [1, 3, 5]])
    for wrong in (np.zeros(5), np.zeros(6, np.float32)):
        with pytest.raises(ValueError, match="buffer of 6 of float64"):
            device.upload(buffer, wrong)
        with pytest.raises(ValueError, match="buffer of 6 of float64"):
            device.download(buffer, wrong)


def test_nothing_is_a_buffer_too(device):
    buffer = device.zeros(0, np.float32)
    assert (buffer.pointer, buffer.n, buffer.nbytes) == (0, 0, 0)
    device.upload(buffer, np.zeros(0, np.float32))
    device.copy(buffer, device.empty(0, np.float32))
    assert device.download(buffer).shape == (0,)
    assert device.pinned(0, np.int64).shape == (0,)


def test_zeros_fills_and_copies(device):
    buffer = device.zeros(100, np.int64)
    assert not device.download(buffer).any()
    device.upload(buffer, np.arange(100))
    other = device.empty(100, np.int64)
    device.copy(other, buffer)
    device.fill_zero(buffer)
    np.testing.assert_array_equal(device.download(other), np.arange(100))
    assert not device.download(buffer).any()
    with pytest.raises(ValueError, match="buffer of 99 of int64 for one of 100"):
        device.copy(other, buffer.view(0, 99))


def test_a_view_keeps_all_alive(device, fake):
    before = fake.used
    buffer = device.empty(100, np.float32)
    device.upload(buffer, np.arange(100, dtype=np.float32))
    view = buffer.view(90, 10).view(5, 2)
    assert view.pointer == buffer.pointer + 4 * 95
    del buffer
    device.synchronize()
    np.testing.assert_array_equal(device.download(view), [95, 96])
    del view
    device.synchronize()
    assert fake.used == before
    with pytest.raises(ValueError, match="elements 3 to 5 of a buffer of 4"):
        device.empty(4, np.float32).view(3, 2)


def test_memory_is_freed_only_after_the_work_on_it(device, fake):
    buffers = [device.empty(1000, np.float32) for _ in range(2)]
    device.upload(buffers[0], np.arange(1000, dtype=np.float32))
    device.copy(buffers[1], buffers[0])
    used, freed = fake.used, fake.count("cuMemFree")
    del buffers[0]
    gc.collect()
    assert (fake.used, fake.count("cuMemFree")) == (used, freed)
    device.empty(1, np.float32)  # frees what is released: it must wait first
    assert fake.count("cuMemFree") == freed + 1
    np.testing.assert_array_equal(device.download(buffers[0]), np.arange(1000))


def test_no_room(device, fake):
    with pytest.raises(
        MemoryError,
        match=r"^1\.0 GiB were asked of the GPU, where \S+ MiB of 64\.0 MiB are free: "
        "cuMemAlloc failed with CUDA_ERR",
    ):
        device.empty(1 << 28, np.float32)
    device.zeros(10, np.float32)
    fake.fail("cuMemHostAlloc", 2)
    with pytest.raises(
        MemoryError,
        match=r"^4\.0 KiB were asked of the computer's memory, to be pinned: cuMemHostAlloc failed",
    ):
        device.pinned(1024, np.float32)


def test_what_nobody_holds_makes_room(device):
    for _ in range(100):
        device.empty(30 << 20, np.uint8)


def test_free_memory(device, fake):
    device.synchronize()
    before = device.free_memory()
    buffer = device.empty(1 << 20, np.uint8)
    assert device.free_memory() == before - (1 << 20)
    del buffer
    assert device.free_memory() == before


# --- the second stream ----------------------------------------------------------------------------


def pinned(device, value, n=100):
    array = device.pinned(n, np.float32)
    array[:] = value
    return array


def test_work_waits_for_what_comes_aside(device):
    buffer, target = device.empty(100, np.float32), device.empty(100, np.float32)
    event = device.upload_aside(buffer, pinned(device, 7))  # which nobody but the event holds
    device.wait(event)
    device.copy(target, buffer)
    assert (device.download(target) == 7).all()
    event.synchronize()


@pytest.mark.parametrize(
    "wait", [lambda device: device.synchronize(), lambda device: device.empty(1, np.float32)]
)
def test_pinned_memory_outlives_its_copy(device, fake, wait):
    freed = fake.count("cuMemFreeHost")
    buffer, array = device.empty(100, np.float32), pinned(device, 9)
    device.upload_aside(buffer, array)  # its event is thrown away
    del array
    gc.collect()
    assert fake.count("cuMemFreeHost") == freed
    wait(device)
    assert fake.count("cuMemFreeHost") == freed + 1
    assert (device.download(buffer) == 9).all()


def test_events_are_let_go(device, fake):
    buffer, array = device.empty(100, np.float32), pinned(device, 1)
    for _ in range(10):
        device.upload_aside(buffer, array)
    device.synchronize()
    assert fake.count("cuEventCreate") == fake.count("cuEventDestroy")
