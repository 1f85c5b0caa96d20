"""`TableEncoder`: what becomes of each column, which are left out, targets and predictions."""

import datetime
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import raises
from table_cases import COLUMNS, DAY, FLAG, KIND, LABEL, RNG, SIZE, N, fit

from fastnn.tabular import TableEncoder
from fastnn.tabular.columns.scaling import SCALINGS, Quantile, Robust
from fastnn.tabular.reading.dates import seconds_of

arrow = pytest.importorskip("pyarrow")
pandas = pytest.importorskip("pandas")


def one(values, y=None, **options):
    """The matrix that a column makes beside a number, which comes first."""
    columns = {"_": RNG.normal(size=len(values)), "x": values}
    return fit(columns, y, **options).transform(columns)[:, 1:]


# --- numbers --------------------------------------------------------------------------------------


def test_numbers_are_robust():
    x = np.array([1.0, 2, 3, 4, 1e6])
    z = (x - 3) / 2
    encoded = fit({"x": x}, dtype="float64").transform({"x": x})[:, 0]
    np.testing.assert_allclose(encoded, z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-12)
    assert Robust.fit(np.array([0.0, 0, 0, 0, 8])).spread == 4  # half the range
    assert Robust.fit(np.ones(3)).apply(np.arange(3.0)).tolist() == [0, 0, 0]


def test_quantiles_are_those_of_a_normal_distribution():
    x = RNG.exponential(size=30_000)
    encoded = fit({"x": x}, numbers="quantile").transform({"x": x})[:, 0]
    assert abs(encoded.mean()) < 0.02
    assert abs(encoded.std() - 1) < 0.02
    assert len(fit({"x": x}, numbers="quantile").features[0].scaling.quantiles) == 1000
    assert len(Quantile.fit(x[:60]).quantiles) == 10


def test_the_mean_and_standard_deviation():
    encoded = fit({"x": SIZE}, numbers="standard").transform({"x": SIZE})
    np.testing.assert_allclose([encoded.mean(), encoded.std()], [0, 1], atol=1e-6)


def test_gaps_are_the_median_and_have_a_column():
    x = np.array([1.0, np.nan, 2, 4])
    encoder = fit({"x": x})
    np.testing.assert_array_equal(encoder.transform({"x": x})[:, 1], [0, 1, 0, 0])
    assert encoder.transform({"x": x})[1, 0] == 0
    assert "replaced by the median of the training rows: 1 in 'x'" in encoder.notes[0]
    assert fit({"x": SIZE}).transform({"x": x}).shape == (4, 1)  # none in training


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=False), min_size=2, max_size=30),
    st.sampled_from(["robust", "quantile"]),
)
@settings(deadline=None, max_examples=150)
def test_numbers_of_any_size_become_small_ones_in_their_order(values, numbers):
    columns = {"x": np.array(values), "z": np.arange(len(values)) % 2}
    encoder = fit(columns, numbers=numbers, keep=["x"], dtype="float64")
    encoded = encoder.transform(columns)[:, 0]
    assert np.isfinite(encoded).all()
    assert np.abs(encoded).max() < 6
    known = ~np.isnan(values)
    assert (np.diff(encoded[known][np.argsort(np.array(values)[known])]) >= -1e-12).all()
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    np.testing.assert_array_equal(again.transform(columns)[:, 0], encoded)


def test_seconds_that_float32_cannot_tell_apart_stay_apart():
    x = {"x": 1.7e9 + np.arange(400.0)[::-1]}
    assert len(np.unique(fit(x).transform(x))) == 400


# --- names ----------------------------------------------------------------------------------------


