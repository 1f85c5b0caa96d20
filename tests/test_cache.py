"""Numba's kernels are kept, and found again only where they are good and whole."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import empty_cache

import fastnn
from fastnn._kernels import compile_cache
from fastnn._kernels.numba_cpu import cache

pytest.importorskip("numba")
from numba import config

from fastnn._kernels.numba_cpu import compile as compiling

needs_jit = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")
KERNEL = "float32"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    with empty_cache(cache, tmp_path, monkeypatch) as place:
        yield place


@pytest.fixture
def kept():
    """A folder with an index and machine code as Numba leaves them, with a manifest."""
    place = cache.folder(KERNEL)
    save(place)
    cache.write_manifest(KERNEL)
    assert cache.ready(KERNEL)
    return place


def save(place):
    (place / "numba_cpu_0").mkdir()
    (place / "numba_cpu_0" / "steps.run.nbi").write_bytes(b"index")
    (place / "numba_cpu_0" / "steps.run.1.nbc").write_bytes(b"machine code")


def test_a_question_leaves_nothing_behind(folder):
    assert not cache.ready(KERNEL)
    assert not folder.exists()


def test_only_what_has_a_manifest_is_ready():
    save(cache.folder(KERNEL))
    assert not cache.ready(KERNEL)
    cache.write_manifest(KERNEL)
    assert cache.ready(KERNEL)
    assert not cache.ready("float64")
    cache.empty(KERNEL)
    assert not cache.ready(KERNEL)


@pytest.mark.parametrize("missing", ["*.nbi", "*.nbc"])
def test_half_a_kernel_gets_no_manifest(missing):
    place = cache.folder(KERNEL)
    save(place)
    next(place.rglob(missing)).unlink()
    cache.write_manifest(KERNEL)
    assert not list(place.glob("*.json"))
    assert not cache.ready(KERNEL)


# --- damage ---------------------------------------------------------------------------------------


def flip(path):
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def lie_about_the_environment(path):
    path.write_text(
        path.read_text().replace(f'"fastnn": "{fastnn.__version__}"', '"fastnn": "0.0.1"')
    )


# What happens to a file → which file, and how.
DAMAGES = {
    "code cut short": ("*.nbc", lambda path: path.write_bytes(b"machine")),
    "code changed": ("*.nbc", flip),
    "code empty": ("*.nbc", lambda path: path.write_bytes(b"")),
    "code gone": ("*.nbc", Path.unlink),
    "index changed": ("*.nbi", flip),
    "index gone": ("*.nbi", Path.unlink),
    "another file": ("*.nbi", lambda path: shutil.copy(path, path.with_name("other.1.nbc"))),
    "all gone": ("numba_cpu_0", shutil.rmtree),
    "manifest gone": ("*.json", Path.unlink),
    "manifest cut short": ("*.json", lambda path: path.write_bytes(path.read_bytes()[:50])),
    "manifest of another kind": ("*.json", lambda path: path.write_text("[1, null]")),
    "manifest not text": ("*.json", lambda path: path.write_bytes(b"\xff\x00")),
    "manifest of another environment": ("*.json", lie_about_the_environment),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_not_ready(kept, damage):
    pattern, harm = DAMAGES[damage]
    harm(next(kept.rglob(pattern)))
    assert not cache.ready(KERNEL)


# --- the environment ------------------------------------------------------------------------------


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of the kernels' sources that takes their place."""
    copy = tmp_path / "_kernels"
    shutil.copytree(
        Path(cache.__file__).parents[1],
        copy,
        ignore=shutil.ignore_patterns("__pycache__", "cython_cpu"),
    )
    monkeypatch.setattr(cache, "__file__", str(copy / "numba_cpu" / "cache.py"))
    cache.environment.cache_clear()
    return copy


