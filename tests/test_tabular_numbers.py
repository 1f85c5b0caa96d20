"""What text in a column means: numbers, missing ones, names, codes, booleans, dates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from network_cases import raises

from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.numbers import MISSING, is_missing, parse_number, read_numbers
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.reading.text_columns import TextColumn

arrow = pytest.importorskip("pyarrow")

NUMBERS = [str(i / 4) for i in range(60)]


def read(cells, blocks=1, **options):
    """A column of these cells, in so many blocks; and the notes on it."""
    column, notes = (
        TextColumn("c", ReadOptions(**options), len(cells), keep_names=True),
        ReadNotes(),
    )
    for block in np.array_split(np.array(cells, object), blocks):
        column.add(arrow.array(block.tolist(), arrow.string()))
    return column.finish(notes), "; ".join(notes.lines())


# --- one text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "decimal", "number"),
    [
        ("12", ".", 12),
        (" 3.5 ", ".", 3.5),
        ("+0.52", ".", 0.52),
        ("-.5e-3", ".", -0.0005),
        ("−3", ".", -3),
        ("1,234", ".", 1234),
        ("1,234,567.5", ".", 1234567.5),
        ("1'234.5", ".", 1234.5),
        ("12 345", ".", 12345),
        ("12\u202f345", ".", 12345),
        ("$1,234.50", ".", 1234.5),
        ("-$5", ".", -5),
        ("$-5", ".", -5),
        ("5 €", ".", 5),
        ("12%", ".", 0.12),
        ("12.5 %", ".", 0.125),
        ("inf", ".", np.inf),
        ("1,5", ",", 1.5),
        ("1.234,50", ",", 1234.5),
        ("1.234", ",", 1234),
        ("O.5", ".", None),
        ("1,5", ".", None),
        ("1.5", ",", None),
        ("12,34,567", ".", None),
        ("1,234'567", ".", None),
        ("1_000", ".", None),
        ("0x1F", ".", None),
        ("--5", ".", None),
        ("-$-5", ".", None),
        ("1.2.3", ".", None),
        ("$", ".", None),
        ("%", ".", None),
        (".", ".", None),
        ("e5", ".", None),
        ("", ".", None),
    ],
)
def test_what_is_a_number(text, decimal, number):
    assert parse_number(text, decimal) == (None if number is None else pytest.approx(number))
    if number is not None:
        assert not is_missing(text)
        values = read_numbers(arrow.array([text, "1"]), decimal).values
        np.testing.assert_allclose(values, [number, 1])


@pytest.mark.parametrize(
    "text", ["", " ", "?", "None", "#DIV/0!", "#N/A", "-", "n/a", "NULL", "NaN"]
)
def test_what_is_a_missing_number(text):
    assert is_missing(text)
    column, _ = read([*NUMBERS, text])
    assert column.kind == "real"
    assert np.isnan(column.values).sum() == 1


def test_no_marker_is_a_number():
    assert [text for text in MISSING if parse_number(text) is not None] == []


@given(st.floats(allow_nan=False), st.sampled_from((".", ",")))
def test_numbers_survive_their_text(number, decimal):
    text = repr(number).replace(".", decimal)
    assert parse_number(text, decimal) == number
    assert read_numbers(arrow.array([text]), decimal).values[0] == number


# --- a column -------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, 2, 7])
@pytest.mark.parametrize("text", ["$1,234.50", "+0.52", "1,234", "12%", " 3.5 ", "1 234"])
def test_numbers_in_other_words_stay_numbers(text, blocks):
    column, notes = read([*NUMBERS, text], blocks)
    assert column.kind == "real"
    assert column.values[-1] == parse_number(text)
    assert (notes == "percentages: 'c' ('12%' in row 61 is 0.12)") if "%" in text else not notes


@pytest.mark.parametrize("blocks", [1, 2, 7])
@pytest.mark.parametrize("text", ["O.5", "abc", "1_000", "2020-01-01"])
def test_a_typo_among_numbers_is_an_error(text, blocks):
    cells = [*NUMBERS[:30], text, *NUMBERS[30:]]
    with raises(ValueError, f"'c' is '{text}' in row 31", "--number c", "--text c", "--ignore c"):
        read(cells, blocks)
    column, notes = read(cells, blocks, coerce=["c"])
    assert np.isnan(column.values[30])
    assert f"1 of 'c' ('{text}' in row 31)" in notes
    assert read(cells, blocks, text=["c"])[0].kind == "text"
    with raises(ValueError, f"'c' is '{text}' in row 31; expected a number"):
        read(cells, blocks, number=["c"])


@pytest.mark.parametrize("blocks", [1, 3])
def test_names_among_which_are_numbers_are_noted(blocks):
    column, notes = read(["A1", "2", "3"] * 5, blocks)
    assert column.kind == "text"
    assert "'c' (10 cells are numbers, 'A1' in row 1 is none)" in notes


def test_names_alone_need_no_note():
    column, notes = read(["none", "some", "NA", "-", ""])
    assert (list(column.names()), notes) == (["none", "some", "NA", "-", ""], "")


@pytest.mark.parametrize("blocks", [1, 2])
def test_zeros_in_front_make_names(blocks):
    column, notes = read(["12", "100", "007"], blocks)
    assert list(column.names()) == ["12", "100", "007"]
    assert "'c' ('007' in row 3)" in notes
    assert "--number" in notes
    assert read(["12", "100", "007"], blocks, coerce=["c"])[0].values.tolist() == [12, 100, 7]
    # fractions are no codes
    assert read(["012", "0.5"], blocks)[0].kind == "real"
    assert read(["0", "10"], blocks)[0].kind == "integer"


@pytest.mark.parametrize(
    "cells",
    [
        ["2020-01-02", "2020-01-03 10:00"],
        ["31.12.2020", ""],
        ["12/31/2020"],
        ["2020-01-02T10:00:00Z"],
        ["10:30"],
    ],
)
def test_dates_cannot_be_used(cells):
    column, _ = read(cells)
    with raises(ValueError, "column 'c' holds dates or times", "convert it"):
        column.check_usable()
    assert read(cells, text=["c"])[0].kind == "text"


def test_booleans():
    column, _ = read(["True", "FALSE", "true", ""])
    assert column.kind == "boolean"
    assert list(column.names()) == ["true", "false", "true", ""]
    np.testing.assert_array_equal(column.numbers(), [1, 0, 1, np.nan])
    assert read(["True", "FALSE", "1"], number=["c"])[0].values.tolist() == [1, 0, 1]


def test_a_decimal_comma_is_pointed_out():
    with raises(ValueError, "'c' is '1,5' in row 1", "--decimal ',' and another --delimiter"):
        read(["1,5", "2", "1,75"], delimiter=",")
    with pytest.raises(ValueError, match=r"--decimal ','$"):  # of Parquet, which has no delimiter
        read(["1,5", "2", "1,75"])
    with raises(ValueError, "'c' is '1.5' in row 2", "--decimal '.'"):
        read(["1", "1.5"], delimiter=";", decimal=",")
    with raises(ValueError, "'1,234' in row 2", "--decimal . or --decimal ,"):
        read(["1", "1,234"], delimiter=";")
    assert read(["1", "1,234"], delimiter=";", decimal=",")[0].values.tolist() == [1, 1.234]
    assert read(["1", "1,234"], delimiter=";", decimal=".")[0].values.tolist() == [1, 1234]


def test_whole_numbers_are_exact_and_small():
    big = 2**53 + 1
    for blocks in (1, 2):
        assert read([str(big), "3"], blocks)[0].values.tolist() == [big, 3]
        assert read(["3", str(big)], blocks)[0].values.tolist() == [3, big]
    assert read(["3", "255"])[0].values.dtype == np.uint8
    assert read(["-3", "255"])[0].values.dtype == np.int16
    assert read(["3", "NA"])[0].values.dtype == np.float64


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["1", "2.5", "007", "NA", "", "?", "abc", "12%", "true", "1,234", "-"]),
            st.integers().map(str),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(2, 5),
)
def test_blocks_do_not_matter(cells, blocks):
    """A column is the same however it is cut into blocks, or the same error."""

    def outcome(blocks):
        try:
            column, notes = read(cells, blocks)
        except ValueError as error:
            return str(error)
        return column.kind, column.names().tolist(), notes

    assert outcome(1) == outcome(min(blocks, len(cells)))