def test_few_names_are_one_hot():
    encoder = fit({"x": ["b", "a", None, "c"]})
    encoded = encoder.transform({"x": ["a", "b", "c", "new", None]})
    np.testing.assert_array_equal(encoded, [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    assert encoder.remarks({"x": ["a", "new", None]}) == [
        "values that are no category of the training rows: 1 in 'x' ('new' in row 2)"
    ]


@pytest.mark.parametrize("values", [["f", "m"], [False, True]])
def test_two_names_are_one_column(values):
    encoder = fit({"x": values * 3})
    asked = np.array([*values, None], object)
    np.testing.assert_array_equal(encoder.transform({"x": asked})[:, 0], [-1, 1, 0])


@pytest.mark.parametrize(
    ("different", "gaps", "one_hot", "codes"),
    [(9, 0, 9, False), (9, 1, 9, True), (10, 0, 9, True), (3, 0, 2, True), (20, 0, 20, False)],
)
def test_many_names_are_codes(different, gaps, one_hot, codes):
    names = np.array([f"n{i}" for i in range(different)] * 3 + [None] * 3 * gaps, object)
    encoder = fit({"_": RNG.normal(size=len(names)), "x": names}, one_hot=one_hot)
    assert encoder.cardinalities == ([different + 1 + gaps] if codes else [])
    assert encoder.inputs == (2 if codes else different + 1)


def test_codes_are_the_last_columns():
    names = ["rare", *[f"n{i % 12:02}" for i in range(36)], None, None]
    columns = {"x": np.array(names, object), "z": RNG.normal(size=39), "k": KIND[:39]}
    encoder = fit(columns)
    assert (encoder.cardinalities, encoder.n_numbers, encoder.inputs) == ([14], 1, 5)
    asked = {"x": ["rare", "n00", "n11", None, "new"], "z": np.ones(5), "k": ["a"] * 5}
    np.testing.assert_array_equal(encoder.transform(asked)[:, -1], [0, 1, 12, 13, 0])
    assert fit(columns, min_count=1).cardinalities == [15]
    # of thousands of names it is no mistake that all of a few rows are new
    assert (encoder.transform({**asked, "x": list("vwxyz")})[:, -1] == 0).all()


def test_numbers_can_be_names():
    zips = np.array([10, 20, 30] * 4)
    assert one(zips, categories=["x"]).shape == (12, 3)
    encoder = fit({"x": zips}, categories=["x"])
    np.testing.assert_array_equal(encoder.transform({"x": [20]}), [[0, 1, 0]])
    np.testing.assert_array_equal(encoder.transform({"x": [99]}), [[0, 0, 0]])


# --- dates ----------------------------------------------------------------------------------------


def test_dates_are_numbers():
    encoder = fit({"day": DAY})
    assert "day (year, month, day of year, weekday, time)" in encoder.decisions
    texts = {"day": [str(day) for day in DAY]}
    np.testing.assert_array_equal(encoder.transform(texts), encoder.transform({"day": DAY}))
    assert fit({"day": DAY}, dates=["month"]).inputs == 1
    objects = {"day": DAY.astype(object)}
    np.testing.assert_array_equal(encoder.transform(objects), encoder.transform({"day": DAY}))


def test_parts_of_a_date():
    from fastnn.tabular.columns.dates import PARTS, part_of

    moments = ["2024-03-01 17:30", "1969-12-31T23:59:59Z", "2000-02-29"]
    parts = {part: part_of(seconds_of(moments), part).tolist() for part in PARTS}
    days = [datetime.datetime.fromisoformat(m).timetuple() for m in moments]
    assert parts["year"] == [day.tm_year for day in days]
    assert parts["month"] == [day.tm_mon for day in days]
    assert parts["day of year"] == [day.tm_yday for day in days]
    assert parts["weekday"] == [day.tm_wday for day in days]
    assert parts["hour"] == [day.tm_hour for day in days]


def test_gaps_among_dates_have_a_column():
    day = DAY.copy()
    day[3] = "NaT"
    encoder = fit({"day": day})
    np.testing.assert_array_equal(np.flatnonzero(encoder.transform({"day": day})[:, -1]), [3])
    assert np.isfinite(encoder.transform({"day": [None, None]})).all()


def test_times_of_day():
    encoder = fit({"t": ["10:30", "11:30", "23:00"]})
    assert encoder.decisions == "dates 1: t (hour, time)"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86400),
        ("1970/1/2", 86400),
        ("1970-01-01T01:00:00.5", 3600.5),
        ("1970-01-01 01:00+01:00", 0),
        ("NA", np.nan),
        ("31.12.1970", None),
        ("1970-02-30", None),
        ("25:00", None),
    ],
)
def test_what_names_a_moment(text, seconds):
    found = seconds_of([text])
    np.testing.assert_array_equal(found, None if seconds is None else [seconds])


# --- columns that are left out --------------------------------------------------------------------

