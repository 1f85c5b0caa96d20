"""A real GPU, by the CUDA driver. `device.Device` says what each method is for.

a) **The primary context** is the one that PyTorch, CuPy and JAX use, so arrays can be shared. A
   thread gets it for the time of a call and then has its own one back.
b) **One lock.** What is recorded goes by the compute stream, and nothing of another thread's may
   come in between.
c) **Nothing is freed while it may be in use.** What nobody holds any more is put on a heap
   (collecting garbage may happen anywhere, also while work is recorded, where no call may free),
   and the heap is cleared when the device has nothing to do, or when memory is wanted.
d) **A kernel's arguments** are, in Numba's convention, seven words for an array (two unused,
   elements, bytes of one, address, length, stride) and one for a number.
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

import numpy as np
from cuda.bindings import driver

from fastnn._kernels.numba_cuda.driver import array_interface, ptx_compiler
from fastnn._kernels.numba_cuda.driver.buffer_checks import as_contents, as_target
from fastnn._kernels.numba_cuda.driver.calls import allocate, call
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.kernels.frame import ARGUMENTS

_THETA = [name for name, _ in ARGUMENTS].index("theta")
_STAGE = 4 << 20  # bytes of pinned memory that small uploads go through
_BUNDLES = (64, 8, 1)  # how often a graph's work is done by one launch of it
# bytes of shared memory, a kernel's own arrays among them, for which it needs no permission
_PLAIN_SHARED = 48 << 10
# the legacy default stream of other libraries does not hold it up
_NON_BLOCKING = int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
_NO_TIMING = int(driver.CUevent_flags.CU_EVENT_DISABLE_TIMING)
_Attribute = driver.CUdevice_attribute
_MOST_THREADS = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
_OWN_SHARED = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
# of dynamic shared memory
_MOST_SHARED = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Owned:
    """Something of the driver's that is thrown on the heap when nobody holds it any more."""

    __slots__ = ("_free", "_heap", "handle")

    def __init__(self, handle: Any, free: Callable, heap: collections.deque):
        self.handle, self._free, self._heap = handle, free, heap

    def __del__(self):
        self._heap.append((self._free, self.handle))


class Buffer:
    """A vector in the GPU's memory at the address ``pointer``."""

    __slots__ = ("dtype", "n", "nbytes", "owner", "pointer")

    def __init__(self, pointer: int, n: int, dtype: np.dtype, owner: Any):
        self.pointer, self.n, self.dtype, self.owner = pointer, n, dtype, owner
        self.nbytes = n * dtype.itemsize

    def view(self, offset: int, n: int) -> "Buffer":
        if not 0 <= offset <= offset + n <= self.n:
            raise ValueError(f"elements {offset} to {offset + n} of a buffer of {self.n}")
        return Buffer(self.pointer + offset * self.dtype.itemsize, n, self.dtype, self.owner)

    def words(self) -> tuple[int, ...]:
        """As a kernel's argument."""
        return 0, 0, self.n, self.dtype.itemsize, self.pointer, self.n, self.dtype.itemsize


class Event:
    def __init__(self, device: "CudaDevice", stream: driver.CUstream, keep: tuple):
        self._device, self._keep = device, keep
        self.owned = Owned(
            call(driver.cuEventCreate, _NO_TIMING), driver.cuEventDestroy, device.heap
        )
        call(driver.cuEventRecord, self.owned.handle, stream)

    def synchronize(self) -> None:
        with self._device.current():
            call(driver.cuEventSynchronize, self.owned.handle)


