"""Data files: what is read is what is there, a broken file is named, and preprocessing learns from
training rows alone.
"""

import json
import re
import sys

import numpy as np
import pytest

from fastnn.tabular.table import (
    Column,
    Preprocessing,
    Table,
    choose_task,
    read_table,
    write_columns,
)

TABLE = Table(
    "things.csv",
    {
        "size": Column("size", "real", np.array([1.0, np.nan, 3.0, 100.0])),
        "kind": Column("kind", "text", np.array(["b", "a", "b", "z"], object)),
        "flag": Column("flag", "boolean", np.array(["true", "false", "true", "true"], object)),
        "same": Column("same", "integer", np.array([7, 7, 7, 7])),
        "price": Column("price", "real", np.array([10.0, 20.0, 30.0, 1000.0])),
        "label": Column("label", "integer", np.array([10, 2, 2, 2])),
        "day": Column("day", "date32[day]", np.zeros(4)),
    },
)
TRAINING = np.array([0, 1, 2])


def raises(error, *parts):
    """Every part must be in the message."""
    return pytest.raises(
        error, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts)
    )


def column(*values, kind="integer"):
    return Column("c", kind, np.array(values, object if kind == "text" else None))


def fitted(task="regression", target="price", ignore=("label", "day")):
    return Preprocessing.fit(TABLE, target, task, TRAINING, ignore)


def write(folder, contents, name="t.csv"):
    path = folder / name
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    return path


# --- CSV ------------------------------------------------------------------------------------------


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow")


@pytest.mark.parametrize(
    ("text", "kind", "values"),
    [
        ("1\n-2", "integer", [1, -2]),
        ("1\n2.5", "real", [1.0, 2.5]),
        ("1\nNA", "integer", [1.0, np.nan]),
        ("99999999999999999999\n1", "real", [1e20, 1.0]),
        ("true\nFalse", "boolean", ["true", "false"]),
        ('"x, y"\nNA', "text", ["x, y", "NA"]),
        ('"two\nlines"\nZoë', "text", ["two\nlines", "Zoë"]),
        ("2020-01-02\n2020-01-03", "date32[day]", [0.0, 0.0]),
    ],
)
def test_csv_columns(arrow, tmp_path, text, kind, values):
    table = read_table(
        write(
            tmp_path, "\n".join(["n,c", *(f"0,{cell}" for cell in re.split(r"\n(?!lines)", text))])
        )
    )
    assert table.names == ["n", "c"]
    assert len(table) == 2
    assert table["c"].kind == kind
    np.testing.assert_array_equal(table["c"].values, values)


def test_csv_columns_can_be_text_by_request(arrow, tmp_path):
    table = read_table(write(tmp_path, "code,n\n007,1\n8,2\n"), text=["code", "absent"])
    assert list(table["code"].names()) == ["007", "8"]
    assert table["n"].kind == "integer"


def test_byte_order_mark_and_windows_line_ends(arrow, tmp_path):
    assert read_table(write(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n")).names == ["a", "b"]


def test_header_may_count_columns(arrow, tmp_path):
    assert read_table(write(tmp_path, "0,1\n5,6\n")).names == ["0", "1"]


@pytest.mark.parametrize(
    ("contents", "problem"),
    [
        ("", "not a readable CSV file"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n3\n", "Row #3: Expected 2 columns, got 1"),
        ("a,a\n1,2\n", "two columns named 'a'"),
        ("a,\n1,2\n", "column 2"),
        ("1.5,2\n3,4\n", "holds numbers (1.5, 2, …); expected column names"),
        ("a,b\nZoë,1\n".encode("latin1"), "UTF-8"),
        ("ë,b\n1,1\n".encode("latin1"), "UTF-8"),
        (b"\x00\x01\x02", "not a readable CSV file"),
    ],
)
def test_broken_csv(arrow, tmp_path, contents, problem):
    with raises(ValueError, "t.csv", problem):
        read_table(write(tmp_path, contents))


# --- other formats --------------------------------------------------------------------------------


def test_parquet(arrow, tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "n": [1, 2, 3],
            "c": pandas.Categorical(["x", None, "y"]),
            "b": [True, False, True],
            "f": np.float32([1, 2, 3]),
        }
    )
    frame[frame.n > 1].to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.names == ["n", "c", "b", "f"]  # and not the index of the rows chosen
    assert [c.kind for c in table.columns.values()] == ["integer", "text", "boolean", "real"]
    assert list(table["c"].values) == ["", "y"]
    assert list(table["b"].values) == ["false", "true"]


@pytest.mark.parametrize("contents", [b"", b"hello" * 20])
def test_broken_parquet(arrow, tmp_path, contents):
    with raises(ValueError, "t.parquet", "not a readable Parquet file"):
        read_table(write(tmp_path, contents, "t.parquet"))


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        ([1, 0], "integer"),
        ([[1.5], [2.0]], "real"),
        (["a", "b"], "text"),
        ([True, False], "boolean"),
    ],
)
def test_npz(tmp_path, y, kind):
    np.savez(tmp_path / "t.npz", X=np.float32([[1, 2], [3, 4]]), y=np.array(y))
    table = read_table(tmp_path / "t.npz")
    assert table.names == ["x0", "x1", "y"]
    assert table["y"].kind == kind
    np.testing.assert_array_equal(table["x1"].numbers(), [2, 4])


