"""Tasks, and what model files of version 0.1.0 make of tables."""

import time

import numpy as np
import old_preprocessing
import pytest
from network_cases import raises
from old_preprocessing import learnt

from fastnn.tabular.preprocessing import Preprocessing
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Column, Table
from fastnn.tabular.targets import choose_task

TABLE = Table(
    "things.csv",
    {
        "size": Column("size", "real", np.array([1.0, np.nan, 3.0, 100.0])),
        "kind": Column.of_names("kind", "text", ["b", "a", "b", "z"]),
        "flag": Column.of_names("flag", "boolean", ["true", "false", "true", "true"]),
        "same": Column("same", "integer", np.array([7, 7, 7, 7])),
        "price": Column("price", "real", np.array([10.0, 20.0, 30.0, 1000.0])),
        "label": Column("label", "integer", np.array([10, 2, 2, 2])),
        "day": Column("day", "date32[day]", np.zeros(4)),
    },
)
TRAINING = np.array([0, 1, 2])


def column(*values, kind="integer"):
    if kind in ("text", "boolean"):
        return Column.of_names("c", kind, values)
    return Column("c", kind, np.array(values))


def fitted(task="regression", target="price", ignore=("label", "day")):
    return learnt(TABLE, target, task, TRAINING, ignore)


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (column("a", "b", kind="text"), "classification"),
        (column("true", "false", kind="boolean"), "classification"),
        (column(*range(10), *range(10)), "classification"),
        (column(*range(11), *range(11)), "regression"),  # too many different ones
        (column(*range(10), *range(9)), "regression"),  # too few rows of each
        (column(0.0, 1.0, 1.0, 0.0, kind="real"), "classification"),
        (column(0.0, 1.5, 1.0, 0.0, kind="real"), "regression"),
        (column(*[1, 15] * 9, *range(1, 16)), "regression"),
    ],
)
def test_task_follows_from_the_target(target, task):
    chosen = choose_task(target)
    assert chosen.name == task
    if target.kind == "integer":  # another choice was possible
        assert "--task" in chosen.reason


def test_task_can_be_chosen():
    assert choose_task(column(1, 2), "regression").name == "regression"


@pytest.mark.parametrize(
    ("target", "task", "problem"),
    [
        (column(1, 1), "auto", "is '1' in every row"),
        (column("a", "", kind="text"), "auto", "empty in row 2"),
        (column(1.0, 2.0, np.nan, kind="real"), "auto", "empty in row 3"),
        (column(1.0, np.inf, kind="real"), "auto", "infinite in row 2"),
        (column(1.0, 2.0, kind="timestamp[s]"), "auto", "timestamp[s]"),
        (column(1, 2), "clustering", "unknown task 'clustering'"),
    ],
)
def test_targets_that_cannot_be_learnt(target, task, problem):
    with raises(ValueError, problem):
        choose_task(target, task)


# --- preprocessing --------------------------------------------------------------------------------


def test_inputs_are_scaled_by_the_training_rows():
    expected = [
        [-1, 0, 1, 0, 1, 0],  # size, kind a or b, flag false or true, same
        [0, 1, 0, 1, 0, 0],  # the missing size is the mean
        [1, 0, 1, 0, 1, 0],
        [98, 0, 0, 0, 1, 0],  # the kind z is not in the training rows
    ]
    np.testing.assert_allclose(fitted().transform(TABLE), expected)
    assert fitted().transform(TABLE, np.float32).dtype == np.float32
    assert fitted().filled(TABLE) == {"size": 1}


def test_values_come_back_in_their_units():
    preprocessing = fitted()
    targets = preprocessing.transform_target(TABLE)
    np.testing.assert_allclose(targets[:3], [-(1.5**0.5), 0, 1.5**0.5])
    np.testing.assert_allclose(
        preprocessing.target.decode(targets[:, None])["prediction"], TABLE["price"].values
    )


@pytest.mark.parametrize(
    ("target", "classes", "labels", "prediction"),
    [
        ("label", ("2", "10"), [1, 0, 0, 0], [10, 2]),
        ("kind", ("a", "b", "z"), [1, 0, 1, 2], ["b", "a"]),
        ("flag", ("false", "true"), [1, 0, 1, 1], [True, False]),
        ("same", ("7",), [0, 0, 0, 0], [7, 7]),
    ],
)
def test_classes_keep_their_names(target, classes, labels, prediction):
    preprocessing = fitted("classification", target, ["day"])
    assert preprocessing.target.classes == classes
    np.testing.assert_array_equal(preprocessing.transform_target(TABLE), labels)
    output = np.eye(len(classes))[labels[:2]]
    decoded = preprocessing.target.decode(output)
    np.testing.assert_array_equal(decoded["prediction"], prediction)
    assert list(decoded) == ["prediction", *(f"probability_{name}" for name in classes)]
    np.testing.assert_array_equal(decoded[f"probability_{classes[0]}"], output[:, 0])


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"features": 3},
        {"features": [{}], "target": {}},
        "text",
        {"features": [], "target": None},
    ],
)
def test_foreign_descriptions(description):
    with raises(ValueError, "preprocessing"):
        Preprocessing.from_dict(description)


