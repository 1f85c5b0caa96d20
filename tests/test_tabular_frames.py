"""Frames of pandas, Polars and pyarrow, dicts and arrays as tables."""

import subprocess
import sys

import numpy as np
import pytest
from network_cases import raises
from table_cases import COLUMNS, LABEL, RNG, fit

from fastnn.tabular.frames import as_table

arrow = pytest.importorskip("pyarrow")
pandas = pytest.importorskip("pandas")


def polars_frame(columns):
    return pytest.importorskip("polars").DataFrame(columns)


def nullable(columns):
    return pandas.DataFrame(columns).convert_dtypes()


def arrow_backed(columns):
    return pandas.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow")


def categorical(columns):
    return pandas.DataFrame(columns).astype({"kind": "category", "town": "category"})


def zoned(columns):
    frame = pandas.DataFrame(columns)
    return frame.assign(day=frame["day"].dt.tz_localize("UTC"))


FRAMES = {
    "dict": dict,
    "lists": lambda columns: {name: values.tolist() for name, values in columns.items()},
    "pandas": pandas.DataFrame,
    "objects": lambda columns: pandas.DataFrame(columns).astype(object),
    "nullable": nullable,
    "arrow backed": arrow_backed,
    "categorical": categorical,
    "zoned": zoned,
    "polars": polars_frame,
    "pyarrow": arrow.table,
    "chunks": lambda c: arrow.concat_tables([arrow.table(c).slice(0, 9), arrow.table(c).slice(9)]),
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
def test_frames_of_every_library_are_one_table(make):
    expected = fit(COLUMNS, LABEL)
    encoder = fit(make(COLUMNS), LABEL)
    assert encoder.to_dict() == expected.to_dict()
    np.testing.assert_array_equal(encoder.transform(make(COLUMNS)), expected.transform(COLUMNS))
    # what was learnt from one library holds for another
    np.testing.assert_array_equal(expected.transform(make(COLUMNS)), expected.transform(COLUMNS))


def test_numbers_share_the_memory_of_the_frame():
    X = RNG.normal(size=(20, 3))
    table = as_table(X)
    assert table.names == ["x0", "x1", "x2"]
    assert all(np.shares_memory(X, column.values) for column in table.columns.values())
    frame = arrow.table({"a": X[:, 0]})
    assert as_table(frame)["a"].values.ctypes.data == frame["a"].chunk(0).buffers()[1].address


def test_names_that_are_numbers():
    frame = pandas.DataFrame(RNG.normal(size=(20, 2)))
    encoder = fit(frame, keep=[1])
    assert encoder.columns == ["0", "1"]
    np.testing.assert_array_equal(
        encoder.transform(frame[[1, 0]]), encoder.transform({"0": frame[0], "1": frame[1]})
    )
    with raises(ValueError, "the frame has two columns named '1'"):
        fit({1: [1, 2], "1": [2, 3]})


@pytest.mark.parametrize(
    "case",
    [
        (None, "None"),
        ("d.csv", "is text"),
        (np.ones(3), "shape (3,)"),
        ({}, "no columns"),
        ({"a": []}, "no rows"),
        ({"a": [1, 2], "b": [1]}, "'b' has 1 rows, but 'a' has 2"),
        ({"a": [[1, 2], [3, 4]]}, "'a' has shape (2, 2)"),
        ({"a": np.array([1j, 2])}, "'a' holds complex128", "ignore=['a']"),
        ({"a": [{}, {"b": 1}]}, "'a' holds struct"),
        ({"a": ["1.5"] * 30 + ["O.5"]}, "'a' is 'O.5' in row 31", "coerce=['a']", "categories=["),
    ],
)
def test_what_is_no_table(case):
    frame, *problems = case
    with raises((TypeError, ValueError), *problems):
        fit(frame)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_no_library_is_imported_for_another_frame(library):
    code = (
        "import sys, numpy as np; from fastnn.tabular import TableEncoder\n"
        "TableEncoder().fit({'a': np.array([1.0, 2, 4])}).transform({'a': np.ones(3)})\n"
        f"sys.exit({library!r} in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