# What changes → how.
CHANGES = {
    "version of fastnn": lambda patch: patch.setattr(cache, "__version__", "0.1.1"),
    "version of numba": lambda patch: patch.setattr(
        cache, "_version", lambda package: "0.62.0" if package == "numba" else "0.50.0"
    ),
    "version of llvmlite": lambda patch: patch.setattr(
        cache, "_version", lambda package: "0.68.1" if package == "numba" else "0.45.0"
    ),
    "interpreter": lambda patch: patch.setattr(
        sys, "implementation", SimpleNamespace(cache_tag="cpython-399")
    ),
    "processor": lambda patch: patch.setattr(cache, "_processor", lambda: "another one"),
    "setting of Numba": lambda patch: patch.setenv("NUMBA_CPU_NAME", "generic"),
    "no compiling": lambda patch: patch.setenv("NUMBA_DISABLE_JIT", "1"),
    "place of installation": lambda patch: patch.setattr(
        cache, "__file__", cache.__file__.replace("cache.py", "../numba_cpu/cache.py")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_environment_has_another_folder(kept, change, monkeypatch):
    before = cache.place(KERNEL)
    with monkeypatch.context() as patch:
        CHANGES[change](patch)
        cache.environment.cache_clear()
        assert cache.place(KERNEL) != before
        assert not cache.ready(KERNEL)
        assert before.parent in cache.outdated()
    cache.environment.cache_clear()
    assert cache.place(KERNEL) == before
    assert cache.ready(KERNEL)


@pytest.mark.parametrize(
    "name",
    [
        "opcodes.py",
        "tables.py",
        "scalars.py",
        "elementary.py",
        "dispatch.py",
        "step_rates.py",
        "kernel_arguments.py",
        "numba_cpu/steps.py",
        "numba_cpu/gemm_tile.py",
        "numba_cpu/new.py",
    ],
)
def test_an_edited_source_has_another_folder(sources, name):
    before = cache.place(KERNEL)
    with (sources / name).open("a") as file:
        file.write("# edited\n")
    cache.environment.cache_clear()
    assert cache.place(KERNEL) != before


def test_what_is_not_compiled_here_may_change(sources):
    before = cache.place(KERNEL)
    (sources / "reference.py").write_text("")
    cache.environment.cache_clear()
    assert cache.place(KERNEL) == before


@pytest.mark.parametrize("package", ["numba", "llvmlite", "numpy"])
def test_versions_are_those_of_the_packages(package):
    assert cache._version(package) == importlib.metadata.version(package)


def test_without_numba_nothing_is_kept(monkeypatch):
    assert cache._version("no_such_package") is None
    monkeypatch.setattr(cache, "_version", lambda package: None)
    cache.environment.cache_clear()
    assert not cache.ready(KERNEL)
    assert cache.folder(KERNEL) is None
    assert cache.outdated() == []


def test_the_processor_is_known_and_always_the_same():
    assert cache._processor()
    assert cache._processor() == cache._processor()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc/cpuinfo is Linux's")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nvendor_id\t: X\ncpu family\t: 6\ncpu MHz\t: 800.1\nflags\t: a b\n"
            "\nprocessor\t: 1\nvendor_id\t: Y\n",
            "X; 6; a b",
        ),
        (
            "processor\t: 0\nBogoMIPS\t: 50\nFeatures\t: fp asimd\nCPU part\t: 0xd0c\n\n",
            "fp asimd; 0xd0c",
        ),
        ("vendor_id\t: X", "X"),
        ("", ""),
    ],
)
def test_cpuinfo(text, expected, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cache, "open", lambda path: Path.open(tmp_path / "cpuinfo"), raising=False)
    assert cache._processor() == expected


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert cache.folder(KERNEL) is None
    assert not cache.ready(KERNEL)
    assert cache.outdated() == []


def test_a_folder_that_can_only_be_read(kept, monkeypatch):
    # whoever runs the tests may be allowed everything
    monkeypatch.setattr(cache.os, "access", lambda path, mode: False)
    assert not cache.ready(KERNEL)
    assert cache.folder(KERNEL) is None


