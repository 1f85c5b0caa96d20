"""Scores of a table beside those of the best constant answer."""

import numpy as np
import pytest
from cli_cases import SMALL, npz, read


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
    npz(X=rng.normal(size=(300, 3)), y=np.arange(300) % 2)
    command = ("train", "d.npz", *SMALL, "--lr", "0.5", "--epochs", "1")
    assert "no better than that: it has learnt nothing from the columns" in run(*command)[1]
    assert run(*command, "--quiet")[1] == ""


def test_images_have_no_baseline(run):
    run("train", "--epochs", "1", "--backend", "numpy", "--metrics", "m.json")
    assert "baseline_accuracy" not in read("m.json")
