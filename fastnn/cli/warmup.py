"""The command ``fastnn warmup``: compile kernels before a training needs them."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from fastnn import engines
from fastnn._kernels.contract import DTYPES
from fastnn._kernels.numba_cpu import cache
from fastnn._kernels.numba_cuda.toolchain import available, cache_dir, ptx_cache
from fastnn._utils import checks
from fastnn._utils.progress import counter
from fastnn.cli.output import count

_BOTH = "both"
_SAME_MODULES = "import sys; sys.path[:] = sys.argv[2:]\n"
# One prediction: the kernel is the same for training.
_COMPILE = "import fastnn; fastnn.mlp([1, 2], dtype=sys.argv[1], backend='numba').predict([[0.0]])"
_COMPILE_CUDA = """
from fastnn._kernels.numba_cuda.driver import ptx_compiler
ptx_compiler.keep(sys.argv[1], {capability})
"""
# The driver compiles PTX to machine code, which takes seconds too, and caches the result.
_LOAD_CUDA = """
from fastnn._kernels.numba_cuda.driver import device
from fastnn._kernels.numba_cuda.toolchain import ptx_cache
device.open_device().prepare(ptx_cache.listed(sys.argv[1], {capability}), sys.argv[1])
"""


@dataclass(frozen=True)
class _Kernels:
    """The kernels of one engine for one dtype: of CUDA if there is a capability, else of Numba."""

    dtype: str
    capability: tuple[int, int] | None = None

    def __str__(self) -> str:
        return (
            self.dtype
            if self.capability is None
            else f"{self.dtype} (GPU {available.dotted(self.capability)})"
        )

    def ready(self) -> bool:
        return (
            cache.ready(self.dtype)
            if self.capability is None
            else ptx_cache.ready(self.dtype, self.capability)
        )

    def check_folder(self) -> None:
        if (cache.folder(self.dtype) if self.capability is None else ptx_cache.folder()) is None:
            variable = (
                "NUMBA_CACHE_DIR"
                if self.capability is None or not cache_dir.folder()
                else cache_dir.VARIABLE
            )
            raise RuntimeError(
                f"{self.place()} cannot be written; the variable {variable} may name another folder"
            )

    def place(self) -> Path | str:
        return (
            cache.place(self.dtype) if self.capability is None else ptx_cache.place()
        ) or "the cache folder"

    def script(self) -> str:
        if self.capability is None:
            return _COMPILE
        is_here = self.capability == available.capability()
        return (_COMPILE_CUDA + (_LOAD_CUDA if is_here else "")).format(capability=self.capability)

    def tidy(self) -> None:
        """Remove what is incomplete. The CUDA engine ignores an incomplete file by itself."""
        if self.capability is None and not self.ready():
            cache.empty(self.dtype)


def _dtypes(context: click.Context, option: click.Option, name: str) -> tuple[str, ...]:
    return DTYPES if checks.one_of("dtype", name, [*DTYPES, _BOTH]) == _BOTH else (name,)


def _capability(
    context: click.Context, option: click.Option, text: str | None
) -> tuple[int, int] | None:
    if text is None:
        return None
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()) or (int(major), int(minor)) < available.OLDEST:
        oldest = available.dotted(available.OLDEST)
        raise ValueError(
            f"--cuda-arch must be a compute capability of {oldest} or higher, such as 9.0, "
            f"not {text!r}"
        )
    return int(major), int(minor)


@click.command()
@click.option(
    "--dtype",
    "dtypes",
    metavar="NAME",
    default=_BOTH,
    callback=_dtypes,
    help=f"{', '.join(DTYPES)} or {_BOTH}.",
)
@click.option(
    "--cuda-arch",
    metavar="N.N",
    callback=_capability,
    help="Compile for GPUs of this compute capability alone; none is needed.",
)
@click.option(
    "--clean",
    is_flag=True,
    help="Remove what other versions of fastnn, Python or Numba have compiled.",
)
def warmup(dtypes: tuple[str, ...], cuda_arch: tuple[int, int] | None, clean: bool) -> None:
    """Compile the Numba engine, and the CUDA engine where there is a GPU.

    It takes a minute or two, which the first training on backend "numba" or "cuda" would take
    otherwise; backend "auto" needs it only where the Cython engine does not run. The compiled
    kernels are kept in the user's cache folder, or in NUMBA_CACHE_DIR. An upgrade of fastnn, Python
    or Numba, or another processor, needs it again.

    With --cuda-arch, the compiled kernels can be copied to a machine with such a GPU: the variable
    FASTNN_CUDA_CACHE names a folder for them, here and there. fastnn needs neither Numba nor a
    compiler there, only cuda-bindings.
    """
    engines.check("numba")
    _check_compiling()
    kernels = _wanted(dtypes, cuda_arch)
    missing = [each for each in kernels if not each.ready()]
    for each in kernels:
        if each not in missing:
            click.echo(f"{each}: already compiled")
    if missing:
        started = time.perf_counter()
        _compile(missing)
        click.echo(f"{_listed(missing)}: compiled in {time.perf_counter() - started:.0f} s")
    _tidy(clean)


def _wanted(dtypes: tuple[str, ...], cuda_arch: tuple[int, int] | None) -> list[_Kernels]:
    if cuda_arch is not None:
        reason = available.compiler_missing()
        if reason is not None:
            raise RuntimeError(f"--cuda-arch: {reason}")
        return [_Kernels(dtype, cuda_arch) for dtype in dtypes]
    capability = None if available.compiler_missing() else available.capability()
    return [_Kernels(dtype) for dtype in dtypes] + [
        _Kernels(dtype, capability) for dtype in dtypes if capability is not None
    ]


def _listed(kernels: Sequence[_Kernels]) -> str:
    return " and ".join(map(str, kernels))


def _check_compiling() -> None:
    from numba import config

    if config.DISABLE_JIT:  # pyright: ignore[reportAttributeAccessIssue]
        raise RuntimeError("Numba compiles nothing while the variable NUMBA_DISABLE_JIT is set")


def _compile(kernels: Sequence[_Kernels]) -> None:
    """Compile and keep the kernels, each of them in a process of its own.

    The processes run side by side and, unlike LLVM, can be interrupted.
    """
    for each in kernels:
        each.check_folder()
    children = {each: _start(each) for each in kernels}
    try:
        with counter(True, f"compiling {_listed(kernels)}", len(kernels)) as advance:
            for each, child in children.items():
                lines = child.communicate()[1].strip().splitlines()
                if not each.ready():
                    reason = lines[-1] if lines else "is there space left?"
                    raise RuntimeError(
                        f"the kernel for {each} could not be compiled and kept in {each.place()}: "
                        f"{reason}"
                    )
                advance()
    finally:
        for each, child in children.items():
            if child.returncode is None:
                child.kill()
                child.communicate()
            each.tidy()


def _start(kernels: _Kernels) -> subprocess.Popen:
    command = [
        sys.executable,
        "-P",
        "-c",
        _SAME_MODULES + kernels.script(),
        kernels.dtype,
        *sys.path,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _tidy(clean: bool) -> None:
    """Report compiled kernels that this version or machine cannot use, or remove them."""
    folders = cache.outdated() + ptx_cache.outdated()
    if not folders:
        return
    what = f"{count(len(folders), 'folder')} of kernels compiled for other versions or machines"
    size = f"{sum(map(_size, folders)) / 1e6:.1f} MB"
    if clean:
        for folder in folders:
            shutil.rmtree(folder)
        click.echo(f"removed {what}, {size}")
    else:
        click.echo(f"{folders[0].parent} also holds {what}, {size}; --clean removes them")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
