"""How CSV files are written: encodings, delimiters and quotes, read or refused with what helps."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import raises

from fastnn.tabular.formats import read_table
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.reading.quotes import check_quotes

pytest.importorskip("pyarrow")

ROWS = [(f"{i / 4:.2f}", ("red", "blue")[i % 2], str(i % 3)) for i in range(60)]
HEADER = ("size", "colour", "y")


def contents(delimiter=",", decimal=".", encoding="utf-8", head="", header=HEADER, end="\n"):
    rows = [header, *((size.replace(".", decimal), *rest) for size, *rest in ROWS)]
    return (head + "".join(delimiter.join(row) + end for row in rows)).encode(encoding)


@pytest.fixture
def write(tmp_path):
    def call(data):
        (tmp_path / "t.csv").write_bytes(data)
        return tmp_path / "t.csv"

    return call


CASES = {
    "semicolons": (dict(delimiter=";"), dict(delimiter=";"), "semicolons", "--delimiter ';'"),
    "tabs": (dict(delimiter="\t"), dict(delimiter="\t"), "tabs", "--delimiter tab"),
    "bars": (dict(delimiter="|"), dict(delimiter="|"), "bars", "--delimiter '|'"),
    "spaces": (dict(delimiter=" "), dict(delimiter=" "), "spaces", "--delimiter ' '"),
    "decimal commas": (
        dict(delimiter=";", decimal=","),
        dict(delimiter=";", decimal=","),
        "decimal commas",
        "--delimiter ';' --decimal ,",
    ),
    "a comma in every line": (
        dict(delimiter=";", decimal=",", header=("size, cm", "colour", "y")),
        dict(delimiter=";", decimal=","),
        "--delimiter ';' --decimal ,",
    ),
    "Excel says so": (
        dict(delimiter=";", decimal=",", head="sep=;\n"),
        dict(delimiter=";", decimal=","),
        "--delimiter ';' --decimal ,",
    ),
    "UTF-16": (dict(encoding="utf-16"), dict(encoding="utf-16"), "UTF-16", "--encoding utf-16"),
    "UTF-16 without a mark": (
        dict(encoding="utf-16-le"),
        dict(encoding="utf-16-le"),
        "UTF-16",
        "--encoding utf-16-le",
    ),
    "UTF-32": (dict(encoding="utf-32"), dict(encoding="utf-32"), "--encoding utf-32"),
    "Latin-1": (
        dict(encoding="latin-1", header=("größe", "colour", "y")),
        dict(encoding="latin-1"),
        "UTF-8",
        "--encoding",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_other_dialects_are_refused_with_the_options_that_read_them(write, case):
    written, options, *words = CASES[case]
    path = write(contents(**written))
    with raises(ValueError, "t.csv", *words):
        read_table(path)
    table = read_table(path, ReadOptions(**options))
    assert table.names == list(written.get("header", HEADER))
    size, colour, y = table.columns.values()
    np.testing.assert_array_equal(size.numbers(), [float(row[0]) for row in ROWS])
    assert list(colour.names()) == [row[1] for row in ROWS]
    assert y.kind == "integer"


@pytest.mark.parametrize(
    "written",
    [
        dict(),
        dict(end="\r\n"),
        dict(end="\r"),
        dict(encoding="utf-8-sig"),
        dict(head="sep=,\n"),
        dict(head="\n\n"),
    ],
)
def test_usual_files_need_no_options(write, written):
    table = read_table(write(contents(**written)))
    assert table.names == list(HEADER)
    assert len(table) == 60


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (dict(encoding="utf-7000"), "unknown encoding 'utf-7000'"),
        (dict(encoding="hex"), "unknown encoding 'hex'"),
        (dict(encoding="punycode"), "unknown encoding 'punycode'"),
        (dict(encoding="undefined"), "unknown encoding 'undefined'"),
        (dict(delimiter="ab"), "delimiter is 'ab'"),
        (dict(delimiter='"'), "delimiter is"),
        (dict(delimiter=""), "delimiter is ''"),
        (dict(decimal=";"), "decimal is ';'"),
    ],
)
def test_impossible_options(options, problem):
    with raises(ValueError, problem):
        ReadOptions(**options)


@pytest.mark.parametrize("given", [{}, {"delimiter": ","}])
def test_one_comma_cannot_be_both(write, given):
    path = write(contents())
    with raises(ValueError, "t.csv has commas between its columns", "needs another --delimiter"):
        read_table(path, ReadOptions(decimal=",", **given))


def test_an_encoding_that_is_not_the_file_s(write):
    with raises(ValueError, "t.csv is not encoded in utf-16: try another --encoding"):
        read_table(write(b"\xff\xfe\x00\xd8" + contents()), ReadOptions(encoding="utf-16"))


# --- quotes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("row", [1, 30, 60])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_quote_without_its_end_is_named(write, place, row, quoted):
    mark = '"' if quoted else ""
    rows = [[f"{mark}{cell}{mark}" for cell in cells] for cells in ROWS]
    rows[row - 1][place] = '"' + ROWS[row - 1][place]
    data = "\n".join(",".join(cells) for cells in [HEADER, *rows]) + "\n"
    with raises(ValueError, "t.csv", f"line {row + 1} opens"):
        read_table(write(data.encode()))


@pytest.mark.parametrize("cell", ['5" pipe', 'say ""', '"a ""b"" c"', '""', '"x" ', '"two\nlines"'])
def test_quotes_that_are_right(write, cell):
    data = "size,y\n" + f"{cell},1\nother,0\n" * 30
    assert len(read_table(write(data.encode()))) == 60


def test_nul_bytes_are_named(write):
    with raises(ValueError, "line 3 holds a NUL byte"):
        read_table(write(b"a,b\n1,2\n1,\x002\n" + b"1,2\n" * 99))


def violation(text):
    """Whether Python's own reader finds quotes that do not pair."""
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return True
    return False


@settings(max_examples=300)
@given(st.text('a",\n', max_size=30), st.integers(1, 8))
def test_quotes_are_judged_as_by_the_strict_reader(text, size):
    data = text.encode()
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    if violation(text):
        with pytest.raises(ValueError, match="line"):
            check_quotes(blocks, "t.csv", ",")
    else:
        assert check_quotes(blocks, "t.csv", ",") >= text.count("\n")


# --- all of it ------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(-1e9, 1e9),
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).map(
                lambda text: "n" + text.replace("\r", "")
            ),
        ),
        min_size=2,
        max_size=30,
    ),
    st.sampled_from([(",", "."), (";", ","), ("\t", ","), ("|", ".")]),
    st.sampled_from(["utf-8", "utf-16", "utf-8-sig", "utf-32"]),
)
def test_what_is_written_is_read(tmp_path_factory, rows, marks, encoding):
    delimiter, decimal = marks
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["number", "name"])
    writer.writerows([repr(number).replace(".", decimal), name] for number, name in rows)
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    table = read_table(path, ReadOptions(delimiter, decimal, encoding))
    np.testing.assert_array_equal(table["number"].numbers(), [number for number, _ in rows])
    assert list(table["name"].names()) == [name for _, name in rows]
