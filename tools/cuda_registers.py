"""Registers of the CUDA kernels: compiles and assembles each, and reports the assembler's figures.

    python tools/cuda_registers.py [--kernels a,b] [--write]

It needs no GPU, but Numba's CUDA target with NVVM, and `ptxas` from the PATH or from the package
nvidia-cuda-nvcc. It prints a table of each kernel in each number type for sm_75, sm_80 and sm_90.
With --write the table replaces tests/cuda/registers.txt, which a test compares.

A spill is a value that found no register and goes through memory. A stack frame is memory of one
thread, for spills or for arrays that are indexed by a variable. Either makes a hot kernel slow.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

CAPABILITIES = ((7, 5), (8, 0), (9, 0))
DTYPES = ("float32", "float64")
TABLE = Path(__file__).parents[1] / "tests" / "cuda" / "registers.txt"
INSTALL = "pip install 'fastnn[cuda]' nvidia-cuda-nvcc"
_COLUMNS = ("kernel", "dtype", "target", "registers", "stack", "stores", "loads", "shared")
_VERSION = re.compile(r"release .*, V(\S+)")


class Usage(NamedTuple):
    """What one kernel uses, by `ptxas -v`.

    Registers per thread, then bytes of stack, of spills stored and loaded, of static shared memory.
    """

    registers: int
    stack: int
    stores: int
    loads: int
    shared: int


Key = tuple[str, str, str]  # kernel, dtype, target


def find_ptxas() -> str | None:
    """The assembler: that of the PATH, or the one of nvidia-cuda-nvcc."""
    found = shutil.which("ptxas")
    spec = importlib.util.find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations] if spec else []
    wheels = [path for folder in folders for path in sorted(folder.glob("*/bin/ptxas"))]
    return found or next((str(path) for path in wheels if os.access(path, os.X_OK)), None)


def ptxas_version(ptxas: str) -> str:
    """As "13.0.88"."""
    said = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True).stdout
    return _VERSION.search(said).group(1)


def assemble(ptxas: str, ptx: str, target: str) -> Usage:
    """What `ptxas -v` says of PTX that holds one kernel.

    Raises
    ------
    RuntimeError
        The assembler refuses it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [
            ptxas,
            "-v",
            f"--gpu-name={target}",
            str(source),
            "-o",
            str(source.with_suffix(".cubin")),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ptxas refuses the kernel for {target}: {done.stderr.strip()}")
    return parse(done.stderr)


def parse(said: str) -> Usage:
    """The figures in the output of `ptxas -v` for one kernel, including functions that it calls."""
    registers = re.findall(r"Used (\d+) registers(.*)", said)
    used = _numbers(r"bytes spill (?:stores|loads)", said)
    if len(registers) != 1:
        raise ValueError(f"ptxas was to tell of one kernel: {said}")
    stack = re.search(r"(\d+) bytes cumulative stack size", registers[0][1])
    shared = re.search(r"(\d+) bytes smem", registers[0][1])
    frames = _numbers("bytes stack frame", said)
    return Usage(
        int(registers[0][0]),
        max(frames[0] if frames else 0, int(stack.group(1)) if stack else 0),
        sum(used[::2]),
        sum(used[1::2]),
        int(shared.group(1)) if shared else 0,
    )


def _numbers(unit, said):
    return [int(number) for number in re.findall(rf"(\d+) {unit}", said)]


def measure(
    kernels: Iterable[str],
    dtypes: Iterable[str] = DTYPES,
    capabilities: Iterable[tuple[int, int]] = CAPABILITIES,
    ptx: Callable[[str, str, tuple[int, int]], str] | None = None,
) -> dict[Key, Usage]:
    """Compile and assemble each kernel; ``ptx`` replaces the function that compiles them."""
    ptxas, source = find_ptxas(), ptx or _ptx
    if ptxas is None:
        raise RuntimeError(f"ptxas is not installed: {INSTALL}")
    # Numba compiles in this thread while ptxas runs in others.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pending = {
            (name, dtype, f"sm_{major}{minor}"): pool.submit(
                assemble, ptxas, source(name, dtype, (major, minor)), f"sm_{major}{minor}"
            )
            for name in kernels
            for dtype in dtypes
            for major, minor in capabilities
        }
        return {key: future.result() for key, future in pending.items()}


def _ptx(name, dtype, capability):
    """From the cache, or compiled and cached."""
    from fastnn._kernels.numba_cuda.driver import ptx_compiler

    return ptx_compiler.load(name, dtype, capability).ptx


def versions() -> dict[str, str]:
    """Versions of the tools that the figures depend on."""
    from importlib.metadata import version

    ptxas = find_ptxas()
    return {
        "ptxas": ptxas_version(ptxas) if ptxas else "none",
        **{
            package: version(package)
            for package in ("numba-cuda", "nvidia-nvvm", "numba", "llvmlite")
            if _installed(package)
        },
    }


def _installed(package):
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def to_text(usage: dict[Key, Usage], made_with: dict[str, str]) -> str:
    """The table as text."""
    rows = [_COLUMNS, *((*key, *map(str, values)) for key, values in sorted(usage.items()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    said = ", ".join(f"{name} {number}" for name, number in made_with.items())
    head = [
        "# What the CUDA kernels use, by ptxas -v: registers per thread; bytes of stack, of spill",
        "# stores, of spill loads, of static shared memory.",
        "# python tools/cuda_registers.py --write",
        f"# made with: {said}",
    ]
    return "\n".join([*head, *lines]) + "\n"


def from_text(text: str) -> tuple[dict[Key, Usage], dict[str, str]]:
    """The table and what it was made with."""
    made_with, usage = {}, {}
    for line in text.splitlines():
        if line.startswith("# made with: "):
            made_with = dict(
                part.split(" ") for part in line.removeprefix("# made with: ").split(", ")
            )
        elif line and not line.startswith("#") and not line.startswith("kernel "):
            name, dtype, target, *numbers = line.split()
            usage[name, dtype, target] = Usage(*map(int, numbers))
    return usage, made_with


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", help="names, with commas between; all if not given")
    parser.add_argument("--write", action="store_true", help=f"replace {TABLE.name}")
    options = parser.parse_args()
    if options.write and options.kernels:
        parser.error("--write is for all kernels at once")
    if find_ptxas() is None:
        sys.exit(f"tools/cuda_registers.py: ptxas is not installed: {INSTALL}")
    try:
        from fastnn._kernels.numba_cuda.driver import ptx_compiler  # noqa: F401
        from fastnn._kernels.numba_cuda.kernels.entry_points import KERNELS
        from fastnn._kernels.numba_cuda.toolchain import shim  # noqa: F401
    except ImportError as error:
        sys.exit(f"tools/cuda_registers.py: the kernels do not load ({error}): {INSTALL}")
    names = options.kernels.split(",") if options.kernels else list(KERNELS)
    unknown = sorted(set(names) - set(KERNELS))
    if unknown:
        parser.error(f"no kernel is called {', '.join(unknown)}; there are: {', '.join(KERNELS)}")
    text = to_text(measure(names), versions())
    print(text, end="")
    if options.write:
        TABLE.write_text(text)


if __name__ == "__main__":
    main()
