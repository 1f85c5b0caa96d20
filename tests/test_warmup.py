"""``fastnn warmup``: it compiles what is missing, and leaves nothing half done."""

import ast
import importlib
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from builders import empty_cache

from fastnn import engines
from fastnn._kernels.contract import DTYPES
from fastnn._kernels.numba_cpu import cache
from fastnn.cli import main, warmup

numba = pytest.importorskip("numba")
if numba.config.DISABLE_JIT:
    pytest.skip("nothing is compiled", allow_module_level=True)

# Stand-ins for what takes half a minute.
COMPILES = """
from fastnn._kernels.numba_cpu import cache
place = cache.folder(sys.argv[1])
(place / "run.nbi").write_text("index")
(place / "run.1.nbc").write_text("code")
cache.write_manifest(sys.argv[1])
"""
CUT_SHORT = COMPILES.replace(
    "cache.write_manifest(sys.argv[1])", "print('trace'); sys.exit('MemoryError: no memory')"
)
SILENT = "pass"
TRUE_SCRIPT = warmup._COMPILE
ENDLESS = CUT_SHORT.replace("print('trace')", "import time; time.sleep(600)")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(warmup, "_COMPILE", COMPILES)
    with empty_cache(cache, tmp_path, monkeypatch) as place:
        yield place


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        assert main(["warmup", *arguments]) == status
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return out if status == 0 else err

    return call


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_script_makes_the_kernels_run(dtype, monkeypatch):
    monkeypatch.undo()  # the kernels that the other tests have compiled
    command = [sys.executable, "-c", "import sys\n" + TRUE_SCRIPT, dtype]
    subprocess.run(command, check=True)
    assert cache.ready(dtype)


def test_both_number_types_then_nothing_more(run):
    assert re.fullmatch(r"float32 and float64: compiled in \d+ s\n", run())
    assert cache.ready("float32")
    assert cache.ready("float64")
    assert run() == "float32: already compiled\nfloat64: already compiled\n"


@pytest.mark.parametrize(("dtype", "other"), [("float32", "float64"), ("float64", "float32")])
def test_one_number_type(run, dtype, other):
    assert re.fullmatch(rf"{dtype}: compiled in \d+ s\n", run("--dtype", dtype))
    assert not cache.ready(other)
    assert re.fullmatch(
        rf"{dtype}: already compiled\n{other}: compiled in \d+ s\n", run("--dtype", "both")
    )


def test_an_unknown_number_type(run):
    assert run("--dtype", "float16", status=2) == (
        "fastnn: unknown dtype 'float16' (did you mean 'float64'?); known: float32, float64, both\n"
    )


def test_without_numba(run, monkeypatch):
    monkeypatch.setitem(
        engines.ENGINES, "numba", engines.EngineSpec("", lambda: "numba is not installed")
    )
    assert "backend 'numba' cannot run here: numba is not installed" in run(status=2)


def test_without_the_jit(run, monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert "NUMBA_DISABLE_JIT is set" in run(status=2)


def test_where_nothing_can_be_written(run, folder):
    folder.write_text("a file")
    assert re.fullmatch(
        rf"fastnn: {folder}/\S+/float32 cannot be written; .*NUMBA_CACHE_DIR.*\n", run(status=2)
    )


@pytest.mark.parametrize(
    ("script", "reason"), [(CUT_SHORT, "MemoryError: no memory"), (SILENT, "is there space left?")]
)
def test_a_failure_is_told_and_leaves_nothing(run, monkeypatch, script, reason):
    monkeypatch.setattr(warmup, "_COMPILE", script)
    assert re.fullmatch(
        rf"fastnn: the kernel for float64 could not be .*{re.escape(reason)}\n",
        run("--dtype", "float64", status=2),
    )
    assert not cache.ready("float64")
    assert not cache.place("float64").exists()


def test_a_failure_of_one_keeps_the_other(run, monkeypatch):
    run("--dtype", "float32")
    monkeypatch.setattr(warmup, "_COMPILE", CUT_SHORT)
    run(status=2)
    assert cache.ready("float32")


def test_old_kernels_are_told_of_and_removed_when_asked(run, folder):
    run()
    old = folder / "0.0.9-0123456789abcdef"
    (old / "float32").mkdir(parents=True)
    (old / "float32" / "x.nbc").write_bytes(bytes(2_000_000))
    (folder / "mine").mkdir()
    assert (
        f"{folder} also holds 1 folder of kernels compiled for other versions or machines, 2.0 MB; "
        "--clean removes them" in run()
    )
    assert old.is_dir()
    assert "removed 1 folder of kernels compiled for other versions or machines, 2.0 MB" in run(
        "--clean"
    )
    assert not old.exists()
    assert (folder / "mine").is_dir()
    assert cache.ready("float32")
    assert "other versions" not in run()


@pytest.mark.parametrize("script", ["_COMPILE_CUDA", "_LOAD_CUDA"])
def test_the_scripts_name_what_there_is(script):
    """They run where there is a compiler or a GPU only."""
    tree = ast.parse(getattr(warmup, script).format(capability=(9, 0)))
    names = {
        alias.name: importlib.import_module(f"{node.module}.{alias.name}")
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    used = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    ]
    assert len(used) >= len(names) > 0
    assert all(hasattr(names[node.value.id], node.attr) for node in used)


def test_the_processes_find_the_same_modules(run, monkeypatch, tmp_path):
    """And not a file of the folder that the command happens to be called in."""
    (tmp_path / "fastnn.py").write_text("raise ImportError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    run("--dtype", "float32")


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_ends_it_at_once_and_leaves_nothing(folder):
    script = (
        "import sys; from fastnn.cli import main, warmup; "
        f"warmup._COMPILE = {ENDLESS!r}; sys.exit(main(['warmup']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(600):
        if len(list(folder.rglob("*.nbc"))) == 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)  # to this process alone: it has to end the others
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (out, err) == ("", "\nfastnn: interrupted\n")
    assert not list(folder.rglob("*.nb*"))
