"""Plain data: all of it comes back equal from a model file, and all else is refused by place."""

import json
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_cases import network, raises

import fastnn as fnn
from fastnn._utils.plain import plain_data, strict_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)
ODD = [
    "😀",
    "𠮷野家",
    r"C:\ud8",
    r"\ud83d\ude00",
    "\0\x1b[31m\x7f\u2028\u202e\ufeff\uffff\U0010ffff",
    '"\\"\'',
    "e\u0301é",
]


def there_and_back(metadata, path):
    net = network()
    net.metadata = metadata
    net.save(path)
    return fnn.load(path, backend="numpy").metadata


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(TEXT, PLAIN))
def test_plain_data_come_back_equal(tmp_path, metadata):
    assert there_and_back(metadata, tmp_path / "m") == metadata


@pytest.mark.parametrize("text", ODD)
def test_every_valid_text_comes_back(tmp_path, text):
    metadata = {text: [text, {text: text}]}
    assert there_and_back(metadata, tmp_path / "m") == metadata


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(), st.characters(categories=["Cs"]), st.text())
def test_half_a_surrogate_pair_is_refused(tmp_path, before, half, after):
    net = network()
    for metadata in ({"a": [before + half + after]}, {before + half + after: 1}):
        net.metadata = metadata
        with raises(ValueError, "metadata", "surrogate"):
            net.save(tmp_path / "m")


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.1),
        np.float64(1e300),
        np.float16(0.5),
        np.int64(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.str_("a"),
        Colour.RED,
        10**4000,
        float("inf"),
        -0.0,
    ],
    ids=repr,
)
def test_scalars_come_back_as_pythons(tmp_path, value):
    loaded = there_and_back({"a": value}, tmp_path / "m")["a"]
    assert loaded == value
    assert type(loaded) in (int, float, bool, str)


def nested(depth):
    data = {}
    for _ in range(depth):
        data = {"a": [data]}
    return data


@pytest.mark.parametrize(
    ("metadata", "parts"),
    [
        ({"a": {"b": [1, {2}]}}, ("metadata['a']['b'][1] is set",)),
        ({"a": np.ones(3)}, ("metadata['a'] is ndarray",)),
        ({"a": (1, 2)}, ("metadata['a'] is tuple",)),
        ({"a": b"x"}, ("is bytes",)),
        ({"a": 1j}, ("is complex",)),
        ({"a": np.datetime64("2020-01-01")}, ("is datetime64",)),
        ({"a": {1: 2}}, ("a key of metadata['a'] is 1",)),
        ({"a": float("nan")}, ("metadata['a'] is nan", "None")),
        ({"a": np.longdouble(1) / 3}, ("would not come back equal",)),
        ({"a": 10**5000}, ("too many digits",)),
        ([1], ("dict", "list")),
        (None, ("dict",)),
        (nested(200), ("nested deeper than 100",)),
        (nested(5000), ("nested deeper than 100",)),
        ({"a": "x" * 70_000_000}, ("70 MB", "64 MB")),
    ],
    ids=range(15),
)
def test_what_would_not_come_back_is_named(metadata, parts):
    with raises((TypeError, ValueError), *parts):
        plain_data("metadata", metadata)


def test_data_that_hold_themselves_are_refused():
    data = {}
    data["self"] = data
    with raises(ValueError, "nested deeper"):
        plain_data("metadata", data)


def test_strict_json():
    values = [1.5, float("nan"), {"a": (np.float32("inf"), np.int64(3), None, "NaN")}]
    text = strict_json(values, indent=1)
    assert json.loads(text, parse_constant=pytest.fail) == [
        1.5,
        None,
        {"a": [None, 3, None, "NaN"]},
    ]
