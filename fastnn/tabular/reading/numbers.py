"""What text counts as a number, and what marks a missing one.

Numbers are `12`, `+0.5`, `1e-3`, ` 3.5 `, and as spreadsheets write them `1,234.50`, `$5` and
`12 %` (0.12). `parse_number` says it of one text, `read_numbers` of a column in compiled code.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.tabular.reading.arrow import compute

DECIMALS = (".", ",")

# In lower case. Spreadsheets, databases, statistics packages and people write these.
_MARKERS = """
na n/a n.a. #na #n/a <na> nan +nan -nan null nil none missing nat ? ?? - -- — – . .. … *
#div/0! #value! #ref! #num! #name? #null! #error! #spill! #calc!
1.#ind -1.#ind 1.#qnan -1.#qnan 1.#nan -1.#nan
"""
MISSING = frozenset(["", "#n/a n/a", *_MARKERS.split()])

_PLAIN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_LEADING_ZERO = r"^0\d+$"
_CURRENCY = r"[$€£¥₩₹]"
_SPACES = " \u00a0\u202f"  # the common one, and two that do not break lines
_FLOAT64_WHOLE = 2.0**53  # beyond it float64 leaves out whole numbers
_BLOCK = 1 << 14  # numbers of a column that are looked at together
_PROBE = 64  # cells that tell whether a block of text is worth converting as a whole


def _pattern(decimal: str) -> re.Pattern[str]:
    """Numbers as people write them; the group between thousands is the same all through."""
    group = {".": ",", ",": r"\."}[decimal]
    return re.compile(
        rf"(?P<sign>[+-]?)(?:{_CURRENCY}[{_SPACES}]?)?(?P<sign2>[+-]?)"
        rf"(?P<whole>\d{{1,3}}(?P<group>[{group}'’{_SPACES}])\d{{3}}(?:(?P=group)\d{{3}})*|\d*)"
        rf"(?P<fraction>{re.escape(decimal)}\d*)?(?P<exponent>[eE][+-]?\d+)?"
        rf"(?:[{_SPACES}]?(?:(?P<percent>%)|{_CURRENCY}))?"
    )


_PATTERNS = {decimal: _pattern(decimal) for decimal in DECIMALS}


def is_missing(text: str) -> bool:
    """Whether a text marks a missing number: blank, `NA`, `?`, `#DIV/0!` and their like."""
    return text.strip().lower() in MISSING


def parse_number(text: str, decimal: str = ".") -> float | None:
    """The number that a text writes, or None.

    Parameters
    ----------
    text : str
    decimal : {".", ","}
        The decimal mark; the other one may stand between thousands.
    """
    text = text.strip().replace("−", "-")
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return float(text)
    match = _PATTERNS[decimal].fullmatch(text)
    if match is None or (match["sign"] and match["sign2"]):
        return None
    whole = re.sub(r"\D", "", match["whole"])
    fraction = (match["fraction"] or "")[1:]
    if not whole + fraction:
        return None
    number = float(
        f"{match['sign']}{match['sign2']}{whole or 0}.{fraction}{match['exponent'] or ''}"
    )
    return number / 100 if match["percent"] else number


def has_ambiguous_comma(text: str) -> bool:
    """Whether a text is like `1,234`: one thousand and more, or one and a bit."""
    return re.fullmatch(r"[+-]?\d{1,3},\d{3}", text.strip()) is not None


@dataclass(frozen=True, eq=False)
class Numbers:
    """The cells of a block of text as numbers.

    Attributes
    ----------
    values : ndarray (n,) of float64, or of int64 where float64 would round
        NaN where a number is missing or the text is none.
    rest : list of (str, ndarray, float or None)
        Each distinct text that is not written plainly, markers of missing numbers included; the
        index of the cells that hold it; the number that it is, if it is one.
    zero : int or None
        Index of the first cell of digits with a leading zero, such as `007`.
    """

    values: np.ndarray
    rest: list[tuple[str, np.ndarray, float | None]]
    zero: int | None


def read_numbers(cells: Any, decimal: str = ".") -> Numbers:
    """Read the cells of an Arrow array of strings as numbers."""
    pc = compute()

    values = _cast(cells, decimal)
    if values is not None:
        return Numbers(_exact(values, cells), [], _first_zero(values, cells))
    cells = pc.utf8_trim_whitespace(cells)
    # Where the decimal mark is a comma, plain numbers have no point.
    pattern = _PLAIN if decimal == "." else _PLAIN.replace(r"\.", ",")
    plain = pc.match_substring_regex(cells, pattern)
    is_plain = plain.to_numpy(zero_copy_only=False)
    values = np.full(len(cells), np.nan)
    written = cells.filter(plain)
    values[is_plain] = pc.cast(_with_point(written, decimal), "float64").to_numpy()
    codes = pc.fill_null(pc.match_substring_regex(cells, _LEADING_ZERO), False)
    first = pc.index(codes, True).as_py()
    rest = []
    places = np.flatnonzero(~is_plain)
    distinct = cells.take(places).dictionary_encode()
    indices = distinct.indices.to_numpy()
    by_text = np.split(np.argsort(indices, kind="stable"), np.cumsum(np.bincount(indices))[:-1])
    for text, where in zip(distinct.dictionary.to_pylist(), by_text, strict=False):
        number = None if is_missing(text) else parse_number(text, decimal)
        if number is not None:
            values[places[where]] = number
        rest.append((text, places[where], number))
    return Numbers(values, rest, None if first < 0 else first)


def _cast(cells: Any, decimal: str) -> np.ndarray | None:
    """All cells as float64, or None where one is no plain number."""
    import pyarrow as arrow

    pc = compute()

    # A point is no decimal mark here, but the conversion would take it for one.
    if decimal == "," and pc.any(pc.match_substring(cells, ".")).as_py():
        return None
    try:
        if len(cells) > _PROBE:
            pc.cast(_with_point(cells[:_PROBE], decimal), arrow.float64())
        values = pc.cast(_with_point(cells, decimal), arrow.float64())
    except arrow.ArrowInvalid:
        return None
    return np.array(values.to_numpy())  # a copy, so that Arrow's memory does not scatter


def _with_point(cells: Any, decimal: str) -> Any:
    pc = compute()

    return cells if decimal == "." else pc.replace_substring(cells, decimal, ".")


def _first_zero(values: np.ndarray, cells: Any) -> int | None:
    """Index of the first cell of digits with a leading zero."""
    pc = compute()

    if not values.size or not _is_whole(values):
        return None
    zero = pc.starts_with(cells, "0").to_numpy(zero_copy_only=False)
    places = np.flatnonzero(zero)
    codes = pc.match_substring_regex(cells.take(places), _LEADING_ZERO)
    first = pc.index(codes, True).as_py()
    return None if first < 0 else int(places[first])


def _exact(values: np.ndarray, cells: Any) -> np.ndarray:
    """Whole numbers that float64 would round as int64, others as they are."""
    import pyarrow as arrow

    limit = max(-values.min(), values.max()) if values.size else 0.0
    if not limit >= _FLOAT64_WHOLE or not _is_whole(values):
        return values
    try:
        return compute().cast(cells, "int64").to_numpy()
    except arrow.ArrowInvalid:  # beyond int64, or with an exponent
        return values


def narrowed(values: np.ndarray) -> np.ndarray:
    """Whole numbers without gaps as the smallest integer type that holds them."""
    if not values.size or not _is_whole(values):
        return values
    low, high = values.min().item(), values.max().item()
    if max(-low, high) >= _FLOAT64_WHOLE:
        return values
    smallest = [np.min_scalar_type(int(limit)) for limit in (low, high)]
    return values.astype(np.promote_types(*smallest))


def _is_whole(values: np.ndarray) -> bool:
    blocks = (values[i : i + _BLOCK] for i in range(0, len(values), _BLOCK))
    return all((block == np.floor(block)).all() for block in blocks)  # false of NaN
