"""A real GPU, by the CUDA driver. `device.Device` says what each method is for.

a) **The primary context** is the one that PyTorch, CuPy and JAX use, so arrays can be shared. A
   thread enters it for the time of a call, and then returns to its own.
b) **One lock.** Work is recorded on the compute stream, and no other thread's work may come in
   between.
c) **Nothing is freed while it may be in use.** A handle that nothing holds goes to the queue
   ``released``: garbage collection may run anywhere, also while work is recorded, where no call may
   free. The queue is emptied when the device has nothing to do, or before memory is allocated.
"""

import collections
import contextlib
import ctypes
import functools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import cuda.bindings.driver as driver
import numpy as np

from fastnn._kernels.numba_cuda.driver import array_interface, ptx_compiler
from fastnn._kernels.numba_cuda.driver.buffer_checks import as_contents, as_target
from fastnn._kernels.numba_cuda.driver.calls import allocate, call
from fastnn._kernels.numba_cuda.driver.kernel import Kernel, c_text
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.driver.resources import Buffer, Event, Graph, Owned
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES

_THETA = ARRAY_NAMES.index("theta")
_STAGING = 4 << 20  # bytes of pinned memory that small uploads go through
# The legacy default stream of other libraries does not block it.
_NON_BLOCKING = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
_Attribute = driver.CUdevice_attribute


def _working(method: Callable) -> Callable:
    """A method that starts work on the GPU: one thread at a time, in the device's context."""

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        with self.working():
            return method(self, *args, **kwargs)

    return guarded


