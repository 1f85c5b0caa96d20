"""Compiled modules of the Cython engine: which are installed, and which this processor runs."""

import ast
import importlib
import platform
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn as fnn
from fastnn._kernels import opcodes, tables
from fastnn._kernels.cython_cpu import levels
from fastnn._kernels.kernel_arguments import KernelArguments
from fastnn._kernels.tables import ActivationRow
from fastnn._kernels.vocabulary import vocabulary

BUILT = levels.built()
needs_modules = pytest.mark.skipif(
    not BUILT,
    reason=f"the Cython engine is not compiled: {levels.unavailable_reason() if not BUILT else ''}",
)
number_types = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No level asked for, and nothing remembered of another test."""
    monkeypatch.delenv("FASTNN_CPU_LEVEL", raising=False)
    levels._load.cache_clear()
    yield
    levels._load.cache_clear()


def pretend(monkeypatch, installed, processor):
    """These levels are installed, and the processor is of that level."""
    monkeypatch.setattr(levels, "built", lambda: installed)
    monkeypatch.setattr(
        levels, "_load", lambda name: SimpleNamespace(name=name, PROCESSOR_LEVEL=processor)
    )
    levels._load.cache_clear = lambda: None


@needs_modules
@number_types
@pytest.mark.parametrize("level", levels.supported())
def test_each_module_has_its_number_type_and_the_records_of_opcodes(monkeypatch, level, dtype):
    monkeypatch.setenv("FASTNN_CPU_LEVEL", level)
    module = levels.module(np.dtype(dtype))
    assert module.__name__ == f"fastnn._kernels.cython_cpu.{dtype}_{level}"
    assert {
        name: getattr(opcodes, name).itemsize for name in ("OP", "OPTIMIZER", "LOSS")
    } == module.RECORD_SIZES


@needs_modules
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not Path("/proc/cpuinfo").exists(),
    reason="needs Linux on x86-64",
)
def test_the_processor_is_what_the_system_says():
    flags = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    ).split()
    v3 = {"avx2", "fma", "bmi2"} <= set(flags)
    v4 = v3 and {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"} <= set(flags)
    module = importlib.import_module("fastnn._kernels.cython_cpu.float32_base")
    assert (4 if v4 else 3 if v3 else 0) == module.PROCESSOR_LEVEL


@pytest.mark.parametrize(
    ("installed", "processor", "supported"),
    [
        (("base", "v3", "v4"), 4, ("base", "v3", "v4")),
        (("base", "v3", "v4"), 3, ("base", "v3")),
        (("base", "v3", "v4"), 0, ("base",)),
        (("base", "v4"), 3, ("base",)),
        (("base",), 4, ("base",)),
        ((), 4, ()),
    ],
)
def test_the_best_level_is_the_highest_installed_that_runs(
    monkeypatch, installed, processor, supported
):
    pretend(monkeypatch, installed, processor)
    assert levels.supported() == supported
    if supported:
        assert levels.best() == supported[-1]
        assert levels.module(np.dtype("float64")).name == f"float64_{supported[-1]}"


@pytest.mark.parametrize("level", ["v4", "v5", "V3", "base,v3"])
def test_a_level_asked_for_must_run_here(monkeypatch, level):
    pretend(monkeypatch, ("base", "v3", "v4"), 3)
    monkeypatch.setenv("FASTNN_CPU_LEVEL", level)
    with pytest.raises(
        ValueError,
        match=f"FASTNN_CPU_LEVEL .* got '{level}'; "
        "installed: base, v3, v4; this processor runs: base, v3$",
    ):
        levels.unavailable_reason()


@pytest.mark.parametrize("level", ["", "base", "v3"])
def test_a_level_asked_for_is_used(monkeypatch, level):
    pretend(monkeypatch, ("base", "v3", "v4"), 3)
    monkeypatch.setenv("FASTNN_CPU_LEVEL", level)
    assert levels.best() == level or "v3"
    assert levels.unavailable_reason() is None


def test_nothing_compiled(monkeypatch):
    pretend(monkeypatch, (), 0)
    reason = levels.unavailable_reason()
    assert reason
    assert fnn.backends()["cython"] == f"unavailable: {reason}"
    with pytest.raises(ImportError):
        levels.module(np.dtype("float32"))
    with pytest.raises(RuntimeError, match="'cython' cannot run here"):
        fnn.mlp([2, 2], backend="cython")


def with_row(table, name, row):
    """Patch a table: a copy with another row, or without it for ``None``."""
    rows = {key: kept for key, kept in getattr(tables, table).items() if key != name}
    rows |= {} if row is None else {name: row}
    return lambda patch: patch.setattr(tables, table, rows)


NEW = ActivationRow(code=len(tables.ACTIVATIONS), formula="z")
# What differs from the tables that the modules were compiled with → how.
OTHER_VOCABULARIES = {
    "a constant": lambda patch: patch.setattr(opcodes, "GRAD_ADD", 99),
    "a record": lambda patch: patch.setattr(opcodes, "LOSS", np.dtype([("code", np.int64)])),
    "another activation": with_row("ACTIVATIONS", "new", NEW),
    "one activation less": with_row("ACTIVATIONS", "gelu", None),
    "the code of a loss": with_row("LOSSES", "mse", replace(tables.LOSSES["mse"], code=99)),
    "the code of an optimiser": with_row(
        "OPTIMIZERS", "adam", replace(tables.OPTIMIZERS["adam"], code=99)
    ),
    "an argument of the kernels": lambda patch: patch.setattr(
        KernelArguments, "_fields", KernelArguments._fields[1:]
    ),
    "the order of the arguments": lambda patch: patch.setattr(
        KernelArguments, "_fields", KernelArguments._fields[::-1]
    ),
}


@needs_modules
@pytest.mark.parametrize("other", OTHER_VOCABULARIES)
def test_modules_of_another_vocabulary_are_not_used(other, monkeypatch):
    assert levels.unavailable_reason() is None
    levels._load.cache_clear()
    OTHER_VOCABULARIES[other](monkeypatch)
    assert "float32_base was compiled with another opcodes.py" in levels.unavailable_reason()
    with pytest.raises(ImportError, match="install fastnn again"):
        levels.module(np.dtype("float32"))


def test_the_vocabulary_is_plain_data():
    """It is written into the compiled modules as a Python literal."""
    assert ast.literal_eval(repr(vocabulary())) == vocabulary()