def test_npz_without_targets(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.ones((2, 3)))
    assert read_table(tmp_path / "t.npz").names == ["x0", "x1", "x2"]


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"A": 1}, "no array 'X' (n, features); it has A"),
        ({"X": np.ones(3)}, "shape (3,); expected (n, features)"),
        ({"X": np.ones((2, 0))}, "shape (2, 0)"),
        ({"X": np.ones((0, 2))}, "no rows"),
        ({"X": np.ones((2, 2)), "y": np.ones(3)}, "shape (3,); expected (2,)"),
        ({"X": np.array([[{}]])}, "numbers, text or booleans"),
    ],
)
def test_unusable_npz(tmp_path, arrays, problem):
    np.savez(tmp_path / "t.npz", **arrays)
    with raises(ValueError, "t.npz", problem):
        read_table(tmp_path / "t.npz")


def test_damaged_npz(tmp_path):
    np.savez_compressed(tmp_path / "t.npz", X=np.random.default_rng(0).normal(size=(50, 50)))
    whole = (tmp_path / "t.npz").read_bytes()
    for damaged in (b"", b"hello", whole[:-100], whole[:900] + b"damage" + whole[906:]):
        with raises(ValueError, "t.npz", "damaged"):
            read_table(write(tmp_path, damaged, "t.npz"))


def test_missing_file_and_unknown_format(tmp_path):
    with raises(FileNotFoundError, "nothing.csv"):
        read_table(tmp_path / "nothing.csv")
    with raises(ValueError, "t.txt", ".csv, .parquet, .npz"):
        read_table(tmp_path / "t.txt")


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_without_pyarrow(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with raises(ImportError, 'needs pyarrow: pip install "fastnn[data]"'):
        read_table(write(tmp_path, "a,b\n1,2\n", f"t.{name}"))


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "task"),
    [
        (column("a", "b", kind="text"), "classification"),
        (column("true", "false", kind="boolean"), "classification"),
        (column(*range(20)), "classification"),
        (column(*range(21)), "regression"),
        (column(1.0, 2.0, kind="real"), "regression"),
    ],
)
def test_task_follows_from_the_target(target, task):
    assert choose_task(target) == task


def test_task_can_be_chosen():
    assert choose_task(column(1, 2), "regression") == "regression"


@pytest.mark.parametrize(
    ("target", "task", "problem"),
    [
        (column(1, 1), "auto", "is 1 in every row"),
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
        [98, 0, 0, 0, 1, 0],  # the kind z was not met
    ]
    np.testing.assert_allclose(fitted().inputs(TABLE), expected)
    assert fitted().inputs(TABLE, np.float32).dtype == np.float32
    assert fitted().filled(TABLE) == {"size": 1}


def test_values_come_back_in_their_units():
    preprocessing = fitted()
    targets = preprocessing.targets(TABLE)
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
    np.testing.assert_array_equal(preprocessing.targets(TABLE), labels)
    output = np.eye(len(classes))[labels[:2]]
    decoded = preprocessing.target.decode(output)
    np.testing.assert_array_equal(decoded["prediction"], prediction)
    assert list(decoded) == ["prediction", *(f"probability_{name}" for name in classes)]
    np.testing.assert_array_equal(decoded[f"probability_{classes[0]}"], output[:, 0])


def test_preprocessing_survives_json():
    for preprocessing in (fitted(), fitted("classification", "kind", ["day"])):
        assert (
            Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
            == preprocessing
        )


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
        fitted().inputs(Table("other.csv", columns)), fitted().inputs(TABLE)
    )


