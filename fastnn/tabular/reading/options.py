"""How a data file is to be read."""

import codecs
from collections.abc import Collection
from dataclasses import dataclass

from fastnn.tabular.messages import option
from fastnn.tabular.reading.numbers import DECIMALS

DELIMITERS = {
    ",": "commas",
    ";": "semicolons",
    "\t": "tabs",
    "|": "vertical bars",
    " ": "spaces",
}
_OF_SINGLE_WORDS = ("idna", "punycode")  # encodings of names in the internet, not of files


@dataclass(frozen=True)
class ReadOptions:
    """How a data file is to be read; all have defaults.

    Attributes
    ----------
    delimiter : str, optional
        One ASCII character between the columns of a CSV file, by default a comma.
    decimal : {".", ","}, optional
        The decimal mark of numbers written as text, by default a point.
    encoding : str, optional
        Of a CSV file, by default UTF-8.
    text : collection of str
        Columns that hold names even if they look like numbers.
    number : collection of str
        Columns that hold numbers: any other text is an error.
    coerce : collection of str
        Columns that hold numbers: any other text is a missing one.
    ignore : collection of str
        Columns that are not read.
    only : collection of str, optional
        Columns to read, where the file has them; by default all.
    in_python : bool
        Whether messages name options as Python's arguments, and not as the command line's.
    """

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    text: Collection[str] = frozenset()
    number: Collection[str] = frozenset()
    coerce: Collection[str] = frozenset()
    ignore: Collection[str] = frozenset()
    only: Collection[str] | None = None
    in_python: bool = False

    def __post_init__(self) -> None:
        for name in ("text", "number", "coerce", "ignore", "only"):  # looked up for each column
            if (names := getattr(self, name)) is not None:
                object.__setattr__(self, name, frozenset(names))
        mark = self.delimiter
        if mark is not None and (len(mark) != 1 or not mark.isascii() or mark in '"\r\n\0'):
            raise ValueError(
                f"delimiter is {mark!r}; expected one ASCII character, such as ';', or tab"
            )
        if self.decimal not in (None, *DECIMALS):
            raise ValueError(f"decimal is {self.decimal!r}; expected '.' or ','")
        if self.encoding is not None:
            try:
                "a".encode(self.encoding)  # raises for `hex` and others that are no text, too
                if codecs.lookup(self.encoding).name in _OF_SINGLE_WORDS:
                    raise LookupError(self.encoding)
            except (LookupError, UnicodeError) as error:
                raise ValueError(
                    f"unknown encoding {self.encoding!r}; "
                    "known are utf-8, utf-16, latin-1, cp1252 and the others of Python"
                ) from error

    @property
    def mark(self) -> str:
        """The delimiter, which is a comma unless another is given."""
        return self.delimiter or ","

    @property
    def codec(self) -> str:
        """The encoding; a byte order mark at the start of UTF-8 is none of the text."""
        name = codecs.lookup(self.encoding or "utf-8").name
        return "utf-8-sig" if name == "utf-8" else name

    def wanted(self, name: str) -> str:
        """What a column is to hold: "text", "number", "coerce", or "auto" by its cells."""
        for kind in ("text", "coerce", "number"):
            if name in getattr(self, kind):
                return kind
        return "auto"

    def option(self, name: str, column: str | None = None) -> str:
        """An option for a column, as a message names it."""
        return option(name, column, self.in_python)

    def chosen(self, names: list[str]) -> list[str]:
        """Those of a file's columns that are read."""
        return [
            name
            for name in names
            if name not in self.ignore and (self.only is None or name in self.only)
        ]
