"""Data sets: MNIST, and the sample of it that ships with the package."""

import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastnn._utils.files import cache_directory, write_atomically

if TYPE_CHECKING:
    from rich.progress import Progress

MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)

# SHA-256 of the unpacked contents: the same data circulate in differently packed gzip files.
_DIGESTS = {
    "train-images-idx3": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_FILES = {f"{name}-ubyte.gz": digest for name, digest in _DIGESTS.items()}

_PIXELS = 28 * 28
# of the training file's 60,000 images; the last 10,000 validate, as in Nielsen's book
_TRAINING = 50_000
_TIMEOUT = 30  # seconds without a byte before a mirror is given up
_DEADLINE = 900  # seconds for a file, however steadily its bytes drip
_MOST_PACKED, _MOST_UNPACKED = 16_000_000, 64_000_000  # bytes of a file; MNIST's take 10 and 47
_PIECE = 1 << 16  # bytes per read of a download

Samples = tuple[np.ndarray, np.ndarray]


def mnist(path: str | os.PathLike[str] | None = None) -> tuple[Samples, Samples, Samples]:
    """MNIST's handwritten digits: 50,000 to train on, 10,000 to validate, 10,000 to test.

    The four gzip files of `MNIST_FILES` are looked for in ``path``, or else in the folder that the
    environment variable ``FASTNN_DATA`` names, then in the user's cache; in each, the folder itself
    or its subfolder ``mnist``. With no ``path``, files found nowhere are downloaded to the cache.
    Whatever their origin, contents are checked by SHA-256.

    Parameters
    ----------
    path : path-like, optional
        The folder that holds the files.

    Returns
    -------
    (X, y), (Xv, yv), (Xt, yt)
        Images: float32 (n, 784), pixels from 0 (background) to 1. Digits: int64 (n,).

    Raises
    ------
    FileNotFoundError
        A file is not in ``path``.
    ValueError
        A file found is damaged or another one.
    ConnectionError
        The download failed; the message says which files to put where.
    """
    folder = _find_mnist() if path is None else _given_folder(Path(path))
    train_images, train_labels, test_images, test_labels = (
        _read(folder / name) for name in MNIST_FILES
    )
    # An IDX header has 4 bytes of type and 4 per dimension.
    X, y = _as_samples(train_images[16:], train_labels[8:])
    return (
        (X[:_TRAINING], y[:_TRAINING]),
        (X[_TRAINING:], y[_TRAINING:]),
        _as_samples(test_images[16:], test_labels[8:]),
    )


def mnist_sample() -> tuple[Samples, Samples]:
    """The sample of MNIST inside the package.

    It holds 500 training and 100 test images of each digit, in random order.

    Returns
    -------
    (X, y), (Xt, yt)
        Images: float32 (5000, 784) and (1000, 784), pixels from 0 (background) to 1. Digits: int64
        (5000,) and (1000,).
    """
    with np.load(Path(__file__).parent / "_data" / "mnist_sample.npz", allow_pickle=False) as file:
        return (
            _as_samples(file["train_images"], file["train_labels"]),
            _as_samples(file["test_images"], file["test_labels"]),
        )


def _as_samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    return np.divide(images.reshape(-1, _PIXELS), 255, dtype=np.float32), labels.astype(np.int64)


def _given_folder(path: Path) -> Path:
    """``path`` or its subfolder, whichever holds the files."""
    folder = _folder_with_mnist(path)
    if folder is None:
        raise FileNotFoundError(
            f"{path / _missing(path)[0]} not found; "
            f"path must be a folder that holds {', '.join(MNIST_FILES)}"
        )
    return folder


def _find_mnist() -> Path:
    """The folder with the files, downloaded where there is none."""
    cache = cache_directory() / "datasets"
    for root in (os.environ.get("FASTNN_DATA"), cache):
        folder = _folder_with_mnist(Path(root)) if root else None
        if folder:
            return folder
    _download(cache / "mnist")
    return cache / "mnist"


def _folder_with_mnist(root: Path) -> Path | None:
    return next((folder for folder in (root, root / "mnist") if not _missing(folder)), None)


def _missing(folder: Path) -> list[str]:
    return [name for name in MNIST_FILES if not (folder / name).is_file()]


def _read(path: Path) -> np.ndarray:
    try:
        size = path.stat().st_size
        if size > _MOST_PACKED:
            raise ValueError(f"it has {size:,} bytes, more than any file of MNIST")
        return np.frombuffer(_unpack(path.read_bytes(), path.name), np.uint8)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged or not MNIST's: {error}; delete or replace it"
        ) from error


def _unpack(packed: bytes, name: str) -> bytes:
    """The contents of a gzip file of MNIST; ValueError unless they are the original ones."""
    import gzip
    import hashlib
    import zlib

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            contents = file.read(_MOST_UNPACKED + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"no complete gzip file ({error})") from error
    if len(contents) > _MOST_UNPACKED:
        raise ValueError(
            f"it unpacks to more than {_MOST_UNPACKED:,} bytes, as none of MNIST's does"
        )
    digest = hashlib.sha256(contents).hexdigest()
    if digest != MNIST_FILES[name]:
        raise ValueError(f"the SHA-256 of its contents is {digest}, not {MNIST_FILES[name]}")
    return contents


def _download(folder: Path) -> None:
    """Fetch the files that ``folder`` lacks."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    folder.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not (sys.stderr and sys.stderr.isatty()),
    ) as progress:
        for name in _missing(folder):
            write_atomically(folder / name, _from_mirrors(name, folder, progress))


def _from_mirrors(name: str, folder: Path, progress: "Progress") -> bytes:
    from http.client import HTTPException

    failures = []
    for mirror in MNIST_MIRRORS:
        try:
            packed = _get(mirror + name, name, progress)
            _unpack(packed, name)
            return packed
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{mirror}{name}: {error}")
    raise ConnectionError(
        f"could not download MNIST ({'; '.join(failures)}). "
        f"Without a connection, put {', '.join(MNIST_FILES)} into {folder}, "
        "or into another folder and give that as path or in the environment variable FASTNN_DATA"
    )


def _get(url: str, name: str, progress: "Progress") -> bytes:
    from urllib.request import urlopen

    packed, deadline = bytearray(), time.monotonic() + _DEADLINE
    with urlopen(url, timeout=_TIMEOUT) as response:
        task = progress.add_task(name, total=response.length)
        while piece := response.read1(_PIECE):  # what has come, without waiting for more
            packed += piece
            if len(packed) > _MOST_PACKED:
                raise ValueError(f"more than {_MOST_PACKED:,} bytes came, so it is none of MNIST's")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not complete after {_DEADLINE} s")
            progress.update(task, completed=len(packed))
    return bytes(packed)
