"""Scores of `evaluate`, and the weights of samples and classes."""

import numpy as np
import pytest
from network_cases import LABELS, RNG, VALUES, X, arrays, assert_same_arrays, raises, small

import fastnn as fnn
from fastnn.metrics import METRICS
from fastnn.nn.losses import LOSSES

# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_keys_and_types_of_evaluate(engine, loss):
    net = small(loss, backend=engine)
    y = {
        "softmax_cross_entropy": LABELS,
        "binary_cross_entropy": VALUES > 0,
        "poisson": abs(VALUES),
        "quantile": VALUES[:, 0],
    }.get(loss, VALUES)
    scores = net.evaluate(X, y)
    assert list(scores) == ["loss", "accuracy" if LOSSES[loss].classifies else "r2"]
    assert all(type(score) is float for score in scores.values())
    assert scores["loss"] == pytest.approx(net.gradients(X, y)[0], rel=1e-12)


def test_evaluate_takes_metrics():
    net = small("mse")
    residual = net.predict(X) - VALUES
    scores = net.evaluate(X, VALUES, metrics=("mae", "rmse", "r2", "mae"))
    assert list(scores) == ["loss", "mae", "rmse", "r2"]
    assert scores["mae"] == pytest.approx(np.abs(residual).mean())
    assert (
        scores["rmse"]
        == pytest.approx(np.sqrt((residual**2).mean()))
        == pytest.approx(np.sqrt(scores["loss"]))
    )
    assert scores["r2"] == pytest.approx(
        (1 - (residual**2).sum(0) / ((VALUES - VALUES.mean(0)) ** 2).sum(0)).mean()
    )


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_uses_sample_weights(metric):
    net, weights = small(), np.arange(30) % 4
    doubled = np.repeat(np.arange(30), weights)
    weighted = net.evaluate(X, LABELS, sample_weight=weights, metrics=(metric,))
    assert weighted == pytest.approx(
        net.evaluate(X[doubled], LABELS[doubled], metrics=(metric,)), rel=1e-12
    )


@pytest.mark.parametrize("loss", ["quadratic", "mse", "binary_cross_entropy"])
@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None], LABELS.tolist()], ids=["vector", "column", "list"]
)
def test_labels_mean_one_hot_rows(loss, labels):
    net, one_hot = small(loss), np.eye(3)[LABELS]
    scores = net.evaluate(X, labels)
    assert scores["loss"] == net.evaluate(X, one_hot)["loss"]
    assert scores["accuracy"] == (net.predict(X).argmax(axis=1) == LABELS).mean()


class Tensor:
    """Like a torch tensor: an array whose ``size`` is a method, not a number."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values

    def size(self):
        return self.values.shape


def test_labels_from_a_tensor_are_labels():
    assert list(small("mse").evaluate(Tensor(X), Tensor(LABELS))) == ["loss", "accuracy"]


@pytest.mark.parametrize(
    ("loss", "targets"),
    [("binary_cross_entropy", [0, 1, 1, 0]), ("binary_cross_entropy", [0.0, 1.0, 1.0, 0.0])],
)
def test_accuracy_of_one_output(loss, targets):
    net = small(loss, [fnn.Dense(1, init=np.ones((1, 1)))], inputs=1)
    assert net.evaluate([[-1.0], [2.0], [-3.0], [-4.0]], targets)["accuracy"] == 0.75


def test_penalties_count(engine):
    layers = [
        fnn.Dense(5, "tanh", l1=0.1, l2=0.2),
        fnn.Residual([fnn.Dense(5, l2=0.3)]),
        fnn.Dense(3, bias_init="standard_normal"),
    ]
    net, bare = (
        small(layers=layers, backend=engine),
        small(layers=[fnn.Dense(5, "tanh"), fnn.Residual([fnn.Dense(5)]), fnn.Dense(3)]),
    )
    for name, values in net.parameters.items():
        bare.parameters[name] = values
    w0, w1 = net.parameters["0.weight"], net.parameters["1.0.weight"]
    penalty = 0.1 * abs(w0).sum() + 0.5 * 0.2 * (w0**2).sum() + 0.5 * 0.3 * (w1**2).sum()
    assert net.penalty() == pytest.approx(penalty)
    assert net.evaluate(X, LABELS)["loss"] == pytest.approx(
        bare.evaluate(X, LABELS)["loss"] + penalty
    )
    (loss, gradients), (bare_loss, bare_gradients) = (
        net.gradients(X, LABELS),
        bare.gradients(X, LABELS),
    )
    assert loss == pytest.approx(bare_loss + penalty)
    np.testing.assert_allclose(
        gradients["0.weight"] - bare_gradients["0.weight"], 0.1 * np.sign(w0) + 0.2 * w0, rtol=1e-9
    )
    np.testing.assert_allclose(gradients["2.bias"], bare_gradients["2.bias"], rtol=1e-9)
    history = net.fit(X, LABELS, batch_size=30, optimizer="sgd")
    assert history["loss"] == [pytest.approx(loss)]


# --- weights of samples and classes ---------------------------------------------------------------


def one_step(X, y, engine, **options):
    """Parameters after one step of plain descent on all samples at once."""
    net = small(backend=engine)
    net.fit(X, y, batch_size=len(X), optimizer=fnn.SGD(0.5), **options)
    return arrays(net)


def test_a_weight_of_two_is_a_row_twice_and_of_zero_no_row(engine):
    weights = np.arange(30) % 3
    rows = np.repeat(np.arange(30), weights)
    labels = (np.arange(30) // 3) % 3
    weighted = one_step(X, labels, engine, sample_weight=weights)
    assert_same_arrays(weighted, one_step(X[rows], labels[rows], engine), rtol=1e-12)
    assert_same_arrays(weighted, one_step(X, labels, engine, sample_weight=weights / 7), rtol=1e-12)


def test_class_weight_is_a_factor_of_sample_weight(engine):
    factors, weights = {0: 2.0, 2: 0.5}, RNG.uniform(size=30)
    by_hand = weights * np.array([2.0, 1.0, 0.5])[LABELS]
    assert_same_arrays(
        one_step(X, LABELS, engine, sample_weight=weights, class_weight=factors),
        one_step(X, LABELS, engine, sample_weight=by_hand),
        rtol=1e-12,
    )


def test_balanced_class_weight_makes_classes_count_alike():
    labels = np.array([0] * 20 + [1] * 8 + [2] * 2)
    by_hand = 1 / np.bincount(labels)[labels]
    assert_same_arrays(
        one_step(X, labels, "numpy", class_weight="balanced"),
        one_step(X, labels, "numpy", sample_weight=by_hand),
        rtol=1e-12,
    )


def test_class_weight_of_a_binary_network_with_one_output():
    labels = LABELS % 2
    nets = [small("binary_cross_entropy", [fnn.Dense(1)]) for _ in range(2)]
    nets[0].fit(X, labels, class_weight={1: 3.0})
    nets[1].fit(X, labels, sample_weight=1 + 2 * labels)
    assert_same_arrays(arrays(nets[0]), arrays(nets[1]), rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": {0: 0, 1: 0, 2: 0}},
        {"class_weight": {0: 0}, "sample_weight": (LABELS == 0) * 1.0},
    ],
)
def test_weights_that_leave_nothing_to_learn_are_refused(options):
    with raises(ValueError, "weight"):
        small().fit(X, LABELS, **options)
