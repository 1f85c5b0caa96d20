"""``backend="auto"``: which engine it takes, that it waits for none, and that a network keeps the one it got."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import cli, engines
from fastnn._kernels.numba_cpu import cache
from fastnn.engines import ENGINES, NUMBA_FASTER_FROM
from fastnn.findings import Cure

LARGE, SMALL = NUMBA_FASTER_FROM, NUMBA_FASTER_FROM - 1
X, LABELS = np.random.default_rng(0).normal(size=(20, 4)), np.arange(20) % 3


@pytest.fixture
def machine(monkeypatch):
    """Set which engines run here, and for which number types Numba's kernels are compiled. The reference does the work of them all."""

    def configure(*runs, compiled=()):
        for name in ENGINES:
            reason = None if name == "numpy" or name in runs else "not here"
            monkeypatch.setitem(ENGINES, name, dataclasses.replace(ENGINES["numpy"], why_not=lambda reason=reason: reason))
        monkeypatch.setattr(cache, "ready", lambda dtype: dtype in compiled)

    return configure


def network(**options):
    return fnn.mlp([4, 5, 3], **options)


# Engines that run, whether Numba's kernels are compiled, parameters → the choice.
CHOICES = [
    (("cython", "numba"), False, LARGE, "cython"),
    (("cython", "numba"), False, 0, "cython"),
    (("cython", "numba"), True, LARGE, "numba"),
    (("cython", "numba"), True, SMALL, "cython"),
    (("cython",), False, LARGE, "cython"),
    (("cython",), True, LARGE, "cython"),  # they were compiled before Numba was broken
    (("numba",), False, LARGE, "numba"),
    (("numba",), False, 0, "numba"),
    (("numba",), True, 0, "numba"),
    ((), False, LARGE, "numpy"),
    ((), True, LARGE, "numpy"),
    (("cuda", "cython"), False, 0, "cython"),
]


@pytest.mark.parametrize(("runs", "compiled", "n_parameters", "expected"), CHOICES)
def test_choices(machine, runs, compiled, n_parameters, expected):
    machine(*runs, compiled=("float32",) if compiled else ())
    assert engines.choose("auto", "float32", n_parameters) == expected
    assert engines.choose("numpy", "float32", n_parameters) == "numpy"


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("n_parameters", [0, SMALL, LARGE, 10**12])
def test_every_preference_ends_with_what_always_runs(compiled, n_parameters):
    names = engines.preference(compiled, n_parameters)
    assert len(set(names)) == len(names)
    assert names[-1] == "numpy"
    assert set(names) <= set(ENGINES)


def test_numba_is_not_asked_where_another_is_taken(machine, monkeypatch):
    def asked():
        raise AssertionError("finding out loads it")

    machine("cython", compiled=["float32"])
    monkeypatch.setitem(ENGINES, "numba", dataclasses.replace(ENGINES["numba"], why_not=asked))
    assert engines.choose("auto", "float64", LARGE) == "cython"
    assert engines.choose("auto", "float32", SMALL) == "cython"


def test_the_size_is_the_networks(machine):
    machine("cython", "numba", compiled=["float32"])
    units = 200
    assert fnn.mlp([4, units, 3]).backend == "cython"
    assert fnn.mlp([4, NUMBA_FASTER_FROM // units, units, 3]).backend == "numba"


def test_the_number_type_is_the_networks(machine, monkeypatch):
    monkeypatch.setattr(engines, "NUMBA_FASTER_FROM", 0)
    machine("cython", "numba", compiled=["float64"])
    assert network().backend == "cython"
    assert network(dtype="float64").backend == "numba"


def test_a_network_keeps_its_engine(machine, monkeypatch, tmp_path):
    """Kernels may come to be compiled while a process runs: what is there goes on as it began."""
    monkeypatch.setattr(engines, "NUMBA_FASTER_FROM", 0)
    machine("cython", "numba")
    net = network()
    net.fit(X, LABELS)
    net.save(tmp_path / "m")
    machine("cython", "numba", compiled=["float32"])
    assert network().backend == "numba"
    twins = [net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for same in (net, *twins):
        same.fit(X, LABELS)
        same.activations(X)
        assert same.backend == "cython"
    assert net.copy(backend="auto").backend == "numba"
    assert fnn.load(tmp_path / "m").backend == "numba"
    assert fnn.load(tmp_path / "m", backend="cython").backend == "cython"
    assert Cure("a change").apply(net).backend == "cython"


def test_a_mistake_is_still_one(machine, tmp_path):
    machine("cython")
    with pytest.raises(ValueError, match="did you mean 'cython'"):
        network(backend="cyton")
    with pytest.raises(RuntimeError, match="'numba' cannot run here: not here; available: numpy, cython"):
        network(backend="numba")
    network().save(tmp_path / "m")
    with pytest.raises(RuntimeError, match="'numba' cannot run here"):
        fnn.load(tmp_path / "m", backend="numba")


# Engines that run, whether Numba's kernels are compiled → words.
WORDS = [
    (("cython", "numba"), True, f"numba from {NUMBA_FASTER_FROM:,} parameters on, cython below"),
    (("cython", "numba"), False, "cython, which starts at once: numba has yet to be compiled, which fastnn warmup does"),
    (("cython",), False, "cython, the only compiled engine that runs here"),
    (("numba",), True, "numba, the only compiled engine that runs here"),
    (("numba",), False, "numba, which the first training compiles, or fastnn warmup"),
    ((), False, "numpy, as no compiled engine runs here"),
]


@pytest.mark.parametrize(("runs", "compiled", "words"), WORDS)
def test_info_tells_which_and_why(machine, capsys, runs, compiled, words):
    machine(*runs, compiled=("float64",) if compiled else ())
    assert engines.explain("float64").startswith(words)
    assert cli.main(["info"]) == 0
    told = capsys.readouterr().out
    assert f"auto float64  {words}" in told
    assert f"numba kernels float32 not compiled, float64 {'' if compiled else 'not '}compiled" in told


@pytest.mark.parametrize("compiled", [True, False])
def test_the_command_line_trains_on_it_and_announces_a_wait(machine, monkeypatch, capsys, compiled):
    machine("numba", compiled=("float32",) if compiled else ())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.main(["train", "--layers", "4", "--epochs", "1", "--quiet"]) == 0
    assert cli.main(["train", "--layers", "4", "--epochs", "1"]) == 0
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


@pytest.mark.skipif(ENGINES["cython"].why_not() is not None, reason="needs Cython's kernels")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_first_step_on_a_new_machine_loads_no_compiler(dtype, tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-W", "error", "-c", _FIRST_STEP, dtype], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    backend, *modules = done.stdout.split()
    assert backend == "cython"
    assert not {"numba", "llvmlite", "scipy.linalg", "importlib.metadata"} & set(modules)
    assert not list(tmp_path.iterdir())
