"""Plain data: what JSON holds and gives back equal."""

import json
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

_DEEPEST = 100  # nested lists and dicts, far from Python's own limit
_LONGEST = 64_000_000  # bytes as a model file stores them; the format ends at 100 million


def plain_data(name: str, data: Any) -> dict[str, Any]:
    """A copy of ``data`` that JSON gives back equal; NumPy's scalars become Python's.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    data : dict
        Text as keys; text, numbers, True, False, None, lists and dicts as values.

    Raises
    ------
    TypeError, ValueError
        Naming the place of what would not come back, such as ``metadata['classes'][3]``.
    """
    if not isinstance(data, dict):
        raise TypeError(f"{name} must be a dict of plain data, not {type(data).__name__}")
    plain = _plain(name, data, 0)
    size = len(json.dumps(json.dumps(plain)))
    if size > _LONGEST:
        raise ValueError(
            f"{name} takes {size / 1e6:.0f} MB as a model file stores it; "
            f"at most {_LONGEST / 1e6:.0f} MB fit"
        )
    return plain


def strict_json(data: Any, indent: int | None = None) -> bytes:
    """``data`` as JSON that every reader takes: null in place of NaN and infinity."""
    text = json.dumps(_finite(data), indent=indent, allow_nan=False)
    return (text + "\n").encode()


def _plain(place: str, value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"{place[:60]}… is nested deeper than {_DEEPEST} lists and dicts")
    if isinstance(value, dict):
        return {
            _text(f"a key of {place}", key): _plain(f"{place}[{_short(key)}]", item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_plain(f"{place}[{i}]", item, depth + 1) for i, item in enumerate(value)]
    if isinstance(value, str):
        return _text(place, value)
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, numbers.Integral):
        return _integer(place, int(value))
    if isinstance(value, float | np.floating):
        return _float(place, value)
    raise TypeError(
        f"{place} is {type(value).__name__} ({_short(value)}), which cannot be saved; expected "
        "plain data: text, numbers, True, False, None, lists, and dicts with text as keys"
    )


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{place} is {_short(value)}; expected text, so that it can be saved")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{place} holds {value[error.start]!a}, half of a surrogate pair, which is no "
            "character and cannot be saved"
        ) from error
    return str.__str__(value)  # not of a subclass


def _integer(place: str, value: int) -> int:
    try:
        str(value)
    except ValueError as error:  # Python's limit, when a file is read too
        raise ValueError(f"{place} is an integer with too many digits to save: {error}") from error
    return value


def _float(place: str, value: Any) -> float:
    number = float(value)
    if number != value:  # NaN, or more digits than a float has
        raise ValueError(
            f"{place} is {value}, which would not come back equal; use None for a missing number"
        )
    return number


def _short(value: Any) -> str:
    """``value`` for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
