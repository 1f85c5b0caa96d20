"""``fastnn explain``: which columns a model's predictions depend on."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_cases import RNG, SMALL, npz, read, save

import fastnn as fnn
from fastnn.tabular import formats

NUMPY = ("--backend", "numpy")


@pytest.fixture
def prices(run, data):
    """A model of prices.csv, which are 100 + 30 size + 10 flag."""
    options = ("--epochs", 60, "--lr", 0.01, "--out", "m.fastnn", "--quiet")
    run("train", "prices.csv", *SMALL, *options)


def test_a_table_on_standard_output(run, prices):
    out, err = run("explain", "m.fastnn", "prices.csv", *NUMPY)
    title, header, *lines = out.splitlines()
    assert err == ""
    assert title.startswith("price: RMSE ")
    assert "on 120 rows" in title
    assert header.split() == ["column", "importance", "std", "sensitivity"]
    assert [line.split()[0] for line in lines][:2] == ["size", "flag"]
    assert len(lines) == 4


def test_classes_of_an_ensemble(run, data):
    words = ("--recipe", "auto", "--folds", 2, "--epochs", 3, "--out", "m.fastnn")
    run("train", "things.csv", *NUMPY, *words)
    assert isinstance(fnn.load("m.fastnn"), fnn.Ensemble)
    assert run("explain", "m.fastnn", "things.csv", *NUMPY)[0].startswith("label: log-loss ")


def test_figures_in_files(run, prices):
    run("explain", "m.fastnn", "prices.csv", *NUMPY, "-o", "e.json", "--rows", 50, "--seed", 1)
    run("explain", "m.fastnn", "prices.csv", *NUMPY, "-o", "e.csv", "--rows", 50, "--seed", 1)
    figures = read("e.json")
    assert (figures["rows"], figures["metric"], figures["backend"]) == (50, "rmse", "numpy")
    with open("e.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["column"] for row in rows] == list(figures["columns"])
    for row in rows:
        known = figures["columns"][row["column"]]
        assert float(row["importance"]) == known["importance"]
        slope = known["sensitivity"]
        assert row["sensitivity"] == "" if slope is None else float(row["sensitivity"]) == slope
    run("explain", "m.fastnn", "prices.csv", *NUMPY, "-o", "f.json", "--rows", 50, "--seed", 2)
    assert read("f.json") != figures


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_pictures(run, prices, suffix):
    pytest.importorskip(
        "matplotlib", reason="Matplotlib is not installed: pip install 'fastnn[plot]'"
    )
    run("explain", "m.fastnn", "prices.csv", *NUMPY, "-o", f"importance.{suffix}")
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert Path(f"importance.{suffix}").read_bytes().startswith(start)


def test_letters_that_no_font_has(run, data):
    pytest.importorskip(
        "matplotlib", reason="Matplotlib is not installed: pip install 'fastnn[plot]'"
    )
    frame = {"\U00012000": RNG.normal(size=60), "b": RNG.normal(size=60)}  # cuneiform
    formats.write_columns("d.csv", frame | {"y": frame["b"]})
    run("train", "d.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn")
    err = run("explain", "m.fastnn", "d.csv", *NUMPY, "-o", "a.png")[1]
    assert err.startswith("note: Matplotlib finds no font for some letters")
    assert len(err.splitlines()) == 1


def test_a_picture_without_matplotlib_is_refused_before_any_work(run, prices):
    code = (
        "import sys; sys.modules['matplotlib'] = None; from fastnn.cli import main; "
        "sys.exit(main(['explain', 'm.fastnn', 'prices.csv', '-o', 'a.png']))"
    )
    environment = {"PYTHONPATH": str(Path(fnn.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"pip install 'fastnn[plot]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_notes_and_names_for_no_terminal(run, data):
    names = {"a\x1b[31m": RNG.normal(size=60), "b": RNG.choice(["x", "y"], 60)}
    formats.write_columns("d.csv", names | {"y": RNG.normal(size=60)})
    run("train", "d.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn")
    changed = names | {"b": np.where(np.arange(60) < 3, "z", names["b"])}
    formats.write_columns("d.csv", changed | {"y": RNG.normal(size=60)})
    out, err = run("explain", "m.fastnn", "d.csv", *NUMPY)
    assert "\x1b" not in out
    assert "note: " in err


def test_mistakes(fails, prices):
    words = ("explain", "m.fastnn", "prices.csv", *NUMPY)
    assert "must end in one of .png, .svg, .pdf, .csv, .json" in fails(*words, "-o", "a.txt")
    assert "nowhere" in fails(*words, "-o", "nowhere/a.png")
    assert "--rows" in fails(*words, "--rows", 0)
    assert "lacks the target column 'price'" in fails("explain", "m.fastnn", "things.csv", *NUMPY)
    assert "nothing: No such file" in fails("explain", "nothing", "prices.csv")
    assert "there is no file d.csv" in fails("explain", "m.fastnn", "d.csv", *NUMPY)
    save()
    npz(X=RNG.normal(size=(6, 2)), y=np.arange(6) % 3)
    assert "plain.fastnn has no encoder" in fails("explain", "plain.fastnn", "d.npz", *NUMPY)
    sample = fails("explain", "m.fastnn", "sample", *NUMPY)
    assert "expected a file that ends in .csv, .parquet or .npz" in sample
