"""``fastnn train`` with recipes: rows that are held out, files to test and to validate on."""

import os
import re

import numpy as np
import pytest
from cli_cases import npz, read

import fastnn as fnn
from fastnn.estimators.table_model import TableModel
from fastnn.recipes import RECIPES
from fastnn.tabular import formats

QUICK = ("--backend", "numpy", "--epochs", "3")


@pytest.fixture
def tables(tmp_path):
    """Tables of classes and of values, and others of the same columns to test on."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 200), ("other", 60)):
        size, kind = rng.normal(size=n), rng.choice(["a", "b", "c"], n)
        value = 2 * size + (kind == "a") + 0.1 * rng.normal(size=n)
        columns = {"size": size, "kind": kind}
        label = np.where(value > 0, "high", "low")
        formats.write_columns(tmp_path / f"{name}.csv", {**columns, "label": label})
        formats.write_columns(tmp_path / f"{name}_values.csv", {**columns, "value": value})


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "plain"])
def test_every_recipe(run, tables, recipe):
    out, err = run("train", "train.csv", "--recipe", recipe, *QUICK, "--out", "m.fastnn")
    assert "train.csv: 160 to train on and to validate, 40 to test; 2 columns" in err
    assert f"recipe {recipe}; float32; numpy" in err
    assert re.match(r"test accuracy \S+ % by \d networks? in \S+ s \(numpy\); saved to m", out)
    assert "the shares of the classes alone" in err
    model = TableModel.of(fnn.load("m.fastnn", "numpy"))
    assert model.recipe == recipe


def test_five_networks_by_default(run, tables):
    out, _ = run("train", "train.csv", *QUICK, "--out", "m.fastnn", "--metrics", "m.json")
    assert "by 5 networks" in out
    figures = read("m.json")
    assert len(figures["networks"]) == 5
    for name in ("loss", "val_log_loss", "val_accuracy"):
        assert figures[name] == figures["networks"][0][name]
        assert len(figures[name]) == 3
    expected = {"backend", "seconds", "test_accuracy", "test_log_loss", "baseline_log_loss"}
    assert expected <= set(figures)
    assert run("evaluate", "m.fastnn", "other.csv", "--backend", "numpy")[0].startswith("loss ")
    info, _ = run("info", "m.fastnn")
    assert "networks      5" in info


def test_options_of_the_network_mean_one_network(run, tables):
    _, err = run("train", "train.csv", *QUICK, "--layers", "4", "--out", "m.fastnn")
    assert "128 to train on, 32 to validate, 40 to test" in err
    assert isinstance(fnn.load("m.fastnn", "numpy"), fnn.Network)


def test_a_model_of_the_command_line_is_one_of_an_estimator(run, tables):
    run("train", "train_values.csv", *QUICK, "--all-rows", "--out", "m.fastnn")
    table = formats.read_table("train_values.csv")
    columns = {"size": table["size"].values, "kind": table["kind"].names()}
    loaded = fnn.TabularRegressor.load("m.fastnn", "numpy")
    of_file, _ = run("predict", "m.fastnn", "train_values.csv", "--backend", "numpy")
    np.testing.assert_allclose(
        loaded.predict(columns), np.array(of_file.split()[1:], float), rtol=1e-6
    )


def test_rows_of_other_files(run, tables):
    _, err = run("train", "train.csv", *QUICK, "--test", "other.csv", "--metrics", "m.json")
    assert "200 to train on and to validate, 60 to test" in err
    assert "test_accuracy" in read("m.json")
    _, err = run("train", "train.csv", *QUICK, "--validation", "other.csv", "--all-rows")
    assert "200 to train on, 60 to validate;" in err
    plain = ("--layers", "4", "--validation", "other.csv", "--test", "other.csv")
    _, err = run("train", "train.csv", *QUICK, *plain)
    assert "200 to train on, 60 to validate, 60 to test" in err


def test_all_rows_are_scored_where_they_were_held_out(run, tables):
    out, err = run("train", "train_values.csv", *QUICK, "--all-rows", "--metrics", "m.json")
    assert "200 to train on and to validate; 2 columns" in err
    assert out.startswith("validation r2 ")
    assert "validation RMSE" in err
    figures = read("m.json")
    assert "validation_r2" in figures
    assert "test_r2" not in figures


def test_coverage_beside_predictions(run, tables):
    run("train", "train_values.csv", *QUICK, "--epochs", "20", "--out", "v.fastnn")
    run(
        "predict", "v.fastnn", "other.csv", "--coverage", "0.8", "-o", "p.csv", "--backend", "numpy"
    )
    table = formats.read_table("p.csv")
    assert table.names == ["prediction", "lower", "upper"]
    value = formats.read_table("other_values.csv")["value"].values
    inside = (table["lower"].values <= value) & (value <= table["upper"].values)
    assert 0.65 < inside.mean() <= 1
    run("train", "train.csv", *QUICK, "--out", "c.fastnn")
    text, _ = run("predict", "c.fastnn", "other.csv", "--coverage", "0.9", "--backend", "numpy")
    header = "prediction,probability_high,probability_low,possible_high,possible_low"
    assert text.splitlines()[0] == header


def test_a_short_time_is_told(run, tables):
    _, err = run("train", "train.csv", "--backend", "numpy", "--time", "0.05", "--epochs", "9999")
    assert "note: 1 of 5 networks were trained: the time limit is 0.05 s" in err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--recipe realmpl", "unknown recipe 'realmpl'"),
        ("--recipe auto --layers 4", "--layers goes with --recipe plain, not with auto"),
        ("--layers 4 --folds 3", "--folds goes with the other recipes, not with plain"),
        ("--test none.csv", "'none.csv' does not exist"),
        ("--test other_values.csv", "other_values.csv lacks the target column 'label'"),
        ("--time 0", "0.0 is not in the range x>0"),
        ("--out other.csv --test other.csv", "--out"),
    ],
)
def test_mistakes(fails, tables, words, problem):
    assert problem in fails("train", "train.csv", *QUICK, *words.split())


def test_options_of_files_do_not_go_with_images(fails):
    assert "go with a data file, not with sample" in fails("train", "--recipe", "auto")


def test_coverage_of_a_network_without_it(run, fails):
    npz(X=np.random.default_rng(0).normal(size=(20, 2)), y=np.arange(20) % 2)
    fnn.mlp([2, 2], backend="numpy").save("m.fastnn")
    assert "--coverage goes with a model" in fails(
        "predict", "m.fastnn", "d.npz", "--coverage", "0.9"
    )


def test_nothing_is_left_beside_the_files(run, tables):
    before = set(os.listdir())
    run("train", "train.csv", *QUICK)
    assert set(os.listdir()) == before