class CudaDevice:
    """The first GPU that CUDA finds.

    ``stream`` is the address of the compute stream, for libraries that work on it.
    """

    simulated = False
    cooperative = True
    warp_block = 256

    def __init__(self):
        self._process = os.getpid()
        self._lock = threading.RLock()
        self.released: collections.deque = collections.deque()
        self._kernels: dict[tuple[str, str], Kernel] = {}
        self._recorded: list | None = None  # what the work being recorded uses
        call(driver.cuInit, 0)
        self._device = call(driver.cuDeviceGet, 0)
        self._context = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self._describe()
        with self.working():
            self.compute = call(driver.cuStreamCreate, _NON_BLOCKING)
            self._copies = call(driver.cuStreamCreate, _NON_BLOCKING)
            self.stream = int(self.compute)
            self._staging, self._staged = self.pinned(_STAGING, np.uint8), 0

    def _describe(self) -> None:
        def ask(attribute: driver.CUdevice_attribute) -> int:
            return call(driver.cuDeviceGetAttribute, attribute, self._device)

        self.name = c_text(call(driver.cuDeviceGetName, 256, self._device))
        self.compute_capability = (
            ask(_Attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            ask(_Attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        self.multiprocessors = ask(_Attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        self.shared_per_block = ask(
            _Attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        )
        self.memory = call(driver.cuDeviceTotalMem, self._device)

    # --- the context ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """While inside, the device's context is this thread's."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "this process was forked from one that had used the GPU, and CUDA does not survive "
                "that: start processes by multiprocessing.get_context('spawn')"
            )
        if int(call(driver.cuCtxGetCurrent)) == int(self._context):
            yield
            return
        call(driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            call(driver.cuCtxPopCurrent)

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """While inside, this thread alone starts work on the device."""
        with self.current(), self._lock:
            yield

    # --- memory -----------------------------------------------------------------------------------

    @_working
    def free_memory(self) -> int:
        self._free_released()
        return call(driver.cuMemGetInfo)[0]

    @_working
    def empty(self, n: int, dtype: Any) -> Buffer:
        self.not_recorded("memory")
        dtype = np.dtype(dtype)
        if n == 0:
            return Buffer(0, 0, dtype, None)
        self._free_released()
        pointer = allocate(driver.cuMemAlloc, n * dtype.itemsize)
        return Buffer(int(pointer), n, dtype, Owned(pointer, driver.cuMemFree, self.released))

    @_working
    def zeros(self, n: int, dtype: Any) -> Buffer:
        buffer = self.empty(n, dtype)
        self.fill_zero(buffer)
        return buffer

    @_working
    def pinned(self, n: int, dtype: Any) -> np.ndarray:
        self.not_recorded("memory")
        dtype = np.dtype(dtype)
        if n == 0:
            return np.empty(0, dtype)
        self._free_released()
        nbytes = n * dtype.itemsize
        pointer = allocate(driver.cuMemHostAlloc, nbytes, 0)
        memory = (ctypes.c_char * nbytes).from_address(int(pointer))
        # The array holds ``memory``, which holds the allocation.
        memory.owner = Owned(pointer, driver.cuMemFreeHost, self.released)
        return np.frombuffer(memory, dtype)

    @_working
    def unowned_view(self, array: Any) -> Buffer:
        found = array_interface.find(array, self.stream)
        if found.n and found.pointer:
            place = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
            ordinal = call(driver.cuPointerGetAttribute, place, found.pointer)
            if ordinal != int(self._device):
                raise ValueError(
                    f"an array lies on GPU {ordinal}; "
                    f"fastnn works on GPU {int(self._device)}, the first that CUDA shows"
                )
        if found.stream == array_interface.ANY_STREAM:
            call(driver.cuCtxSynchronize)
        elif found.stream is not None:
            call(driver.cuStreamSynchronize, driver.CUstream(found.stream))
        return Buffer(found.pointer, found.n, found.dtype, found.owner)

    def _free_released(self) -> None:
        """Free what nothing holds, after the work that may still use it."""
        if not self.released:
            return
        call(driver.cuStreamSynchronize, self.compute)
        call(driver.cuStreamSynchronize, self._copies)
        while self.released:
            free, handle = self.released.popleft()
            call(free, handle)

    # --- copies -----------------------------------------------------------------------------------

    @_working
    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self.not_recorded("upload")
        array = as_contents(buffer, array)
        if array.nbytes > _STAGING:
            self._to_device(buffer, array, self.compute)
            call(driver.cuStreamSynchronize, self.compute)  # from now on the array may change
        elif array.nbytes:
            self._to_device(buffer, self._to_staging(array), self.compute)

    def _to_staging(self, array: np.ndarray) -> np.ndarray:
        """A copy in pinned memory.

        When that is full, it is used from its beginning again, after all copies out of it.
        """
        if self._staged + array.nbytes > _STAGING:
            call(driver.cuStreamSynchronize, self.compute)
            self._staged = 0
        copy = self._staging[self._staged : self._staged + array.nbytes]
        copy[:] = array.view(np.uint8)
        self._staged += math.ceil(array.nbytes / 64) * 64
        return copy

    @staticmethod
    def _to_device(buffer: Buffer, array: np.ndarray, stream: driver.CUstream) -> None:
        call(
            driver.cuMemcpyHtoDAsync,
            driver.CUdeviceptr(buffer.pointer),
            array.ctypes.data,
            buffer.nbytes,
            stream,
        )

    @_working
    def download(self, buffer: Buffer, array: np.ndarray | None = None) -> np.ndarray:
        self.not_recorded("download")
        array = as_target(buffer, array)
        if buffer.nbytes:
            call(
                driver.cuMemcpyDtoHAsync,
                array.ctypes.data,
                driver.CUdeviceptr(buffer.pointer),
                buffer.nbytes,
                self.compute,
            )
        call(driver.cuStreamSynchronize, self.compute)
        return array

    @_working
    def copy(self, target: Buffer, source: Buffer) -> None:
        if (target.n, target.dtype) != (source.n, source.dtype):
            raise ValueError(
                f"a buffer of {source.n} of {source.dtype} for one of {target.n} of {target.dtype}"
            )
        self._keep(target, source)
        if target.nbytes:
            pointers = driver.CUdeviceptr(target.pointer), driver.CUdeviceptr(source.pointer)
            call(driver.cuMemcpyDtoDAsync, *pointers, target.nbytes, self.compute)

    @_working
    def fill_zero(self, buffer: Buffer) -> None:
        self._keep(buffer)
        if buffer.nbytes:
            call(
                driver.cuMemsetD8Async,
                driver.CUdeviceptr(buffer.pointer),
                0,
                buffer.nbytes,
                self.compute,
            )

    # --- kernels ----------------------------------------------------------------------------------

    def prepare(self, names: Iterable[str], dtype: Any) -> None:
        for name in names:
            self.kernel(name, dtype)

    def kernel(self, name: str, dtype: Any) -> Kernel:
        """A kernel for a number type, compiled and loaded on first use."""
        key = name, np.dtype(dtype).name
        if key not in self._kernels:
            self.not_recorded(f"the first use of kernel {name!r}")
            code = ptx_compiler.load(*key, self.compute_capability)
            with self.working():
                self._kernels.setdefault(key, Kernel(name, code))
        return self._kernels[key]

    @_working
    def launch(self, launch: Launch, arguments: Sequence[Buffer]) -> None:
        kernel = self.kernel(launch.kernel, arguments[_THETA].dtype)
        self._keep(*arguments)
        kernel.launch(launch, arguments, self.compute)

    @_working
    def record(self, work: Callable[[], None]) -> Graph:
        self.not_recorded("a recording")
        self._free_released()
        self._recorded = recorded = []
        # Meanwhile other threads may use CUDA, but for this stream.
        call(
            driver.cuStreamBeginCapture,
            self.compute,
            driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
        )
        try:
            work()
        except BaseException:
            # This may fail as well; the first error is the one to report.
            driver.cuStreamEndCapture(self.compute)
            raise
        finally:
            self._recorded = None
        return Graph(self, call(driver.cuStreamEndCapture, self.compute), recorded)

    def _keep(self, *buffers: Buffer) -> None:
        if self._recorded is not None:
            self._recorded.extend(buffer.owner for buffer in buffers)

    def not_recorded(self, what: str) -> None:
        if self._recorded is not None:
            raise RuntimeError(
                f"{what} cannot be recorded: only launches, copies on the device and fills can"
            )

    # --- waiting ----------------------------------------------------------------------------------

    @_working
    def synchronize(self) -> None:
        self.not_recorded("synchronize")
        call(driver.cuStreamSynchronize, self.compute)
        call(driver.cuStreamSynchronize, self._copies)
        self._free_released()

    @_working
    def upload_aside(self, buffer: Buffer, array: np.ndarray) -> Event:
        self.not_recorded("upload_aside")
        array = as_contents(buffer, array)
        if array.nbytes:
            self._to_device(buffer, array, self._copies)
        return Event(self, self._copies, (buffer, array))

    @_working
    def wait(self, event: Event) -> None:
        self.not_recorded("wait")
        call(driver.cuStreamWaitEvent, self.compute, event.owned.handle, 0)