LEFT_OUT = {
    "the same in every row": [7] * N,
    "empty": [None] * N,
    "repeats 'size'": SIZE,
    "repeats 'kind'": KIND.astype(object),
    "looks like an identifier": np.arange(N) + 1000,
    "looks like an identifier ": np.array([f"row {i}" for i in range(N)]),
}


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_columns_that_tell_nothing_are_left_out(reason):
    columns = {"size": SIZE, "kind": KIND, "x": LEFT_OUT[reason]}
    encoder = fit(columns)
    assert encoder.left_out == {"x": reason.strip()}
    assert f"left out 1: x ({reason.strip()})" in encoder.decisions
    assert encoder.transform({"size": SIZE, "kind": KIND}).shape == (N, 4)
    if reason != "empty":
        assert "x" in fit(columns, keep=["x"]).columns
    assert "x" not in fit(columns, ignore=["x"]).left_out


@pytest.mark.parametrize(
    "x", [np.arange(N) * 2, np.arange(N)[::-1], np.uint8(np.arange(N) * 251), np.arange(N) + 0.5]
)
def test_numbers_that_are_no_identifier(x):
    assert fit({"size": SIZE, "x": x}).left_out == {}


def test_a_column_that_counts_is_kept_where_it_is_all_there_is():
    assert fit({"x": np.arange(N)}).left_out == {}


def test_decisions_are_a_line_for_each_kind():
    lines = fit({**COLUMNS, "id": np.arange(N)}, LABEL).decisions.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "numbers 2",
        "dates 1",
        "gaps 1",
        "one-hot 2",
        "codes 1",
        "left out 1",
    ]
    wide = {f"c{i}": RNG.normal(size=5) for i in range(300)}
    assert fit(wide).decisions == "numbers 300: c0, c1, c2, c3, c4 and 295 more"


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (LABEL, LABEL),
        (pandas.Series(LABEL, name="label"), LABEL),
        (LABEL.astype(object), LABEL),
        (["1", "2"] * (N // 2), ["1", "2"] * (N // 2)),
        (np.arange(N) % 3, np.arange(N) % 3),
        (FLAG, FLAG),
    ],
)
def test_classes_come_back_as_they_were(y, expected):
    encoder = fit({"size": SIZE}, y)
    labels = encoder.transform_target(y)
    decoded = encoder.decode(np.eye(encoder.outputs)[labels])
    np.testing.assert_array_equal(decoded["prediction"], expected)
    assert len(decoded) == 1 + encoder.outputs


def test_a_target_in_the_frame():
    columns = {**COLUMNS, "label": LABEL}
    encoder = fit(columns, "label")
    assert "label" not in encoder.columns
    np.testing.assert_array_equal(encoder.transform_target(columns), LABEL == "yes")
    np.testing.assert_array_equal(encoder.transform_target(LABEL), LABEL == "yes")
    with raises(ValueError, "lacks the target column 'label'"):
        encoder.transform_target(COLUMNS)


def test_predicted_values_stay_within_those_of_training():
    price = 100 + 50 * SIZE
    encoder = fit({"size": SIZE}, price)
    z = encoder.transform_target(price)
    np.testing.assert_allclose(encoder.decode(z[:, None])["prediction"], price)
    beyond = encoder.decode(np.array([[-1e9], [1e9]], np.float32))["prediction"]
    assert beyond.tolist() == [price.min(), price.max()]


