"""Data files: what is read is what is there, and a damaged file is named."""

import contextlib
import decimal
import io
import re
import sys
import zipfile

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


@pytest.mark.parametrize(("first", "last"), [("12", "A"), ("12", "007"), ("1.5", "A")])
def test_names_that_come_after_a_block_of_numbers(arrow, tmp_path, first, last):
    """The numbers' text is read once more: 1.5 MB of it are more than a block."""
    cells = [first] * 400_000 + [last] * 100_000
    table = read_table(write(tmp_path, "c\n" + "\n".join(cells)))
    codes, names = table["c"].coded()
    assert (table["c"].kind, names) == ("text", (first, last))
    np.testing.assert_array_equal(codes, np.repeat([0, 1], [400_000, 100_000]))
    assert len(table.notes) == 1
    typo = write(tmp_path, "c\n" + "\n".join(["1.5"] * 400_000) + "\nO.5\n")
    with raises(ValueError, "'c' is 'O.5' in row 400001, while 400,000 of its cells are numbers"):
        read_table(typo)


def test_a_row_that_is_longer_than_a_block(arrow, tmp_path):
    rows = [f"{i},x" for i in range(300_000)] + ["7," + "y" * 3_000_000] + ["8,z"] * 10
    table = read_table(write(tmp_path, "n,c\n" + "\n".join(rows)))
    assert len(table) == 300_011
    assert table["n"].values[-11:].tolist() == [7] + [8] * 10
    assert [len(name) for name in table["c"].categories] == [1, 3_000_000, 1]


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
        ("\n\n", "empty"),
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


def test_decimal_commas_in_text_of_parquet(arrow, tmp_path):
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(arrow.table({"c": ["-0,08", "1,5"]}), path)
    with raises(ValueError, f"{path}: column 'c' is '-0,08' in row 1", "--decimal ','"):
        read_table(path)
    assert read_table(path, ReadOptions(decimal=","))["c"].values.tolist() == [-0.08, 1.5]


@pytest.mark.parametrize("name", ["customer", None])
def test_the_index_of_pandas_is_no_column(arrow, tmp_path, name):
    pandas = pytest.importorskip("pandas")
    index = pandas.Index([7, 8], name=name)
    frame = pandas.DataFrame({"x": [1, 2], "y": [3, 4]}, index=index)
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.names == ["x", "y"]
    assert any("index of pandas" in line for line in table.notes)
    frame.reset_index(names="customer").to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").names == ["customer", "x", "y"]


@pytest.mark.parametrize("metadata", [b"", b"[]", b"3", b'{"index_columns": 3}', b"[" * 100_000])
def test_foreign_metadata_of_parquet(arrow, tmp_path, metadata):
    from pyarrow import parquet

    table = arrow.table({"x": [1], "y": [2]}).replace_schema_metadata({"pandas": metadata})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").names == ["x", "y"]


