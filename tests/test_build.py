"""Building from source: without a compiler, with one that fails, with kernels required.

Needs the source tree, setuptools and Cython.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"
KERNELS = Path("fastnn", "_kernels")
MISSING = [name for name in ("setuptools", "Cython") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.skipif(
        not (ROOT / KERNELS / "opcodes.py").exists(), reason="needs the source tree"
    ),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
needs_gcc = pytest.mark.skipif(
    os.name != "posix" or shutil.which("gcc") is None, reason="needs gcc"
)

NO_COMPILER = {"CC": "/nonexistent/cc"}
# Trains without the engine, then asks for it.
ASK = """
import fastnn as fnn
print(fnn.backends())
print(fnn.mlp([4, 3], backend="numpy").fit([[1, 2, 3, 4]], [1], epochs=1)["loss"])
fnn.mlp([4, 3], backend="cython")
"""


def build(folder, *options, **environment):
    """Run ``setup.py build``; returns the process, and the folder with the package."""
    command = [
        sys.executable,
        "setup.py",
        "build",
        f"--build-base={folder}",
        f"--build-lib={folder}/lib",
        "build_ext",
        *options,
    ]
    optional = {name: value for name, value in os.environ.items() if name != "FASTNN_REQUIRE_EXT"}
    done = subprocess.run(
        command, cwd=ROOT, env=optional | environment, capture_output=True, text=True, timeout=300
    )
    return done, folder / "lib"


def ask(package):
    """What a new interpreter prints whose only fastnn is this package."""
    return subprocess.run(
        [sys.executable, "-c", ASK], cwd=package, capture_output=True, text=True, timeout=60
    )


def modules(package):
    return [
        path.name.partition(".")[0]
        for path in (package / KERNELS / "cython_cpu").iterdir()
        if path.suffix in (".so", ".pyd")
    ]


def test_without_a_compiler_the_package_works_and_says_why(tmp_path):
    stale = (
        tmp_path
        / "lib"
        / KERNELS
        / "cython_cpu"
        / f"float32_base{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    )
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier build")
    done, package = build(tmp_path, **NO_COMPILER)
    assert done.returncode == 0, done.stderr
    assert not modules(package)
    answer = ask(package)
    reason = "no working C compiler was found when fastnn was installed: "
    assert re.search(f"'cython': ['\"]unavailable: {reason}", answer.stdout)
    assert "'numpy': 'available'" in answer.stdout
    assert f"RuntimeError: backend 'cython' cannot run here: {reason}" in answer.stderr
    assert "/nonexistent" in answer.stderr


def test_required_kernels_that_cannot_be_built_are_an_error(tmp_path):
    done, _ = build(tmp_path, FASTNN_REQUIRE_EXT="1", **NO_COMPILER)
    assert done.returncode != 0
    assert "error: no working C compiler was found" in done.stderr


@needs_gcc
@pytest.mark.parametrize("required", ["0", "1"])
def test_a_compiler_that_fails_at_the_kernels(tmp_path, required):
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *float32_base.c*) echo "out of memory" >&2; exit 1;; esac\n'
        'exec gcc "$@"\n'
    )
    compiler.chmod(0o755)
    done, package = build(
        tmp_path, "--only=float32_base", CC=str(compiler), FASTNN_REQUIRE_EXT=required
    )
    if required == "1":
        assert done.returncode != 0
        assert "out of memory" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert not modules(package)
        assert "float32_base did not compile when fastnn was installed: " in ask(package).stderr


@needs_gcc
def test_no_literal_drags_float32_arithmetic_into_double(tmp_path):
    """In Cython as in C, ``1 + e`` is a double sum where e is a float; ``ONE + e`` is not."""
    flags = "-O0 -Werror=double-promotion"
    done, _ = build(tmp_path, "--only=float32_base", CC="gcc", CFLAGS=flags, FASTNN_REQUIRE_EXT="1")
    assert done.returncode == 0, "\n".join(
        line for line in done.stderr.splitlines() if "double-promotion" in line
    )


@needs_gcc
def test_python_without_its_headers(tmp_path):
    (tmp_path / "headers").mkdir()
    (tmp_path / "headers" / "Python.h").write_text("#error where is Python\n")
    done, package = build(tmp_path, f"--include-dirs={tmp_path / 'headers'}", CC="gcc")
    assert done.returncode == 0, done.stderr
    assert (
        "Python's C headers were not found when fastnn was installed: error" in ask(package).stderr
    )


def test_broken_modules_are_a_reason(tmp_path):
    _, package = build(tmp_path, **NO_COMPILER)
    for name in ("float32_base", "float64_base"):
        (
            package / KERNELS / "cython_cpu" / f"{name}{importlib.machinery.EXTENSION_SUFFIXES[0]}"
        ).write_bytes(b"not a library")
    assert "'cython' cannot run here: its kernels do not load: " in ask(package).stderr


@pytest.fixture
def tools(monkeypatch):
    """Modules of ``tools/`` can be imported."""
    monkeypatch.syspath_prepend(TOOLS)


@needs_gcc
@pytest.mark.parametrize("c_flags", ["", "-O1 -g"])
def test_flags(tools, monkeypatch, c_flags):
    from compiler_probe import LEVELS, Probe
    from setuptools.command.build_ext import customize_compiler, new_compiler

    monkeypatch.setenv("CFLAGS", c_flags)
    compiler = new_compiler()
    customize_compiler(compiler)
    levels = Probe(compiler).flags_of_levels()
    assert "base" in levels
    for level, flags in levels.items():
        assert "-O3" in flags
        assert "-ffinite-math-only" not in flags
        assert ("-fassociative-math" in flags) == (
            level != "base" or os.uname().machine == "aarch64"
        )
        last = [*c_flags.split(), *LEVELS[level]]
        assert flags[len(flags) - len(last) :] == last
