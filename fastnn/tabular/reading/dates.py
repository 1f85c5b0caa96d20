"""What text counts as a date or a time of day, and which moment it names."""

import datetime
import re
from collections.abc import Sequence

import numpy as np

from fastnn.tabular.reading.numbers import is_missing

_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?"
_ZONE = r"(?:Z| ?[+-]\d{2}:?\d{2})"
_ANY = re.compile(
    r"(?:\d{4}-\d{1,2}-\d{1,2}|\d{4}/\d{1,2}/\d{1,2}|\d{1,2}([-/.])\d{1,2}\1(?:\d{4}|\d{2}))"
    rf"(?:[T ]{_CLOCK}(?: ?[AaPp][Mm])?{_ZONE}?)?|{_CLOCK}"
)
# The year first, as ISO 8601 has it: days and months cannot be mistaken for each other.
_ISO = re.compile(
    r"(?:(?P<year>\d{4})([-/])(?P<month>\d{1,2})\2(?P<day>\d{1,2})(?:[T ](?=\d)|$))?"
    r"(?:(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?"
    rf"(?P<zone>{_ZONE})?)?"
)
_MIDNIGHT_1970 = datetime.date(1970, 1, 1).toordinal()


def are_dates(texts: Sequence[str]) -> bool:
    """Whether all texts but markers of missing ones look like dates or times, in any order."""
    known = [text for text in texts if not is_missing(text)]
    return bool(known) and all(map(_ANY.fullmatch, known))


def seconds_of(texts: Sequence[str]) -> np.ndarray | None:
    """The moments as seconds since 1970 in UTC, NaN for a marker of a missing one.

    A time of day without a date is one of the first of January 1970. None where a text is no date,
    or its year does not come first.
    """
    try:
        return np.array([np.nan if is_missing(text) else _seconds(text) for text in texts])
    except ValueError:
        return None


def _seconds(text: str) -> float:
    match = _ISO.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no date")
    days = 0
    if match["year"]:
        date = datetime.date(int(match["year"]), int(match["month"]), int(match["day"]))
        days = date.toordinal() - _MIDNIGHT_1970
    hour, minute = int(match["hour"] or 0), int(match["minute"] or 0)
    second = float((match["second"] or "0").replace(",", "."))
    if hour > 24 or minute > 59 or second >= 61:
        raise ValueError(f"{text!r} is no time of day")
    return 86400.0 * days + 3600 * hour + 60 * minute + second - _offset(match["zone"])


def _offset(zone: str | None) -> int:
    """Seconds that a zone such as ``+02:00`` is ahead of UTC."""
    if not zone or zone == "Z":
        return 0
    digits = re.sub(r"\D", "", zone)
    sign = -1 if "-" in zone else 1
    return sign * (3600 * int(digits[:2]) + 60 * int(digits[2:]))
