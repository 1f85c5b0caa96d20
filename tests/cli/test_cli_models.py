"""``fastnn predict``, ``evaluate`` and ``info`` of models from Python; help and version."""

import re

import numpy as np
import pytest
from cli_cases import AGE, RNG, ROWS, SIZE, SMALL, npz, read, save

import fastnn as fnn
from fastnn.tabular import formats


@pytest.mark.parametrize(
    ("loss", "outputs", "names"),
    [
        ("softmax_cross_entropy", 2, ["prediction", "probability_0", "probability_1"]),
        ("binary_cross_entropy", 1, ["prediction", "probability_0", "probability_1"]),
        ("mse", 1, ["prediction"]),
        ("mse", 2, ["prediction_0", "prediction_1"]),
    ],
)
def test_predictions_without_preprocessing(run, loss, outputs, names):
    net, X = save(outputs=outputs, loss=loss), RNG.normal(size=(5, 2)).astype(np.float32)
    npz(X=X, y=np.arange(5) % 2)
    for name in (npz("x.npz", X=X), "d.npz"):  # the target may be there or not
        run("predict", "plain.fastnn", name, "-o", "p.npz", "--backend", "numpy")
        with np.load("p.npz") as file:
            assert file.files == names
            np.testing.assert_allclose(file[names[-1]], net.predict(X)[:, -1], atol=1e-6)
            if net.loss.spec.classifies:
                np.testing.assert_array_equal(file["prediction"], np.round(file["probability_1"]))


def test_evaluation_without_preprocessing(run, data):
    net, y = save(), np.arange(ROWS) % 3
    X = np.column_stack([SIZE, AGE])
    formats.write_columns("plain.csv", {"y": y, "size": SIZE, "age": AGE})
    out, _ = run(
        "evaluate",
        "plain.fastnn",
        "plain.csv",
        "--target",
        "y",
        "--backend",
        "numpy",
        "--metrics",
        "e.json",
    )
    assert f"on {ROWS} rows" in out
    assert read("e.json")["accuracy"] == pytest.approx(net.evaluate(X, y)["accuracy"])


def test_foreign_tables_without_preprocessing(fails, data):
    save()
    assert "column 'kind' is" in fails(
        "evaluate", "plain.fastnn", "things.csv", "--backend", "numpy"
    )
    assert "7 columns" in fails(
        "predict", "plain.fastnn", npz(X=np.ones((3, 7))), "--backend", "numpy"
    )
    npz(X=[[1, np.nan]], y=[1])
    assert "column 'x1' is empty in row 1" in fails(
        "evaluate", "plain.fastnn", "d.npz", "--backend", "numpy"
    )


# --- info and help --------------------------------------------------------------------------------


def test_info_of_the_installation(run):
    out, _ = run("info")
    for word in (
        fnn.__version__,
        np.__version__,
        "numpy engine  available",
        "cuda engine",
        "threads",
        "cache",
    ):
        assert word in out


def test_info_of_a_model(run, data):
    run("train", "things.csv", *SMALL, "--epochs", 3, "--out", "m.fastnn")
    out, _ = run("info", "m.fastnn")
    for word in (
        "Dense(units=8, activation='relu')",
        "softmax_cross_entropy",
        "float32",
        "Adam",
        "size, age, kind, flag",
        "no, yes",
    ):
        assert word in out
    assert re.search(r"^epochs +3$", out, re.MULTILINE)
    save(loss="mse")
    assert "columns" not in run("info", "plain.fastnn")[0]


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["--help"],
        ["train", "--help"],
        ["evaluate", "-h"],
        ["predict", "-h"],
        ["explain", "-h"],
        ["info", "-h"],
    ],
)
def test_help(run, command):
    assert run(*command)[0].startswith("Usage: fastnn")


def test_version(run):
    assert run("--version")[0] == f"fastnn {fnn.__version__}\n"
