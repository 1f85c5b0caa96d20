"""Checked calls of the CUDA driver: an error names the call and quotes CUDA's message."""

from collections.abc import Callable
from typing import Any

import cuda.bindings.driver as driver

_SUCCESS = driver.CUresult.CUDA_SUCCESS
_OUT_OF_MEMORY = driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY
# What to do about errors whose message does not say.
_ADVICE = {
    "CUDA_ERROR_NOT_INITIALIZED": (
        "was this process forked from one that used CUDA? start processes by 'spawn'"
    ),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": (
        "the compiler is newer than the driver: update that, or pip install an older nvidia-nvvm"
    ),
    "CUDA_ERROR_ILLEGAL_ADDRESS": "this process can use the GPU no more",
    "CUDA_ERROR_LAUNCH_FAILED": "this process can use the GPU no more",
    "CUDA_ERROR_LAUNCH_TIMEOUT": (
        "the GPU also draws the screen, and one kernel took it for too long"
    ),
    "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE": (
        "more blocks were to run at once than the GPU has room for"
    ),
}


def call(function: Callable, *arguments: Any) -> Any:
    """The result of a driver call: nothing, a value, or a tuple of them.

    Raises
    ------
    MemoryError
        The GPU has no room.
    RuntimeError
        Any other failure.
    """
    status, *values = function(*arguments)
    if status != _SUCCESS:
        raise _error(function.__name__, status)
    return values[0] if len(values) == 1 else tuple(values) or None


def allocate(function: Callable, nbytes: int, *arguments: Any) -> Any:
    """The result of a call that allocates; an error says how much was requested and is free."""
    status, *values = function(nbytes, *arguments)
    if status == _OUT_OF_MEMORY:
        raise MemoryError(
            f"{_size(nbytes)} were asked of {_where(function)}: "
            f"{_message(function.__name__, status)}"
        )
    if status != _SUCCESS:
        raise _error(function.__name__, status)
    return values[0]


def _where(function: Callable | None) -> str:
    if function is driver.cuMemHostAlloc:
        return "the computer's memory, to be pinned"
    status, free, total = driver.cuMemGetInfo()
    return (
        "the GPU"
        if status != _SUCCESS
        else f"the GPU, where {_size(free)} of {_size(total)} are free"
    )


def _size(nbytes: int) -> str:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= scale:
            return f"{nbytes / scale:.1f} {unit}"
    return f"{nbytes} bytes"


def _error(name: str, status: driver.CUresult) -> Exception:
    message = _message(name, status)
    if status == _OUT_OF_MEMORY:
        return MemoryError(f"{message}; on {_where(None)}")
    return RuntimeError(message)


def _message(name: str, status: driver.CUresult) -> str:
    code = _text(driver.cuGetErrorName(status))
    message = _text(driver.cuGetErrorString(status))
    advice = _ADVICE.get(code)
    return f"{name} failed with {code or int(status)}: {message}" + (
        f"; {advice}" if advice else ""
    )


def _text(answer: tuple) -> str:
    status, text = answer
    return text.decode(errors="replace") if status == _SUCCESS and text else ""
