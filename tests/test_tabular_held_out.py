"""What estimators learn from rows held out: temperature, thresholds, coverage, quantiles."""

import numpy as np
import pytest
from estimator_cases import FRAME, LABEL, VALUE, classifier, regressor, table

import fastnn as fnn
from fastnn.estimators import calibration
from fastnn.estimators.conformal import Conformal, sets

# --- calibration, thresholds, coverage ------------------------------------------------------------


def test_a_temperature_where_it_helps_and_none_where_it_does_not():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 3))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y, w = np.array([rng.choice(3, p=row) for row in p]), np.ones(2000)
    assert calibration.best_temperature(p, y, w) == 1.0
    sharp = calibration.with_temperature(p, 0.5)
    assert calibration.best_temperature(sharp, y, w) == pytest.approx(2.0, rel=0.1)
    np.testing.assert_allclose(calibration.with_temperature(sharp, 2.0), p, rtol=1e-6)
    assert calibration.best_temperature(p[:3], y[:3], w[:3]) == 1.0


def test_a_temperature_stays_within_bounds():
    p, y = np.full((200, 2), [0.6, 0.4]), np.zeros(200, int)
    assert calibration.best_temperature(p, y, np.ones(200)) >= 0.25


@pytest.mark.parametrize("metric", ["accuracy", "balanced_accuracy", "f1"])
def test_the_threshold_is_the_best_of_all(metric):
    rng = np.random.default_rng(1)
    p = np.round(rng.random(80), 2)
    y, w = (rng.random(80) < p**2).astype(int), rng.integers(1, 4, 80).astype(float)

    def score(level):
        return calibration._decision_score(p >= level, y, w, metric)

    found = calibration.best_threshold(p, y, w, metric)
    assert score(found) == max(map(score, np.linspace(0, 1, 1001)))


def test_scores_of_rows_held_out_know_the_threshold():
    plain, never = (
        classifier(threshold=level, n_folds=1).fit(FRAME, LABEL) for level in (None, 1.0)
    )
    assert plain.scores_["accuracy"] > 0.75
    assert never.scores_["accuracy"] < 0.7
    assert set(never.predict(FRAME)) == {"high"}


def test_intervals_hold_the_truth_as_often_as_promised():
    frame, value = table(3, 3000)
    model = regressor().fit(*table(2, 1500))
    predicted, lower, upper = model.predict(frame, coverage=0.9)
    np.testing.assert_array_equal(predicted, model.predict(frame))
    assert 0.87 < ((lower <= value) & (value <= upper)).mean() < 0.94


def test_sets_hold_the_truth_as_often_as_promised():
    frame, value = table(3, 3000)
    names = np.array(["low", "middle", "high"])
    classes = names[np.digitize(value, [9, 12])]
    train, train_value = table(2, 1500)
    model = classifier().fit(train, names[np.digitize(train_value, [9, 12])])
    found = model.predict(frame, coverage=0.95)
    assert 0.92 < np.mean([c in may_be for c, may_be in zip(classes, found, strict=True)]) < 0.99
    assert all(may_be[0] == c for may_be, c in zip(found, model.predict(frame), strict=True))


@pytest.mark.parametrize("n", [1, 9, 100, 5000])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_the_radius_is_an_order_statistic(n, coverage):
    scores = np.random.default_rng(n).random(n)
    conformal = Conformal.fit(scores, np.ones(n))
    rank = int(np.ceil((n + 1) * coverage))
    if rank > n:
        with pytest.raises(ValueError, match="promise at most"):
            conformal.radius(coverage)
        return
    exact = np.sort(scores)[rank - 1]
    assert exact <= conformal.radius(coverage) <= exact + 2e-3
    assert Conformal.from_dict(conformal.to_dict()) == conformal


def test_scores_count_by_their_weights():
    scores, w = np.arange(100.0), np.repeat([1.0, 3.0], 50)
    conformal = Conformal.fit(scores, w)
    assert conformal.rows == 80  # (Σw)²/Σw²
    assert abs(conformal.radius(0.5) - 66.7) < 2  # half the weight lies below
    assert Conformal.fit(scores, 7 * np.ones(100)) == Conformal.fit(scores, np.ones(100))


def test_a_set_is_never_empty():
    np.testing.assert_array_equal(
        sets(np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), 0.4),
        [[True, False, False], [False, False, True]],
    )


