"""Kernels are compiled to PTX and cached, until a file is damaged or what it depends on changes."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import empty_cache

from fastnn._kernels.numba_cuda.toolchain import available, ptx_cache

if reason := available.compiler_missing():
    pytest.skip(reason, allow_module_level=True)
if available.simulated():
    pytest.skip(
        "Numba's simulator, which NUMBA_ENABLE_CUDASIM asks for, compiles nothing",
        allow_module_level=True,
    )

from fastnn._kernels.numba_cuda.driver import ptx_compiler
from fastnn._kernels.numba_cuda.kernels.context import ARGUMENTS
from fastnn._kernels.numba_cuda.toolchain.shim import cuda, device

KEY = ("scale", "float32", (9, 0))
N_WORDS = 7 * (len(ARGUMENTS) - 1) + 1


@device
def doubled(x):
    return x + x


def kernel_over(n):
    """A plain function of n arguments that doubles the fourth, θ; the last is a number."""
    names = ", ".join(f"a{i}" for i in range(n - 1))
    space = {"cuda": cuda, "doubled": doubled}
    exec(
        f"def scale({names}, index):\n i = cuda.grid(1)\n"
        " if i < a3.shape[0]:\n  a3[i] = doubled(a3[i]) * a0[index].n_in",
        space,
    )
    return space["scale"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    with empty_cache(ptx_cache, tmp_path, monkeypatch) as place:
        yield place


@pytest.fixture
def compiled(monkeypatch):
    """A list of what is compiled, in place of a compiler."""
    done = []

    def ptx(name, function, dtype, capability):
        done.append((name, dtype, capability))
        return f".visible .entry {name}(\n.param .u64 a,\n.param .u64 b\n)\n{{}}\n"

    monkeypatch.setattr(ptx_compiler, "ptx", ptx)
    kernels = type(sys)("kernels")
    kernels.KERNELS = {"scale": None, "other": None}
    monkeypatch.setitem(sys.modules, "fastnn._kernels.numba_cuda.kernels.entry_points", kernels)
    monkeypatch.setattr("fastnn._kernels.numba_cuda.kernels.entry_points", kernels, raising=False)
    return done


# --- PTX ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arguments_are_seven_words_an_array(dtype, capability):
    text = ptx_compiler.ptx("scale", kernel_over(len(ARGUMENTS)), dtype, capability)
    assert f".target sm_{capability[0]}{capability[1]}" in text
    code = ptx_compiler.parse(text)
    assert (code.entry, code.words) == (f"fastnn_scale_{dtype}", N_WORDS)
    declared = text[text.index(code.entry + "(") : text.index("{", text.index(code.entry + "("))]
    # each of 8 bytes, the address and the length among them
    assert declared.count(".param .u64") == N_WORDS
    used = [line for line in text.splitlines() if "ld.param" in line]
    loads = {int(line.rpartition("_param_")[2].partition("]")[0]) for line in used}
    # address and length of ops and θ, and the number
    assert loads == {4, 5, 7 * 3 + 4, 7 * 3 + 5, N_WORDS - 1}
    assert "call" not in text  # device functions are part of the kernel
    if shutil.which("ptxas"):
        subprocess.run(
            ["ptxas", f"-arch=sm_{capability[0]}{capability[1]}", "-o", "/dev/null", "-"],
            input=text.encode(),
            check=True,
            timeout=60,
        )


def test_two_arrays_alone():
    types = ptx_compiler.signature("float32")
    theta, index = types[3], types[-1]

    def copy(a, b, i):
        b[i] = a[i]

    text, _ = cuda.compile_ptx(copy, (theta, theta, index), cc=(9, 0))
    assert text.count(".param .u64") == ptx_compiler.parse(text).words == 15


def test_launch_bounds_are_passed_on():
    kernel = kernel_over(len(ARGUMENTS))
    kernel.launch_bounds = {"float32": 256}
    assert ".maxntid 256" in ptx_compiler.ptx("scale", kernel, "float32", (9, 0))
    assert ".maxntid" not in ptx_compiler.ptx("scale", kernel, "float64", (9, 0))


def test_an_error_names_the_kernel():
    def wrong(theta):
        pass

    with pytest.raises(
        RuntimeError,
        match=r"the CUDA kernel 'wrong' for float32 does not compile with numba-cuda 0\.",
    ) as caught:
        ptx_compiler.ptx("wrong", wrong, "float32", (9, 0))
    assert "takes 1 argument" in str(caught.value)
    assert f"NumPy {np.__version__} (pip install" in str(caught.value)


def test_too_new_a_numpy_is_told_of(tmp_path):
    code = """
