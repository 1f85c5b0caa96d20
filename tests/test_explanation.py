"""Explanations of models of tables: importance, partial dependence, gradients of the inputs."""

import json

import numpy as np
import pytest

import fastnn as fnn
from fastnn.estimators.explanations.explanation import explain
from fastnn.estimators.explanations.partial_dependence import inputs_of
from fastnn.estimators.table_model import TableModel
from fastnn.tabular.frames import as_table

ROWS = 600
QUICK = {"n_folds": 2, "epochs": 40, "backend": "numpy"}


def known(seed=0, n=ROWS):
    """Numbers, names, dates and gaps; y depends on some of them."""
    rng = np.random.default_rng(seed)
    frame = {
        "nothing": rng.normal(size=n),
        "weak": rng.normal(size=n),
        "colour": rng.choice(["red", "green", "blue"], n),
        "gaps": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
        "day": np.datetime64("2020-01-01") + rng.integers(0, 800, n),
        "strong": 100 * rng.normal(size=n),
    }
    year = frame["day"].astype("datetime64[Y]").astype(int) == 51  # 2021
    value = 0.03 * frame["strong"] + 0.4 * frame["weak"] + 2.0 * (frame["colour"] == "red")
    return frame, value + 1.5 * np.isnan(frame["gaps"]) + 1.0 * year + 50


FRAME, VALUE = known()
LABEL = np.select([VALUE > 53, VALUE > 51], ["high", "middle"], "low")


@pytest.fixture(scope="module")
def regressor():
    return fnn.TabularRegressor(**QUICK).fit(FRAME, VALUE)


@pytest.fixture(scope="module")
def classifier():
    return fnn.TabularClassifier(**QUICK | {"recipe": "plain"}).fit(FRAME, LABEL)


def importances(explanation):
    return dict(zip(explanation.columns, explanation.importance, strict=True))


# --- importance -----------------------------------------------------------------------------------


def test_values(regressor):
    frame, value = known(1)
    found = regressor.explain(frame, value)
    assert (found.metric, found.target, found.rows, found.repeats) == ("rmse", "y", ROWS, 5)
    assert found.score == pytest.approx(regressor.evaluate(frame, value)["rmse"])
    assert found.columns[0] == "strong"
    assert found.columns[-1] == "nothing"
    assert (np.diff(found.importance) <= 0).all()
    by_name = importances(found)
    # Two independent errors of 3 z: √2 · 3, beside which the score is small.
    assert by_name["strong"] == pytest.approx(np.sqrt(2) * 3, rel=0.2)
    assert abs(by_name["nothing"]) < 0.02
    for name in ("weak", "colour", "gaps", "day"):
        assert by_name[name] > 0.1, name


def test_classes(classifier):
    frame, value = known(1)
    label = np.select([value > 53, value > 51], ["high", "middle"], "low")
    found = classifier.explain(frame, label)
    assert found.metric == "log_loss"
    assert found.score == pytest.approx(classifier.evaluate(frame, label)["log_loss"], rel=1e-5)
    assert found.columns[0] == "strong"
    assert importances(found)["strong"] > 10 * abs(importances(found)["nothing"])


def test_it_is_the_score_of_a_shuffled_frame(regressor):
    """All inputs of a column go together: each shuffled row is one that the frame could have."""
    found = regressor.explain(FRAME, VALUE, repeats=1, seed=3)
    order = np.random.default_rng(3).permutation(ROWS)
    for name in FRAME:
        score = regressor.evaluate(FRAME | {name: FRAME[name][order]}, VALUE)["rmse"]
        assert importances(found)[name] == pytest.approx(score - found.score, rel=1e-4, abs=1e-6)
    widths = {name: len(inputs_of(regressor.model_, name)) for name in FRAME}
    assert (widths["strong"], widths["colour"], widths["gaps"]) == (1, 3, 2)
    assert widths["day"] > 2


