"""Reading a CSV file in blocks: no more of its text is in memory than a few of them."""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastnn.tabular.reading.arrow import pyarrow
from fastnn.tabular.reading.dialect import check_head, header, utf8, wrong_encoding
from fastnn.tabular.reading.notes import ReadNotes
from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.reading.quotes import check_quotes
from fastnn.tabular.reading.text_columns import TextColumn
from fastnn.tabular.table import Column, Table, check_names, is_number

_BLOCK = 1 << 20  # bytes at least
_BLOCK_ROWS = 64  # at least, as each block costs time for each column
_MOST_BLOCK = 1 << 28  # bytes that a row may have


def read_csv(path: Path, options: ReadOptions) -> Table:
    """Read a CSV file.

    Raises
    ------
    ValueError
        Naming the file, and where it can the line, column and option that help.
    ImportError
        Without pyarrow.
    """
    arrow = pyarrow("CSV")
    try:
        skip = check_head(path, options)
        options = dataclasses.replace(options, delimiter=options.mark)
        names = header(path, options, skip)
        _check_header(names, path)
        rows = check_quotes(_text_blocks(path, options), str(path), options.mark)
        return _read(path, options, names, skip, rows)
    except UnicodeError as error:
        raise wrong_encoding(path, options) from error
    except csv.Error as error:
        raise ValueError(f"{path} is not a readable CSV file: {error}") from error
    except arrow.ArrowInvalid as error:
        if "invalid UTF8" in str(error):
            raise wrong_encoding(path, options) from error
        raise ValueError(f"{path} is not a readable CSV file: {error}") from error


def _read(path: Path, options: ReadOptions, names: list[str], skip: int, rows: int) -> Table:
    """The table, of not more than so many rows."""
    chosen = options.chosen(names)
    if not chosen:  # Arrow would read all columns
        return Table(str(path), {}, names)
    notes = ReadNotes()
    columns = {name: TextColumn(name, options, rows) for name in chosen}
    _fill(path, options, columns, skip)
    # Names that came after numbers only: those columns are read once more.
    again = {
        name: TextColumn(name, options, rows, keep_names=True)
        for name, column in columns.items()
        if column.lacks_names
    }
    if again:
        _fill(path, options, again, skip)
        columns.update(again)
    pyarrow("CSV").default_memory_pool().release_unused()
    finished: dict[str, Column] = {}
    for name in chosen:
        finished[name] = columns.pop(name).finish(notes)
    return Table(str(path), finished, names, notes.lines())


def _fill(path: Path, options: ReadOptions, columns: dict[str, TextColumn], skip: int) -> None:
    import pyarrow as arrow

    names = sum(map(len, columns)) + len(columns)  # a row is about as long as the header
    block_size = min(max(_BLOCK, _BLOCK_ROWS * names), _MOST_BLOCK)
    while True:
        try:
            for batch in _batches(path, options, list(columns), skip, block_size):
                for column, cells in zip(columns.values(), batch.columns, strict=True):
                    column.add(cells)
        except arrow.ArrowInvalid as error:
            if "straddling" not in str(error) or block_size == _MOST_BLOCK:
                raise
            block_size = min(16 * block_size, _MOST_BLOCK)  # a row did not fit into one
            for name in columns:
                columns[name] = columns[name].afresh()
        else:
            return


def _batches(
    path: Path, options: ReadOptions, names: list[str], skip: int, block_size: int
) -> Iterator[Any]:
    import pyarrow as arrow
    from pyarrow import csv as arrow_csv

    with path.open("rb") as file:
        yield from arrow_csv.open_csv(
            utf8(file, options),
            # one thread knows the number of a bad row
            read_options=arrow_csv.ReadOptions(
                use_threads=False, block_size=block_size, skip_rows=skip
            ),
            parse_options=arrow_csv.ParseOptions(delimiter=options.mark, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, arrow.string()), include_columns=names
            ),
        )


def _text_blocks(path: Path, options: ReadOptions) -> Iterator[bytes]:
    """The file's text in UTF-8."""
    with path.open("rb") as file:
        stream = utf8(file, options)
        while block := stream.read(_BLOCK):
            yield block


def _check_header(names: list[str], path: Path) -> None:
    """ValueError where the first line cannot be a header."""
    if not names:
        raise ValueError(f"{path} is not a readable CSV file: it is empty")
    if "" in names:
        raise ValueError(
            f"column {names.index('') + 1} of {path} has no name; "
            "pandas writes such a column unless index=False"
        )
    check_names(names, str(path))
    if all(map(is_number, names)) and names != [str(i) for i in range(len(names))]:
        raise ValueError(
            f"the first line of {path} holds numbers ({', '.join(names[:3])}, …); "
            "expected column names"
        )
