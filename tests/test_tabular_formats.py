"""Data files: what is read is what is there, and a damaged file is named."""

import re
import sys

import numpy as np
import pytest
from network_cases import raises

from fastnn.tabular.formats import read_table, write_columns
from fastnn.tabular.reading.options import ReadOptions


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
        ("99999999999999999999\n1", "integer", [1e20, 1.0]),
        ("9007199254740993\n1", "integer", [2**53 + 1, 1]),
        ("true\nFalse", "boolean", ["true", "false"]),
        ('"x, y"\nNA', "text", ["x, y", "NA"]),
        ('"two\nlines"\nZoë', "text", ["two\nlines", "Zoë"]),
        ("2020-01-02\n2020-01-03", "dates or times", None),
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
    column = table["c"]
    assert column.kind == kind
    if values is not None:
        is_text = kind in ("text", "boolean")
        np.testing.assert_array_equal(column.names() if is_text else column.values, values)


def test_csv_columns_can_be_text_by_request(arrow, tmp_path):
    options = ReadOptions(text=["code", "absent"])
    table = read_table(write(tmp_path, "code,n\n1.0,1\n8,2\n"), options)
    assert list(table["code"].names()) == ["1.0", "8"]
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
    assert list(table["c"].names()) == ["", "y"]
    assert list(table["b"].names()) == ["false", "true"]


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
    assert list(table["prediction"].names()) == ["a", 'b, "c"']
    assert list(table["b"].names()) == ["true", "false"]
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
