"""Metrics of classes against their definitions and scikit-learn's."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.metrics import VALUE_METRICS, auc, balanced_accuracy, f1, log_loss

ONES = np.ones(60)


@pytest.fixture
def rng():
    """Numbers of its own for each test."""
    return np.random.default_rng(0)


def problem(rng, classes, n=60):
    """Probabilities with ties, classes, and one-hot targets."""
    p = rng.integers(1, 5, (n, classes)) / 4.0
    y = rng.integers(0, classes, n)
    return p / p.sum(axis=1, keepdims=True), y, np.eye(classes)[y]


def pairs_in_order(score, positive):
    """The area under the ROC curve by its definition."""
    differences = score[positive][:, None] - score[~positive][None]
    return ((differences > 0) + 0.5 * (differences == 0)).mean()


@pytest.mark.parametrize("classes", [2, 4])
def test_the_area_counts_pairs_in_order(rng, classes):
    p, y, t = problem(rng, classes)
    wanted = [1] if classes == 2 else range(classes)
    expected = np.mean([pairs_in_order(p[:, c], y == c) for c in wanted])
    assert auc(p, t, ONES) == pytest.approx(expected, rel=1e-12)


def test_one_class_has_no_area():
    assert np.isnan(auc(np.full((3, 2), 0.5), np.eye(2)[[0, 0, 0]], np.ones(3)))


def test_log_loss():
    p = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert log_loss(p, np.eye(2)[[1, 0]], np.ones(2)) == pytest.approx(-np.log(0.75) / 2)
    expected = -np.log([0.25, 1e-15]).mean()
    assert log_loss(p, np.eye(2)[[0, 1]], np.ones(2)) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["log_loss", "auc", "f1", "balanced_accuracy"])
@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_of_classes_with_weights_are_those_of_scikit_learn(rng, name, classes):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    p, y, t = problem(rng, classes, 200)
    w = rng.integers(0, 3, 200).astype(float)
    said = p.argmax(axis=1)
    expected = {
        "log_loss": lambda: metrics.log_loss(y, p, sample_weight=w),
        "auc": lambda: np.mean(
            [
                metrics.roc_auc_score(y == c, p[:, c], sample_weight=w)
                for c in ([1] if classes == 2 else range(classes))
            ]
        ),
        "f1": lambda: metrics.f1_score(
            y, said, sample_weight=w, average="binary" if classes == 2 else "macro"
        ),
        "balanced_accuracy": lambda: metrics.balanced_accuracy_score(y, said, sample_weight=w),
    }[name]()
    assert VALUE_METRICS[name](p, t, w) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("metric", [log_loss, auc, f1, balanced_accuracy])
def test_one_probability_stands_for_two_classes(rng, metric):
    p, _, t = problem(rng, 2)
    assert metric(p[:, 1:], t[:, 1:], ONES) == pytest.approx(metric(p, t, ONES))


def test_a_network_is_scored_and_stopped_by_them(rng):
    X = rng.normal(size=(200, 3))
    y = (X[:, 0] > 0).astype(int)
    net = fnn.mlp([3, 8, 2], backend="numpy")
    history = net.fit(
        X,
        y,
        epochs=3,
        validation=(X, y, np.ones(200)),
        metrics=["auc", "f1"],
        callbacks=[fnn.EarlyStopping("val_auc", keep_ties=True)],
    )
    assert len(history["val_auc"]) == len(history["val_f1"]) == 3
    p, t = net.predict(X), np.eye(2)[y]
    assert net.evaluate(X, y, metrics=["auc"])["auc"] == pytest.approx(auc(p, t, np.ones(200)))


def test_values_have_no_classes(rng):
    X = rng.normal(size=(20, 2))
    net = fnn.mlp([2, 1], loss="mse", backend="numpy")
    with pytest.raises(ValueError, match="'auc' is one of classes, and the targets are values"):
        net.fit(X, X[:, 0], validation=0.5, metrics=["auc"])
