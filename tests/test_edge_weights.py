"""Weights of samples and classes at the edge, and figures of data of any size."""

import numpy as np
import pytest
from builders import LOSS_CASES, features, targets
from hypothesis import given
from hypothesis import strategies as st
from network_cases import LABELS, VALUES, X, arrays, assert_same_arrays, raises, small

import fastnn as fnn
from fastnn.data.validation import as_sample_weight
from fastnn.metrics import mae, r2, rmse

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
FILL = 9.96921e36  # netCDF's "missing"
COUNTS = np.arange(30) % 3 > 0
SIZES = (1e-300, 1e-40, 1e37, 1e300)

# --- class weights and validation -----------------------------------------------------------------


def figures(net, X, y, **options):
    history = net.fit(X, y, epochs=2, batch_size=8, **options)
    return {name: history[name] for name in history if name != "seconds"}


@pytest.mark.parametrize("class_weight", [{0: 1.0, 1: 50.0}, {2: 0.0}, "balanced"], ids=str)
def test_class_weights_leave_scores_of_held_out_samples_alone(engine, class_weight):
    scores = [
        figures(small(backend=engine), X, LABELS, validation=0.3, optimizer=fnn.SGD(0.0), **option)
        for option in ({}, {"class_weight": class_weight})
    ]
    assert scores[0]["val_loss"] == scores[1]["val_loss"]
    assert scores[0]["val_accuracy"] == scores[1]["val_accuracy"]


@pytest.mark.parametrize("class_weight", [None, {1: 50.0}, "balanced"], ids=str)
def test_both_forms_of_validation_agree(engine, class_weight):
    """A fraction, and the same samples as a pair, bit for bit."""
    labels = np.where(np.arange(30) < 20, LABELS, 0)
    probe = small(backend="numpy")
    parts = _parts_of(probe, 0.3)
    by_share = small(backend=engine)
    by_pair = small(backend=engine)
    found = figures(by_share, X, labels, validation=0.3, class_weight=class_weight)
    pair = X[parts[1]], labels[parts[1]]
    expected = figures(
        by_pair, X[parts[0]], labels[parts[0]], validation=pair, class_weight=class_weight
    )
    assert found == expected
    assert_same_arrays(arrays(by_share), arrays(by_pair))


def _parts_of(net, share):
    """Indices of the samples that are trained on, and of those that are held out."""
    from fastnn.training.samples import checked_samples, split_off

    samples = checked_samples(net, X, LABELS)
    kept, held_out = split_off(net, samples, share)
    rows = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in held_out.X]
    return kept, np.array(rows)


def test_sample_weights_count_in_held_out_scores():
    weights = np.where(LABELS == 0, 10.0, 1.0)
    scores = [
        figures(small(), X, LABELS, validation=0.3, optimizer=fnn.SGD(0.0), sample_weight=w)
        for w in (None, weights)
    ]
    assert scores[0]["val_loss"] != scores[1]["val_loss"]


# --- samples of weight 0 --------------------------------------------------------------------------


def filled(case):
    """Targets of a loss, and the same with a fill value where samples do not count."""
    y = targets(LOSS_CASES[case][1], 30)
    counts = COUNTS if y.ndim == 1 else COUNTS[:, None]
    return y, np.where(counts, y, FILL)


@pytest.mark.parametrize("fill", [FILL, np.nan, -1.0])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_samples_of_weight_0_are_left_out(engine, case, fill):
    y, other = filled(case)
    other = np.where(other == FILL, fill, other)
    nets = [small(LOSS_CASES[case][0], backend=engine) for _ in range(3)]
    weights, data = COUNTS.astype(float), features(30)
    for net, (rows, w, t) in zip(
        nets, [(COUNTS, None, y), (..., weights, y), (..., weights, other)], strict=True
    ):
        before = net.evaluate(data[rows], t[rows], sample_weight=w)
        loss, gradients = net.gradients(data[rows], t[rows], sample_weight=w)
        net.fit(data[rows], t[rows], sample_weight=w, batch_size=30, optimizer=fnn.SGD(0.05))
        net.metadata = {"before": before, "loss": loss, "gradients": gradients}
    for net in nets[1:]:
        assert net.metadata["before"] == pytest.approx(nets[0].metadata["before"], rel=1e-9)
        assert net.metadata["loss"] == pytest.approx(nets[0].metadata["loss"], rel=1e-9)
        for name, gradient in net.metadata["gradients"].items():
            expected = nets[0].metadata["gradients"][name]
            np.testing.assert_allclose(gradient, expected, rtol=1e-9, atol=1e-12)
        assert_same_arrays(arrays(net), arrays(nets[0]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LOSS_CASES)
def test_features_of_samples_of_weight_0_may_overflow_the_loss(engine, case, dtype):
    y, _ = filled(case)
    size = FILL if dtype == "float32" else 1e300
    data = np.where(COUNTS[:, None], features(30), size)
    net = small(LOSS_CASES[case][0], dtype=dtype, backend=engine)
    loss, gradients = net.gradients(data, y, sample_weight=COUNTS)
    expected_loss, expected = net.gradients(data[COUNTS], y[COUNTS])
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-4, atol=1e-6)
    scores = net.evaluate(data, y, sample_weight=COUNTS, metrics=("r2", "mae", "rmse"))
    expected_scores = net.evaluate(data[COUNTS], y[COUNTS], metrics=("r2", "mae", "rmse"))
    assert scores == pytest.approx(expected_scores, rel=1e-4)


