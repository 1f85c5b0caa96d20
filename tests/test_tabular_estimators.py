"""`TabularClassifier` and `TabularRegressor`: from frames to predictions."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.estimators import calibration
from fastnn.estimators.conformal import Conformal, sets
from fastnn.recipes import RECIPES

ROWS = 240


def table(seed=0, n=ROWS):
    """Numbers with gaps, names, and a target that depends on both."""
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(size=n), rng.choice(["red", "green", "blue"], n)
    frame = {"size": np.where(rng.random(n) < 0.05, np.nan, size), "colour": colour}
    value = 3 * size + 2.0 * (colour == "red") + 0.3 * rng.normal(size=n) + 10
    return frame, value


FRAME, VALUE = table()
LABEL = np.where(VALUE > 10.5, "high", "low")
QUICK = {"n_folds": 2, "epochs": 8, "backend": "numpy"}
# Recipes whose networks are too large for many epochs of the reference engine.
LARGE = {name: {"epochs": 8, "backend": "auto"} for name in ("tabm", "tabm-mini")}


def classifier(**options):
    return fnn.TabularClassifier(**QUICK | options)


def regressor(**options):
    return fnn.TabularRegressor(**QUICK | {"epochs": 30} | options)


# --- what they learn ------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_classes(recipe):
    model = classifier(recipe=recipe, **LARGE.get(recipe, {})).fit(FRAME, LABEL)
    p = model.predict_proba(FRAME)
    assert model.classes_.tolist() == ["high", "low"]
    assert p.shape == (ROWS, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.predict(FRAME), model.classes_[p.argmax(axis=1)])
    assert model.score(FRAME, LABEL) == (model.predict(FRAME) == LABEL).mean() > 0.8
    assert 0.75 < model.scores_["accuracy"] <= 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_values(recipe):
    model = regressor(recipe=recipe, **LARGE.get(recipe, {})).fit(FRAME, VALUE)
    predicted = model.predict(FRAME)
    assert predicted.shape == (ROWS,)
    residual = ((predicted - VALUE) ** 2).sum() / ((VALUE - VALUE.mean()) ** 2).sum()
    assert model.score(FRAME, VALUE) == pytest.approx(1 - residual)
    assert model.score(FRAME, VALUE) > 0.8
    assert model.scores_["r2"] > 0.7
    assert VALUE.min() <= predicted.min()
    assert predicted.max() <= VALUE.max()


def test_every_row_is_predicted_by_a_network_that_did_not_train_on_it():
    """Held out, targets of pure noise cannot be told."""
    y = np.random.default_rng(1).normal(size=ROWS)
    model = regressor(n_folds=4).fit(FRAME, y)
    assert model.scores_["r2"] < 0.1


def test_a_frame_may_hold_the_target():
    frame = {**FRAME, "label": LABEL}
    model = classifier().fit(frame, "label")
    np.testing.assert_array_equal(
        model.predict(FRAME), classifier().fit(FRAME, LABEL).predict(FRAME)
    )
    assert model.n_features_in_ == 2
    assert model.evaluate(frame, "label") == model.evaluate(FRAME, LABEL)


@pytest.mark.parametrize("module", ["pandas", "polars"])
def test_frames_of_libraries(module):
    library = pytest.importorskip(module, reason=f"{module} is not installed")
    frame = library.DataFrame(FRAME)
    expected = classifier().fit(FRAME, LABEL).predict_proba(FRAME)
    np.testing.assert_array_equal(classifier().fit(frame, LABEL).predict_proba(frame), expected)


def test_same_seed_same_bits():
    first, again, other = (
        classifier(random_state=seed).fit(FRAME, LABEL).predict_proba(FRAME) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("backend", ["numba", "cython"])
def test_engines_agree(backend):
    if fnn.backends()[backend] != "available":
        pytest.skip(f"backend {backend}: {fnn.backends()[backend]}")
    expected, found = (
        regressor(epochs=3, backend=name).fit(FRAME, VALUE).predict(FRAME)
        for name in ("numpy", backend)
    )
    np.testing.assert_allclose(found, expected, rtol=2e-3)


# --- options --------------------------------------------------------------------------------------


def test_validation_rows_of_ones_own():
    other, value = table(9, 60)
    model = regressor(n_folds=3).fit(FRAME, VALUE, eval_set=(other, value))
    assert len(model.model_.networks) == 3
    predicted = model.predict(other)
    residual = ((predicted - value) ** 2).sum() / ((value - value.mean()) ** 2).sum()
    assert model.scores_["r2"] == pytest.approx(1 - residual, abs=1e-4)


def test_groups_stay_together(monkeypatch):
    from fastnn.estimators import fitting

    seen = []

    def fit_bag(recipe, problem, rows, folds, validation, options):
        seen.extend(folds)
        return real(recipe, problem, rows, folds, validation, options)

    real = fitting.fit_bag
    monkeypatch.setattr(fitting, "fit_bag", fit_bag)
    groups = np.arange(ROWS) // 10
    classifier().fit(FRAME, LABEL, groups=groups)
    for training, held_out in seen:
        assert not set(groups[training]) & set(groups[held_out])


def test_trained_again_on_all_rows():
    plain, again = (regressor(refit=refit).fit(FRAME, VALUE) for refit in (False, True))
    assert again.scores_ == plain.scores_
    assert (again.predict(FRAME) != plain.predict(FRAME)).any()
    assert again.score(FRAME, VALUE) > 0.8


def test_rows_without_weight_do_not_count():
    y, weights = VALUE.copy(), np.ones(ROWS)
    y[::4] = y.mean()
    weights[::4] = 0
    model = regressor().fit(FRAME, y, sample_weight=weights)
    assert model.evaluate(FRAME, VALUE)["r2"] > 0.8
    assert model.scores_["r2"] > 0.7  # the others' would be far off


def test_class_weights_raise_a_rare_class():
    rare = np.where(np.quantile(VALUE, 0.9) < VALUE, "rare", "usual")
    plain, balanced = (
        classifier(class_weight=w, calibrate=False).fit(FRAME, rare).predict_proba(FRAME)[:, 0]
        for w in (None, "balanced")
    )
    assert balanced.mean() > plain.mean() + 0.02


@pytest.mark.parametrize("limit", [1e-4, 0.2])
def test_a_time_limit_keeps_what_there_is_and_says_so(limit):
    model = classifier(n_folds=5, epochs=10_000, time_limit=limit).fit(FRAME, LABEL)
    assert model.predict_proba(FRAME).shape == (ROWS, 2)
    assert any(f"the time limit is {limit:g} s" in note for note in model.notes_)
    if limit == 1e-4:
        assert any("was stopped in its first epoch" in note for note in model.notes_)


def test_an_encoder_of_ones_own():
    encoder = fnn.tabular.TableEncoder(numbers="quantile", ignore=["colour"])
    model = regressor(encoder=encoder).fit(FRAME, VALUE)
    assert model.model_.encoder.columns == ["size"]
    assert encoder.features == ()


def test_parameters_as_scikit_learn_wants_them():
    base = pytest.importorskip("sklearn.base", reason="scikit-learn is not installed")
    model = classifier(metric="auc")
    copy = base.clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(epochs=3).epochs == 3
    assert repr(copy) == ("TabularClassifier(n_folds=2, metric='auc', epochs=3, backend='numpy')")
    with pytest.raises(ValueError, match=r"unknown parameter 'epoch' \(did you mean 'epochs'"):
        copy.set_params(epoch=3)


# --- files ----------------------------------------------------------------------------------------


def test_models_come_back(tmp_path):
    path = tmp_path / "m.fastnn"
    model = classifier(threshold="f1").fit(FRAME, LABEL)
    model.save(path)
    loaded = fnn.TabularClassifier.load(path, "numpy")
    np.testing.assert_array_equal(loaded.predict_proba(FRAME), model.predict_proba(FRAME))
    np.testing.assert_array_equal(loaded.predict(FRAME), model.predict(FRAME))
    assert loaded.model_.metadata() == model.model_.metadata()
    with pytest.raises(
        ValueError, match=r"no model of a TabularRegressor; TabularClassifier\.load"
    ):
        fnn.TabularRegressor.load(path)
    fnn.mlp([2, 2], backend="numpy").save(path)
    with pytest.raises(ValueError, match="has no encoder"):
        fnn.TabularClassifier.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": "x"},
        {"threshold": 2},
        {"conformal": {"rows": 1, "scores": []}},
        {"conformal": {"rows": 2, "scores": [2.0, 1.0]}},
        {"scores": 3},
    ],
)
def test_damaged_metadata(tmp_path, change):
    path = tmp_path / "m.fastnn"
    model = classifier().fit(FRAME, LABEL).model_
    metadata = model.metadata()
    metadata["table"] |= change
    fnn.Ensemble(list(model.networks), metadata).save(path)
    with pytest.raises(ValueError, match="metadata 'table' is not what fastnn writes"):
        fnn.TabularClassifier.load(path)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FRAME, np.full(ROWS, "low")), "is 'low' in every row; there is nothing to learn"),
        (({"size": np.full(ROWS, np.nan)}, LABEL), "no column to learn from"),
        ((FRAME, "kind"), "kind"),
        ((FRAME, LABEL[:-1]), "y has 239 values for the 240 rows"),
        ((FRAME, np.where(np.arange(ROWS) == 7, None, LABEL)), "row 8"),
        (({}, LABEL), "no columns"),
    ],
)
def test_bad_tables(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier().fit(*arguments)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_targets_that_are_no_numbers(value):
    y = VALUE.copy()
    y[3] = value
    with pytest.raises(ValueError, match="row 4"):
        regressor().fit(FRAME, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "realmpl"}, "unknown recipe 'realmpl'"),
        ({"n_folds": 0}, "n_folds must be an integer of at least 1, not 0"),
        ({"metric": "rmse"}, "metric 'rmse' does not go with classification"),
        ({"time_limit": 0}, "time_limit must lie in"),
        ({"threshold": "auc"}, "unknown threshold 'auc'"),
        ({"threshold": 1.5}, "threshold must lie in"),
        ({"random_state": -1}, "seed must be an integer of at least 0"),
        ({"encoder": 3}, "encoder must be a TableEncoder, not int"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        classifier(**options).fit(FRAME, LABEL)


def test_a_threshold_of_three_classes():
    with pytest.raises(ValueError, match="threshold goes with two classes; the target has 3"):
        classifier(threshold="f1").fit({"size": FRAME["size"]}, FRAME["colour"])


def test_columns_that_are_not_what_they_were():
    model = classifier().fit(FRAME, LABEL)
    with pytest.raises(ValueError, match="lacks the columns colour"):
        model.predict({"size": FRAME["size"]})
    with pytest.raises(ValueError, match=r"'colour' is '0' in row 1, .*: it holds numbers now"):
        model.predict({**FRAME, "colour": np.arange(ROWS)})
    with pytest.raises(ValueError, match=r"'size' is '(red|green|blue)'"):
        model.predict({**FRAME, "size": FRAME["colour"]})


def test_before_fit():
    with pytest.raises(ValueError, match="this TabularRegressor has not been fitted"):
        regressor().predict(FRAME)


@pytest.mark.parametrize("coverage", [0, 1, 1.5, "x", 0.9999])
def test_coverage_that_cannot_be_had(coverage):
    model = regressor().fit(FRAME, VALUE)
    with pytest.raises((ValueError, TypeError), match="coverage"):
        model.predict(FRAME, coverage=coverage)


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
    conformal = Conformal.fit(scores)
    rank = int(np.ceil((n + 1) * coverage))
    if rank > n:
        with pytest.raises(ValueError, match="promise at most"):
            conformal.radius(coverage)
        return
    exact = np.sort(scores)[rank - 1]
    assert exact <= conformal.radius(coverage) <= exact + 2e-3
    assert Conformal.from_dict(conformal.to_dict()) == conformal


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
    X, y = noisy(0, 1500)
    model = regressor(quantiles=True, epochs=40).fit(X, y)
    other, value = noisy(1, 3000)
    q = model.predict_quantiles(other, levels)
    assert q.shape == (3000, 3)
    assert (np.diff(q, axis=1) >= 0).all()
    constant = np.tile(np.quantile(y, levels), (3000, 1))
    assert pinball(value, q, levels) < 0.85 * pinball(value, constant, levels)
    for level, below in zip(levels, (value[:, None] <= q).mean(axis=0), strict=True):
        assert abs(below - level) < 0.05
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