import numpy
del numpy.row_stack  # as NumPy 2.5 does, which numba-cuda 0.30 asks for
from fastnn._kernels.numba_cuda.driver import ptx_compiler
ptx_compiler.load("check_finite", "float32", (9, 0))
"""
    if not hasattr(np, "row_stack"):
        pytest.skip(
            "NumPy has no row_stack to take away, and the installed numba-cuda compiles without it"
        )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    if done.returncode == 0:
        pytest.skip(
            "the installed numba-cuda does not ask for row_stack, so there is nothing to tell of"
        )
    assert (
        "RuntimeError: the CUDA kernel 'check_finite' for float32 does not compile with numba-cuda"
        in done.stderr
    )
    assert "module 'numpy' has no attribute 'row_stack'" in done.stderr.splitlines()[-1]


def test_more_than_a_kernel_is_refused():
    with pytest.raises(ValueError, match="PTX of one kernel was expected, not of 0"):
        ptx_compiler.parse(".func f() {}")


# --- the cache ---------------------------------------------------------------------------------


def test_it_is_compiled_once(compiled):
    first = ptx_compiler.load(*KEY)
    assert (first.entry, first.words) == ("scale", 2)
    assert ptx_compiler.load(*KEY) == first
    assert compiled == [KEY]
    ptx_compiler.load("scale", "float64", (9, 0))
    ptx_compiler.load("scale", "float32", (8, 0))
    assert len(compiled) == 3


def the_file(folder):
    return next(folder.glob("cuda-*/scale-float32-sm_90.ptx"))


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "changed": lambda path: path.write_bytes(path.read_bytes().replace(b"u64 b", b"u32 b")),
    "without its digest": lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[2]),
    "empty": lambda path: path.write_bytes(b""),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_compiled_anew(compiled, folder, damage):
    good = ptx_compiler.load(*KEY)
    DAMAGES[damage](the_file(folder))
    assert ptx_cache.read(*KEY) is None
    assert ptx_compiler.load(*KEY) == good
    assert compiled == [KEY, KEY]
    assert ptx_cache.read(*KEY) == good.ptx


def test_ready_means_all_of_them(compiled, folder):
    ptx_compiler.keep("float32", (9, 0), ["scale"])
    assert not ptx_cache.ready("float32", (9, 0))
    ptx_compiler.keep("float32", (9, 0))
    assert ptx_cache.ready("float32", (9, 0))
    assert not ptx_cache.ready("float64", (9, 0))
    assert not ptx_cache.ready("float32", (8, 0))
    assert compiled == [("scale", "float32", (9, 0)), ("other", "float32", (9, 0))]
    the_file(folder).unlink()
    assert not ptx_cache.ready("float32", (9, 0))


def test_where_nothing_can_be_written(compiled, folder):
    folder.write_text("a file")
    assert ptx_cache.folder() is None
    for _ in range(2):
        assert ptx_compiler.load(*KEY).entry == "scale"
    assert compiled == [KEY, KEY]


CHANGES = {
    "version of fastnn": lambda patch: patch.setattr(ptx_cache, "__version__", "0.1.1"),
    "version of numba-cuda": lambda patch: patch.setattr(
        ptx_cache, "version", lambda *package: "0.1"
    ),
    "sources": lambda patch: patch.setattr(ptx_cache, "_source_hash", lambda: "others"),
    "setting": lambda patch: patch.setenv("NUMBA_OPT", "0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_environment_has_another_folder(compiled, change, monkeypatch):
    ptx_compiler.load(*KEY)
    before = ptx_cache.place()
    assert not ptx_cache.outdated()
    with monkeypatch.context() as patch:
        CHANGES[change](patch)
        ptx_cache.environment.cache_clear()
        assert ptx_cache.place() != before
        assert ptx_cache.read(*KEY) is None
        assert ptx_cache.outdated() == [before]
    ptx_cache.environment.cache_clear()
    assert ptx_cache.read(*KEY) is not None


# --- prebuilt kernels ---------------------------------------------------------------


@pytest.fixture
def prebuilt(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_CACHE", str(tmp_path / "prebuilt"))
    return tmp_path / "prebuilt"


def test_they_are_found_whatever_python_and_compiler_there_are(
    compiled, prebuilt, folder, monkeypatch
):
    ptx_compiler.keep("float32", (9, 0))
    assert next(prebuilt.glob("cuda-*")) == ptx_cache.place()
    assert not folder.exists()
    monkeypatch.setattr(ptx_cache, "version", lambda *package: None)
    monkeypatch.setattr(available, "_is_installed", lambda module: module == "cuda.bindings")
    monkeypatch.setattr(available, "_ask_driver", lambda: (None, (9, 0)))
    assert available.unavailable_reason() is None
    assert ptx_compiler.load(*KEY).entry == "scale"
    assert len(compiled) == 2


def test_those_of_another_gpu_or_number_type_do_not_do(compiled, prebuilt, monkeypatch):
    ptx_compiler.keep("float32", (9, 0))
    monkeypatch.setattr(available, "_is_installed", lambda module: module == "cuda.bindings")
    monkeypatch.setattr(available, "_ask_driver", lambda: (None, (8, 0)))
    reason = available.unavailable_reason()
    assert reason.startswith(
        f"{ptx_cache.place()} has no kernels for this GPU, "
        "and none can be compiled (numba is not installed: pip"
    )
    assert reason.endswith(
        "`fastnn warmup --cuda-arch 8.0` with FASTNN_CUDA_CACHE set, "
        "on a machine with numba-cuda, makes them"
    )
    with pytest.raises(
        RuntimeError,
        match=r"kernel 'scale' for float64 and compute capability 9.0 is not in \S+, "
        "and cannot be compiled",
    ):
        ptx_compiler.load("scale", "float64", (9, 0))


def test_the_host_code_is_no_part_of_the_kernels():
    """The key of a kernel covers all sources that are compiled: `kernels`, shim and compiler."""
    from test_structure import imports

    cuda = "fastnn._kernels.numba_cuda."
    found, wanted = set(), [f"{cuda}kernels.entry_points", f"{cuda}driver.ptx_compiler"]
    while wanted:
        name = wanted.pop()
        if name not in found and name.startswith(cuda):
            found.add(name)
            wanted += imports(name)
    host = {name.removeprefix(cuda) for name in found if not name.startswith(f"{cuda}kernels")}
    assert host == {
        "driver.ptx_compiler",
        "toolchain.shim",
        "toolchain.available",
        "toolchain.ptx_cache",
        "toolchain.cache_dir",
    }
    kernels = Path(ptx_cache.__file__).parents[1] / "kernels"
    assert {path.stem for path in kernels.glob("*.py")} - {"__init__"} == {
        name.rpartition(".")[2] for name in found if ".kernels." in name
    }


def test_the_other_engines_folders_are_not_ours(compiled, folder):
    from fastnn._kernels.numba_cpu import cache as cpu

    ptx_compiler.load(*KEY)
    (folder / "0.0.9-0123456789abcdef").mkdir()
    (folder / "cuda-0.0.9-0123456789abcdef").mkdir()
    assert [path.name for path in ptx_cache.outdated()] == ["cuda-0.0.9-0123456789abcdef"]
    assert "cuda-0.0.9-0123456789abcdef" not in [path.name for path in cpu.outdated()]


def test_without_the_packages_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(ptx_cache, "version", lambda *package: None)
    ptx_cache.environment.cache_clear()
    assert ptx_cache.place() is None
    assert ptx_cache.folder() is None
    assert ptx_cache.outdated() == []
    assert ptx_cache.read(*KEY) is None