def test_same_seed_same_figures(regressor):
    a, b, c = (regressor.explain(FRAME, VALUE, max_rows=200, seed=seed) for seed in (1, 1, 2))
    assert a.to_dict() == b.to_dict() != c.to_dict()
    assert a.rows == 200


def test_weights_count(regressor):
    frame = {name: np.concatenate([values, values[:100]]) for name, values in FRAME.items()}
    value = np.concatenate([VALUE, np.full(100, 1e6)])
    weights = np.repeat([1.0, 0.0], [ROWS, 100])
    found = regressor.explain(frame, value, weights)
    assert found.rows == ROWS
    assert found.to_dict() == regressor.explain(FRAME, VALUE).to_dict()
    heavy = regressor.explain(FRAME, VALUE, np.where(LABEL == "low", 1.0, 0.01))
    expected = regressor.evaluate(FRAME, VALUE, np.where(LABEL == "low", 1.0, 0.01))["rmse"]
    assert heavy.score == pytest.approx(expected, rel=1e-4)


def test_the_target_may_be_a_column_of_the_frame(regressor):
    model = fnn.TabularRegressor(**QUICK | {"epochs": 2}).fit(FRAME | {"price": VALUE}, "price")
    found = model.explain(FRAME | {"price": VALUE}, "price")
    assert found.target == "price"
    assert set(found.columns) == set(FRAME)


def test_a_model_file_of_one_network(tmp_path):
    """Recipe "plain" of the command line makes one."""
    model = fnn.TabularRegressor(**QUICK | {"n_folds": 1, "recipe": "plain"}).fit(FRAME, VALUE)
    net = model.model_.networks[0]
    net.metadata |= {"encoder": model.model_.encoder.to_dict()}
    net.save(tmp_path / "net.fastnn")
    of_file = TableModel.of(fnn.load(tmp_path / "net.fastnn", "numpy"))
    table = as_table(FRAME, of_file.encoder.reading())
    found = explain(of_file, table, of_file.encoder.transform_target(VALUE))
    assert found.to_dict() == model.explain(FRAME, VALUE).to_dict()


# --- partial dependence ---------------------------------------------------------------------------


def test_a_linear_effect_is_a_line(regressor):
    found = regressor.explain(FRAME, VALUE).partial_dependence("strong", points=9)
    assert found.classes == ()
    assert found.grid.shape == found.mean.shape == (9,)
    assert set(found.grid) <= set(FRAME["strong"])
    inner = np.abs(found.grid) < 200
    slope, height = np.polyfit(found.grid[inner], found.mean[inner], 1)
    assert slope == pytest.approx(0.03, rel=0.1)
    line = slope * found.grid[inner] + height
    assert np.abs(found.mean[inner] - line).max() < 0.3


def test_it_is_the_mean_prediction_of_a_changed_frame(classifier, regressor):
    for model, target, predict in (
        (classifier, LABEL, classifier.predict_proba),
        (regressor, VALUE, regressor.predict),
    ):
        explanation = model.explain(FRAME, target)
        for name, value in (("colour", "red"), ("strong", FRAME["strong"].max())):
            found = explanation.partial_dependence(name, 4)
            changed = FRAME | {name: np.full(ROWS, value)}
            at = found.grid.tolist().index(value)
            expected = predict(changed).mean(axis=0)
            np.testing.assert_allclose(found.mean[at], expected, rtol=1e-4)


def test_names_by_their_frequency(classifier):
    explanation = classifier.explain(FRAME, LABEL)
    found = explanation.partial_dependence("colour")
    names, counts = np.unique(FRAME["colour"], return_counts=True)
    assert found.grid.tolist() == names[np.argsort(-counts, kind="stable")].tolist()
    assert found.classes == ("high", "low", "middle")
    assert found.mean.shape == (3, 3)
    np.testing.assert_allclose(found.mean.sum(axis=1), 1, rtol=1e-5)
    red = found.grid.tolist().index("red")
    assert found.mean[:, 0].argmax() == red
    np.testing.assert_array_equal(explanation.partial_dependence("colour", 2).grid, found.grid[:2])


