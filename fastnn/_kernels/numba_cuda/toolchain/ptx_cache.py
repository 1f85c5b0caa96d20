"""The cache of the kernels' PTX, so that an engine can start without loading Numba.

PTX is the assembly that NVIDIA's driver turns into machine code, which the driver caches itself. A
file holds one kernel for one number type and compute capability, in the folder of its environment
(`compile_cache`). Its first line is the digest of the rest: a truncated or damaged file is compiled
anew. A manifest lists all kernels of a number type, once they are cached.

The folder of prebuilt kernels (`cache_dir`) depends on the sources alone: PTX does not need the
Python and Numba that compiled it.
"""

import contextlib
import functools
import hashlib
import os
import sys
from pathlib import Path

from fastnn._kernels import compile_cache
from fastnn._kernels.compile_cache import version
from fastnn._kernels.numba_cuda.toolchain import cache_dir
from fastnn._utils.files import write_atomically
from fastnn._version import __version__

_PREFIX = "cuda-"
_DIGEST = "// sha256 "  # a comment in PTX
_MANIFEST = "all-"  # prefix of a manifest's name
# Modules of `_kernels` that kernels are compiled from, beside the device code.
_SHARED = ("opcodes", "tables", "scalars", "elementary", "dispatch", "step_rates")
# Settings of Numba that change what it compiles.
_SETTINGS = ("DEBUGINFO", "CUDA_DEBUGINFO", "CUDA_FASTMATH", "OPT")


def read(name: str, dtype: str, capability: tuple[int, int]) -> str | None:
    """The cached PTX, if it is there and undamaged."""
    first_line, _, text = _read(f"{name}-{_kind(dtype, capability)}.ptx").partition("\n")
    return text if first_line == _DIGEST + _digest(text) else None


def write(name: str, dtype: str, capability: tuple[int, int], text: str) -> None:
    """Cache PTX; where nothing can be written, each process compiles for itself."""
    _write(f"{name}-{_kind(dtype, capability)}.ptx", f"{_DIGEST}{_digest(text)}\n{text}")


def ready(dtype: str, capability: tuple[int, int]) -> bool:
    """Whether all kernels for a number type are cached, so that nothing needs to be compiled."""
    names = listed(dtype, capability)
    return bool(names) and all(read(name, dtype, capability) is not None for name in names)


def listed(dtype: str, capability: tuple[int, int]) -> list[str]:
    """The kernels in the manifest of a number type; their files may be damaged since."""
    return _read(_MANIFEST + _kind(dtype, capability)).split()


def write_manifest(dtype: str, capability: tuple[int, int], names: list[str]) -> None:
    """Record that these are all the kernels of a number type, and that they are cached."""
    _write(_MANIFEST + _kind(dtype, capability), "\n".join(names))


def outdated() -> list[Path]:
    """Folders of other environments: older versions of anything, other interpreters."""
    return compile_cache.outdated(place(), _PREFIX)


def folder() -> Path | None:
    """The folder of this environment, made if necessary; ``None`` where none can be written.

    Raises
    ------
    RuntimeError
        Another user can write there.
    """
    return compile_cache.private_folder(place(), *_base())


def place() -> Path | None:
    """The folder of this environment, or of these sources among prebuilt kernels.

    It need not exist. ``None`` where the packages that compile are missing.
    """
    if cache_dir.folder():
        return compile_cache.folder(_sources(), _PREFIX, cache_dir.folder())
    known = environment()
    return None if known is None else compile_cache.folder(known, _PREFIX)


@functools.cache
def environment() -> dict[str, object] | None:
    """What PTX depends on beside number type and GPU; ``None`` without the packages."""
    if version("numba_cuda") is None:
        return None
    return {
        **_sources(),
        "python": f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}",
        **{package: version(package) for package in ("numba", "llvmlite", "numba_cuda")},
        "nvvm": version("numba_cuda", "nvidia_nvvm"),
        "settings": {
            name: os.environ[f"NUMBA_{name}"] for name in _SETTINGS if f"NUMBA_{name}" in os.environ
        },
    }


def _sources() -> dict[str, object]:
    return {"fastnn": __version__, "sources": _source_hash()}


@functools.cache
def _source_hash() -> str:
    """Hash of the device code and of the modules that declare it to Numba or that it imports."""
    cuda = Path(__file__).parents[1]
    declared = [cuda / "toolchain" / "shim.py", cuda / "driver" / "ptx_compiler.py"]
    shared = [cuda.parent / f"{name}.py" for name in _SHARED]
    return compile_cache.source_hash([*sorted((cuda / "kernels").glob("*.py")), *declared, *shared])


def _base() -> tuple[Path | None, str]:
    """The folder that holds those of all environments, and the variable that may name another."""
    chosen = cache_dir.folder()
    variable = cache_dir.VARIABLE if chosen else compile_cache.VARIABLE
    return compile_cache.base(chosen), variable


def _kind(dtype: str, capability: tuple[int, int]) -> str:
    return f"{dtype}-sm_{capability[0]}{capability[1]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: str) -> str:
    """The text of a file; empty where there is none."""
    current = place()
    base, variable = _base()
    if current is not None and base is not None and current.is_dir():
        compile_cache.check_private(current, base, variable)
    try:
        return "" if current is None else (current / file).read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _write(file: str, text: str) -> None:
    made = folder()
    if made is not None:
        with contextlib.suppress(OSError):  # a full disk
            write_atomically(made / file, text.encode())
