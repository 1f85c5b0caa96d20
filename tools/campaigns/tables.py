"""Odd tables through the command line: a result, or one line that says why not."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from campaigns import guard
from campaigns.commands import check_ending, command
from fastnn.cli.evaluate import evaluate
from fastnn.cli.predict import predict
from fastnn.cli.training.command import train

_SECONDS, _MEGABYTES = 5.0, 300.0  # of a command on a table of at most 200 rows
_MANY = 200  # rows and columns of the largest tables
_DIVERGED = 1
_TRAIN = ("--epochs", "1", "--backend", "numpy", "--out", "m.fastnn")
# One network, or several of a recipe.
_NETWORKS = [("--layers", "4"), ("--layers", "4"), ("--folds", "2"), ("--folds", "2", "--all-rows")]

ODD = [
    *("", " ", "?", "NA", "n/a", "None", "null", "NaN", "nan", "inf", "-inf", "#DIV/0!", "#N/A"),
    *("O.5", "1,234.50", "$1,234.50", "+0.52", "1.234,5", "1 234", "12%", "−3", "1e400", "1e-400"),
    *("007", "0x10", "1_000", "True", "false", "yes", "0.0", "-0", "2020-01-02", "31.12.2020"),
    *("10:30", "naïve", "日本", "🎉", "\ud83d", "\x00", "\x1b[2J", "\u200b", "\ufeff", "\u202e"),
    *('"', '""', '"a', 'a"b', "'", ",", ";", "\t", "|", "\n", "\r", "=1+1", "-", ".", "x" * 5000),
    *("9" * 400, "1" * 30, "1.7976931348623157e308", "9.96921e36", "C:\\ud8", "{'a': 1}", "[1]"),
]
_ENCODINGS = (
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "latin-1",
    "cp1252",
    "shift_jis",
    "ascii",
)
_OPTIONS = [
    *(("--delimiter", ";"), ("--delimiter", "tab"), ("--delimiter", "é"), ("--decimal", ",")),
    *(("--encoding", "utf-16"), ("--encoding", "latin-1"), ("--encoding", "no-such")),
    *(("--number", "a"), ("--text", "a"), ("--ignore", "a"), ("--ignore", "b")),
    *(("--task", "regression"), ("--task", "classification"), ("--target", "a")),
    *(("--target", ""), ("--dtype", "float64"), ("--lr", "1e30"), ("--optimizer", "lbfgs")),
]


# --- columns --------------------------------------------------------------------------------------


def _cells(rng: np.random.Generator, rows: int) -> np.ndarray | list:
    """A column of some kind."""
    kinds: list[Callable[[], np.ndarray | list]] = [
        lambda: rng.normal(size=rows).round(2),
        lambda: rng.normal(size=rows) * 10.0 ** rng.integers(-320, 308),
        lambda: rng.integers(0, rng.integers(1, 20), rows),
        lambda: rng.integers(-(2**62), 2**62, rows),
        lambda: rng.random(rows) > 0.5,
        lambda: np.zeros(rows),
        lambda: rng.choice(["red", "green", "blue"], rows),
        lambda: [f"name {i}" for i in range(rows)],
        lambda: rng.choice(np.array(ODD, dtype=object), rows),
        lambda: np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
        lambda: np.array([f"{x:.2f}".replace(".", ",") for x in rng.normal(size=rows)]),
    ]
    return kinds[rng.integers(len(kinds))]()


def _columns(rng: np.random.Generator) -> dict[str, list]:
    """Columns by name; names may be odd, and cells among plain ones too."""
    rows = int(rng.choice([0, 1, 2, 5, 20, 60, _MANY], p=[0.02, 0.03, 0.05, 0.1, 0.3, 0.4, 0.1]))
    n = int(rng.choice([1, 2, 3, 5, _MANY], p=[0.05, 0.25, 0.35, 0.3, 0.05]))
    names = [chr(97 + i) if i < 26 else f"c{i}" for i in range(n)]
    if rng.random() < 0.1:
        names[rng.integers(n)] = ODD[rng.integers(len(ODD))]
    columns = {name: list(_cells(rng, rows)) for name in names}
    if rows and rng.random() < 0.4:
        cells = columns[names[rng.integers(n)]]
        for _ in range(rng.integers(1, 4)):
            cells[rng.integers(rows)] = ODD[rng.integers(len(ODD))]
    return columns


# --- files ----------------------------------------------------------------------------------------


def _csv(rng: np.random.Generator, columns: dict[str, list]) -> bytes:
    """A CSV file, often with something wrong about its quotes, delimiters, rows or encoding."""
    plain = rng.random() < 0.65
    mark = "," if plain else (",", ";", "\t", "|", " ")[rng.integers(5)]
    quote = plain or rng.random() < 0.7
    rows = [list(columns), *(list(row) for row in zip(*columns.values(), strict=False))]
    lines = [mark.join(_quoted(str(cell), mark, quote) for cell in row) for row in rows]
    if not plain and rng.random() < 0.2:
        lines[rng.integers(len(lines))] += mark + "1"
    if not plain and rng.random() < 0.1:
        lines.insert(0, f"sep={mark}")
    text = ("\n", "\r\n", "\r")[0 if plain else rng.integers(3)].join(lines)
    if rng.random() < 0.8:
        text += "\n"
    encoding = "utf-8" if rng.random() < 0.8 else _ENCODINGS[rng.integers(len(_ENCODINGS))]
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")


def _quoted(cell: str, mark: str, quote: bool) -> str:
    if not quote or not any(letter in cell for letter in (mark, '"', "\n", "\r")):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def _parquet(rng: np.random.Generator, columns: dict[str, list]) -> bytes:
    """A Parquet file; columns of one type where Arrow finds one, else of text."""
    arrays, names = [], []
    for name, cells in columns.items():
        names.append(name.encode("utf-8", "replace").decode())
        arrays.append(_arrow(rng, cells))
    out = io.BytesIO()
    compression = ("snappy", "zstd", "none")[rng.integers(3)]
    pq.write_table(pa.table(arrays, names), out, compression=compression)
    return out.getvalue()


def _arrow(rng: np.random.Generator, cells: list) -> pa.Array:
    cells = [cell.item() if isinstance(cell, np.generic) else cell for cell in cells]
    if any(isinstance(cell, str) for cell in cells):
        cells = [str(cell).encode("utf-8", "replace").decode() for cell in cells]
    array = pa.array(cells)
    types = (pa.float32(), pa.float16(), pa.decimal128(38, 2), pa.timestamp("ms"), pa.binary())
    types = (*types, pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.int64()), pa.null())
    if rng.random() < 0.3:
        try:
            return array.cast(types[rng.integers(len(types))])
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return array
    return array


def _npz(rng: np.random.Generator, columns: dict[str, list]) -> bytes:
    """An NPZ file: X and y, or other arrays of any type and shape."""
    rows = len(next(iter(columns.values())))
    types = ("float64", "float32", "float16", "int64", "uint8", "bool", "complex64", "U5", "S5")
    X = rng.normal(size=(rows, len(columns))).astype(types[rng.integers(len(types))])
    if rng.random() < 0.2:
        X = X.reshape([(-1,), (rows, len(columns), 1), (1, rows, len(columns))][rng.integers(3)])
    y = np.array(next(iter(columns.values())))
    if rng.random() < 0.1:
        y = np.array(list(y), dtype=object)
    names = (
        ("X", "y") if rng.random() < 0.8 else (("a", "b"), ("x", "y"), ("X", "Y"))[rng.integers(3)]
    )
    out = io.BytesIO()
    (np.savez, np.savez_compressed)[rng.integers(2)](out, **dict(zip(names, (X, y), strict=True)))
    return out.getvalue()


WRITERS = {"csv": (_csv, 0.6), "parquet": (_parquet, 0.2), "npz": (_npz, 0.2)}


def _write(rng: np.random.Generator, stem: str, ending: str, columns: dict[str, list]) -> str:
    """Write a table; one file in twenty is then damaged."""
    data = bytearray(WRITERS[ending][0](rng, columns))
    if data and rng.random() < 0.05:
        for _ in range(rng.integers(1, 20)):
            data[rng.integers(len(data))] = rng.integers(256)
    name = f"{stem}.{ending}"
    Path(name).write_bytes(data)
    return name


# --- attempts -------------------------------------------------------------------------------------


class Campaign:
    """Training on a table, then evaluation and prediction on it or another one."""

    def __init__(self, folder: Path):
        os.chdir(folder)
        self.folder = folder
        self.known = {
            name: {option for parameter in kind.params for option in parameter.opts}
            for name, kind in {"train": train, "evaluate": evaluate, "predict": predict}.items()
        }
        self._command("train", "sample", *_NETWORKS[0], *_TRAIN, good=(0,))  # loads all modules
        guard.forbid_huge_memory()

    def attempt(self, rng: np.random.Generator) -> str:
        endings, shares = list(WRITERS), [share for _, share in WRITERS.values()]
        ending = endings[rng.choice(len(endings), p=shares)]
        columns = _columns(rng)
        name = _write(rng, "d", ending, columns)
        options = self._options(rng, "train")
        model = Path("m.fastnn")
        model.unlink(missing_ok=True)
        networks = _NETWORKS[rng.integers(len(_NETWORKS))]
        status = self._command("train", name, *options, *networks, *_TRAIN, good=(_DIVERGED,))
        if not model.exists():
            return f"{ending}: train ended with {status}"
        if rng.random() < 0.5:  # a table of another kind, often with the same names
            other = _columns(rng)
            columns = {key: other.get(key, cells) for key, cells in columns.items()}
            rows = min(len(cells) for cells in columns.values())
            name = _write(rng, "e", ending, {k: cells[:rows] for k, cells in columns.items()})
        statuses = [
            self._command(kind, "m.fastnn", name, *self._kept(kind, options), good=())
            for kind in ("evaluate", "predict")
        ]
        return (
            f"{ending}: train, evaluate, predict ended with {status}, {statuses[0]}, {statuses[1]}"
        )

    def _options(self, rng: np.random.Generator, kind: str) -> tuple[str, ...]:
        """None, or one or two options for odd tables, of those that this version has."""
        if rng.random() < 0.7:
            return ()
        drawn = [_OPTIONS[i] for i in rng.choice(len(_OPTIONS), rng.integers(1, 3), replace=False)]
        return tuple(word for option in drawn if option[0] in self.known[kind] for word in option)

    def _kept(self, kind: str, options: tuple[str, ...]) -> tuple[str, ...]:
        """Those options of a training that another command takes too."""
        pairs = zip(options[::2], options[1::2], strict=True)
        return tuple(word for pair in pairs if pair[0] in self.known[kind] for word in pair)

    def _command(self, *arguments: str, good: tuple[int, ...]) -> int:
        with guard.within(_SECONDS, _MEGABYTES):
            status, _, err = command(*arguments, folder=self.folder)
        check_ending(arguments, status, err, good)
        return status