def test_dates_and_gaps(regressor):
    explanation = regressor.explain(FRAME, VALUE)
    found = explanation.partial_dependence("day", 12)
    assert found.grid.tolist() == sorted(found.grid)
    within = np.char.startswith(found.grid, "2021")
    assert found.mean[within].mean() - found.mean[~within].mean() == pytest.approx(1.0, abs=0.4)
    assert not np.isnan(explanation.partial_dependence("gaps").grid).any()


def test_codes_and_numbers_as_names():
    rng = np.random.default_rng(0)
    frame = {"zip": rng.integers(0, 30, ROWS), "n": rng.normal(size=ROWS)}
    frame["zip"][:50] = 7
    value = 3.0 * (frame["zip"] == 7) + 0.1 * frame["n"]
    encoder = fnn.tabular.TableEncoder(categories=["zip"])
    model = fnn.TabularRegressor(**QUICK, encoder=encoder).fit(frame, value)
    explanation = model.explain(frame, value)
    assert explanation.columns == ("zip", "n")
    found = explanation.partial_dependence("zip", 5)
    assert found.grid[0] == "7"
    assert len(found.grid) == 5
    assert found.mean[0] - found.mean[1:].max() > 1.5
    assert np.isnan(explanation.sensitivity[0])


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_gradients_beside_central_differences(classifier, temperature):
    """Of the model's own outputs: networks in float64, averaged, with a temperature."""
    ours = classifier.model_
    nets = [net.copy(dtype="float64", backend="numpy") for net in ours.networks]
    model = TableModel(ours.encoder, fnn.Ensemble(nets), temperature=temperature)
    table = as_table(FRAME, ours.encoder.reading())
    y = ours.encoder.transform_target(LABEL)
    explanation = explain(model, table, y, max_rows=30, repeats=1)
    gradients = explanation.input_gradients()
    numbers = ours.encoder.n_numbers
    assert gradients.shape == (30, 3, numbers)
    X, h = explanation._X.astype(np.float64), 1e-6
    for j in range(numbers):
        step = np.zeros(X.shape[1])
        step[j] = h
        difference = (model.outputs(X + step) - model.outputs(X - step)) / (2 * h)
        np.testing.assert_allclose(gradients[:, :, j], difference, rtol=1e-4, atol=1e-7)
    deviation = X[:, :numbers].std(axis=0)
    moved = 0.5 * np.abs(gradients).sum(axis=1).mean(axis=0) * deviation
    place = inputs_of(model, "strong")[0]
    found = explanation.to_dict()["columns"]
    assert found["strong"]["sensitivity"] == pytest.approx(moved[place])
    days = [j for j in inputs_of(model, "day") if j < numbers]
    assert found["day"]["sensitivity"] == pytest.approx(moved[days].sum())
    assert found["colour"]["sensitivity"] is None


def test_the_sensitivity_of_a_linear_effect(regressor):
    found = regressor.explain(FRAME, VALUE)
    by_name = dict(zip(found.columns, found.sensitivity, strict=True))
    # the effect of a standard deviation, in those of the target; the scaling bends the slope
    assert by_name["strong"] == pytest.approx(3 / VALUE.std(), rel=0.15)
    assert by_name["nothing"] < 0.05 * by_name["strong"]
    assert np.isnan(by_name["colour"])


# --- showing it -----------------------------------------------------------------------------------


def test_as_plain_data(regressor):
    found = regressor.explain(FRAME, VALUE)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert list(plain["columns"]) == list(found.columns)
    assert plain["columns"]["strong"]["importance"] == found.importance[0]
    assert set(plain) == {"target", "metric", "score", "rows", "repeats", "columns"}


