"""Whether the CUDA engine can run here, and if not, what is missing, without loading Numba.

`fastnn info` and `backends()` ask, so it must be fast: packages are searched and not imported, and
the driver is called through ctypes.
"""

import functools
import importlib.util
import os
import sys

from fastnn._kernels.numba_cuda.toolchain import cache_dir

OLDEST = (7, 5)  # compute capability

_INSTALL = 'pip install "fastnn[cuda]"'
_INSTALL_DRIVER = "install NVIDIA's, 580 or newer"  # of CUDA 13.0, as the toolkit of the extra
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# Codes of CUresult and CUdevice_attribute: the package that defines them may be the missing one.
_NOT_INITIALIZED, _STUB, _NO_DEVICE = 3, 34, 100
_MAJOR, _MINOR = 75, 76


def unavailable_reason() -> str | None:
    """Why the CUDA engine cannot run here, and what to do about it; ``None`` if it can."""
    return packages_missing() or (None if simulated() else _driver_missing() or _kernels_missing())


def simulated() -> bool:
    """Whether kernels run in Numba's simulator, in Python on the CPU: slow, for tests."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its package is missing, or was taken away
        return False


def packages_missing() -> str | None:
    """Which package is missing. With prebuilt kernels those that compile are not needed."""
    reason = None if cache_dir.folder() and not simulated() else compiler_missing()
    if reason is None and not _is_installed("cuda.bindings"):
        return f"cuda-bindings is not installed: {_INSTALL}"
    return reason


def compiler_missing() -> str | None:
    """Which of the packages that compile kernels is missing."""
    if not _is_installed("numba"):
        return f"numba is not installed: {_INSTALL}"
    # Numba's own CUDA target does not count: it is deprecated and lacks today's toolkits.
    if not _is_installed("numba_cuda"):
        return f"numba-cuda is not installed: {_INSTALL}{_successor()}"
    return None


def _successor() -> str:
    """A note if numba-cuda-mlir is installed.

    Its version 0.6 compiles neither named tuples nor functions that Numba registers (scalars.py),
    and has no simulator.
    """
    return (
        " (numba-cuda-mlir cannot compile these kernels yet)"
        if _is_installed("numba_cuda_mlir")
        else ""
    )


def capability() -> tuple[int, int] | None:
    """The GPU's compute capability; ``None`` if it cannot be used, or is simulated."""
    return None if unavailable_reason() or simulated() else _ask_driver()[1]


def _driver_missing() -> str | None:
    return _ask_driver()[0]


def _kernels_missing() -> str | None:
    """Why there are no kernels, where they cannot be compiled.

    The prebuilt ones are of another version, or for another GPU.
    """
    reason, capability = compiler_missing() if cache_dir.folder() else None, _ask_driver()[1]
    if reason is None or capability is None:
        return None
    from fastnn._kernels.numba_cuda.toolchain import ptx_cache

    if ptx_cache.listed("float32", capability) or ptx_cache.listed("float64", capability):
        return None
    return (
        f"{ptx_cache.place()} has no kernels for this GPU, and none can be compiled ({reason}); "
        f"`fastnn warmup --cuda-arch {dotted(capability)}` with {cache_dir.VARIABLE} set, "
        "on a machine with numba-cuda, makes them"
    )


@functools.cache
def _ask_driver() -> tuple[str | None, tuple[int, int] | None]:
    """What is wrong with driver or GPU, or the GPU's compute capability.

    After this call, processes forked from this one cannot use CUDA.
    """
    import ctypes

    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"no NVIDIA driver is installed ({_LIBRARY} is not there): {_INSTALL_DRIVER}", None
    status = library.cuInit(0)
    if status:
        return _failed_start(library, status), None
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    too_old = _driver_too_old((number.value // 1000, number.value % 1000 // 10))
    if too_old:
        return too_old, None
    library.cuDeviceGetCount(ctypes.byref(number))
    if number.value == 0:
        return _no_gpu(), None
    found = _attribute(library, _MAJOR), _attribute(library, _MINOR)
    if found < OLDEST:
        needed = f"{dotted(OLDEST)} or higher is needed (Turing, of 2018, or newer)"
        return f"the GPU has compute capability {dotted(found)}; {needed}", None
    return None, found


def _failed_start(library, status: int) -> str:
    import ctypes

    if status == _NO_DEVICE:
        return _no_gpu()
    if status == _NOT_INITIALIZED:
        return (
            "the NVIDIA driver does not start here: this process was forked from one that used it; "
            "start processes by 'spawn'"
        )
    if status == _STUB:
        stub = f"{_LIBRARY} is the toolkit's stand-in for it"
        return f"no NVIDIA driver is installed ({stub}): {_INSTALL_DRIVER}"
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    message = (text.value or b"no message").decode()
    return f"the NVIDIA driver does not start: {message} (error {status})"


def _no_gpu() -> str:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "the NVIDIA driver finds no GPU" + (
        "" if hidden is None else f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
    )


def _attribute(library, which: int) -> int:
    import ctypes

    value, device = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), 0)
    library.cuDeviceGetAttribute(ctypes.byref(value), which, device)
    return value.value


def _driver_too_old(driver: tuple[int, int]) -> str | None:
    """Why a driver cannot read the compiler's PTX, which must not be of a newer CUDA."""
    package, compiler = _compiler()
    # Another compiler made the prebuilt kernels.
    if driver >= compiler or cache_dir.folder():
        return None
    update = "update the driver" + (" to 580 or newer" if compiler <= (13, 0) else "")
    return (
        f"the NVIDIA driver is of CUDA {dotted(driver)} and cannot read what the compiler of CUDA "
        f'{dotted(compiler)} writes: {update}, or pip install "{package}=={dotted(driver)}.*"'
    )


def _compiler() -> tuple[str, tuple[int, int]]:
    """The compiler's package and its version of CUDA; (0, 0) if it is not from a package."""
    from importlib import metadata

    for package in ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12"):
        try:
            major, minor = metadata.version(package).split(".")[:2]
        except (metadata.PackageNotFoundError, ValueError):
            continue
        return package, (int(major), int(minor))
    return "", (0, 0)


def dotted(version: tuple[int, ...]) -> str:
    """A version as text, such as "9.0"."""
    return ".".join(map(str, version))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ask_driver.cache_clear)
