"""A kernel that is loaded into the GPU, and its launch."""

from collections.abc import Sequence

import cuda.bindings.driver as driver
import numpy as np

from fastnn._kernels.numba_cuda.driver import ptx_compiler
from fastnn._kernels.numba_cuda.driver.calls import call
from fastnn._kernels.numba_cuda.driver.launch import Launch
from fastnn._kernels.numba_cuda.driver.resources import Buffer

# Bytes of shared memory, a kernel's own arrays among them, that need no permission.
_PLAIN_SHARED = 48 << 10
_MAX_THREADS = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK
_OWN_SHARED = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
_MAX_DYNAMIC_SHARED = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


class Kernel:
    """A loaded kernel.

    Its arguments are those of `context.ARGUMENTS`: `Buffer.words` for an array, and one word for a
    number.
    """

    def __init__(self, name: str, code: ptx_compiler.Code):
        self.name, self._n_words = name, code.words
        self._module = _load(name, code)  # stays loaded as long as the process lives
        self.function = call(driver.cuModuleGetFunction, self._module, code.entry.encode())
        # Any query loads the kernel completely, which must not happen while work is recorded.
        self._max_threads = call(driver.cuFuncGetAttribute, _MAX_THREADS, self.function)
        own_shared = call(driver.cuFuncGetAttribute, _OWN_SHARED, self.function)
        self._permitted = _PLAIN_SHARED - own_shared  # bytes of dynamic shared memory

    def launch(self, launch: Launch, arguments: Sequence[Buffer], stream: driver.CUstream) -> None:
        words = np.array(
            [*(word for buffer in arguments for word in buffer.words()), launch.index], np.int64
        )
        if len(words) != self._n_words:
            raise ValueError(
                f"kernel {self.name!r} takes {self._n_words} words, not {len(words)}: "
                f"{len(arguments)} arrays and a number"
            )
        if launch.block > self._max_threads:
            raise ValueError(
                f"kernel {self.name!r} can have {self._max_threads} threads a block, "
                f"not {launch.block}: it needs many registers"
            )
        self._permit(launch.shared)
        places = words.ctypes.data + 8 * np.arange(len(words), dtype=np.uint64)
        configuration = _configuration(launch, stream)
        call(driver.cuLaunchKernelEx, configuration, self.function, places.ctypes.data, 0)

    def _permit(self, shared: int) -> None:
        if shared > self._permitted:
            call(driver.cuFuncSetAttribute, self.function, _MAX_DYNAMIC_SHARED, shared)
            self._permitted = shared


def _load(name: str, code: ptx_compiler.Code) -> driver.CUmodule:
    """Have the driver assemble PTX, which it also caches; an error quotes its assembler."""
    log = bytearray(8192)
    options = [
        driver.CUjit_option.CU_JIT_ERROR_LOG_BUFFER,
        driver.CUjit_option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ]
    ptx, values = code.ptx.encode() + b"\0", [log, len(log)]
    try:
        return call(driver.cuModuleLoadDataEx, ptx, len(options), options, values)
    except RuntimeError as error:
        said = c_text(log) or "no more is known"
        error.add_note(f"while loading the CUDA kernel {name!r}: {said}")
        raise


def c_text(text: bytes | bytearray) -> str:
    """A string that ends at its first zero byte."""
    return text.split(b"\0")[0].decode(errors="replace").strip()


def _configuration(launch: Launch, stream: driver.CUstream) -> driver.CUlaunchConfig:
    made = driver.CUlaunchConfig()
    made.gridDimX, made.gridDimY, made.gridDimZ = launch.grid, 1, 1
    made.blockDimX, made.blockDimY, made.blockDimZ = launch.block, 1, 1
    made.sharedMemBytes, made.hStream = launch.shared, stream
    if launch.cooperative:
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_COOPERATIVE
        attribute.value.cooperative = 1
        made.attrs, made.numAttrs = [attribute], 1
    return made
