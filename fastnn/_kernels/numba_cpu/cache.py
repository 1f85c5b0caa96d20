"""Where compiled kernels are kept, and whether they are there: told in milliseconds, without
loading Numba.

Machine code is good for one environment: these sources, these versions of Python and Numba, this
processor. Numba's own cache knows the file of the cached function, its own version and the
processor; an edit of `scalars.py`, or an upgrade, could leave stale machine code in use. The folder
of an environment is therefore named by a hash of all of it, and each kernel has a folder of its own
in there.

Once a kernel is compiled and saved, a manifest with the digests of its files is written beside
them. Files that match no manifest, cut short or damaged, do not count as ready, and are removed
before Numba reads them.
"""

import functools
import hashlib
import itertools
import json
import os
import shutil
import sys
from pathlib import Path

from fastnn._kernels import compile_cache
from fastnn._kernels.compile_cache import version as _version
from fastnn._utils.files import write_atomically
from fastnn._version import __version__

_MANIFEST = "manifest.json"
_SAVED = (".nbi", ".nbc")  # Numba's index and machine code
# Modules of `_kernels` that kernels are compiled from.
_TAKEN_FROM_ABOVE = (
    *("dispatch", "elementary", "kernel_arguments", "opcodes", "scalars", "step_rates", "tables"),
)
# Settings of Numba, from its documentation, that change what it compiles.
_SETTINGS = (
    "BOUNDSCHECK",
    "CPU_FEATURES",
    "CPU_NAME",
    "DEBUGINFO",
    "DISABLE_JIT",
    "ENABLE_AVX",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
)
# Lines of /proc/cpuinfo that tell which processor it is; the others tell how it is doing. x86, ARM,
# RISC-V and POWER in turn.
_KIND_OF_PROCESSOR = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "flags",
    "Features",
    "isa",
    "uarch",
    "cpu",
)


# --- is a kernel there? ---------------------------------------------------------------------------


def ready(kernel: str) -> bool:
    """Whether this kernel is compiled and cached for this environment.

    The kernels that an engine runs go by their dtype, "float32" and "float64".
    """
    kept = place(kernel)
    # Numba reads no folder that it cannot write
    return kept is not None and os.access(kept, os.W_OK) and manifest_matches(kept)


def manifest_matches(kept: Path) -> bool:
    try:
        return json.loads((kept / _MANIFEST).read_bytes()) == _manifest(kept)
    except (OSError, ValueError):
        return False


def _manifest(kept: Path) -> dict:
    """The environment, and a digest of each file that Numba saved."""
    saved = sorted(path for path in kept.rglob("*") if path.suffix in _SAVED)
    return {
        "environment": environment(),
        "files": {path.relative_to(kept).as_posix(): _digest(path) for path in saved},
    }


def _digest(path: Path) -> str:
    status = path.stat()
    return _digest_of_version(path, status.st_mtime_ns, status.st_size)


@functools.cache  # a network is made in less time than it takes to read the code
def _digest_of_version(path: Path, modified: int, size: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- keeping one ----------------------------------------------------------------------------------


def folder(kernel: str) -> Path | None:
    """The folder for a kernel, created if need be.

    ``None`` where none can be written: each process then compiles anew.

    Raises
    ------
    RuntimeError
        Another user can write there.
    """
    base = compile_cache.base()
    return compile_cache.private_folder(place(kernel), base, compile_cache.VARIABLE)


def write_manifest(kernel: str) -> None:
    """Write the manifest of what Numba has saved.

    Of two processes that do so at once the last one's manifest holds, or, if their files are mixed,
    none.
    """
    kept = place(kernel)
    manifest = _manifest(kept)
    if {Path(name).suffix for name in manifest["files"]} == set(_SAVED):
        write_atomically(kept / _MANIFEST, json.dumps(manifest, indent=1).encode())


def empty(kernel: str) -> None:
    """Remove files that match no manifest."""
    kept = place(kernel)
    (kept / _MANIFEST).unlink(missing_ok=True)  # first: the files that it lists are going
    shutil.rmtree(kept, ignore_errors=True)


def outdated() -> list[Path]:
    """Folders of other environments: older versions, other interpreters, other processors."""
    return compile_cache.outdated(place(""))


# --- the environment ------------------------------------------------------------------------------


def place(kernel: str) -> Path | None:
    """The folder of a kernel, or of the environment for "", existing or not.

    ``None`` without Numba or a home directory.
    """
    known = environment()
    if known is None:
        return None
    base = compile_cache.folder(known)
    return base and base / kernel


@functools.cache
def environment() -> dict[str, object] | None:
    """All that machine code depends on; ``None`` where Numba is not installed."""
    versions = {package: _version(package) for package in ("numba", "llvmlite")}
    if None in versions.values():
        return None
    return {
        "fastnn": __version__,
        "sources": _source_hash(),
        "installed in": str(Path(__file__).parent),  # Numba keeps the code of each path apart
        "python": f"{sys.implementation.cache_tag}{getattr(sys, 'abiflags', '')}",
        **versions,
        "processor": _processor(),
        "settings": {
            name: os.environ[f"NUMBA_{name}"] for name in _SETTINGS if f"NUMBA_{name}" in os.environ
        },
    }


def _source_hash() -> str:
    """Of all that is compiled here: this folder, and what it takes from the one above."""
    here = Path(__file__).parent
    above = [here.parent / f"{name}.py" for name in _TAKEN_FROM_ABOVE]
    return compile_cache.source_hash([*sorted(here.glob("*.py")), *above])


def _processor() -> str:
    """Name and features of the processor.

    Where the system reports little, Numba, which queries the processor itself, still tells
    processors apart.
    """
    if sys.platform == "darwin":
        return f"{os.uname().machine} {_brand()}"
    try:
        with open("/proc/cpuinfo") as file:
            # those of the first core
            lines = [line.split(":", 1) for line in itertools.takewhile(str.strip, file)]
    except OSError:
        return os.environ.get("PROCESSOR_IDENTIFIER", "")
    fields = {line[0].strip(): line[-1].strip() for line in lines}
    return "; ".join(
        value
        for name, value in fields.items()
        if name in _KIND_OF_PROCESSOR or name.startswith("CPU ")
    )


def _brand() -> str:
    """What macOS calls its processor."""
    import ctypes

    name, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    ctypes.CDLL(None).sysctlbyname(b"machdep.cpu.brand_string", name, ctypes.byref(size), None, 0)
    return name.value.decode(errors="replace")