@pytest.mark.parametrize(
    ("y", "problem"),
    [
        ([1.5, np.nan, *[2.5] * (N - 2)], "y is empty in row 2"),
        ([1.5, 2.5, np.inf, *[2.5] * (N - 3)], "y is infinite in row 3"),
        ([np.nan] * N, "y is empty in every row"),
        (["a"] * N, "y is 'a' in every row; there is nothing to learn"),
        ([1, 2], "y has 2 values for the 40 rows"),
        ("lable", "unknown column 'lable'"),
        (DAY, "y holds dates"),
    ],
)
def test_targets_that_cannot_be_learnt(y, problem):
    with raises(ValueError, problem):
        fit({"size": SIZE, "label": LABEL}, y)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        ({"size": None}, "the frame lacks the columns size"),
        ({"size": ["many"] * N}, "'size' is 'many' in row 1; expected a number"),
        ({"size": [np.inf] * N}, "'size' is infinite in row 1"),
        ({"kind": [1.5] * N}, "'kind' is '1.5' in row 1", "it holds numbers now"),
        ({"town": np.arange(N)}, "'town' is '0' in row 1", "it holds numbers now"),
        ({"kind": ["x", "y"] * (N // 2)}, "none of its values", "'a', 'b', 'c'"),
        ({"day": ["soon"] * N}, "'day' is 'soon' in row 1; expected a date"),
        ({"day": np.arange(N)}, "expected a date"),
    ],
)
def test_tables_that_do_not_fit(case):
    change, *problems = case
    columns = {k: v for k, v in (COLUMNS | change).items() if v is not None}
    with raises(ValueError, "the frame", *problems):
        fit(COLUMNS).transform(columns)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"numbers": "rank"}, "unknown numbers 'rank'"),
        ({"one_hot": -1}, "one_hot"),
        ({"min_count": 0}, "min_count"),
        ({"keep": "size"}, "keep must be a list"),
        ({"dates": ["century"]}, "unknown part of dates 'century'"),
        ({"task": "sorting"}, "unknown task"),
        ({"dtype": "float16"}, "unknown dtype"),
        ({"ignore": ["sise"]}, "unknown column 'sise' (did you mean 'size'?)"),
        ({"ignore": ["size"]}, "no column to learn from"),
    ],
)
def test_options_that_are_none(options, problem):
    with raises((TypeError, ValueError), problem):
        fit({"size": SIZE}, **options)


def test_an_encoder_that_was_not_fitted():
    for use in (lambda e: e.transform(COLUMNS), lambda e: e.decode(SIZE), lambda e: e.outputs):
        with raises(ValueError, "call fit"):
            use(TableEncoder())


# --- model files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", SCALINGS)
@pytest.mark.parametrize("y", [LABEL, SIZE * 2, None])
def test_an_encoder_survives_json(numbers, y):
    encoder = fit(COLUMNS, y, numbers=numbers, dtype="float64")
    again = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    assert again.to_dict() == encoder.to_dict()
    assert again.decisions == encoder.decisions
    np.testing.assert_array_equal(again.transform(COLUMNS), encoder.transform(COLUMNS))


def damaged(path, value):
    description = fit(COLUMNS, SIZE * 2, numbers="quantile").to_dict()
    place = description
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return description


@pytest.mark.parametrize(
    "description",
    [
        {},
        "text",
        [],
        damaged(["features"], 3),
        damaged(["features", 0, "type"], "Table"),
        damaged(["features", 0, "scaling", "quantiles"], [2.0, 1.0]),
        damaged(["features", 0, "scaling", "quantiles"], [1.0, float("nan")]),
        damaged(["features", 0, "scaling"], None),
        damaged(["features", 2, "part"], "century"),
        damaged(["features", -1, "categories"], [1]),
        damaged(["features", 0, "more"], 1),
        damaged(["target", "low"], 1e9),
        damaged(["target"], {"type": "Number"}),
        damaged(["left_out"], {"a": 1}),
        damaged(["dtype"], "object"),
    ],
)
def test_foreign_descriptions(description):
    with raises(ValueError, "metadata 'encoder'"):
        TableEncoder.from_dict(description)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_many_thousand_names_take_little_memory():
    """36,467 different names in 51,920 rows: one-hot they would be 7 GB."""
    code = """
import re, numpy as np, pyarrow as arrow
from fastnn.tabular import TableEncoder
rng = np.random.default_rng(0)
ids = np.concatenate([np.arange(36_467), rng.integers(0, 36_467, 51_920 - 36_467)])
columns = {f"x{i}": rng.normal(size=51_920) for i in range(10)}
columns["name"] = arrow.array([f"name {i}" for i in rng.permutation(ids)])
X = TableEncoder().fit(columns, rng.integers(0, 2, 51_920)).transform(columns)
assert X.shape == (51_920, 11), X.shape
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 / 1e6 < 200 + 2 * 4 * 51_920 * 11 / 1e6


def test_very_many_columns():
    wide = {f"c{i}": np.array([i, i + 1.5, 0]) for i in range(20_000)}
    encoder = fit(wide)
    assert encoder.transform(wide).shape == (3, 20_000)


def test_a_date_that_could_be_read_in_two_ways_is_named():
    frame = {"x": np.arange(3.0), "day": ["", "1.12.2020", "2.12.2020"]}
    with raises(ValueError, "column 'day' is '1.12.2020' in row 2", "categories=['day']"):
        TableEncoder().fit(frame)
    assert TableEncoder(categories=["day"]).fit(frame).columns == ["x", "day"]
