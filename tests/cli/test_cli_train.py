"""``fastnn train``, and what ``evaluate`` and ``predict`` make of its models."""

import re
import signal

import numpy as np
import pytest
from cli_cases import AGE, COLUMNS, LABEL, PRICE, RNG, ROWS, SIZE, SMALL, npz, read

import fastnn as fnn
from fastnn import datasets
from fastnn._kernels import threads
from fastnn.cli.training import network as network_module
from fastnn.tabular import formats


def test_the_sample_is_learnt_at_once(run):
    out, err = run("train", "--backend", "numpy", "--metrics", "m.json", "--out", "m.fastnn")
    assert "4,500 to train on, 500 to validate, 1,000 to test" in err
    assert "784-256-128-10, 235,146 parameters, float32; numpy" in err
    figures = read("m.json")
    assert re.fullmatch(
        r"test accuracy (\S+) % after 10 epochs in \S+ s \(numpy\); saved to m.fastnn\n", out
    )[1] == (f"{100 * figures['test_accuracy']:.1f}")
    assert figures["test_accuracy"] >= 0.93
    assert figures["backend"] == "numpy"
    assert figures["fastnn"] == fnn.__version__
    assert figures["parameters"] == 235_146
    assert figures["epochs"] == 10
    assert figures["stopped"] is None
    assert figures["seconds"] > 0
    for curve in ("loss", "accuracy", "val_loss", "val_accuracy", "epoch_seconds", "lr"):
        assert len(figures[curve]) == 10
    out, _ = run("evaluate", "m.fastnn", "sample", "--backend", "numpy", "--metrics", "e.json")
    assert f"accuracy {100 * figures['test_accuracy']:.1f} % on 1,000 rows (numpy)" in out
    assert read("e.json")["loss"] == pytest.approx(figures["test_loss"])
    assert len(run("predict", "m.fastnn", "sample", "--backend", "numpy")[0].splitlines()) == 1001


def test_all_of_mnist(run, monkeypatch):
    train, test = datasets.mnist_sample()
    small = (
        tuple(array[:100] for array in train),
        tuple(array[100:150] for array in train),
        tuple(array[:20] for array in test),
    )
    monkeypatch.setattr(datasets, "mnist", lambda: small)
    assert (
        "MNIST: 100 to train on, 50 to validate, 20 to test"
        in run("train", "mnist", *SMALL, "--out", "m")[1]
    )
    assert "on 20 rows" in run("evaluate", "m", "mnist", "--backend", "numpy")[0]


def test_classes_by_name_from_csv_to_csv(run, data):
    err = run(
        "train",
        "things.csv",
        *SMALL,
        "--epochs",
        30,
        "--lr",
        0.01,
        "--out",
        "m.fastnn",
        "--metrics",
        "m.json",
    )[1]
    assert (
        "77 to train on, 19 to validate, 24 to test; 4 columns\n  numbers 2: size, age\n"
        "  one-hot 2: kind (3), flag (−1 or 1)\ntarget 'label', the last column: 2 classes" in err
    )
    assert read("m.json")["test_accuracy"] > 0.8
    assert "accuracy" in run("evaluate", "m.fastnn", "things.csv", "--backend", "numpy")[0]
    assert run("predict", "m.fastnn", "things.csv", "-o", "p.csv", "--backend", "numpy") == ("", "")
    predicted = formats.read_table("p.csv")
    assert predicted.names == ["prediction", "probability_no", "probability_yes"]
    assert np.mean(predicted["prediction"].names() == LABEL) > 0.8
    np.testing.assert_allclose(
        predicted["probability_no"].values + predicted["probability_yes"].values, 1, atol=1e-6
    )


def test_predictions_in_every_format(run, data):
    run("train", "things.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn", "--quiet")
    text, _ = run("predict", "m.fastnn", "things.csv", "--backend", "numpy")
    run("predict", "m.fastnn", "things.csv", "-o", "p.parquet", "--backend", "numpy")
    run("predict", "m.fastnn", "things.csv", "-o", "p.npz", "--backend", "numpy")
    names = list(formats.read_table("p.parquet")["prediction"].names())
    assert names == [line.split(",")[0] for line in text.splitlines()[1:]]
    with np.load("p.npz") as file:
        assert file["prediction"].tolist() == names


