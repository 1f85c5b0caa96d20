"""Where the kernels' PTX is kept, so that an engine can start without loading Numba.

PTX is the assembly that NVIDIA's driver turns into machine code, which it keeps itself. One file
for a kernel, number type and compute capability lies in the folder of its environment
(`cache_folders`). Its first line is the digest of the rest: a file that was cut short or damaged is
compiled anew.

Kernels that are brought along (`carried`) go by their sources alone: PTX runs by itself, whatever
Python and Numba there are.
"""

import contextlib
import functools
import hashlib
import os
import sys
from pathlib import Path

from fastnn._kernels import compile_cache
from fastnn._kernels.compile_cache import version as _version
from fastnn._kernels.numba_cuda.toolchain import cache_dir
from fastnn._utils.files import write_atomically
from fastnn._version import __version__

_PREFIX = "cuda-"
_SEAL = "// sha256 "  # a comment in PTX
_WHOLE = "all-"  # the file that names all kernels of a number type, once they are kept
# of Numba, that change what it compiles
_SETTINGS = ("DEBUGINFO", "CUDA_DEBUGINFO", "CUDA_FASTMATH", "OPT")


def read(name: str, dtype: str, capability: tuple[int, int]) -> str | None:
    """The PTX that is kept, if it is there and whole."""
    seal, _, text = _read(f"{name}-{_kind(dtype, capability)}.ptx").partition("\n")
    return text if seal == _SEAL + _digest(text) else None


def write(name: str, dtype: str, capability: tuple[int, int], text: str) -> None:
    """Keep it; where nothing can be written each process compiles for itself."""
    _write(f"{name}-{_kind(dtype, capability)}.ptx", f"{_SEAL}{_digest(text)}\n{text}")


def ready(dtype: str, capability: tuple[int, int]) -> bool:
    """Whether all kernels for a number type are kept, so that there is nothing to wait for."""
    names = listed(dtype, capability)
    return bool(names) and all(read(name, dtype, capability) is not None for name in names)


def listed(dtype: str, capability: tuple[int, int]) -> list[str]:
    """The kernels that there are for a number type, once all were kept; not whether they still are
    whole.
    """
    return _read(_WHOLE + _kind(dtype, capability)).split()


def write_ready(dtype: str, capability: tuple[int, int], names: list[str]) -> None:
    """Tell that these are all the kernels there are for a number type, and that they are kept."""
    _write(_WHOLE + _kind(dtype, capability), "\n".join(names))


def outdated() -> list[Path]:
    """Folders of other environments: older versions of anything, other interpreters."""
    return compile_cache.outdated(place(), _PREFIX)


def folder() -> Path | None:
    """The folder of this environment, made if need be; ``None`` where none can be written."""
    made = place()
    try:
        if made is not None:
            made.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return made if made is not None and os.access(made, os.W_OK) else None


def place() -> Path | None:
    """The folder of this environment, or of these sources in one that is brought along, be it there
    or not; ``None`` without packages.
    """
    if cache_dir.folder():
        return compile_cache.folder(_sources(), _PREFIX, cache_dir.folder())
    known = environment()
    return known and compile_cache.folder(known, _PREFIX)


@functools.cache
def environment() -> dict[str, object] | None:
    """All that PTX depends on but for number type and GPU; ``None`` without the packages."""
    if _version("numba_cuda") is None:
        return None
    return {
        **_sources(),
        "python": f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}",
        **{package: _version(package) for package in ("numba", "llvmlite", "numba_cuda")},
        "nvvm": _version("numba_cuda", "nvidia_nvvm"),
        "settings": {
            name: os.environ[f"NUMBA_{name}"] for name in _SETTINGS if f"NUMBA_{name}" in os.environ
        },
    }


def _sources() -> dict[str, object]:
    return {"fastnn": __version__, "sources": _source_hash()}


@functools.cache
def _source_hash() -> str:
    """Of all that is compiled: the device's side, what declares it to Numba, and what it takes from
    the other engines.
    """
    cuda = Path(__file__).parents[1]
    declared = [cuda / "toolchain" / "shim.py", cuda / "driver" / "ptx_compiler.py"]
    shared = [cuda.parent / name for name in ("opcodes.py", "scalars.py")]
    return compile_cache.source_hash([*sorted((cuda / "kernels").glob("*.py")), *declared, *shared])


def _kind(dtype: str, capability: tuple[int, int]) -> str:
    return f"{dtype}-sm_{capability[0]}{capability[1]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: str) -> str:
    """What is in a file; nothing where there is none."""
    current = place()
    try:
        return "" if current is None else (current / file).read_text("utf-8")
    except (OSError, ValueError):
        return ""


def _write(file: str, text: str) -> None:
    made = folder()
    if made is not None:
        with contextlib.suppress(OSError):  # a full disk
            write_atomically(made / file, text.encode())
