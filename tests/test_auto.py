"""``backend="auto"``: which engine it takes, without a wait, and that a network keeps it."""

import copy
import dataclasses
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from builders import ENGINES as AVAILABLE
from network_cases import raises, small

import fastnn as fnn
from fastnn import engines
from fastnn._kernels.numba_cpu import cache
from fastnn.cli import main
from fastnn.diagnostics.findings import Cure
from fastnn.engines import ENGINES, PREFERENCE

X, LABELS = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3


@pytest.fixture
def machine(monkeypatch):
    """Set which engines run here, and the dtypes of compiled Numba kernels.

    The reference engine does the work of them all.
    """

    def configure(*runs, compiled=()):
        for name in ENGINES:
            reason = None if name == "numpy" or name in runs else "not here"
            monkeypatch.setitem(
                ENGINES,
                name,
                dataclasses.replace(
                    ENGINES["numpy"], unavailable_reason=lambda reason=reason: reason
                ),
            )
        monkeypatch.setattr(cache, "ready", lambda dtype: dtype in compiled)

    return configure


def network(**options):
    return fnn.mlp([4, 5, 3], **options)


# Engines that run → the choice.
CHOICES = [
    (("cython", "numba"), "cython"),
    (("cython",), "cython"),
    (("numba",), "numba"),
    ((), "numpy"),
    (("cuda", "cython"), "cython"),
]


@pytest.mark.parametrize("compiled", [(), ("float32",)], ids=["", "compiled"])
@pytest.mark.parametrize(("runs", "expected"), CHOICES)
def test_choices(machine, runs, compiled, expected):
    machine(*runs, compiled=compiled)
    assert network().backend == engines.choose("auto") == expected
    assert engines.choose("numpy") == "numpy"


def test_what_always_runs_comes_last():
    assert PREFERENCE[-1] == "numpy"
    assert set(PREFERENCE) <= set(ENGINES)


def test_numba_is_not_asked_where_another_is_taken(machine, monkeypatch):
    def asked():
        raise AssertionError("finding out loads it")

    machine("cython", compiled=["float32"])
    monkeypatch.setitem(
        ENGINES, "numba", dataclasses.replace(ENGINES["numba"], unavailable_reason=asked)
    )
    assert engines.choose("auto") == "cython"


def test_a_network_keeps_its_engine(machine, tmp_path):
    """Another engine may come to run where a network is copied or loaded."""
    machine("numba", compiled=["float32"])
    net = network()
    net.fit(X, LABELS)
    net.save(tmp_path / "m")
    machine("cython", "numba")
    assert network().backend == "cython"
    twins = [net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for same in (net, *twins):
        same.fit(X, LABELS)
        same.activations(X)
        assert same.backend == "numba"
    assert net.copy(backend="auto").backend == "cython"
    assert fnn.load(tmp_path / "m").backend == "cython"
    assert fnn.load(tmp_path / "m", backend="numba").backend == "numba"
    assert Cure("a change").apply(net).backend == "numba"


def test_a_mistake_is_still_one(machine, tmp_path):
    machine("cython")
    with pytest.raises(ValueError, match="did you mean 'cython'"):
        network(backend="cyton")
    with pytest.raises(
        RuntimeError, match="'numba' cannot run here: not here; available: numpy, cython"
    ):
        network(backend="numba")
    network().save(tmp_path / "m")
    with pytest.raises(RuntimeError, match="'numba' cannot run here"):
        fnn.load(tmp_path / "m", backend="numba")


# Engines that run → words.
WORDS = [
    (("cython", "numba"), "cython, the fastest engine, which starts at once"),
    (("numba",), "numba, as cython cannot run here"),
    ((), "numpy, as cython and numba cannot run here"),
]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("runs", "words"), WORDS)
def test_info_tells_which_and_why(machine, capsys, runs, compiled, words):
    machine(*runs, compiled=("float64",) if compiled else ())
    assert main(["info"]) == 0
    told = capsys.readouterr().out
    assert re.search(f"^auto +{words}$", told, re.MULTILINE)
    assert (
        f"numba kernels float32 not compiled, float64 {'' if compiled else 'not '}compiled" in told
    )


@pytest.mark.parametrize("compiled", [True, False])
def test_the_command_line_trains_on_it_and_announces_a_wait(machine, monkeypatch, capsys, compiled):
    machine("numba", compiled=("float32",) if compiled else ())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["train", "--layers", "4", "--epochs", "1", "--quiet"]) == 0
    assert main(["train", "--layers", "4", "--epochs", "1"]) == 0
    out, err = capsys.readouterr()
    assert out.count("(numba)") == 2
    assert err.count("compiling for this machine, once") == (0 if compiled else 1)


_FIRST_STEP = """
import sys
import fastnn as fnn
net = fnn.mlp([4, 5, 3], dtype=sys.argv[1])
net.fit([[1, 2, 3, 4]] * 3, [0, 1, 2], progress=False)
net.predict([[1, 2, 3, 4]])
print(net.backend, *sys.modules)
"""


@pytest.mark.skipif(
    ENGINES["cython"].unavailable_reason() is not None, reason="needs Cython's kernels"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_first_step_on_a_new_machine_loads_no_compiler(dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FIRST_STEP, dtype],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    backend, *modules = done.stdout.split()
    assert backend == "cython"
    assert not {"numba", "llvmlite", "scipy.linalg", "importlib.metadata"} & set(modules)
    assert not list(tmp_path.iterdir())


UNAVAILABLE = [name for name, status in fnn.backends().items() if status != "available"]


@pytest.mark.parametrize("unavailable", UNAVAILABLE)
def test_an_engine_that_cannot_run_says_why(unavailable):
    reason = fnn.backends()[unavailable].removeprefix("unavailable: ")
    with raises(RuntimeError, repr(unavailable), reason, "available: numpy"):
        small(backend=unavailable)


def test_auto_says_what_it_chose():
    assert small(backend="auto").backend in AVAILABLE
