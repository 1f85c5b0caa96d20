"""Quotes of a CSV file that do not pair: the reader would take many rows for one cell."""

from collections.abc import Iterable

import numpy as np

_MOST_BLANK = 1 << 24  # bytes of quotes and spaces in a row
_QUOTE, _SPACE, _NEWLINE, _RETURN = b'" \n\r'


def check_quotes(blocks: Iterable[bytes], source: str, delimiter: str) -> int:
    """Look for quotes without a partner and for NUL bytes; the most rows that there can be.

    A cell in quotes begins with one behind a delimiter or a line's end, and ends with one before
    either; a quote inside it is written twice. In a cell that does not begin with one, quotes are
    letters like others.

    Parameters
    ----------
    blocks : iterable of bytes
        The file in UTF-8.
    source : str
        What messages call the file.
    delimiter : str

    Raises
    ------
    ValueError
        Naming the line.
    """
    scan = _Scan(source, delimiter)
    for block in blocks:
        scan.add(np.frombuffer(block, np.uint8))
    scan.finish()
    return scan.line_ends


class _Scan:
    """The state between two blocks: whether a cell in quotes is open, and where it began."""

    def __init__(self, source: str, delimiter: str):
        self._source = source
        self._ends = np.frombuffer(f"{delimiter}\r\n".encode(), np.uint8)
        # What was looked at last, and quotes and spaces whose right neighbours are not known yet.
        self._carry = np.frombuffer(b"\n", np.uint8)
        self._is_open = False
        self._opened = self._line = 1
        self.line_ends = 0  # a Windows one counts twice

    def add(self, block: np.ndarray) -> None:
        data = np.concatenate([self._carry, block])
        if not data.all():
            self._complain(data, int(data.argmin()), "holds a NUL byte, which is no text")
        letters = (data[::-1] != _QUOTE) & (data[::-1] != _SPACE)
        end = len(data) - 1 - int(letters.argmax())
        if end == 0:  # nothing but quotes and spaces as yet
            if len(data) > _MOST_BLANK:
                self._complain(data, 0, "begins a cell of more than 16 MB of quotes and spaces")
            self._carry = data
            return
        quotes = np.flatnonzero(data[1:end] == _QUOTE) + 1
        if quotes.size and not self._pair(data, quotes):
            self._walk(data, quotes.tolist(), end)
        lines = int(np.count_nonzero(data[1 : end + 1] == _NEWLINE))
        self._line += lines
        self.line_ends += lines + int(np.count_nonzero(data[1 : end + 1] == _RETURN))
        self._carry = data[end:]

    def finish(self) -> None:
        self.add(np.frombuffer(b"\n\n", np.uint8))  # the end of the file ends the last cell
        if self._is_open:
            raise ValueError(
                f"{self._source} is not a readable CSV file: line {self._opened} opens a quote "
                "that is never closed, so that all lines behind it would be one cell"
            )

    def _pair(self, data: np.ndarray, quotes: np.ndarray) -> bool:
        """Whether every quote but those of pairs opens or closes a cell: the usual file."""
        opens = (np.arange(quotes.size) + self._is_open) % 2 == 0
        before, behind = data[quotes - 1], data[quotes + 1]
        right = np.where(
            opens,
            np.isin(before, self._ends) | (before == _QUOTE),
            np.isin(behind, self._ends) | (behind == _QUOTE),
        )
        if not right.all():
            return False
        if opens[-1]:
            self._open(data, int(quotes[-1]))
        self._is_open = bool(opens[-1])
        return True

    def _walk(self, data: np.ndarray, quotes: list[int], end: int) -> None:
        """Go from quote to quote."""
        skipped = -1
        for place in quotes:
            if place == skipped:
                continue
            if not self._is_open:
                if data[place - 1] in self._ends:
                    self._is_open = True
                    self._open(data, place)
            elif data[place + 1] == _QUOTE:
                skipped = place + 1
            else:
                behind = place + 1
                while behind < end and data[behind] == _SPACE:
                    behind += 1
                if data[behind] not in self._ends:
                    self._complain(
                        data,
                        place,
                        f"has a quote in a cell in quotes, which line {self._opened} opens: close "
                        "that cell, or write a quote inside it twice",
                    )
                self._is_open = False

    def _open(self, data: np.ndarray, place: int) -> None:
        self._opened = self._line_at(data, place)

    def _line_at(self, data: np.ndarray, place: int) -> int:
        return self._line + int(np.count_nonzero(data[1:place] == _NEWLINE))

    def _complain(self, data: np.ndarray, place: int, problem: str) -> None:
        line = self._line_at(data, place)
        raise ValueError(f"{self._source} is not a readable CSV file: line {line} {problem}")
