"""``fastnn warmup`` and ``fastnn info`` with a GPU, which is faked, and so is the compiler."""

import re

import pytest
from builders import empty_cache

from fastnn._kernels.numba_cpu import cache as cpu_cache
from fastnn._kernels.numba_cuda.toolchain import available, ptx_cache
from fastnn.cli import main, warmup

numba = pytest.importorskip("numba")
if reason := available.compiler_missing():
    pytest.skip(reason, allow_module_level=True)
if numba.config.DISABLE_JIT:
    pytest.skip("NUMBA_DISABLE_JIT: nothing is compiled", allow_module_level=True)

CAPABILITY = (9, 0)
COMPILES = """
from fastnn._kernels.numba_cuda.toolchain import ptx_cache
ptx_cache.write("kernel", sys.argv[1], {capability}, "text")
ptx_cache.write_manifest(sys.argv[1], {capability}, ["kernel"])
"""


@pytest.fixture(autouse=True)
def gpu(tmp_path, monkeypatch):
    """A GPU, kernels of the Numba engine that are compiled, and an empty cache for the others."""
    monkeypatch.setattr(available, "capability", lambda: CAPABILITY)
    monkeypatch.setattr(cpu_cache, "ready", lambda dtype: True)
    monkeypatch.setattr(warmup, "_COMPILE_CUDA", COMPILES)
    monkeypatch.setattr(warmup, "_LOAD_CUDA", "")
    with empty_cache(ptx_cache, tmp_path, monkeypatch) as place:
        yield place


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        assert main(list(arguments)) == status
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return out if status == 0 else err

    return call


def test_the_kernels_of_the_gpu_are_compiled_too(run):
    lines = run("warmup").splitlines()
    assert lines[:2] == ["float32: already compiled", "float64: already compiled"]
    assert re.fullmatch(
        r"float32 \(GPU 9\.0\) and float64 \(GPU 9\.0\): compiled in \d+ s", lines[2]
    )
    assert ptx_cache.ready("float32", CAPABILITY)
    assert ptx_cache.ready("float64", CAPABILITY)
    assert (
        run("warmup", "--dtype", "float32")
        == "float32: already compiled\nfloat32 (GPU 9.0): already compiled\n"
    )


@pytest.mark.parametrize("arch", ["9.0", "8.0"])
def test_the_driver_makes_machine_code_of_them_where_it_can(run, tmp_path, monkeypatch, arch):
    monkeypatch.setattr(
        warmup, "_LOAD_CUDA", f"open({str(tmp_path / 'loaded')!r}, 'w').write('{{capability}}')"
    )
    run("warmup", "--dtype", "float32", "--cuda-arch", arch)
    assert (tmp_path / "loaded").exists() == (arch == "9.0")


def test_a_failure_is_told(run, monkeypatch):
    monkeypatch.setattr(warmup, "_COMPILE_CUDA", "sys.exit('no compiler {capability}')")
    assert re.fullmatch(
        r"fastnn: the kernel for float32 \(GPU 9\.0\) could not be compiled and kept in "
        r"\S+/cuda-\S+: no compiler \(9, 0\)\n",
        run("warmup", "--dtype", "float32", status=2),
    )


def test_where_nothing_can_be_written(run, gpu):
    gpu.write_text("a file")
    assert re.fullmatch(
        r"fastnn: \S+/cuda-\S+ cannot be written; .*NUMBA_CACHE_DIR.*\n", run("warmup", status=2)
    )


def test_old_kernels_are_told_of_and_removed_when_asked(run, gpu):
    old = gpu / "cuda-0.0.9-0123456789abcdef"
    old.mkdir(parents=True)
    assert "also holds 1 folder of kernels compiled for other versions" in run("warmup")
    assert "removed 1 folder of kernels" in run("warmup", "--clean")
    assert not old.exists()
    assert ptx_cache.ready("float32", CAPABILITY)


def test_for_a_gpu_that_is_elsewhere(run, gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(available, "capability", lambda: None)
    monkeypatch.setenv("FASTNN_CUDA_CACHE", str(tmp_path / "prebuilt"))
    assert re.fullmatch(
        r"float32 \(GPU 8\.6\): compiled in \d+ s\n",
        run("warmup", "--cuda-arch", "8.6", "--dtype", "float32"),
    )
    assert ptx_cache.ready("float32", (8, 6))
    assert [path.name[:7] for path in (tmp_path / "prebuilt").iterdir()] == ["cuda-0."]
    assert not gpu.exists()


@pytest.mark.parametrize("arch", ["9", "sm_90", "6.1"])
def test_no_such_gpu(run, arch):
    assert "--cuda-arch must be a compute capability of 7.5 or higher, such as 9.0" in run(
        "warmup", "--cuda-arch", arch, status=2
    )


def test_info(run):
    assert "cuda kernels  float32 not compiled, float64 not compiled\n" in run("info")
    run("warmup", "--dtype", "float64")
    assert "cuda kernels  float32 not compiled, float64 compiled\n" in run("info")
    assert re.search(r"^numba-cuda +\d", run("info"), re.MULTILINE)


def test_info_without_a_gpu(run, monkeypatch):
    monkeypatch.setattr(available, "capability", lambda: None)
    assert "cuda kernels" not in run("info")
