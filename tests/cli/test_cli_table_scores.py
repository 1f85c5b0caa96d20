"""Scores of a table beside those of the best constant answer."""

import re

import numpy as np
import pytest
from cli_cases import SMALL, npz, read

import fastnn as fnn
from fastnn.cli.training import scores
from fastnn.estimators.table_model import TableModel
from fastnn.tabular import formats


@pytest.fixture
def rng():
    """Numbers of its own for each test: whether a network learns must not depend on the order."""
    return np.random.default_rng(0)


def test_classes_beside_their_shares(run, rng):
    X = rng.normal(size=(300, 3))
    npz(X=X, y=(X[:, 0] > 0.5).astype(int))
    _, err = run("train", "d.npz", *SMALL, "--epochs", "30", "--metrics", "m.json")
    figures = read("m.json")
    assert figures["test_log_loss"] < 0.6 * figures["baseline_log_loss"]
    assert figures["test_auc"] > 0.9
    assert 0.5 < figures["baseline_accuracy"] < figures["test_accuracy"]
    assert f"test log-loss {figures['test_log_loss']:.4g}, AUC" in err
    assert "no better" not in err


def test_quantities_beside_their_mean(run, rng):
    X = rng.normal(size=(300, 3))
    npz(X=X, y=1e6 + 1000 * X[:, 0])
    _, err = run("train", "d.npz", *SMALL, "--epochs", "60", "--metrics", "m.json")
    figures = read("m.json")
    assert 700 < figures["baseline_rmse"] < 1300  # in the column's unit
    assert figures["test_rmse"] < 0.5 * figures["baseline_rmse"]
    assert figures["test_mae"] < 0.5 * figures["baseline_mae"]
    assert "test RMSE" in err


def test_a_warning_where_nothing_was_learnt(run, rng):
    # Pure noise, and rows enough that no luck of the split makes it look like more.
    npz(X=rng.normal(size=(3000, 3)), y=np.arange(3000) % 2)
    command = ("train", "d.npz", *SMALL, "--lr", "0.5", "--epochs", "1")
    assert "no better than that: it has learnt nothing from the columns" in run(*command)[1]
    assert run(*command, "--quiet")[1] == ""


def test_images_have_no_baseline(run):
    run("train", "--epochs", "1", "--backend", "numpy", "--metrics", "m.json")
    assert "baseline_accuracy" not in read("m.json")


# --- the same scores everywhere -------------------------------------------------------------------


@pytest.fixture
def files(rng):
    """A file of classes and one of values, and frames of the same."""
    X = rng.normal(size=(200, 2))
    value = 10 + 2 * X[:, 0] + rng.normal(size=200)
    label = np.where(value > 12, "high", "low")
    columns = {"a": X[:, 0], "b": X[:, 1]}
    for name, y in (("classes", label), ("values", value)):
        formats.write_columns(f"{name}.csv", {**columns, "y": y})
    return columns, label, value


def test_temperature_and_threshold_count(run, files):
    columns, label, _ = files
    model = fnn.TabularClassifier(n_folds=1, epochs=3, backend="numpy", threshold=0.9)
    model.fit(columns, label)
    model.model_.temperature = 3.0
    model.save("m.fastnn")
    out, _ = run("evaluate", "m.fastnn", "classes.csv", "--backend", "numpy", "--metrics", "e.json")
    figures, expected = read("e.json"), model.evaluate(columns, label)
    for name in ("accuracy", "log_loss", "auc"):
        assert figures[name] == pytest.approx(expected[name], rel=1e-5)
    assert figures["loss"] == figures["log_loss"]
    run("predict", "m.fastnn", "classes.csv", "-o", "p.csv", "--backend", "numpy")
    said = formats.read_table("p.csv")["prediction"].names() == label
    assert figures["accuracy"] == said.mean()
    assert out.startswith(
        f"loss {figures['loss']:.4g}, accuracy {100 * said.mean():.1f} % on 200 rows (numpy); "
        f"log-loss {figures['log_loss']:.4g}, AUC {figures['auc']:.3f}"
    )
    plain = fnn.load("m.fastnn", "numpy").evaluate(
        model.model_.encoder.transform(columns), model.model_.encoder.transform_target(label)
    )
    assert abs(plain["loss"] - figures["loss"]) > 0.01  # without temperature
    assert abs(plain["accuracy"] - figures["accuracy"]) > 0.01  # without threshold
    lines = run("info", "m.fastnn")[0]
    assert re.search(r"^temperature +3$", lines, re.MULTILINE)
    assert re.search(r"^threshold +0\.9$", lines, re.MULTILINE)


