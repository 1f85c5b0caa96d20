"""`TabularClassifier` and `TabularRegressor`: from frames to predictions."""

import numpy as np
import pytest
from estimator_cases import FRAME, LABEL, LARGE, ROWS, VALUE, classifier, regressor, table

import fastnn as fnn
from fastnn.recipes import RECIPES

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

    def fit_bag(recipe, problem, rows, folds, *arguments):
        seen.extend(folds)
        return real(recipe, problem, rows, folds, *arguments)

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


def test_rows_without_weight_are_none():
    """As if they were not there: in scaling, in the range, in intervals and in quantiles."""
    keep = np.arange(ROWS) % 4 > 0
    y, weights = np.where(keep, VALUE, 1e4), keep.astype(float)
    frame = {name: column[keep] for name, column in FRAME.items()}
    first = regressor(quantiles=True).fit(FRAME, y, sample_weight=weights)
    second = regressor(quantiles=True).fit(frame, VALUE[keep], sample_weight=np.ones(keep.sum()))
    for found, expected in zip(
        first.predict(FRAME, coverage=0.8), second.predict(FRAME, coverage=0.8), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(first.predict_quantiles(FRAME), second.predict_quantiles(FRAME))


def test_class_weights_are_by_class():
    numbers = np.where(LABEL == "high", 7, 3)
    share = {
        key: classifier(class_weight={key: 20.0})
        .fit(FRAME, numbers)
        .predict_proba(FRAME)[:, 1]
        .mean()
        for key in (3, 7)
    }  # of class 7
    assert share[7] > share[3] + 0.1
    with pytest.raises(ValueError, match="class_weight names class 0; the classes are 3, 7"):
        classifier(class_weight={0: 1.0}).fit(FRAME, numbers)


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


@pytest.mark.parametrize("random_state", [np.int64(3), np.uint8(3)])
def test_numbers_of_numpy_are_numbers(random_state):
    model = classifier(random_state=random_state, epochs=np.int32(2), n_folds=np.int16(2))
    expected = classifier(random_state=3, epochs=2).fit(FRAME, LABEL).predict_proba(FRAME)
    np.testing.assert_array_equal(model.fit(FRAME, LABEL).predict_proba(FRAME), expected)


def test_scikit_learn_takes_them():
    selection = pytest.importorskip("sklearn.model_selection", reason="no scikit-learn")
    pipeline = pytest.importorskip("sklearn.pipeline", reason="no scikit-learn")
    base = pytest.importorskip("sklearn.base", reason="no scikit-learn")
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(FRAME)
    assert base.is_classifier(classifier())
    assert base.is_regressor(regressor())
    scores = selection.cross_val_score(classifier(), frame, LABEL, cv=3)
    assert (scores > 0.7).all()
    grid = selection.GridSearchCV(regressor(), {"random_state": np.arange(2)}, cv=2)
    assert grid.fit(frame, VALUE).best_score_ > 0.7
    assert pipeline.make_pipeline(regressor()).fit(frame, VALUE).score(frame, VALUE) > 0.8


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
