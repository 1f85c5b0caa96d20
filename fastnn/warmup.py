"""The command ``fastnn warmup``: compile the Numba engine before a training wants it."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from fastnn import _checks, engines
from fastnn._kernels.contract import DTYPES
from fastnn._kernels.numba_cpu import cache
from fastnn.progress import counter

_BOTH = "both"
_SAME_MODULES = "import sys; sys.path[:] = sys.argv[2:]\n"
# One prediction: the kernel is the same for training.
_COMPILE = "import fastnn; fastnn.mlp([1, 1], dtype=sys.argv[1], backend='numba').predict([[0.0]])"


def _dtypes(context: click.Context, option: click.Option, name: str) -> tuple[str, ...]:
    return DTYPES if _checks.one_of("dtype", name, [*DTYPES, _BOTH]) == _BOTH else (name,)


@click.command()
@click.option("--dtype", "dtypes", metavar="NAME", default=_BOTH, callback=_dtypes, help=f"{', '.join(DTYPES)} or {_BOTH}.")
@click.option("--clean", is_flag=True, help="Remove what other versions of fastnn, Python or Numba have compiled.")
def warmup(dtypes: tuple[str, ...], clean: bool) -> None:
    """Compile the Numba engine for this machine, once.

    It takes a minute or two, which the first training on backend "numba" would take otherwise; backend "auto" needs it only where the
    Cython engine does not run. What is compiled is kept in the user's cache folder, or in NUMBA_CACHE_DIR. An upgrade of fastnn, Python or
    Numba, or another processor, needs it again.
    """
    engines.check("numba")
    _check_compiling()
    missing = [dtype for dtype in dtypes if not cache.ready(dtype)]
    for dtype in dtypes:
        if dtype not in missing:
            click.echo(f"{dtype}: already compiled")
    if missing:
        started = time.perf_counter()
        _compile(missing)
        click.echo(f"{' and '.join(missing)}: compiled in {time.perf_counter() - started:.0f} s")
    _tidy(clean)


def _check_compiling() -> None:
    from numba import config

    if config.DISABLE_JIT:
        raise RuntimeError("Numba compiles nothing while the variable NUMBA_DISABLE_JIT is set")


def _compile(dtypes: Sequence[str]) -> None:
    """Compile and keep each kernel in a process of its own: they run side by side, and, other than LLVM, a process can be interrupted."""
    for dtype in dtypes:
        if cache.folder(dtype) is None:
            place = cache.place(dtype) or "the cache folder"
            raise RuntimeError(f"{place} cannot be written; the variable NUMBA_CACHE_DIR may name another folder")
    children = {dtype: _start(dtype) for dtype in dtypes}
    try:
        with counter(True, f"compiling {' and '.join(dtypes)}", len(dtypes)) as count:
            for dtype, child in children.items():
                lines = child.communicate()[1].strip().splitlines()
                if not cache.ready(dtype):
                    reason = lines[-1] if lines else "is there space left?"
                    raise RuntimeError(f"the kernel for {dtype} could not be compiled and kept in {cache.place(dtype)}: {reason}")
                count()
    finally:
        for dtype, child in children.items():
            if child.returncode is None:
                child.kill()
                child.communicate()
            if not cache.ready(dtype):
                cache.empty(dtype)


def _start(dtype: str) -> subprocess.Popen:
    command = [sys.executable, "-P", "-c", _SAME_MODULES + _COMPILE, dtype, *sys.path]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _tidy(clean: bool) -> None:
    """Tell of compiled kernels that are of no use here, or remove them."""
    folders = cache.outdated()
    if not folders:
        return
    what = f"{len(folders)} folder{'' if len(folders) == 1 else 's'} of kernels compiled for other versions or machines"
    size = f"{sum(map(_size, folders)) / 1e6:.1f} MB"
    if clean:
        for folder in folders:
            shutil.rmtree(folder)
        click.echo(f"removed {what}, {size}")
    else:
        click.echo(f"{folders[0].parent} also holds {what}, {size}; --clean removes them")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