class Graph:
    """Recorded work; it can be done several times by one launch, so that the host has few calls to
    make.
    """

    def __init__(self, device: "CudaDevice", graph: driver.CUgraph, keep: list):
        self._device, self._keep = device, keep
        self._graph = Owned(graph, driver.cuGraphDestroy, device.heap)
        self._bundles: dict[int, Owned] = {}

    def launch(self, times: int = 1) -> None:
        with self._device.working():
            self._device.not_recorded("a graph")
            for size in _BUNDLES:
                for _ in range(times // size):
                    call(driver.cuGraphLaunch, self._bundle(size).handle, self._device.compute)
                times %= size

    def _bundle(self, size: int) -> Owned:
        """The executable graph that does the work ``size`` times."""
        if size not in self._bundles:
            graph = self._graph if size == 1 else self._repeated(size)
            executable = call(driver.cuGraphInstantiate, graph.handle, 0)
            self._bundles[size] = Owned(executable, driver.cuGraphExecDestroy, self._device.heap)
        return self._bundles[size]

    def _repeated(self, size: int) -> Owned:
        repeated = Owned(call(driver.cuGraphCreate, 0), driver.cuGraphDestroy, self._device.heap)
        before: list = []
        for _ in range(size):
            before = [
                call(
                    driver.cuGraphAddChildGraphNode,
                    repeated.handle,
                    before,
                    len(before),
                    self._graph.handle,
                )
            ]
        return repeated


class Kernel:
    """A loaded kernel."""

    def __init__(self, name: str, code: ptx_compiler.Code):
        self.name, self._n_words = name, code.words
        self._module = _load(name, code)  # stays loaded as long as the process lives
        self.function = call(driver.cuModuleGetFunction, self._module, code.entry.encode())
        # Asking for anything loads it to the end, which must not happen while work is recorded.
        self._most_threads = call(driver.cuFuncGetAttribute, _MOST_THREADS, self.function)
        # dynamic, that needs no permission
        self._shared = _PLAIN_SHARED - call(driver.cuFuncGetAttribute, _OWN_SHARED, self.function)

    def launch(self, launch: Launch, arguments: Sequence[Buffer], stream: driver.CUstream) -> None:
        words = np.array(
            [*(word for buffer in arguments for word in buffer.words()), launch.index], np.int64
        )
        if len(words) != self._n_words:
            raise ValueError(
                f"kernel {self.name!r} takes {self._n_words} words, not {len(words)}: {len(arguments)} arrays and a number"
            )
        if launch.block > self._most_threads:
            raise ValueError(
                f"kernel {self.name!r} can have {self._most_threads} threads a block, not {launch.block}: it needs many registers"
            )
        self._permit(launch.shared)
        places = words.ctypes.data + 8 * np.arange(len(words), dtype=np.uint64)
        call(
            driver.cuLaunchKernelEx,
            _configuration(launch, stream),
            self.function,
            places.ctypes.data,
            0,
        )

    def _permit(self, shared: int) -> None:
        if shared > self._shared:
            call(driver.cuFuncSetAttribute, self.function, _MOST_SHARED, shared)
            self._shared = shared


def _load(name: str, code: ptx_compiler.Code) -> driver.CUmodule:
    """PTX, turned into machine code by the driver, which also keeps that; an error has its
    assembler's words.
    """
    log = bytearray(8192)
    options = [
        driver.CUjit_option.CU_JIT_ERROR_LOG_BUFFER,
        driver.CUjit_option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ]
    try:
        return call(
            driver.cuModuleLoadDataEx,
            code.ptx.encode() + b"\0",
            len(options),
            options,
            [log, len(log)],
        )
    except RuntimeError as error:
        error.add_note(
            f"while loading the CUDA kernel {name!r}: {_text(log) or 'no more is known'}"
        )
        raise


def _text(log: bytes) -> str:
    return log.split(b"\0")[0].decode(errors="replace").strip()


def _configuration(launch: Launch, stream: driver.CUstream) -> driver.CUlaunchConfig:
    made = driver.CUlaunchConfig()
    made.gridDimX, made.gridDimY, made.gridDimZ = launch.grid, 1, 1
    made.blockDimX, made.blockDimY, made.blockDimZ = launch.block, 1, 1
    made.sharedMemBytes, made.hStream = launch.shared, stream
    if launch.together:
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        attribute.value.cooperative = 1
        made.attrs, made.numAttrs = [attribute], 1
    return made


def _working(method: Callable) -> Callable:
    """A method that gives the GPU work: one thread at a time, in the device's context."""

    @functools.wraps(method)
    def guarded(self, *args, **kwargs):
        with self.working():
            return method(self, *args, **kwargs)

    return guarded


class CudaDevice:
    """The first GPU that CUDA finds. ``stream`` is the address of the compute stream, for libraries
    that work on it.
    """

    simulated = False
    can_meet = True
    warp_block = 256

    def __init__(self):
        self._process = os.getpid()
        self._lock = threading.RLock()
        self.heap: collections.deque = collections.deque()
        self._kernels: dict[tuple[str, str], Kernel] = {}
        self._recorded: list | None = None  # what the work being recorded uses
        call(driver.cuInit, 0)
        self._device = call(driver.cuDeviceGet, 0)
        self._context = call(driver.cuDevicePrimaryCtxRetain, self._device)
        self._describe()
        with self.working():
            self.compute = call(driver.cuStreamCreate, _NON_BLOCKING)
            self._aside = call(driver.cuStreamCreate, _NON_BLOCKING)
            self.stream = int(self.compute)
            self._stage, self._staged = self.pinned(_STAGE, np.uint8), 0

    def _describe(self) -> None:
        def ask(attribute: driver.CUdevice_attribute) -> int:
            return call(driver.cuDeviceGetAttribute, attribute, self._device)

        self.name = _text(call(driver.cuDeviceGetName, 256, self._device))
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
        """The device's context is this thread's."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "this process was forked from one that had used the GPU, and CUDA does not survive that: "
                "start processes by multiprocessing.get_context('spawn')"
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
        """This thread alone gives the device work."""
        with self.current(), self._lock:
            yield

    # --- memory -----------------------------------------------------------------------------------

    @_working
    def free_memory(self) -> int:
        self._clear_heap()
        return call(driver.cuMemGetInfo)[0]

    @_working
    def empty(self, n: int, dtype: Any) -> Buffer:
        self.not_recorded("memory")
        dtype = np.dtype(dtype)
        if n == 0:
            return Buffer(0, 0, dtype, None)
        self._clear_heap()
        pointer = allocate(driver.cuMemAlloc, n * dtype.itemsize)
        return Buffer(int(pointer), n, dtype, Owned(pointer, driver.cuMemFree, self.heap))

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
        self._clear_heap()
        nbytes = n * dtype.itemsize
        pointer = allocate(driver.cuMemHostAlloc, nbytes, 0)
        memory = (ctypes.c_char * nbytes).from_address(int(pointer))
        # the array keeps what keeps this
        memory.owner = Owned(pointer, driver.cuMemFreeHost, self.heap)
        return np.frombuffer(memory, dtype)

    @_working
    def borrow(self, array: Any) -> Buffer:
        found = array_interface.find(array, self.stream)
        if found.n and found.pointer:
            place = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
            ordinal = call(driver.cuPointerGetAttribute, place, found.pointer)
            if ordinal != int(self._device):
                raise ValueError(
                    f"an array lies on GPU {ordinal}; fastnn works on GPU {int(self._device)}, the first that CUDA shows"
                )
        if found.stream == array_interface.ANY_STREAM:
            call(driver.cuCtxSynchronize)
        elif found.stream is not None:
            call(driver.cuStreamSynchronize, driver.CUstream(found.stream))
        return Buffer(found.pointer, found.n, found.dtype, found.owner)

    def _clear_heap(self) -> None:
        """Free what nobody holds, after the work that may still use it."""
        if not self.heap:
            return
        call(driver.cuStreamSynchronize, self.compute)
        call(driver.cuStreamSynchronize, self._aside)
        while self.heap:
            free, handle = self.heap.popleft()
            call(free, handle)

    # --- copies -----------------------------------------------------------------------------------

    @_working
    def upload(self, buffer: Buffer, array: np.ndarray) -> None:
        self.not_recorded("upload")
        array = as_contents(buffer, array)
        if array.nbytes > _STAGE:
            self._to_device(buffer, array, self.compute)
            call(driver.cuStreamSynchronize, self.compute)  # the array may be changed from now on
        elif array.nbytes:
            self._to_device(buffer, self._put_on_stage(array), self.compute)

    def _put_on_stage(self, array: np.ndarray) -> np.ndarray:
        """A copy in pinned memory, which is used in turn: it starts anew when all that was put
        there has been copied away.
        """
        if self._staged + array.nbytes > _STAGE:
            call(driver.cuStreamSynchronize, self.compute)
            self._staged = 0
        copy = self._stage[self._staged : self._staged + array.nbytes]
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
        self._note(target, source)
        if target.nbytes:
            pointers = driver.CUdeviceptr(target.pointer), driver.CUdeviceptr(source.pointer)
            call(driver.cuMemcpyDtoDAsync, *pointers, target.nbytes, self.compute)

    @_working
    def fill_zero(self, buffer: Buffer) -> None:
        self._note(buffer)
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
        """A kernel for a number type, compiled and loaded when it is first asked for."""
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
        self._note(*arguments)
        kernel.launch(launch, arguments, self.compute)

    @_working
    def record(self, work: Callable[[], None]) -> Graph:
        self.not_recorded("a recording")
        self._clear_heap()
        self._recorded = recorded = []
        # Other threads may do with CUDA what they like meanwhile, but for this stream.
        call(
            driver.cuStreamBeginCapture,
            self.compute,
            driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
        )
        try:
            work()
        except BaseException:
            # it may have failed as well; what matters is what went wrong first
            driver.cuStreamEndCapture(self.compute)
            raise
        finally:
            self._recorded = None
        return Graph(self, call(driver.cuStreamEndCapture, self.compute), recorded)

    def _note(self, *buffers: Buffer) -> None:
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
        call(driver.cuStreamSynchronize, self._aside)
        self._clear_heap()

    @_working
    def upload_aside(self, buffer: Buffer, array: np.ndarray) -> Event:
        self.not_recorded("upload_aside")
        array = as_contents(buffer, array)
        if array.nbytes:
            self._to_device(buffer, array, self._aside)
        return Event(self, self._aside, (buffer, array))

    @_working
    def wait(self, event: Event) -> None:
        self.not_recorded("wait")
        call(driver.cuStreamWaitEvent, self.compute, event.owned.handle, 0)