# --- quantiles ------------------------------------------------------------------------------------


def noisy(seed, n):
    """A value whose spread follows a column of its own."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X[:, 0] + np.exp(X[:, 1]) * rng.normal(size=n)


def pinball(y, q, levels):
    d = y[:, None] - q
    return np.maximum(levels * d, (np.asarray(levels) - 1) * d).mean()


def test_quantiles_follow_the_spread_of_a_row():
    levels = [0.1, 0.5, 0.9]
    X, y = noisy(0, 3000)
    model = regressor(quantiles=True, epochs=20).fit(X, y)
    other, value = noisy(1, 3000)
    q = model.predict_quantiles(other, levels)
    assert q.shape == (3000, 3)
    assert (np.diff(q, axis=1) >= 0).all()
    constant = np.tile(np.quantile(y, levels), (3000, 1))
    assert pinball(value, q, levels) < 0.85 * pinball(value, constant, levels)
    for level, below in zip(levels, (value[:, None] <= q).mean(axis=0), strict=True):
        assert abs(below - level) < 0.06  # three standard errors of a fifth of the rows
    widths = q[:, 2] - q[:, 0]
    assert np.corrcoef(widths, np.exp(other[:, 1]))[0, 1] > 0.6


def test_levels_between_and_beyond_those_learnt():
    model = regressor(quantiles=True).fit(FRAME, VALUE)
    levels = [0.001, 0.01, 0.1, 0.2, 0.25, 0.6, 0.975, 0.99]
    q = model.predict_quantiles(FRAME, levels)
    assert (np.diff(q, axis=1) >= 0).all()
    assert q.min() >= VALUE.min()
    assert q.max() <= VALUE.max()
    np.testing.assert_array_equal(model.predict_quantiles(FRAME, [0.25])[:, 0], q[:, 4])


def test_quantiles_come_back_from_a_file(tmp_path):
    model = regressor(quantiles=True).fit(FRAME, VALUE)
    model.save(tmp_path / "m.fastnn")
    loaded = fnn.TabularRegressor.load(tmp_path / "m.fastnn", "numpy")
    np.testing.assert_array_equal(loaded.predict_quantiles(FRAME), model.predict_quantiles(FRAME))
    assert len(fnn.load(tmp_path / "m.fastnn", "numpy")) == 2


@pytest.mark.parametrize("levels", [[0], [0.5, 1.0], ["x"]])
def test_levels_that_are_no_probabilities(levels):
    model = regressor(quantiles=True).fit(FRAME, VALUE)
    with pytest.raises((ValueError, TypeError), match=r"levels\["):
        model.predict_quantiles(FRAME, levels)


def test_a_network_of_quantiles_is_trained_beside_five():
    with pytest.raises(ValueError, match="fit a TabularRegressor with quantiles=True"):
        regressor().fit(FRAME, VALUE).predict_quantiles(FRAME)
    assert regressor(n_folds=5, epochs=2).fit(FRAME, VALUE).model_.quantiles is not None


def test_predictions_that_are_not_finite_leave_no_scores():
    from fastnn.estimators.bagging import Rows
    from fastnn.estimators.fitting import learn_from_held_out
    from fastnn.estimators.options import TableOptions

    model = regressor(epochs=1).fit(FRAME, VALUE).model_
    model.conformal = None
    rows = Rows(model.encoder.transform(FRAME), model.encoder.transform_target(VALUE))
    learn_from_held_out(model, rows, np.full((len(rows), 1), np.nan), TableOptions())
    assert model.conformal is None
    assert all(np.isnan(score) for score in model.scores.values())
    assert model.metadata()["table"]["scores"] == {}


def test_no_residuals_make_no_quantiles():
    from fastnn.estimators.bagging import Rows
    from fastnn.estimators.options import TableOptions
    from fastnn.estimators.quantiles import fit_quantiles
    from fastnn.recipes import recipe
    from fastnn.recipes.plan import Problem

    rows = Rows(np.zeros((4, 1), np.float32), np.arange(4.0))
    problem = Problem("regression", 4, 1, 1, (), 1, "rmse")
    fold = np.arange(3), np.arange(3, 4)
    unknown = np.full((4, 1), np.nan)
    options = TableOptions()
    assert fit_quantiles(recipe("auto"), problem, rows, unknown, fold, options, None) == (None, [])