def test_balanced_classes_count_samples_that_count():
    nets = [small() for _ in range(2)]
    labels = np.where(COUNTS, np.arange(30) % 2, 2)
    options = {"class_weight": "balanced", "batch_size": 30, "optimizer": fnn.SGD(0.1)}
    nets[0].fit(X[COUNTS], labels[COUNTS], **options)
    nets[1].fit(X, labels, sample_weight=COUNTS, **options)
    assert_same_arrays(arrays(nets[0]), arrays(nets[1]), rtol=1e-12, atol=1e-15)


# --- weights of any size --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_only_ratios_of_weights_matter(engine, size, dtype):
    weights, found = np.arange(30) % 4 + 1.0, []
    for factor in (1.0, size):
        net = small(dtype=dtype, backend=engine)
        history = figures(net, X, LABELS, validation=0.3, sample_weight=factor * weights)
        scores = net.evaluate(X, LABELS, sample_weight=factor * weights)
        found.append((history, scores, arrays(net)))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert found[0][0]["loss"] == pytest.approx(found[1][0]["loss"], rel=tolerance)
    assert found[0][0]["val_loss"] == pytest.approx(found[1][0]["val_loss"], rel=tolerance)
    assert found[0][1] == pytest.approx(found[1][1], rel=tolerance)
    assert_same_arrays(found[0][2], found[1][2], rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("size", SIZES)
def test_only_ratios_of_class_weights_matter(engine, size):
    found = []
    for factor in (1.0, size):
        net = small(dtype="float32", backend=engine)
        weights = {label: factor * (label + 1) for label in range(3)}
        figures(net, X, LABELS, class_weight=weights, sample_weight=np.full(30, factor))
        found.append(arrays(net))
    assert_same_arrays(*found, rtol=1e-4, atol=1e-5)


@given(
    st.lists(st.floats(0.0, 1e300), min_size=1, max_size=20).filter(any),
    st.sampled_from([np.float32, np.float64]),
)
def test_rescaled_weights_keep_their_ratios(weights, dtype):
    weights = np.array(weights)
    found = as_sample_weight(weights, len(weights), dtype).astype(np.float64)
    assert np.isfinite(found.sum())
    assert found.max() > 0
    expected = weights / weights.max()
    np.testing.assert_allclose(found / found.max(), expected, rtol=1e-6, atol=1e-28)
    if 1e-6 < weights.max() < 1e6:
        usual = weights.astype(dtype)
        np.testing.assert_array_equal(found[usual > 1e-30], usual[usual > 1e-30])


def test_weights_that_leave_nothing_to_train_on():
    with raises(ValueError, "class_weight and sample_weight leave every sample"):
        small().fit(X, LABELS, class_weight={0: 0, 1: 0, 2: 0})


# --- one output -----------------------------------------------------------------------------------


def test_a_softmax_of_one_output_is_refused():
    for make in (lambda: fnn.mlp([8, 32, 1]), lambda: small(layers=[fnn.Dense(1)])):
        with raises(ValueError, "softmax", "2 outputs", "binary_cross_entropy", "mse"):
            make()


# --- metrics --------------------------------------------------------------------------------------

W = np.ones(50)
RNG = np.random.default_rng(0)


@given(st.floats(-1e300, 1e300), st.integers(1, 200), st.sampled_from([np.float32, np.float64]))
def test_r2_of_a_constant_target(value, n, dtype):
    value = np.clip(value, *(float(f(np.finfo(np.float32).max)) for f in (np.negative, float)))
    t, w = np.full((n, 1), value, dtype), np.arange(n) % 3 + 1.0
    assert r2(t, t, w) == 1.0
    assert r2(np.nextafter(t, dtype(0)) / 2 + dtype(1), t, w) == 0.0


def test_r2_of_a_target_that_is_constant_but_for_rounding():
    t = np.float64([0.1, 0.1 + 1e-17, np.nextafter(0.1, 1), 0.3 - 0.2])[:, None]
    assert r2(t + 1, t, W[:4]) == 0.0


def test_r2_of_seconds_in_float32_is_not_that_of_a_constant():
    t = (1.7e9 + 3600 * np.arange(50.0)).astype(np.float32)[:, None]
    assert r2(t, t, W) == 1.0
    assert -1 < r2(t[::-1], t, W) - -3 < 1


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float32", 1e20), ("float32", 1e-25), ("float64", 1e200), ("float64", 1e-200)],
)
def test_metrics_of_numbers_of_any_size(dtype, size):
    t = RNG.normal(size=(50, 2))
    p = t + 0.1 * RNG.normal(size=(50, 2))
    P, T = (size * p).astype(dtype), (size * t).astype(dtype)
    assert r2(P, T, W) == pytest.approx(r2(p, t, W), rel=1e-4)
    assert rmse(P, T, W) / size == pytest.approx(rmse(p, t, W), rel=1e-4)
    assert mae(P, T, W) / size == pytest.approx(mae(p, t, W), rel=1e-4)


def test_metrics_of_a_small_column_beside_a_large_one():
    t = RNG.normal(size=(50, 2))
    p = t + 0.1
    sizes = [1e200, 1e-200]
    assert r2(p * sizes, t * sizes, W) == pytest.approx(r2(p, t, W))


def test_regression_values_stay_values():
    assert "r2" in small("mse").evaluate(X, VALUES)
