"""What the commands write and print: never over an input, strict JSON, nothing for a terminal."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import RNG, SMALL, npz, read, save

import fastnn as fnn
from fastnn.cli.output import escaped, printable

TRAIN = ("train", "d.npz", *SMALL, "--epochs", "1")


@pytest.fixture
def table():
    """A file of few rows, and a model trained on it."""
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)


# --- outputs and inputs ---------------------------------------------------------------------------


def alias(kind, name):
    """Another name of a file."""
    if kind == "dot":
        return f"./{name}"
    other = f"{kind}{Path(name).suffix}"
    (os.link if kind == "hard" else os.symlink)(name, other)
    return other


@pytest.mark.parametrize("kind", ["dot", "soft", "hard"])
@pytest.mark.parametrize(
    "words",
    [
        ("train", "d.npz", "--out", "d.npz"),
        ("train", "d.npz", "--metrics", "d.npz"),
        ("evaluate", "m.fastnn", "d.npz", "--metrics", "d.npz"),
        ("evaluate", "m.fastnn", "d.npz", "--metrics", "m.fastnn"),
        ("predict", "m.fastnn", "d.npz", "-o", "d.npz"),
        ("predict", "m.fastnn", "d.npz", "--out", "m.fastnn"),
        ("explain", "m.fastnn", "d.npz", "-o", "d.npz"),
    ],
    ids=" ".join,
)
def test_an_output_that_is_an_input_is_refused(fails, run, table, kind, words):
    run(*TRAIN, "--out", "m.fastnn")
    before = {name: Path(name).read_bytes() for name in ("d.npz", "m.fastnn")}
    *words, last = words
    assert "name one file" in fails(*words, alias(kind, last))
    assert {name: Path(name).read_bytes() for name in before} == before


def test_outputs_that_are_one_file_are_refused(fails, table):
    assert "--metrics and --out name one file" in fails(*TRAIN, "--out", "m", "--metrics", "./m")
    assert not os.path.exists("m")


def test_an_output_may_have_the_name_of_a_data_set(run, table):
    run(*TRAIN, "--out", "sample", "--metrics", "mnist")
    assert fnn.load("sample").epochs == 1
    assert read("mnist")["epochs"] == 1


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="a path of Linux and macOS")
@pytest.mark.parametrize("redirected", [True, False])
@pytest.mark.parametrize("option", ["--out", "--metrics"])
def test_an_output_on_standard_output_is_all_that_is_there(table, option, redirected):
    command = [sys.executable, "-m", "fastnn", *TRAIN, option, "/dev/stdout"]
    environment = {**os.environ, "PYTHONPATH": str(Path(fnn.__file__).parents[1])}
    with open("result", "w+b") as file:
        out = file if redirected else subprocess.PIPE
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, env=environment)
        assert (done.returncode, b"test accuracy" in done.stderr) == (0, True), done.stderr
        if not redirected:
            file.write(done.stdout)
    if option == "--out":
        assert fnn.load("result").epochs == 1
    else:
        assert read("result")["epochs"] == 1


# --- strict JSON ----------------------------------------------------------------------------------


def strictly(path):
    with open(path) as file:
        return json.load(file, parse_constant=pytest.fail)


def test_metrics_that_are_not_finite_are_null(run):
    net = save(outputs=1, loss="mse")
    net.parameters["0.weight"] = np.full((2, 1), 1e30)
    net.save("plain.fastnn")
    npz(X=np.full((4, 2), 1e30), y=np.arange(4.0))
    with np.errstate(all="ignore"):
        run("evaluate", "plain.fastnn", "d.npz", "--metrics", "e.json")
    assert strictly("e.json")["loss"] is None


# --- names that no terminal should see ------------------------------------------------------------

EVIL = "\x1b]0;title\x07\x1b[31mred\x9b2J\r\n\u202etxt"


def test_names_from_files_reach_no_terminal(run, fails, monkeypatch):
    """Through notes, results, errors and ``info``."""
    from fastnn.tabular.table import Column, Table

    values = RNG.normal(size=60).round(3)
    values[0] = np.nan
    columns = [
        Column(EVIL, "real", values),
        Column.of_names("id" + EVIL, "text", [f"{i}{EVIL}" for i in range(60)]),
        Column.of_names("y" + EVIL, "text", ["a" + EVIL, "b" + EVIL] * 30),
    ]
    monkeypatch.setattr(
        "fastnn.cli.data.read_table",
        lambda *_: Table(f"evil{EVIL}.csv", {column.name: column for column in columns}),
    )
    printed = [
        *run("train", "e.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn"),
        *run("info", "m.fastnn"),
        *run("evaluate", "m.fastnn", "e.csv", "--backend", "numpy"),
        fails("train", "e.csv", *SMALL, "--target", "z"),
        fails("evaluate", "m.fastnn", "e.csv", "--target", "z", "--backend", "numpy"),
    ]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    printed += run("predict", "m.fastnn", "e.csv", "--backend", "numpy")
    assert sum("\\x1b[31mred" in text for text in printed) >= 6
    letters = set("".join(printed)) - {"\n"}
    assert all(letter.isprintable() for letter in letters)


def test_what_is_escaped():
    assert escaped("naïve 한국 😀 👩\u200d🚀 e\u0301") == "naïve 한국 😀 👩\u200d🚀 e\u0301"
    assert escaped("\x1b[0m\0\t\n\x7f\x9b\u2028\ud800") == (r"\x1b[0m\x00\t\n\x7f\x9b\u2028\ud800")
    assert escaped("a\u3000b\u00a0c") == "a b c"


def test_long_lines_are_cut():
    assert len(printable("x" * 10_000_000)) < 5000
    assert "10,000,000 letters" in printable("x" * 10_000_000)


# --- refused before training ----------------------------------------------------------------------


@pytest.fixture
def no_training(monkeypatch):
    def fit(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(fnn.Network, "fit", fit)


def test_a_name_that_cannot_be_saved(fails, no_training):
    npz(X=RNG.normal(size=(60, 3)), y=np.array(["a", "b\ud800", "c"] * 20))
    assert "surrogate" in fails(*TRAIN, "--quiet", "--out", "m.fastnn")


def test_names_of_ten_megabytes(fails, no_training):
    pytest.importorskip("pyarrow")
    rows = [f"{i},{'ab'[i % 2] * (10_000_000 if i < 4 else 1)}" for i in range(60)]
    Path("d.csv").write_text("\n".join(["x,y", *rows]))
    assert "(10,000,000 letters); the name of a class has at most 10,000" in fails(
        "train", "d.csv", *SMALL, "--quiet"
    )


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("option", ["--out", "--metrics"])
def test_a_read_only_target(fails, table, no_training, option):
    Path("m").write_bytes(b"old")
    Path("m").chmod(0o444)
    assert "read-only" in fails(*TRAIN, option, "m")


@pytest.mark.parametrize("name", ["😀", "𠮷野家", r"C:\ud8", '"', "a\tb"])
def test_every_name_is_saved_and_comes_back(run, name):
    pytest.importorskip("pyarrow")
    quoted = '"' + name.replace('"', '""') + '"'
    rows = [f"{i % 7},{('x', quoted)[i % 2]},{(quoted, 'b', 'c')[i % 3]}" for i in range(60)]
    Path("d.csv").write_text("\n".join([f"{quoted},kind,y", *rows]), encoding="utf-8")
    run("train", "d.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn", "--metrics", "m.json")
    description = fnn.load("m.fastnn").metadata["encoder"]
    assert [f["name"] for f in description["features"]] == [name, "kind"]
    assert name in description["target"]["classes"]
    assert name in description["features"][1]["categories"]
    out = run("predict", "m.fastnn", "d.csv", "--backend", "numpy")[0]
    assert f"probability_{name}" in next(csv.reader(out.splitlines()))


# --- numbers that are none ------------------------------------------------------------------------

NUMBERS = ["99999999999999999999", "9" * 400, "9" * 5000, "nan", "inf", "-inf", "1e400", "-1", ""]


WHOLE = ("--layers", "--epochs", "--batch-size", "--seed", "--patience")
REAL = ("--lr", "--clip-norm", "--dropout", "--l1", "--l2")
REFUSED = [(option, number) for option in WHOLE for number in NUMBERS]
REFUSED += [(option, number) for option in REAL for number in NUMBERS[1:]]  # 1e20 is a number
REFUSED.remove(("--layers", ""))  # no hidden layers


@pytest.mark.parametrize(("option", "number"), REFUSED, ids=lambda word: word[:12])
def test_numbers_that_no_option_takes(fails, table, option, number):
    line = fails(*TRAIN, "--quiet", option, number)
    assert option in line or option.removeprefix("--").replace("-", "_") in line


@pytest.mark.parametrize("widths", ["9223372036854775807", "4000000000,4000000000"])
def test_layers_wider_than_any_memory(fails, table, widths):
    assert "more than any memory" in fails(*TRAIN[:2], "--quiet", "--layers", widths)


@pytest.mark.parametrize("option", ["--l1", "--l2", "--lr"])
def test_numbers_at_the_edge_end_in_one_line(run, table, option):
    err = run(*TRAIN, "--quiet", option, "1e308", status=1)[1]
    assert len(err.splitlines()) == 1


FEATURE, SCALING, TARGET = ("features", 0), ("features", 0, "scaling"), ("target",)
CHANGES = {
    "a median of 400 digits": (*FEATURE, "fill", 10**400),
    "a median of text": (*FEATURE, "fill", "1"),
    "an infinite median": (*SCALING, "center", float("inf")),
    "a spread below 0": (*SCALING, "spread", -1),
    "another scaling": (*SCALING, "type", "Number"),
    "a scaling of text": (*FEATURE, "scaling", "robust"),
    "codes before numbers": (
        *FEATURE[:1],
        0,
        {"type": "Codes", "name": "a", "categories": [], "missing": False},
    ),
    "a name that is a number": (*FEATURE, "name", 3),
    "another type": (*FEATURE, "type", "object"),
    "a type that is a list": (*FEATURE, "type", []),
    "another field": (*FEATURE, "min", 0),
    "classes of text": (*TARGET, "classes", "abc"),
    "classes of numbers": (*TARGET, "classes", [0, 1, 2]),
    "too few classes": (*TARGET, "classes", ["0"]),
    "a class of 10 MB": (*TARGET, "classes", ["0", "1", "2" * 10_000_000]),
    "an unknown kind": (*TARGET, "kind", "date"),
    "no features": ("features", []),
    "features of text": ("features", "abc"),
    "no target": ("target", None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_encoder_of_a_crafted_file(fails, run, table, change):
    run(*TRAIN, "--out", "m.fastnn")
    net = fnn.load("m.fastnn")
    *path, last, value = change
    place = net.metadata["encoder"]
    for key in path:
        place = place[key]
    place[last] = value
    net.save("m.fastnn")
    for command in (["info"], ["evaluate"], ["predict"]):
        words = [] if command == ["info"] else ["d.npz", "--backend", "numpy"]
        assert "metadata 'encoder'" in fails(*command, "m.fastnn", *words)


# --- models of version 0.1.0 ----------------------------------------------------------------------

OLD_CHANGES = {
    "a mean of 400 digits": (*FEATURE, "mean", 10**400),
    "a mean of text": (*FEATURE, "mean", "1"),
    "an infinite mean": (*FEATURE, "mean", float("inf")),
    "a scale of 0": (*FEATURE, "scale", 0),
    "another type": (*FEATURE, "type", "Codes"),
    "too few classes": (*TARGET, "classes", ["0"]),
    "no features": ("features", []),
    "no target": ("target", None),
}


@pytest.fixture
def old_model(table):
    """A model file as version 0.1.0 wrote it."""
    net = fnn.mlp([3, 4, 3], backend="numpy")
    target = {"type": "Classes", "name": "y", "kind": "integer", "classes": ["0", "1", "2"]}
    numbers = [{"type": "Number", "name": f"x{i}", "mean": 0.5, "scale": 2.0} for i in range(3)]
    net.metadata["preprocessing"] = {"features": numbers, "target": target}
    net.save("m.fastnn")
    return net


def test_models_of_older_versions_predict_as_before(run, old_model):
    run("predict", "m.fastnn", "d.npz", "-o", "p.npz", "--backend", "numpy")
    with np.load("d.npz") as data, np.load("p.npz") as predicted:
        expected = old_model.predict((data["X"] - 0.5) / 2)
        np.testing.assert_allclose(predicted["probability_1"], expected[:, 1], rtol=1e-5)
    assert "on 60 rows" in run("evaluate", "m.fastnn", "d.npz", "--backend", "numpy")[0]
    assert "x0, x1, x2" in run("info", "m.fastnn")[0]


@pytest.mark.parametrize("change", OLD_CHANGES.values(), ids=OLD_CHANGES)
def test_crafted_files_of_older_versions(fails, old_model, change):
    *path, last, value = change
    place = old_model.metadata["preprocessing"]
    for key in path:
        place = place[key]
    place[last] = value
    old_model.save("m.fastnn")
    for command in (["info"], ["evaluate"], ["predict"]):
        words = [] if command == ["info"] else ["d.npz", "--backend", "numpy"]
        assert "metadata 'preprocessing'" in fails(*command, "m.fastnn", *words)
