"""Checks of arguments: each returns the value, or raises an error.

The message names the argument, the value given and the values accepted.
"""

import difflib
import numbers
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

_HIGHEST = 2**64  # no count, width or seed is as high
_LETTERS = 200  # of a value in a message
_SHOWN = 50  # names in a message; a table may have a hundred thousand columns

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _LETTERS


def integer(name: str, value: Any, least: int = 1) -> int:
    """``value`` as an ``int`` of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer of at least {least}, not {_shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {_shown(value)}")
    whole = int(value)
    if whole >= _HIGHEST:
        raise ValueError(f"{name} must be an integer below 2**64, not {_shown(value)}")
    return whole


def number(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = float("inf"),
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """``value`` as a finite ``float`` between ``low`` and ``high``."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {_shown(value)}")
    try:
        amount = float(value)
    except OverflowError:  # an integer of hundreds of digits
        amount = float("-inf") if value < 0 else float("inf")
    below = amount <= low if low_open else amount < low
    above = amount >= high if high_open else amount > high
    if not isfinite(amount) or below or above:
        left, right = "(" if low_open else "[", ")" if high_open or high == float("inf") else "]"
        raise ValueError(f"{name} must lie in {left}{low:g}, {high:g}{right}, not {_shown(value)}")
    return amount


def boolean(name: str, value: Any) -> bool:
    """``value`` as a ``bool`` if it is True or False, Python's or NumPy's."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {_shown(value)}")
    return bool(value)


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """``value`` if it is one of ``known``; the error lists them and suggests the nearest."""
    known = list(known)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(known)}; got {_shown(value)}")
    if value not in known:
        near = difflib.get_close_matches(value, known, n=1) if len(value) <= _LETTERS else []
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
        raise ValueError(
            f"unknown {name} {_shown(value)}{hint}; known: {', '.join(known[:_SHOWN])}{more}"
        )
    return str.__str__(value)  # not of a subclass, such as NumPy's


def constants(owner: str, given: dict[str, Any], accepted: Iterable[str]) -> None:
    """Every keyword in ``given`` must be one of ``accepted``."""
    accepted = list(accepted)
    for key in given:
        if key not in accepted:
            takes = f"takes only {', '.join(accepted)}" if accepted else "takes no constants"
            raise TypeError(f"{owner} {takes}; got {key}={_shown(given[key])}")


def filled_constants(
    owner: str, given: dict[str, Any], accepted: Mapping[str, Any]
) -> dict[str, float]:
    """The constants of an activation or loss, checked and with defaults filled in.

    ``accepted`` maps a name to a `fastnn._kernels.tables.Constant`.
    """
    constants(owner, given, accepted)
    filled = {name: constant.default for name, constant in accepted.items()} | given
    for name, c in accepted.items():
        filled[name] = number(name, filled[name], c.low, c.high, c.low_open, c.high_open)
    return filled


def _shown(value: Any) -> str:
    """A value for a message; a long one is cut before its text is made."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return f"an integer of about {value.bit_length() * 0.30103:.0f} digits"
    return _SHORT.repr(value)


def docstring_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A reStructuredText table, indented as a docstring's body."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n    ".join([rule, lines[0], rule, *lines[1:], rule])


def with_table(docstring: str | None, table: str) -> str | None:
    """A docstring with ``{table}`` replaced; ``None`` where docstrings were stripped."""
    return docstring and docstring.replace("{table}", table)