def test_file_formats_agree(run, data):
    run("train", "things.csv", *SMALL, "--epochs", 1, "--out", "m.fastnn")
    formats.write_columns(
        "things.parquet", {**dict(reversed(COLUMNS.items())), "id": np.arange(ROWS), "label": LABEL}
    )
    of_csv, of_parquet = (
        run("evaluate", "m.fastnn", f"things.{name}", "--backend", "numpy")[0]
        for name in ("csv", "parquet")
    )
    assert of_csv == of_parquet


def test_regression(run, data):
    out, err = run(
        "train",
        "prices.csv",
        *SMALL,
        "--epochs",
        60,
        "--lr",
        0.01,
        "--out",
        "m.fastnn",
        "--metrics",
        "m.json",
    )
    assert "target 'price', the last column: a number" in err
    assert re.match(r"test r2 0\.9\d+ after 60 epochs", out)
    figures = read("m.json")
    assert figures["test_r2"] > 0.9
    assert len(figures["val_r2"]) == 60
    assert "accuracy" not in figures
    assert "r2 0.9" in run("evaluate", "m.fastnn", "prices.csv", "--backend", "numpy")[0]
    predicted = np.array(
        run("predict", "m.fastnn", "prices.csv", "--backend", "numpy")[0].split()[1:], float
    )
    assert np.abs(predicted - PRICE).mean() < 10


def test_target_task_and_columns_can_be_chosen(run, data):
    err = run(
        "train", "things.csv", "--target", "age", "--ignore", "label", "--ignore", "kind", *SMALL
    )[1]
    assert "2 columns\n" in err
    assert "\ntarget 'age': a number" in err
    assert (
        "3 classes" in run("train", npz(X=RNG.normal(size=(40, 2)), y=np.arange(40) % 3), *SMALL)[1]
    )
    assert "a number" in run("train", "d.npz", "--task", "regression", *SMALL)[1]


def test_missing_numbers_are_announced(run, data):
    values = [*AGE[:-3].astype(str), "", "", ""]
    formats.write_columns("holes.csv", {"age": np.array(values), "size": SIZE, "label": LABEL})
    note = "replaced by the median of the training rows: 3 in 'age'"
    assert note in run("train", "holes.csv", *SMALL, "--out", "m.fastnn")[1]
    assert note in run("evaluate", "m.fastnn", "holes.csv", "--backend", "numpy")[1]


def test_names_of_rows_are_left_out(run, fails, data):
    formats.write_columns(
        "named.csv", {"id": np.array([f"row {i}" for i in range(200)]), "y": np.arange(200) % 2}
    )
    assert "'id' is left out (looks like an identifier); --keep COLUMN" in fails(
        "train", "named.csv", *SMALL
    )
    formats.write_columns(
        "few.csv",
        {
            "size": np.array([f"{i % 20} kg" for i in range(40)]),
            "n": RNG.normal(size=40),
            "y": np.arange(40) % 2,
        },
    )
    err = run("train", "few.csv", *SMALL)[1]
    assert "codes 1: size (" in err
    assert "network 2-8-2" in err


def test_a_vector_is_learnt_for_each_of_many_names(run):
    names = np.array([f"{i % 20} kg" for i in range(200)])
    columns = {"size": names, "n": RNG.normal(size=200), "y": np.arange(200) % 2}
    formats.write_columns("d.csv", columns)
    run("train", "d.csv", *SMALL, "--epochs", "1", "--out", "m.fastnn")
    first, *dense = fnn.load("m.fastnn").layers
    assert isinstance(first, fnn.Embedding)
    assert (first.cardinalities, first.size) == ([21], 8)
    assert [layer.units for layer in dense] == [8, 2]
    assert run("predict", "m.fastnn", "d.csv", "--backend", "numpy")[1] == ""
    formats.write_columns("names.csv", {"size": names, "y": np.arange(200) % 2})
    run("train", "names.csv", *SMALL, "--epochs", "1")


def test_the_best_epoch_of_a_table_is_kept(run):
    rng = np.random.default_rng(0)  # not RNG: the best epoch must not depend on other tests
    X = rng.normal(size=(200, 5))
    npz(X=X, y=(X[:, 0] + rng.normal(size=200) > 0).astype(int))
    fast = (*SMALL, "--lr", "0.05", "--metrics", "m.json")
    run("train", "d.npz", *fast, "--epochs", "30", "--out", "a.fastnn")
    best = 1 + int(np.argmin(read("m.json")["val_loss"]))
    assert best < 30
    run("train", "d.npz", *fast, "--epochs", str(best), "--out", "b.fastnn")
    found, expected = (fnn.load(f"{name}.fastnn").parameters for name in "ab")
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_class_with_one_member(run):
    run("train", npz(X=RNG.normal(size=(30, 2)), y=np.array([5, *[1] * 14, *[2] * 15])), *SMALL)


