"""How a CSV file is written: what its first lines tell of its encoding and delimiter.

Nothing is guessed: a file that is not written as the options say, by default in UTF-8 with commas,
is refused with the options that suit it.
"""

import csv
import re
from pathlib import Path
from typing import Any

from fastnn.tabular.reading.options import DELIMITERS, ReadOptions

_HEAD = 1 << 16  # bytes that the delimiter is looked for in
_LINES = 100
_MARKS = {  # byte order marks
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_DECIMAL_COMMA = re.compile(r"[+-]?[\d.]*\d,\d+")


def check_head(path: Path, options: ReadOptions) -> int:
    """The number of lines before the header: 1 where the first is like ``sep=;``.

    Raises
    ------
    ValueError
        Another encoding or delimiter than the options say.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if options.encoding is None:
        _check_encoding(path, head)
    whole = len(head) < _HEAD
    lines = head.decode(options.codec, "replace").splitlines()
    lines = [line for line in (lines if whole else lines[:-1] or lines) if line.strip()][:_LINES]
    declared = re.fullmatch(r'"?sep=(.)"?', lines[0], re.IGNORECASE) if lines else None
    delimiter = options.mark
    if options.delimiter is None:
        found = declared[1] if declared else _delimiter(lines)
        if found not in (None, ","):
            raise ValueError(_advice(path, found, lines, options))
    if options.decimal == "," == delimiter:
        raise ValueError(
            f"{path} has commas between its columns; --decimal , needs another --delimiter"
        )
    return 1 if declared and declared[1] == delimiter else 0


def header(path: Path, options: ReadOptions, skip: int) -> list[str]:
    """The names in the first line that is not empty, behind ``skip`` others."""
    with path.open(encoding=options.codec, newline="") as file:
        for _ in range(skip):
            file.readline()
        rows = csv.reader(file, delimiter=options.mark)
        return next((row for row in rows if row), [])


def utf8(file: Any, options: ReadOptions) -> Any:
    """A binary file of any encoding as one of UTF-8."""
    if options.codec == "utf-8-sig":
        return file
    import pyarrow as arrow

    return arrow.transcoding_input_stream(arrow.PythonFile(file), options.codec, "utf-8")


def wrong_encoding(path: Path, options: ReadOptions) -> ValueError:
    """The error for bytes that are no text in the encoding."""
    if options.encoding is not None:
        return ValueError(f"{path} is not encoded in {options.encoding}: try another --encoding")
    return ValueError(
        f"{path} is not encoded in UTF-8: give its own --encoding, such as cp1252, or save it "
        "in UTF-8"
    )


# --- encoding and delimiter -----------------------------------------------------------------------


def _check_encoding(path: Path, head: bytes) -> None:
    name = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if name is None and len(head) > 1:
        # English text in UTF-16 has a zero in every other byte.
        even, odd = (head[i::2].count(0) > max(len(head) // 5, 2) for i in (0, 1))
        name = {(True, False): "utf-16-be", (False, True): "utf-16-le"}.get((even, odd))
    if name is not None:
        raise ValueError(
            f"{path} is encoded in {name[:6].upper()}, not in UTF-8: give --encoding {name}, "
            "or save it in UTF-8"
        )


def _delimiter(lines: list[str]) -> str | None:
    """What stands equally often in all lines; a comma where it does so, else another mark."""
    bare = [re.sub(r'"(?:[^"]|"")*"', "", line) for line in lines]
    regular = [
        mark
        for mark in DELIMITERS
        if bare and mark in bare[0] and len({line.count(mark) for line in bare}) == 1
    ]
    # A decimal comma in each row may be as regular.
    if regular[:2] == [",", ";"] and _has_decimal_commas(lines, ";"):
        return ";"
    return regular[0] if regular else None


def _has_decimal_commas(lines: list[str], delimiter: str) -> bool:
    cells = [cell.strip() for line in lines[1:] for cell in line.split(delimiter)]
    return any(map(_DECIMAL_COMMA.fullmatch, cells))


def _advice(path: Path, delimiter: str, lines: list[str], options: ReadOptions) -> str:
    shown = {"\t": "tab"}.get(delimiter, f"'{delimiter}'")
    advice = f"--delimiter {shown}"
    commas = options.decimal is None and _has_decimal_commas(lines, delimiter)
    if commas:
        advice += " --decimal ,"
    name = DELIMITERS.get(delimiter, shown)
    return (
        f"{path} has {name} between its columns{' and decimal commas' if commas else ''}; "
        f"expected commas as the delimiter: give {advice}"
    )