def test_order_and_further_columns_do_not_matter():
    columns = dict(reversed(TABLE.columns.items()))
    np.testing.assert_array_equal(
        fitted().transform(Table("other.csv", columns)), fitted().transform(TABLE)
    )


def test_text_columns_stay_text():
    assert fitted().read_options(ReadOptions(), with_target=True).text == {"kind"}
    of_kind = fitted("classification", "kind", ["day"])
    options = of_kind.read_options(ReadOptions(delimiter=";"), with_target=True)
    assert options.text == {"kind"}
    assert options.number == {"size", "price", "same", "label"}
    assert options.only == {"size", "price", "same", "label", "kind", "flag"}
    assert options.delimiter == ";"
    assert not of_kind.read_options(ReadOptions(), with_target=False).text


def test_whole_reals_are_labels():
    numbers = Column("label", "real", TABLE["label"].values.astype(float))
    preprocessing = fitted("classification", "label", ["day"])
    np.testing.assert_array_equal(
        preprocessing.transform_target(Table("t", {**TABLE.columns, "label": numbers})),
        [1, 0, 0, 0],
    )


@pytest.mark.parametrize(
    ("name", "replacement", "problem"),
    [
        ("size", None, "things.csv lacks the columns size; it has kind"),
        (
            "size",
            Column.of_names("size", "text", ["1", "2", "many", "4"]),
            "column 'size' is 'many' in row 3; expected a number",
        ),
        (
            "size",
            Column("size", "real", np.array([1, np.inf, 2, 3])),
            "'size' is infinite in row 2",
        ),
        ("price", None, "lacks the target column 'price'"),
        (
            "price",
            Column("price", "real", np.array([1, 2, 3, np.nan])),
            "'price' is empty in row 4",
        ),
    ],
)
def test_tables_that_do_not_fit(name, replacement, problem):
    columns = {key: value for key, value in TABLE.columns.items() if key != name}
    table = Table("things.csv", columns if replacement is None else {**columns, name: replacement})
    preprocessing = fitted()
    with raises(ValueError, problem):
        preprocessing.transform(table), preprocessing.transform_target(table)


def test_unknown_class():
    table = Table("t", {"kind": Column.of_names("kind", "text", ["a", "new"])})
    with raises(ValueError, "column 'kind' is 'new' in row 2; the classes are a, b, z"):
        fitted("classification", "kind", ["day"]).transform_target(table)


def test_fractions_are_no_classes():
    table = Table("t", {"x": column(1, 2), "y": Column("y", "real", np.array([1.0, 2.5]))})
    with raises(ValueError, "column 'y' is '2.5' in row 2; classification takes"):
        learnt(table, "y", "classification", np.arange(2))


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300])
def test_numbers_of_any_size_are_standardised(size):
    values = size * np.array([1.0, -1.0])
    table = Table("t", {"x": Column("x", "real", values), "y": column(1, 2)})
    fitted = learnt(table, "y", "classification", np.arange(2))
    np.testing.assert_allclose(fitted.transform(table), [[1.0], [-1.0]])


def test_a_column_without_any_number():
    table = Table("t", {"x": Column("x", "real", np.full(2, np.nan)), "y": column(1, 2)})
    np.testing.assert_array_equal(
        learnt(table, "y", "regression", np.arange(2)).transform(table), [[0], [0]]
    )


# --- categories that training did not meet --------------------------------------------------------


def with_names(*names, kind="text"):
    return Table("t", {"x": Column.of_names("x", kind, names), "y": column(*range(len(names)))})


def of_names(*names, kind="text"):
    """Preprocessing that was learnt from these names."""
    return learnt(with_names(*names, kind=kind), "y", "regression", np.arange(len(names)))


def test_unknown_names_are_counted():
    table = with_names("a", "green ", "", "", "violet")
    unknown = of_names("a", "b").unknown(table)["x"]
    assert (unknown.count, unknown.row, unknown.text) == (4, 2, "green ")
    np.testing.assert_array_equal(of_names("a", "b").transform(table)[1:], 0)
    assert of_names("a", "").unknown(with_names("a", "")) == {}  # a gap was met in training