def test_columns_of_parquet(arrow, tmp_path):
    from pyarrow import parquet

    columns = {
        "text": ["1.5", "?", "2"],
        "codes": arrow.array(["007", "8", "9"]).dictionary_encode(),
        "gaps": [1, None, 3],
        "big": [2**53 + 1, 2, 3],
        "list": [[1], [2], [3]],
        "a.b": [1, 2, 3],
        "a": [{"b": 1}, {"b": 2}, {"b": 3}],
        "nothing": [None, None, None],
        "decimal": [decimal.Decimal(n) for n in ("1.00", "2.00", "3.00")],
        "flag": [True, None, False],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet", row_group_size=2)
    table = read_table(tmp_path / "t.parquet")
    np.testing.assert_array_equal(table["text"].numbers(), [1.5, np.nan, 2])
    assert list(table["codes"].names()) == ["007", "8", "9"]
    np.testing.assert_array_equal(table["gaps"].numbers(), [1, np.nan, 3])
    assert table["big"].values.tolist() == [2**53 + 1, 2, 3]
    assert table["a.b"].kind == "integer"
    assert np.isnan(table["nothing"].numbers()).all()
    np.testing.assert_array_equal(table["decimal"].numbers(), [1, 2, 3])
    assert list(table["flag"].names()) == ["true", "", "false"]
    for name in ("list", "a"):
        with raises(ValueError, f"column '{name}' holds"):
            table[name].check_usable()
    assert any("'text'" in line and "--text" in line for line in table.notes)
    options = ReadOptions(text=["gaps"], ignore=["list"], only=["gaps", "list", "flag", "absent"])
    table = read_table(tmp_path / "t.parquet", options)
    assert list(table.columns) == ["gaps", "flag"]
    assert list(table["gaps"].names()) == ["1", "", "3"]
    assert len(table.names) == len(columns)


def test_a_damaged_page_of_parquet(arrow, tmp_path):
    from pyarrow import parquet

    parquet.write_table(arrow.table({"x": ["a", "b"] * 500}), tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    failed = 0
    for place in range(4, len(whole), 7):
        path = write(tmp_path, whole[:place] + b"\xff" + whole[place + 1 :], "t.parquet")
        try:
            read_table(path)
        except ValueError:
            failed += 1
    assert failed > 10


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


def npz_of(tmp_path, name="X.npy", method=zipfile.ZIP_STORED, **header):
    """An NPZ file whose array has this header and eight bytes of data."""
    array = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (1, 1), **header}
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(tmp_path / "t.npz", "w", method) as archive:
        archive.writestr(name, array.getvalue() + bytes(8))
    return tmp_path / "t.npz"


@pytest.mark.parametrize(
    "damage",
    [
        dict(shape=(10**12, 10**6)),
        dict(shape=(10**30, 1)),
        dict(shape=(2, 1)),
        dict(shape=(-1, -1)),
        dict(shape=(0, 1)),
        dict(descr="|O"),
        dict(descr="<f4"),
        dict(method=zipfile.ZIP_BZIP2),
    ],
)
def test_headers_that_do_not_fit_the_data(tmp_path, damage):
    assert len(read_table(npz_of(tmp_path))) == 1
    with raises(ValueError, "t.npz", "damaged"):
        read_table(npz_of(tmp_path, **damage))


@pytest.mark.parametrize(
    "contents", [b"", b"text", b"\x93NUMPY\x09\x09", b"\x93NUMPY\x01\x00\xff\xff{"]
)
def test_an_array_that_is_none(tmp_path, contents):
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("X.npy", contents)
    with raises(ValueError, "t.npz", "damaged"):
        read_table(tmp_path / "t.npz")


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i1", ">i4", "u8", "?", "U3"])
@pytest.mark.parametrize("order", "CF")
def test_arrays_of_every_type_and_order(tmp_path, dtype, order):
    X = np.asarray(np.arange(300).reshape(100, 3) % 7, order=order).astype(dtype)
    np.savez_compressed(tmp_path / "t.npz", X=X, y=np.arange(100))
    table = read_table(tmp_path / "t.npz")
    read = np.column_stack([table[f"x{i}"].names() for i in range(3)])
    shown = np.char.lower(X.astype(str)) if dtype == "?" else X.astype(int).astype(str)
    np.testing.assert_array_equal(read, shown)


def test_every_damaged_byte_of_an_npz_file(tmp_path):
    """One line of error or a table, whatever zipfile and NumPy make of it."""
    np.savez_compressed(tmp_path / "t.npz", X=np.ones((4, 2)), y=np.arange(4))
    whole = (tmp_path / "t.npz").read_bytes()
    for place in range(len(whole)):
        for byte in (0, 255, whole[place] ^ 1):
            path = write(tmp_path, whole[:place] + bytes([byte]) + whole[place + 1 :], "t.npz")
            with contextlib.suppress(ValueError):
                read_table(path)


def test_folders_are_no_files(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with raises(ValueError, "t.csv is a folder"):
        read_table(tmp_path / "t.csv")


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
