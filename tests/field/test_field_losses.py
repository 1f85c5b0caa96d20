"""Losses and sample weights where reports say that figures came out wrong or not at all."""

import numpy as np
import pytest

import fastnn as fnn

STILL = fnn.SGD(0.0)  # trains without a change, so that an epoch's loss is that of the start


def one_weight(loss, engine, weight=1.0, activation="linear"):
    layer = fnn.Dense(1, activation, init=np.array([[weight]]))
    return fnn.Network([layer], inputs=1, loss=loss, backend=engine)


# --- class and sample weights ---------------------------------------------------------------------


@pytest.mark.parametrize("as_pair", [False, True])
def test_class_weights_do_not_reach_the_validation_figures(engine, as_pair):
    """Labels are not known in production, so a score must not be weighted by them.

    keras-team/keras#8591 and #5616, tensorflow/tensorflow#42647.
    """
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 3))
    y = (X.sum(axis=1) > 2).astype(int)  # about one in eight
    figures = []
    for class_weight in ({}, {"class_weight": {0: 1.0, 1: 30.0}}):
        net = fnn.mlp([3, 5, 2], seed=2, backend=engine)
        split = (X[200:], y[200:]) if as_pair else 0.25
        history = net.fit(X, y, optimizer=STILL, validation=split, **class_weight)
        figures.append([history["val_loss"][-1], history["val_accuracy"][-1]])
    np.testing.assert_allclose(*figures, atol=1e-6)


@pytest.mark.parametrize("fill", [0.0, 1e20, 9.96921e36])
def test_samples_of_weight_0_count_for_nothing(engine, fill):
    """Neither a batch of nothing else nor a fill value as their target may do harm.

    pytorch/pytorch#70348 and #116349, scikit-learn/scikit-learn#15657.
    """
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(24, 3)), rng.normal(size=24)
    counts = np.arange(24) >= 8
    options = {"epochs": 3, "batch_size": 8, "optimizer": fnn.SGD(0.1), "shuffle": False}
    alone, among = (fnn.mlp([3, 4, 1], loss="mse", seed=4, backend=engine) for _ in range(2))
    expected = alone.fit(X[counts], y[counts], **options)
    weights = counts.astype(float)
    history = among.fit(X, np.where(counts, y, fill), sample_weight=weights, **options)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(among.state.theta, alone.state.theta, rtol=1e-4, atol=1e-6)


# --- label smoothing ------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.05, 0.1, 0.5])
def test_label_smoothing_moves_a_share_to_all_classes(engine, epsilon):
    """Of k classes the right one is left 1 − ε + ε/k, and each other one gets ε/k.

    paiml/aprender#2199 gives 0.7244379 for the logits below and ε = 0.1; pytorch/pytorch#104776
    and fastai/fastai#1814 are about weights, which belong to whole samples.
    """
    logits = np.array([[2.0, 1.0, 0.0, -1.0, 0.5], [0.0, -2.0, 1.5, 0.5, 3.0]])
    labels, weights = np.array([0, 3]), np.array([2.0, 7.0])
    loss = fnn.Loss("softmax_cross_entropy", label_smoothing=epsilon)
    layers = [fnn.Dense(5, init=np.eye(5))]
    net = fnn.Network(layers, inputs=5, loss=loss, dtype="float64", backend=engine)
    targets = np.full((2, 5), epsilon / 5)
    targets[[0, 1], labels] += 1 - epsilon
    costs = np.log(np.exp(logits).sum(axis=1)) - (targets * logits).sum(axis=1)
    if epsilon == 0.1:
        assert costs[0] == pytest.approx(0.7244379, abs=1e-7)
    assert net.evaluate(logits[:1], labels[:1])["loss"] == pytest.approx(costs[0])
    history = net.fit(logits, labels, batch_size=2, optimizer=STILL, sample_weight=weights)
    assert history["loss"][0] == pytest.approx(np.average(costs, weights=weights))


# --- losses far from 0 ----------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["linear", "sigmoid"])
@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("logit", [40.0, 700.0, 3e4])
def test_a_certain_and_wrong_probability_costs_its_logit(engine, activation, target, logit):
    """A probability that rounds to 0 or 1 must give neither NaN nor a cost that is cut off.

    huggingface/candle#2561, FluxML/Flux.jl#914, keras-team/keras#9247.
    """
    net = one_weight("binary_cross_entropy", engine, activation=activation)
    wrong, right = (-logit, logit) if target else (logit, -logit)
    loss, gradients = net.gradients([[wrong]], [target])
    assert loss == pytest.approx(logit)
    assert gradients["0.bias"][0] == pytest.approx(1 - 2 * target)
    assert net.evaluate([[wrong]], [target])["loss"] == pytest.approx(logit)
    assert net.evaluate([[right]], [target])["loss"] == pytest.approx(0, abs=1e-6)


def test_poisson_takes_counts_of_0(engine):
    """The cost of a rate r for a count of 0 is r itself, and no logarithm of 0 is needed.

    keras-team/keras#590 and #18886, pytorch/pytorch#3336, rstudio/keras3#1280.
    """
    net = fnn.Network([fnn.Dense(1, init="zeros")], inputs=2, loss="poisson", backend=engine)
    X = np.zeros((6, 2))
    assert net.evaluate(X, np.zeros(6))["loss"] == pytest.approx(1)
    net.fit(X, [0, 0, 3, 0, 0, 9], epochs=60, optimizer="lbfgs")
    np.testing.assert_allclose(net.predict(X), 2, rtol=1e-3)
    losses = net.fit(X, np.zeros(6), epochs=200, optimizer=fnn.Adam(0.1))["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.05