@pytest.mark.parametrize("names", [("x",), ("x", "x"), ("", ""), ("x", "", "x"), ("a", "x", "y")])
def test_unknown_names_are_no_error(names):
    assert of_names("a", "b").unknown(with_names(*names))["x"].text in ("x", "")


def test_a_column_in_other_words_is_an_error():
    with raises(ValueError, "'x' is 'ja' in row 1", "none of its values", "'a', 'b'"):
        of_names("a", "b").unknown(with_names("ja", "nein"))


TRUTHS = [
    (("true", "false"), "boolean"),
    (("yes", "no"), "text"),
    (("Y", "N"), "text"),
    (("T", "F"), "text"),
    (("1", "0"), "text"),
]


@pytest.mark.parametrize(("known", "kind"), TRUTHS)
@pytest.mark.parametrize(("asked", "asked_kind"), TRUTHS)
def test_booleans_mean_the_same_in_other_words(known, kind, asked, asked_kind):
    preprocessing = of_names(*known, kind=kind)
    expected = preprocessing.transform(with_names(*known, *known, kind=kind))
    table = with_names(*asked, *asked, kind=asked_kind)
    np.testing.assert_array_equal(preprocessing.transform(table), expected)
    assert not preprocessing.unknown(table)


@pytest.mark.parametrize("numbers", [[1, 0], [1.0, 0.0]])
def test_booleans_and_numbers_mean_the_same(numbers):
    as_numbers = Table("t", {"x": Column("x", "real", np.array(numbers)), "y": column(1, 2)})
    as_booleans = with_names("true", "false", kind="boolean")
    for trained, asked in ((as_numbers, as_booleans), (as_booleans, as_numbers)):
        preprocessing = learnt(trained, "y", "regression", np.arange(2))
        np.testing.assert_array_equal(
            preprocessing.transform(asked), preprocessing.transform(trained)
        )


def test_other_words_of_one_meaning_are_not_mixed():
    """Of yes, no and perhaps, or beside a name that is known, nothing is translated."""
    unknown = of_names("yes", "no", "perhaps").unknown(with_names("true", "true", "true"))
    assert unknown["x"].count == 3
    assert of_names("yes", "no").unknown(with_names("yes", "0"))["x"].count == 1


def test_numbers_that_float32_cannot_tell_apart_stay_apart():
    seconds = 1.7e9 + np.arange(400.0)
    table = Table("t", {"x": Column("x", "real", seconds), "y": Column("y", "real", seconds)})
    preprocessing = learnt(table, "y", "regression", np.arange(400))
    X = preprocessing.transform(table, np.float32)
    assert len(np.unique(X)) == 400
    outputs = preprocessing.transform_target(table).astype(np.float32)
    decoded = preprocessing.target.decode(outputs[:, None])["prediction"]
    assert len(np.unique(decoded)) == 400
    np.testing.assert_allclose(decoded, seconds, rtol=0, atol=1e-4)


def test_inputs_in_another_order_and_without_the_table():
    order = np.array([2, 0, 3, 1])
    columns = dict(TABLE.columns)
    table = Table("t", columns)
    expected = fitted().transform(TABLE)[order]
    np.testing.assert_array_equal(fitted().transform(table, rows=order, consume=True), expected)
    assert set(columns) == {"price", "label", "day"}  # the others' memory is free


@pytest.mark.parametrize(
    "damage",
    [
        {"mean": 10**400},
        {"mean": float("nan")},
        {"scale": 0},
        {"scale": "wide"},
        {"name": ["size"]},
        {"categories": [1, 2]},
    ],
)
def test_damaged_descriptions(damage):
    description = old_preprocessing.description(
        TABLE, "price", "regression", TRAINING, ("label", "day")
    )
    which = 1 if "categories" in damage else 0
    description["features"][which].update(damage)
    with raises(ValueError, "preprocessing"):
        Preprocessing.from_dict(description)


def test_fifty_thousand_columns():
    """A few seconds are enough, unless some look-up goes through all names for each name."""
    n = 50_000
    columns = {f"c{i}": Column(f"c{i}", "integer", np.array([i, i + 1, 0])) for i in range(n)}
    table = Table("t", {**columns, "y": column(1, 2, 3)})
    started = time.process_time()
    preprocessing = learnt(table, "y", "regression", np.arange(3))
    assert preprocessing.transform(table).shape == (3, n)
    assert preprocessing.read_options(ReadOptions(), True).wanted("c7") == "number"
    assert not preprocessing.unknown(table)
    with raises(ValueError, "unknown column", "and 49,951 more"):
        table["z"]
    assert time.process_time() - started < 20