def test_no_home_directory(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(compile_cache, "cache_directory", homeless)
    assert not cache.ready(KERNEL)
    assert cache.folder(KERNEL) is None


def test_only_folders_of_our_own_making_are_outdated(kept, tmp_path):
    base = kept.parents[1]
    old, older = base / "0.1.0-0123456789abcdef", base / "0.2.0.dev1+local-fedcba9876543210"
    others = [
        "steps_0123456789abcdef0123456789abcdef01234567",
        "notes",
        "0.1.0-0123456789abcdeg",
        "0.1.0-0123456789abcdef.bak",
        "1-2",
    ]
    for path in (old, older, *(base / name for name in others)):
        path.mkdir()
    (base / "0.1.0-0123456789abcdee").write_text("a file")
    (base / "0.1.0-0123456789abcded").symlink_to(tmp_path)
    assert cache.outdated() == [old, older]


# --- with Numba -----------------------------------------------------------------------------------


def twice(x):
    return x + x


ARGUMENTS = (np.float64(1.5),)


def entry():
    """As another process would make it."""
    return compiling.entry(twice, KERNEL)


def loaded(dispatcher):
    """Load or compile; returns how often it was found in the cache."""
    assert compiling.load(dispatcher, KERNEL, ARGUMENTS)(1.5) == 3.0
    return sum(dispatcher.stats.cache_hits.values())


@needs_jit
def test_compiled_once_and_found_again():
    assert loaded(entry()) == 0
    assert cache.ready(KERNEL)
    assert loaded(entry()) == 1
    assert cache.ready(KERNEL)
    again = entry()
    assert again(1.5) == 3.0  # called without `load`
    assert sum(again.stats.cache_hits.values()) == 1


@needs_jit
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "all gone"])
def test_what_is_damaged_is_compiled_anew(damage):
    loaded(entry())
    pattern, harm = DAMAGES[damage]
    harm(next(cache.place(KERNEL).rglob(pattern)))
    assert loaded(entry()) == 0
    assert cache.ready(KERNEL)
    assert loaded(entry()) == 1


@needs_jit
def test_what_was_cut_short_is_compiled_anew():
    """The process ended after Numba saved its files and before it wrote the manifest.

    One of the files may not have reached the disk.
    """
    loaded(entry())
    (cache.place(KERNEL) / "manifest.json").unlink()
    next(cache.place(KERNEL).rglob("*.nbc")).write_bytes(b"")
    assert loaded(entry()) == 0
    assert cache.ready(KERNEL)


@needs_jit
def test_a_kernel_of_another_environment_is_not_used(monkeypatch):
    loaded(entry())
    with monkeypatch.context() as patch:
        CHANGES["processor"](patch)
        cache.environment.cache_clear()
        assert loaded(entry()) == 0
    cache.environment.cache_clear()
    assert loaded(entry()) == 1


@needs_jit
def test_what_numba_does_not_find_after_all_gets_a_new_manifest(monkeypatch):
    """It may look at more than our facts tell: here, at the bytes of the function."""
    loaded(entry())
    changed = compiling.entry(lambda x: 2 * x, KERNEL)
    changed.py_func.__code__ = twice.__code__.replace(co_consts=(None, 7))
    assert compiling.load(changed, KERNEL, ARGUMENTS)(1.5) == 3.0
    assert cache.ready(KERNEL)


@needs_jit
def test_a_full_disk_does_not_keep_from_training(monkeypatch):
    def full(kernel):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_manifest", full)
    assert loaded(entry()) == 0
    assert not cache.ready(KERNEL)
    assert not cache.place(KERNEL).exists()


@needs_jit
def test_nothing_half_written_is_left_by_an_interruption(monkeypatch):
    def interrupted(kernel):
        raise KeyboardInterrupt

    dispatcher = entry()
    monkeypatch.setattr(cache, "write_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loaded(dispatcher)
    assert not cache.place(KERNEL).exists()


@needs_jit
def test_numba_is_kept_from_other_places(monkeypatch):
    """If it cannot write there, Numba would use a folder beside the source.

    That folder depends only on the date of one file.
    """

    def refused(*args, **kwargs):
        raise OSError("read-only")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", refused)
        dispatcher = entry()
    assert dispatcher.stats.cache_path is None
    assert loaded(dispatcher) == 0
    assert not cache.ready(KERNEL)


@needs_jit
def test_without_a_folder_each_process_compiles(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    assert loaded(entry()) == 0


# --- SciPy's BLAS ---------------------------------------------------------------------------------

_ALONE = """
import sys
from fastnn._kernels import scipy_blas
with scipy_blas.alone() as alone:
    import scipy.linalg.cython_blas
    assert "scipy.linalg" not in sys.modules
assert "scipy.linalg.cython_blas" not in sys.modules
import scipy.linalg.cython_blas
assert scipy.linalg.cython_blas is alone
assert "dgemm" in alone.__pyx_capi__
assert scipy.linalg.solve([[2.0]], [1.0]) == [0.5]
with scipy_blas.alone() as again:
    pass
assert again is alone is sys.modules["scipy.linalg.cython_blas"]
"""


def test_blas_is_found_without_the_rest_of_its_package():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ALONE], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
