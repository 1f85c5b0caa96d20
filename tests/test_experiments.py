"""The experiments: what each must state, the files they write, and the command that runs them."""

import json
import math
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastnn as fnn
from fastnn import experiments
from fastnn.cli import experiment as command
from fastnn.cli import main
from fastnn.experiments import book, data, registry, runner
from fastnn.experiments.registry import EXPERIMENTS
from fastnn.experiments.result import Check, ExperimentResult, at_least, at_most, close

pytest.importorskip("matplotlib", reason="experiments draw with Matplotlib")

# a second or so each; CI runs the others in quick mode
CHEAP = ["chain", "neuron_bars", "linear_depth"]


@pytest.fixture
def fake(monkeypatch):
    """A function that makes `registry.experiment` return a module of given checks."""

    def install(*checks, series=None):
        from fastnn import plotting

        class Module:
            __doc__ = "A title.\n\nText."
            run = staticmethod(lambda quick, data: ExperimentResult(list(checks), series or {}))
            draw = staticmethod(lambda result: plotting.new_axes()[0])

        for where in (registry, runner):
            monkeypatch.setattr(where, "experiment", lambda name: Module)

    return install


def read(path):
    return json.loads(
        path.read_text(encoding="utf-8"),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )


# --- each experiment ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_it_says_what_it_shows_and_where_that_is_from(name):
    module = registry.experiment(name)
    first, blank, rest = module.__doc__.split("\n", 2)
    assert first.endswith(".")
    assert not blank
    assert "\nSource: " in f"\n{rest}"
    assert "\nExpected: " in rest
    assert callable(module.run)
    assert callable(module.draw)


@pytest.mark.parametrize("name", CHEAP)
def test_quick_mode_agrees_and_writes_its_files(name, tmp_path):
    report = runner.run(name, quick=True, out=tmp_path)
    assert [check.name for check in report.checks if not check.agrees] == []
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    written = read(tmp_path / f"{name}.json")
    names = [check.name for check in report.checks]
    assert len(set(names)) == len(names) > 0
    assert (
        list(written["expected"]) == list(written["measured"]) == list(written["agrees"]) == names
    )
    assert all(written["agrees"].values())
    assert (written["name"], written["title"], written["quick"]) == (
        name,
        registry.title(name),
        True,
    )
    assert written["seconds"] > 0
    assert all(check["source"] for check in written["checks"])
    assert written["series"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.json", f"{name}.png"]


def test_none_needs_matplotlib_to_be_imported():
    code = """if True:
        import sys
        from fastnn.experiments import registry
        [registry.title(name) for name in registry.EXPERIMENTS]
        print(*sys.modules)
    """
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    assert "fastnn.experiments.gradients.chain" in loaded
    assert "matplotlib" not in loaded


def test_every_module_of_an_experiment_is_listed():
    modules = runner.Path(experiments.__file__).parent.glob("*/*.py")
    assert {path.stem for path in modules} - {"__init__"} == set(EXPERIMENTS)


def test_an_experiment_is_found_by_its_name_alone():
    assert experiments.chain is registry.experiment("chain")
    with pytest.raises(AttributeError, match="no attribute 'chian'"):
        experiments.chian  # noqa: B018


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "agrees"),
    [
        (close("x", "s", 10.0, 10.9, absolute=1.0), True),
        (close("x", "s", 10.0, 11.1, absolute=1.0), False),
        (close("x", "s", -10.0, -10.9, relative=0.1), True),
        (close("x", "s", -10.0, -8.9, relative=0.1), False),
        (at_least("x", "s", 4.0, 4.0), True),
        (at_least("x", "s", 4.0, 3.9), False),
        (at_most("x", "s", 4.0, 4.0), True),
        (at_most("x", "s", 4.0, 4.1), False),
        (at_most("x", "s", 4.0, math.nan), False),
        (Check("x", "s", "anything", math.nan), False),
    ],
)
def test_when_figures_agree(check, agrees):
    assert check.agrees is agrees


def test_what_is_written_is_plain_json(fake, tmp_path):
    series = {
        "a": np.float32(0.1),
        "b": np.array([[1, 2]]),
        "c": {2: (math.nan, 1 / 3)},
        "d": "text",
    }
    fake(at_most("x", "s", 1.0, math.nan), series=series)
    runner.run("any", out=tmp_path, data=data.mnist(True))
    written = read(tmp_path / "any.json")
    assert written["series"] == {
        "a": 0.1,
        "b": [[1, 2]],
        "c": {"2": [None, 0.3333333]},
        "d": "text",
    }
    assert written["measured"] == {"x": None}
    assert written["agrees"] == {"x": False}
    assert written["checks"][0]["low"] is None


