"""Fixtures for tests of `CudaDevice` on a fake driver.

`tests/test_cuda_processes.py` builds the fake driver and runs these tests in a process that loads
it.
"""

import ctypes
import os
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn._kernels import opcodes
from fastnn._kernels.numba_cuda.driver import ptx_compiler
from fastnn._kernels.numba_cuda.driver.device import open_device
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS

N_WORDS = 7 * (len(ARGUMENTS) - 1) + 1
_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_char_p, *[ctypes.c_int] * 4, ctypes.POINTER(ctypes.c_int64), ctypes.c_int
)


class FakeDriver:
    """What a test can ask of the fake driver and tell it."""

    def __init__(self):
        self._library = ctypes.CDLL(os.environ["FASTNN_FAKE_CUDA"])
        self._library.fake_used.restype = ctypes.c_size_t
        self.launches = []
        self.run = lambda launch: None  # a kernel
        self._callback = _CALLBACK(self._launched)
        self._library.fake_on_launch(self._callback)

    def _launched(self, name, grid, block, shared, cooperative, words, n):
        launch = SimpleNamespace(
            name=name.decode(),
            grid=grid,
            block=block,
            shared=shared,
            cooperative=bool(cooperative),
            words=[words[i] for i in range(n)],
        )
        self.launches.append(launch)
        self.run(launch)

    def count(self, name):
        return self._library.fake_count(name.encode())

    def fail(self, name, code):
        """The next time that this function is called it fails."""
        self._library.fake_fail(name.encode(), code)

    @property
    def used(self):
        return self._library.fake_used()

    def memory(self, nbytes):
        self._library.fake_memory(ctypes.c_size_t(nbytes))


def array_at(launch, name, dtype):
    """An argument of a launch as the kernel would see it."""
    place = [argument for argument, _ in ARGUMENTS].index(name)
    unused, _, n, itemsize, pointer, length, stride = launch.words[7 * place : 7 * place + 7]
    assert unused == 0
    assert (length, stride, itemsize) == (n, np.dtype(dtype).itemsize, np.dtype(dtype).itemsize)
    return np.frombuffer((ctypes.c_char * (n * itemsize)).from_address(pointer), dtype)


@pytest.fixture(scope="session")
def opened():
    return FakeDriver()


@pytest.fixture
def fake(opened):
    opened.launches.clear()
    opened.run = lambda launch: None
    opened.memory(64 << 20)
    return opened


@pytest.fixture
def device(fake, monkeypatch):
    """The process's device, with kernels of any name that do nothing."""
    monkeypatch.setattr(
        ptx_compiler, "load", lambda name, dtype, capability: ptx_compiler.parse(ptx_of(name))
    )
    device = open_device()
    device.synchronize()
    yield device
    device.synchronize()


def ptx_of(name, n_words=N_WORDS):
    parameters = ",\n".join(f"\t.param .u64 {name}_param_{i}" for i in range(n_words))
    head = "//\n.version 9.0\n.target sm_90\n.visible .entry"
    return f"{head} {name}(\n{parameters}\n)\n{{\n\tret;\n}}\n"


@pytest.fixture
def arguments(device):
    """Buffers for all arguments of a kernel: three elements each, but no labels."""
    kinds = {
        "real": np.float32,
        "int64": np.int64,
        "float64": np.float64,
        "ops": opcodes.OP,
        "loss": opcodes.LOSS,
        "optimizer": opcodes.OPTIMIZER,
    }
    return {
        name: device.zeros(0 if name == "labels" else 3, kinds[kind])
        for name, kind in ARGUMENTS
        if kind != "scalar"
    }