def test_as_a_table(regressor):
    title, header, *lines = str(regressor.explain(FRAME, VALUE)).split("\n")
    assert title.startswith("y: RMSE ")
    assert "on 600 rows" in title
    assert header.split() == ["column", "importance", "std", "sensitivity"]
    assert lines[0].startswith("strong ")
    assert len(lines) == len(FRAME)
    assert len({len(line) for line in [header, *lines]}) == 1
    assert next(line for line in lines if line.startswith("colour")).endswith("–")


def test_names_are_cut_in_the_middle_and_aligned():
    rng = np.random.default_rng(0)
    names = [*(f"{'long ' * 20}{k}" for k in range(2)), "측정값"]
    frame = {name: rng.normal(size=60) for name in names}
    model = fnn.TabularRegressor(**QUICK | {"epochs": 3}).fit(frame, frame[names[0]])
    _, *lines = str(model.explain(frame, frame[names[0]])).split("\n")
    assert lines[1].startswith("long long long l…ong long long 0 ")
    ends = {len(line) + 3 * ("측" in line) for line in lines}  # each takes two columns
    assert len(ends) == 1


def test_of_many_columns_the_most_important(tmp_path):
    rng = np.random.default_rng(0)
    frame = {f"{'long ' * 20}\n{k}": rng.normal(size=60) for k in range(23)}
    value = 1e9 * frame[f"{'long ' * 20}\n5"]
    model = fnn.TabularRegressor(**QUICK | {"epochs": 3}).fit(frame, value)
    found = model.explain(frame, value)
    lines = str(found).split("\n")
    assert len(lines) == 23
    assert lines[-1] == "and 3 more"
    assert max(map(len, lines[1:])) < 80
    pytest.importorskip(
        "matplotlib", reason="Matplotlib is not installed: pip install 'fastnn[plot]'"
    )
    ax = found.plot(tmp_path / "importance.png")
    assert (tmp_path / "importance.png").read_bytes().startswith(b"\x89PNG")
    assert len(ax.patches) == len(ax.get_yticklabels()) == 20


# --- mistakes -------------------------------------------------------------------------------------


def test_before_fitting():
    with pytest.raises(ValueError, match="has not been fitted"):
        fnn.TabularRegressor().explain(FRAME, VALUE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats must be an integer of at least 1"),
        ({"max_rows": 1.5}, "max_rows must be an integer"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"sample_weight": [1.0]}, "sample_weight has 1 entries"),
    ],
)
def test_arguments(regressor, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        regressor.explain(FRAME, VALUE, **options)


def test_data_that_does_not_fit(regressor, classifier):
    with pytest.raises(ValueError, match="y has 5 values for the 600 rows"):
        regressor.explain(FRAME, VALUE[:5])
    with pytest.raises(ValueError, match="lacks the columns weak"):
        regressor.explain({k: v for k, v in FRAME.items() if k != "weak"}, VALUE)
    with pytest.raises(ValueError, match="the classes are high, low, middle"):
        classifier.explain(FRAME, np.where(LABEL == "low", "lower", LABEL))


def test_columns_without_partial_dependence(regressor):
    explanation = regressor.explain(FRAME, VALUE)
    with pytest.raises(ValueError, match=r"unknown column 'wek'.*did you mean 'weak'"):
        explanation.partial_dependence("wek")
    with pytest.raises(ValueError, match="points must be an integer of at least 2"):
        explanation.partial_dependence("weak", 1)
    empty = regressor.explain(FRAME | {"weak": np.full(ROWS, np.nan)}, VALUE)
    with pytest.raises(ValueError, match="column 'weak' is empty in all rows"):
        empty.partial_dependence("weak")


def test_a_model_without_an_encoder():
    with pytest.raises(ValueError, match="was not trained on a table: it has no encoder"):
        TableModel.of(fnn.mlp([2, 3, 1], loss="mse", backend="numpy"))