def test_text_columns_stay_text():
    assert fitted().text_columns == ["kind"]
    assert fitted("classification", "kind", ["day"]).text_columns == ["kind"]


def test_whole_reals_are_labels():
    numbers = Column("label", "real", TABLE["label"].values.astype(float))
    preprocessing = fitted("classification", "label", ["day"])
    np.testing.assert_array_equal(
        preprocessing.targets(Table("t", {**TABLE.columns, "label": numbers})), [1, 0, 0, 0]
    )


@pytest.mark.parametrize(
    ("name", "replacement", "problem"),
    [
        ("size", None, "things.csv lacks the columns size; it has kind"),
        (
            "size",
            Column("size", "text", np.array(["1", "2", "many", "4"], object)),
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
        preprocessing.inputs(table), preprocessing.targets(table)


def test_unknown_class():
    table = Table("t", {"kind": Column("kind", "text", np.array(["a", "new"], object))})
    with raises(ValueError, "column 'kind' is 'new' in row 2; the classes are a, b, z"):
        fitted("classification", "kind", ["day"]).targets(table)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("price", "regression", TRAINING), "column 'day' holds date32[day]"),
        (("price", "regression", TRAINING, ["dya"]), "unknown column 'dya' (did you mean 'day'?)"),
        (("price", "regression", TRAINING, TABLE.names), "no column to learn from"),
        (
            ("kind", "regression", TRAINING, ["day"]),
            "column 'kind' is 'b' in row 1; expected a number",
        ),
    ],
)
def test_what_cannot_be_fitted(arguments, problem):
    with raises(ValueError, problem):
        Preprocessing.fit(TABLE, *arguments)


def test_fractions_are_no_classes():
    table = Table("t", {"x": column(1, 2), "y": Column("y", "real", np.array([1.0, 2.5]))})
    with raises(ValueError, "column 'y' is 2.5 in row 2; classification takes"):
        Preprocessing.fit(table, "y", "classification", np.arange(2))


def test_numbers_too_large_to_standardise():
    table = Table("t", {"x": Column("x", "real", np.array([1e300, -1e300])), "y": column(1, 2)})
    with raises(ValueError, "'x' holds numbers up to 1e+300"):
        Preprocessing.fit(table, "y", "classification", np.arange(2))


def test_a_column_without_any_number():
    table = Table("t", {"x": Column("x", "real", np.full(2, np.nan)), "y": column(1, 2)})
    np.testing.assert_array_equal(
        Preprocessing.fit(table, "y", "regression", np.arange(2)).inputs(table), [[0], [0]]
    )


# --- writing --------------------------------------------------------------------------------------

COLUMNS = {
    "prediction": np.array(["a", 'b, "c"']),
    "p": np.float32([0.1, 1e-9]),
    "n": np.array([1, 2]),
    "b": np.array([True, False]),
}


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_what_is_written_can_be_read(arrow, tmp_path, name):
    write_columns(tmp_path / name, COLUMNS)
    table = read_table(tmp_path / name)
    assert list(table["prediction"].values) == ["a", 'b, "c"']
    assert list(table["b"].values) == ["true", "false"]
    np.testing.assert_array_equal(np.float32(table["p"].values), COLUMNS["p"])
    np.testing.assert_array_equal(table["n"].values, [1, 2])


def test_npz_holds_the_columns(tmp_path):
    write_columns(tmp_path / "p.npz", COLUMNS)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert {name: file[name].tolist() for name in file.files} == {
            name: values.tolist() for name, values in COLUMNS.items()
        }


def test_where_nothing_can_be_written(tmp_path):
    with raises(ValueError, "p.txt", ".csv, .parquet, .npz"):
        write_columns(tmp_path / "p.txt", COLUMNS)
    with raises(FileNotFoundError, "folder"):
        write_columns(tmp_path / "nowhere" / "p.csv", COLUMNS)
