"""Words of messages about a table."""

import pytest

from fastnn.tabular.messages import cell, listed, naming, quoted


def test_a_long_cell_is_cut_and_counted():
    assert cell("a", "x", 3) == "column 'a' is 'x' in row 3"
    assert cell("a", "x" * 5000, 3).endswith("x'… (5,000 letters) in row 3")
    assert quoted("\n") == r"'\n'"


def test_of_a_long_list_the_rest_is_counted():
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg"), 3) == "a, b, c and 4 more"


def test_a_file_is_named_once():
    for text in ("wrong", "t.csv: wrong"):
        with pytest.raises(ValueError, match=r"^t.csv: wrong$"), naming("t.csv"):
            raise ValueError(text)
    with pytest.raises(KeyError), naming("t.csv"):
        raise KeyError("wrong")