def test_ctrl_c_in_the_middle_of_a_training_leaves_nothing(fake, tmp_path, monkeypatch):
    """Not even a figure: a training cut short is no result."""

    class Impatient:
        def on_epoch_end(self, training):
            signal.raise_signal(signal.SIGINT)

    def measure(quick, sets):
        fnn.mlp([4, 3], backend="numpy").fit(
            np.ones((8, 4)), np.zeros(8, int), epochs=5, callbacks=[Impatient()]
        )
        return ExperimentResult([], {})

    fake()
    monkeypatch.setattr(registry.experiment("any"), "run", staticmethod(measure))
    with pytest.raises(KeyboardInterrupt):
        runner.run("any", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_drawn_leaves_nothing(fake, tmp_path, monkeypatch):
    fake()
    monkeypatch.setattr(registry.experiment("any"), "draw", staticmethod(lambda result: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        runner.run("any", out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_is_measured_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(
        registry.experiment("chain"),
        "run",
        lambda quick, data: pytest.fail("measured all the same"),
    )
    (tmp_path / "chain.png").mkdir()
    with pytest.raises(IsADirectoryError, match=r"chain\.png is a folder"):
        runner.run("chain", out=tmp_path)


# --- data -----------------------------------------------------------------------------------------


def test_data_are_read_once_and_when_asked_for():
    calls = []
    sets = data.Data(lambda: calls.append(1) or (("X", [1, 2, 3]), "v", "t"))
    assert not calls
    assert (sets.train, sets.validation, sets.test) == (("X", [1, 2, 3]), "v", "t")
    assert sets.first(1) == ("X", [1])
    assert calls == [1]


def test_quick_data_are_the_sample():
    sets = data.mnist(quick=True)
    assert [X.shape for X, _ in (sets.train, sets.validation, sets.test)] == [
        (4500, 784),
        (500, 784),
        (1000, 784),
    ]
    assert sets.first(1000)[0].shape == (1000, 784)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        (
            "initial_gradient",
            [-0.00397068, -0.00316843, 0.00810324, 0.012598, -0.0264659, 0.00175833],
        ),
        ("norms_during_training_2_layers", [0.0657413, 0.309218]),
        ("norms_during_training_3_layers", [0.0118382, 0.0599652, 0.283142]),
        ("norms_during_training_4_layers", [0.00297527, 0.0170767, 0.0695392, 0.285139]),
    ],
)
def test_the_books_figures_are_in_the_package(name, first):
    table = book.figures(name)
    assert table.shape == ((2, 6) if name == "initial_gradient" else (500, len(first)))
    np.testing.assert_array_equal(table[0], first)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        assert main(["experiment", *map(str, arguments)]) == status
        return capsys.readouterr()

    return call


@pytest.mark.parametrize("arguments", [(), ("--list",), ("chain", "--list")])
def test_list(run, arguments):
    lines = run(*arguments).out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXPERIMENTS)
    assert lines[0].endswith(registry.title(EXPERIMENTS[0]))


def test_an_unknown_name_is_one_line_with_the_nearest(run):
    out, err = run("chian", status=2)
    assert not out
    assert err.count("\n") == 1
    assert "'chian' (did you mean 'chain'?)" in err


def test_a_folder_that_cannot_be_made_is_one_line(run, tmp_path):
    (tmp_path / "file").touch()
    _, err = run("chain", "--out", tmp_path / "file" / "folder", status=2)
    assert err.startswith("fastnn: ")
    assert err.count("\n") == 1


def test_all_ends_with_a_table(run, fake, tmp_path, monkeypatch):
    fake(
        close("speed of light", "s", 3e8, 2.998e8, relative=0.01),
        at_most("weight of nothing", "s", 0.0, 0.5),
    )
    monkeypatch.setattr(command, "EXPERIMENTS", ("one", "two"))
    out, err = run("all", "--quick", "--out", tmp_path / "new" / "folder")
    assert len([line for line in err.splitlines() if "1 of 2 figures agree" in line]) == 2
    assert out.count("agrees") == out.count("differs") == 2
    assert "Quick mode" in out
    for text in ("one", "two", "speed of light", "3e+08", "2.998e+08", "at most 0", "0.5"):
        assert text in out
    assert "2 figures differ" in out.splitlines()[-1]
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
        "one.json",
        "one.png",
        "two.json",
        "two.png",
    }


@pytest.mark.parametrize(("measured", "status"), [(0.0, 0), (0.5, 1)])
def test_strict_makes_a_differing_figure_a_failure(run, fake, tmp_path, measured, status):
    fake(at_most("weight of nothing", "s", 0.0, measured))
    run("chain", "--out", tmp_path)
    run("chain", "--strict", "--out", tmp_path, status=status)