def test_the_range_of_values_counts(run, files):
    columns, _, value = files
    wide = {name: 5 * x for name, x in columns.items()}
    formats.write_columns("wide.csv", {**wide, "y": value})
    out, _ = run("train", "values.csv", *SMALL, "--epochs", "20", "--out", "m.fastnn")
    out, _ = run("evaluate", "m.fastnn", "wide.csv", "--backend", "numpy", "--metrics", "e.json")
    figures = read("e.json")
    run("predict", "m.fastnn", "wide.csv", "-o", "p.csv", "--backend", "numpy")
    error = formats.read_table("p.csv")["prediction"].values - value
    assert figures["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert figures["r2"] == pytest.approx(1 - (error**2).mean() / value.var(), rel=1e-5)
    assert out.startswith(
        f"loss {figures['loss']:.4g}, r2 {figures['r2']:.3f} on 200 rows (numpy); "
        f"RMSE {figures['rmse']:.4g}, MAE {figures['mae']:.4g}"
    )


def test_train_and_evaluate_agree(run, files):
    test = ("--test", "values.csv")
    run("train", "values.csv", *SMALL, *test, "--metrics", "t.json", "--out", "m.fastnn")
    run("evaluate", "m.fastnn", "values.csv", "--backend", "numpy", "--metrics", "e.json")
    of_training, alone = read("t.json"), read("e.json")
    for name in ("loss", "r2", "rmse", "mae"):
        assert of_training[f"test_{name}"] == alone[name]


# --- notes ----------------------------------------------------------------------------------------


def test_a_data_file_that_is_to_test_itself(run, files):
    for name in ("test", "validation"):
        _, err = run("train", "values.csv", *SMALL, f"--{name}", "./values.csv")
        assert f"note: --{name} is the data file itself: its rows are trained on" in err
    formats.write_columns("copy.csv", {"a": files[0]["a"], "b": files[0]["b"], "y": files[2]})
    assert "the data file itself" not in run("train", "values.csv", *SMALL, "--test", "copy.csv")[1]


def remarks(log_loss, accuracy, auc, rows=100):
    constant = {"log_loss": 0.6, "accuracy": 0.6, "auc": 0.5}
    own = {"log_loss": log_loss, "accuracy": accuracy, "auc": auc}
    return " ".join(scores.remarks(own, constant, rows))


def test_what_is_said_where_the_constant_is_as_good():
    assert remarks(0.5, 0.7, 0.8) == ""
    assert "probabilities are too sure" in remarks(0.7, 0.7, 0.8)
    assert "learnt nothing" in remarks(0.7, 0.6, 0.8)
    assert "learnt nothing" in remarks(0.7, 0.7, 0.4)
    assert "learnt nothing" in remarks(np.nan, 0.5, 0.5)
    assert remarks(0.7, 0.5, 0.4, rows=19) == ""
    assert "learnt nothing" in scores.remarks({"rmse": 2.0}, {"rmse": 1.5}, 20)[0]


# --- ensembles ------------------------------------------------------------------------------------


def test_epochs_and_info_of_several_networks(run, files):
    run(
        *("train", "classes.csv", "--epochs", "4", "--folds", "3", "--backend", "numpy"),
        *("--metrics", "m.json", "--out", "m.fastnn"),
    )
    figures, model = read("m.json"), TableModel.of(fnn.load("m.fastnn", "numpy"))
    epochs = [net.epochs for net in model.networks]
    assert [net["epochs"] for net in figures["networks"]] == epochs
    assert figures["epochs"] == epochs[0]
    lines = dict(line.split(maxsplit=1) for line in run("info", "m.fastnn")[0].splitlines())
    assert lines["parameters"] == f"{model.networks.n_parameters:,}"
    assert lines["epochs"] == ", ".join(map(str, epochs))
    assert lines["recipe"] == "auto"
    assert lines["held"] == (
        "out      " + ", ".join(f"{name} {value:.4g}" for name, value in model.scores.items())
    )
    assert "temperature" not in lines