def test_every_option_reaches_the_network(run, monkeypatch):
    monkeypatch.setattr(threads, "_requested", None)  # and back after --threads
    npz(X=RNG.normal(size=(60, 8)), y=np.arange(60) % 3)
    options = (
        "--layers 8,4 --activation tanh --dropout 0.1 --batch-norm --residual "
        "--l1 1e-4 --l2 1e-3 --dtype float64 --seed 7"
    )
    training = (
        "--epochs 2 --batch-size 16 --optimizer sgd --lr 0.1 --clip-norm 1 --patience 5 "
        "--threads 1 --backend numpy"
    )
    run(
        "train",
        "d.npz",
        *options.split(),
        *training.split(),
        "--out",
        "m.fastnn",
        "--metrics",
        "m.json",
    )
    block = [
        fnn.Dense(8, l1=1e-4, l2=1e-3),
        fnn.BatchNorm(),
        fnn.Activation("tanh"),
        fnn.Dropout(0.1),
    ]
    last = [fnn.Dense(4, l1=1e-4, l2=1e-3), *block[1:], fnn.Dense(3, l1=1e-4, l2=1e-3)]
    net = fnn.load("m.fastnn")
    assert repr(net.layers) == repr([fnn.Residual(block), *last])
    assert (net.dtype.name, net.seed, net.epochs, net.optimizer_kind) == ("float64", 7, 2, "SGD")
    assert read("m.json")["lr"] == [0.1, 0.1]


def test_same_seed_same_figures(run):
    npz(X=RNG.normal(size=(60, 8)), y=np.arange(60) % 3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("train", "d.npz", *SMALL, "--seed", seed, "--metrics", f"{name}.json")
    a, b, c = (read(f"{name}.json")["loss"] for name in "abc")
    assert a == b != c


def test_a_residual_that_does_nothing_is_noted(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    assert "--residual changes nothing" in run("train", "d.npz", *SMALL, "--residual")[1]


def test_no_hidden_layers(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    assert "network 3-3," in run("train", "d.npz", "--layers", "", "--backend", "numpy")[1]


def test_quiet_leaves_the_result(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    out, err = run("train", "d.npz", *SMALL, "--quiet")
    assert len(out.splitlines()) == 1
    assert "not saved: --out MODEL does that" in out
    assert err == ""


def test_early_stopping(run):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 2)  # nothing to learn
    out, _ = run(
        "train",
        "d.npz",
        *SMALL,
        "--epochs",
        500,
        "--lr",
        0.05,
        "--patience",
        2,
        "--metrics",
        "m.json",
    )
    figures = read("m.json")
    assert figures["epochs"] == len(figures["loss"]) < 500
    assert "val_loss" in figures["stopped"]
    assert figures["stopped"] in out


class Interruption:
    """In place of a callback: Ctrl-C after the second epoch."""

    def __init__(self, patience):
        pass

    def on_epoch_end(self, training):
        if training.epoch == 2:
            signal.raise_signal(signal.SIGINT)


def test_an_interrupted_run_is_not_lost(run, monkeypatch):
    npz(X=RNG.normal(size=(60, 3)), y=np.arange(60) % 3)
    monkeypatch.setattr(network_module, "EarlyStopping", Interruption)
    options = ("--epochs", 1000, "--patience", 1, "--out", "m.fastnn", "--metrics", "m.json")
    out, _ = run("train", "d.npz", *SMALL, *options, status=130)
    assert re.match(
        r"test accuracy \S+ % after [23] epochs in \S+ s \(numpy; interrupted\); saved to m.fastnn",
        out,
    )
    assert read("m.json")["stopped"] == "interrupted"
    assert fnn.load("m.fastnn").epochs == read("m.json")["epochs"]


def test_interrupted_while_reading(run, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "mnist_sample", interrupt)
    assert run("train", "--backend", "numpy", status=130)[1].strip() == "fastnn: interrupted"
