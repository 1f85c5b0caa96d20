"""Reading an NPZ file block by block, after its headers were compared with its size."""

import errno
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from fastnn.tabular.reading.options import ReadOptions
from fastnn.tabular.table import Column, Table

_BLOCK = 1 << 22  # bytes
_BLOCK_ROWS = 64  # at least, as each block costs time for each column
_DEFLATE_RATIO = 1032  # the most that zlib can shrink data
_KINDS = {"b": "boolean", "i": "integer", "u": "integer", "f": "real", "U": "text"}
_DAMAGE = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    RecursionError,
    SyntaxError,
    NotImplementedError,  # zipfile's, of a compression that it does not know
    RuntimeError,  # zipfile's, of an encrypted file
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_npz(path: Path, options: ReadOptions) -> Table:
    """Read an NPZ file: ``X`` (n, features) becomes x0, x1, …, and ``y`` (n,), if there is one, y.

    Raises
    ------
    ValueError
        Naming the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = [name.removesuffix(".npy") for name in archive.namelist()]
            headers = {name: _header(archive, name) for name in ("X", "y") if name in found}
            if "X" in headers and headers["X"].is_table and _fits(headers):
                return _read(path, archive, headers, options)
    except (*_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the system's; EINVAL is of a place that the damaged file names
        raise ValueError(
            f"{path} is damaged, or not an NPZ file of numbers, text or booleans ({error})"
        ) from error
    if "X" not in headers:
        raise ValueError(
            f"{path} has no array 'X' (n, features); it has {', '.join(found) or 'none'}"
        )
    shape = headers["X"].shape
    if not headers["X"].is_table:
        raise ValueError(f"X of {path} has shape {shape}; expected (n, features)")
    raise ValueError(
        f"y of {path} has shape {headers['y'].shape}; "
        f"expected ({shape[0]},), one target for each row of X"
    )


class _Header:
    """What the header of an array says, and how many bytes it takes."""

    def __init__(self, shape: tuple[int, ...], by_column: bool, dtype: np.dtype, start: int):
        self.shape = shape
        self.by_column = by_column
        self.dtype = dtype
        self.start = start

    @property
    def is_table(self) -> bool:
        return len(self.shape) == 2 and self.shape[1] > 0


def _header(archive: zipfile.ZipFile, name: str) -> _Header:
    """The header of an array; ValueError where the array is none, or longer or shorter than it."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in a way that NumPy does not write")
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, by_column, dtype = read(stream)
        start = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    size = start + dtype.itemsize
    for length in shape:
        size = start + (size - start) * length
    if (
        min(shape, default=0) < 0
        or size != entry.file_size
        or size > _DEFLATE_RATIO * entry.compress_size + _BLOCK
    ):
        raise ValueError(
            f"{name} is said to have the shape {shape} of {dtype}, which does not fit its size"
        )
    return _Header(shape, by_column, dtype, start)


def _fits(headers: dict[str, _Header]) -> bool:
    """Whether ``y``, if there is one, has a value for each row of ``X``."""
    n = headers["X"].shape[0]
    return "y" not in headers or headers["y"].shape in ((n,), (n, 1))


def _read(
    path: Path, archive: zipfile.ZipFile, headers: dict[str, _Header], options: ReadOptions
) -> Table:
    names = [f"x{i}" for i in range(headers["X"].shape[1])]
    columns = _columns(archive, "X", headers["X"], names)
    if "y" in headers:
        names.append("y")
        columns.update(_columns(archive, "y", headers["y"], ["y"]))
    return Table(str(path), {name: columns[name] for name in options.chosen(names)}, names)


def _columns(
    archive: zipfile.ZipFile, name: str, header: _Header, names: list[str]
) -> dict[str, Column]:
    """The columns of an array, each with memory of its own that can be given back alone."""
    n = header.shape[0]
    kind = _KINDS.get(header.dtype.kind)
    if kind is None:
        return {x: Column(x, str(header.dtype), np.zeros(n, np.int8)) for x in names}
    dtype = header.dtype.newbyteorder("=")
    values = [np.empty(n, dtype) for _ in names]
    with archive.open(f"{name}.npy") as stream:
        stream.read(header.start)
        if header.by_column:
            for column in values:
                column[:] = _array(stream, header.dtype, (n,))
        else:
            step = max(_BLOCK_ROWS, _BLOCK // max(1, header.dtype.itemsize * len(names)))
            for start in range(0, n, step):
                rows = slice(start, min(start + step, n))
                block = _array(stream, header.dtype, (rows.stop - start, len(names)))
                for column, part in zip(values, block.T, strict=True):
                    column[rows] = part
        stream.read(1)  # at the end the checksum is compared
    if kind == "text":
        return {
            x: Column.of_names(x, kind, part.tolist())
            for x, part in zip(names, values, strict=True)
        }
    if kind == "boolean":
        return {
            x: Column(x, kind, part.view(np.uint8), ("false", "true"))
            for x, part in zip(names, values, strict=True)
        }
    return {x: Column(x, kind, part) for x, part in zip(names, values, strict=True)}


def _array(stream: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    size = dtype.itemsize
    for length in shape:
        size *= length
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("it ends too early")
    return np.frombuffer(data, dtype).reshape(shape)
