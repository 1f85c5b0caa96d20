"""Targets of estimators: Categoricals, single columns, values of several types, and messages."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.tabular.frames import as_column

N = 60
RNG = np.random.default_rng(0)
FRAME = {"a": RNG.normal(size=N), "b": RNG.normal(size=N)}
NAMES = np.array(["a", "b"] * (N // 2))


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas", reason="pandas is not installed")


def fitted(y, frame=FRAME):
    return fnn.TabularClassifier(n_folds=2, epochs=2, backend="numpy").fit(frame, y)


# --- Categoricals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize(
    "classes", [["a", "b"], [9, 10], [0.0, 1.0], [False, True]], ids=lambda c: type(c[0]).__name__
)
def test_classes_of_a_categorical_are_those_that_occur(pandas, classes, by_name):
    y = pandas.Series(pandas.Categorical(classes * (N // 2), categories=classes))
    if classes[0] == "a":
        y = y.cat.add_categories(["z"])
    frame = pandas.DataFrame(FRAME)
    model = fitted("y", frame.assign(y=y)) if by_name else fitted(y, frame)
    assert model.classes_.tolist() == classes
    assert (
        model.classes_.dtype.kind == {str: "U", int: "i", float: "i", bool: "b"}[type(classes[0])]
    )
    predicted = model.predict(frame)
    assert model.score(frame, y) == (predicted == y.to_numpy()).mean() > 0
    assert model.score(frame, np.array(classes * (N // 2))) == model.score(frame, y)


def test_a_categorical_of_one_class_and_one_with_gaps(pandas):
    one = pandas.Categorical(["a"] * N, categories=["a", "b"])
    with pytest.raises(ValueError, match="is 'a' in every row; there is nothing to learn"):
        fitted(one)
    with pytest.raises(ValueError, match="y is empty in row 2"):
        fitted(pandas.Categorical(["a", None, "b"] * (N // 3)))


def test_booleans_that_are_all_true():
    with pytest.raises(ValueError, match="is 'true' in every row"):
        fitted(np.ones(N, bool))


def test_a_dictionary_of_arrow():
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    numbers = arrow.array([1, 0] * (N // 2)).dictionary_encode()
    assert fitted(numbers).classes_.tolist() == [0, 1]
    names = arrow.DictionaryArray.from_arrays(arrow.array([0, 1] * (N // 2)), ["p", "q", "unused"])
    assert fitted(names).classes_.tolist() == ["p", "q"]


def test_categoricals_in_columns_keep_their_gaps_and_codes(pandas):
    values = pandas.Categorical([7, None, 9] * 20, categories=[5, 7, 9])
    column = as_column(values, "x")
    assert column.names().tolist() == ["7", "", "9"] * 20
    assert column.categories == ("7", "9", "")


# --- one column -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["pandas", "polars"])
def test_a_frame_of_one_column(module):
    library = pytest.importorskip(module, reason=f"{module} is not installed")
    frame, expected = library.DataFrame(FRAME), fitted(NAMES)
    for name in ("y", "label", "a"):  # also that of a column of X
        y = library.DataFrame({name: NAMES})
        model = fitted(y, frame)
        np.testing.assert_array_equal(model.predict(frame), expected.predict(FRAME))
        assert model.score(frame, y) == expected.score(FRAME, NAMES)
        other = library.DataFrame({"other": NAMES})
        assert model.evaluate(frame, other) == expected.evaluate(FRAME, NAMES)


def test_an_array_of_one_column():
    model = fitted(NAMES[:, None])
    assert model.evaluate(FRAME, NAMES[:, None]) == model.evaluate(FRAME, NAMES)
    regressor = fnn.TabularRegressor(n_folds=2, epochs=2, backend="numpy")
    y = FRAME["a"][:, None]
    X = np.stack(list(FRAME.values()), axis=1)
    regressor.fit(X, y, eval_set=(X, y))
    assert regressor.score(X, y) == regressor.score(X, y[:, 0])


def test_two_columns():
    both, model = np.stack([NAMES, NAMES], axis=1), fitted(NAMES)
    for call in (
        fitted,
        lambda y: model.score(FRAME, y),
        lambda y: model.evaluate(FRAME, y),
        lambda y: model.fit(FRAME, NAMES, eval_set=(FRAME, y)),
    ):
        with pytest.raises(ValueError, match="y must be one column, not 2"):
            call(both)


def test_a_single_column_of_x_is_not_taken_for_the_target(pandas):
    frame = pandas.DataFrame({"a": FRAME["a"], "y": NAMES})
    model = fitted("y", frame)
    for X in (frame[["a"]], {"a": FRAME["a"]}):
        with pytest.raises(ValueError, match="lacks the target column 'y'; it has a"):
            model.score(X, "y")
        with pytest.raises(ValueError, match="lacks the target column 'y'; it has a"):
            model.model_.encoder.transform_target(X)


# --- messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            np.array(["a", 1] * 30, object),
            r"y is 1 \(int\) in row 2, but 'a' \(str\) in row 1; all",
        ),
        (["a", 1] * 30, r"y is 1 \(int\) in row 2, but 'a' \(str\) in row 1"),
        ([None, True, 2] * 20, r"y is 2 \(int\) in row 3, but True \(bool\) in row 2"),
        (["a", 1.5] * 30, r"y is 1\.5 \(float\) in row 2"),
    ],
)
def test_values_of_several_types(y, message):
    with pytest.raises(ValueError, match=message):
        fitted(y)


def test_values_of_several_types_in_a_frame(pandas):
    message = r"column 'y' is 1 \(int\) in row 2, but 'a' \(str\) in row 1"
    for y in (["a", 1] * 30, pandas.Categorical(["a", 1] * 30)):
        with pytest.raises(ValueError, match=message):
            fitted("y", pandas.DataFrame(FRAME).assign(y=y))


def test_whole_numbers_and_others_are_of_one_type():
    y = np.array([1, 2.5, np.float32(3), None] * 15, object)
    with pytest.raises(ValueError, match="y is empty in row 4"):
        fnn.TabularRegressor(backend="numpy").fit(FRAME, y)


@pytest.mark.parametrize("by_name", [False, True])
def test_dates(by_name):
    dates = np.datetime64("2020-01-01") + np.arange(N)
    name = "column 'day'" if by_name else "y"
    with pytest.raises(ValueError, match=f"{name} holds dates or times; .* numbers of days") as e:
        fitted(*(("day", {**FRAME, "day": dates}) if by_name else (dates,)))
    assert "--" not in str(e.value)


def test_reasons_name_the_options_of_python():
    for y, option in ((np.arange(N) % 5, "regression"), (np.arange(N) % 20, "classification")):
        (note,) = fnn.tabular.TableEncoder().fit(FRAME, y).notes
        assert f"task='{option}'" in note
        assert "--" not in note


def test_a_class_that_training_did_not_meet():
    rare = np.where(np.arange(N) == 3, "rare", NAMES)
    for score in (fitted(NAMES).score, fitted(NAMES).evaluate):
        with pytest.raises(ValueError, match=r"^y is 'rare' in row 4; the classes are a, b"):
            score(FRAME, rare)
    with pytest.raises(ValueError, match="column 'k' is 'rare' in row 4"):
        fitted("k", {**FRAME, "k": NAMES}).score({**FRAME, "k": rare}, "k")


def test_messages_name_no_option_of_the_command_line():
    model, dates = fitted(NAMES), np.datetime64("2020-01-01") + np.arange(N)
    for call in (
        lambda: model.score(FRAME, dates),
        lambda: model.predict({**FRAME, "a": dates}),
        lambda: fitted(NAMES, {**FRAME, "c": np.array(["1,5", "2,5"] * (N // 2))}),
    ):
        with pytest.raises(ValueError, match=r"convert|the classes are") as e:
            call()
        assert "--" not in str(e.value)
