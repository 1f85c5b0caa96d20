"""MNIST from a folder, from a local mirror, and the sample in the package: no test is online."""

import contextlib
import gzip
import hashlib
import io
import os
import struct
import sys
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from fastnn import datasets
from fastnn._utils import files

NAMES = list(datasets.MNIST_FILES)
ROOTS = (os.environ.get("FASTNN_DATA"), Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def real_folder():
    folder = next(
        (folder for root in ROOTS if root and (folder := datasets._folder_with_mnist(Path(root)))),
        None,
    )
    return folder or pytest.skip("no MNIST files: FASTNN_DATA names no folder that holds them")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache and an environment of the test's own, with no mirror."""
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    monkeypatch.setattr(datasets, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", ())
    return tmp_path / "cache" / "datasets" / "mnist"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of well-formed files of few images, with their checksums for the real ones."""
    folder = tmp_path / "small"
    folder.mkdir()
    numbers = np.random.default_rng(0)
    for name in NAMES:
        shape = (30, 28, 28) if "images" in name else (30,)
        array = numbers.integers(0, 256 if "images" in name else 10, shape, np.uint8)
        contents = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + array.tobytes()
        (folder / name).write_bytes(gzip.compress(contents))
        monkeypatch.setitem(datasets.MNIST_FILES, name, hashlib.sha256(contents).hexdigest())
    monkeypatch.setattr(datasets, "_TRAINING", 20)
    return folder


@pytest.fixture
def serve(monkeypatch):
    """A function that serves folders as mirrors, and returns the list of requested paths."""
    servers, requested = [], []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requested.append(self.path)

    def start(*folders):
        for folder in folders:
            servers.append(
                ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
            )
            Thread(
                target=servers[-1].serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
            ).start()
        monkeypatch.setattr(
            datasets,
            "MNIST_MIRRORS",
            tuple(f"http://127.0.0.1:{server.server_port}/" for server in servers),
        )
        return requested

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def check_small(sets, folder):
    (X, y), (Xv, yv), (Xt, yt) = sets
    assert [len(part) for part in (X, y, Xv, yv, Xt, yt)] == [20, 20, 10, 10, 30, 30]
    packed = gzip.decompress((folder / NAMES[0]).read_bytes())[16:]
    np.testing.assert_array_equal(
        np.rint(np.concatenate([X, Xv]) * 255).astype(np.uint8).tobytes(), packed
    )


# --- the real files -------------------------------------------------------------------------------


def test_the_real_files(real_folder):
    sets = datasets.mnist(real_folder)
    assert [(X.shape, y.shape) for X, y in sets] == [
        ((n, 784), (n,)) for n in (50_000, 10_000, 10_000)
    ]
    for X, y in sets:
        assert (X.dtype, y.dtype) == (np.float32, np.int64)
        assert (X.min(), X.max()) == (0, 1)
        assert set(y) == set(range(10))
    assert [y[:5].tolist() for _, y in sets] == [[5, 0, 4, 1, 9], [3, 8, 6, 9, 6], [7, 2, 1, 0, 4]]
    assert abs(sets[0][0].mean() - 0.1307) < 1e-3


def test_the_sample_is_of_the_real_files(real_folder):
    (X, y), (Xv, yv), (Xt, yt) = datasets.mnist(real_folder)
    sample_train, sample_test = datasets.mnist_sample()
    for images, labels, sample in (
        (np.concatenate([X, Xv]), np.concatenate([y, yv]), sample_train),
        (Xt, yt, sample_test),
    ):
        digits = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        assert [digits[image.tobytes()] for image in sample[0]] == sample[1].tolist()


# --- the sample -----------------------------------------------------------------------------------


def test_the_sample():
    for (X, y), per_class in zip(datasets.mnist_sample(), (500, 100), strict=True):
        assert X.shape == (10 * per_class, 784)
        assert (X.dtype, y.dtype) == (np.float32, np.int64)
        assert (X.min(), X.max()) == (0, 1)
        assert np.bincount(y).tolist() == [per_class] * 10
        assert len(np.unique(X, axis=0)) == len(X)
        assert np.abs(np.bincount(y[: len(y) // 2]) / len(y) * 20 - 1).max() < 0.25  # shuffled


def test_the_sample_is_small():
    assert (
        Path(datasets.__file__).parent / "_data" / "mnist_sample.npz"
    ).stat().st_size < 2_000_000


# --- where the files are looked for ---------------------------------------------------------------


def test_folders_are_searched_in_order(small, cache, tmp_path, monkeypatch):
    check_small(datasets.mnist(small), small)
    nested = tmp_path / "nested"
    nested.mkdir()
    small.rename(nested / "mnist")
    small = nested / "mnist"
    check_small(datasets.mnist(str(nested)), small)
    for root in (small, nested):
        monkeypatch.setenv("FASTNN_DATA", str(root))
        check_small(datasets.mnist(), small)
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "nowhere"))
    cache.parent.mkdir(parents=True)
    small.rename(cache)
    check_small(datasets.mnist(), cache)


def test_a_path_without_the_files(small):
    (small / NAMES[2]).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"{NAMES[2]} not found; path must be a folder that holds"
    ):
        datasets.mnist(small)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: b"",
        lambda packed: b"no gzip file at all",
        lambda packed: packed[:-8] + bytes(8),
        lambda packed: gzip.compress(b"no IDX file"),
        lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"x"),
    ],
    ids=["cut", "empty", "foreign", "wrong sum", "not IDX", "changed"],
)
@pytest.mark.parametrize("name", NAMES[:2])
def test_damaged_files_are_named(small, name, damage):
    file = small / name
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=f"{name} is damaged or not MNIST's"):
        datasets.mnist(small)


# --- downloads ------------------------------------------------------------------------------------


def test_download(small, cache, serve, capfd):
    requested = serve(small)
    check_small(datasets.mnist(), small)
    assert sorted(requested) == sorted(f"/{name}" for name in NAMES)
    assert sorted(file.name for file in cache.iterdir()) == sorted(NAMES)
    assert capfd.readouterr() == ("", "")
    check_small(datasets.mnist(), small)
    assert len(requested) == 4


def test_only_missing_files_are_downloaded(small, cache, serve):
    requested = serve(small)
    cache.mkdir(parents=True)
    (cache / NAMES[0]).write_bytes((small / NAMES[0]).read_bytes())
    check_small(datasets.mnist(), small)
    assert f"/{NAMES[0]}" not in requested


def test_a_terminal_sees_progress(small, serve, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    serve(small)
    monkeypatch.setattr(sys, "stderr", Terminal())
    check_small(datasets.mnist(), small)
    assert NAMES[0] in sys.stderr.getvalue()


def test_a_broken_mirror_is_passed_over(small, cache, serve, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / NAMES[0]).write_bytes(gzip.compress(b"something else"))
    serve(broken, small)
    check_small(datasets.mnist(), small)


def test_wrong_checksum(small, cache, serve):
    (small / NAMES[1]).write_bytes(gzip.compress(b"something else"))
    serve(small)
    with pytest.raises(ConnectionError, match=f"{NAMES[1]}: the SHA-256 of its contents is"):
        datasets.mnist()
    assert [file.name for file in cache.iterdir()] == NAMES[:1]


@pytest.mark.parametrize(
    ("fault", "limits", "problem"),
    [
        ("endless", {}, "more than 16,000,000 bytes came"),
        ("bomb", {}, "unpacks to more than 64,000,000 bytes"),
        ("slow", {"_DEADLINE": -1}, "not complete after"),
        ("silent", {"_TIMEOUT": 0.2}, "timed out"),
    ],
)
def test_a_mirror_that_sends_too_much_or_too_slowly(cache, monkeypatch, fault, limits, problem):
    """Nothing of it is kept."""

    class Mirror(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()  # no length is announced
            with contextlib.suppress(OSError):
                if fault == "bomb":
                    self.wfile.write(gzip.compress(bytes(65_000_000)))
                elif fault == "silent":
                    time.sleep(1)
                while fault in ("endless", "slow"):
                    self.wfile.write(bytes(1_000_000))

        def log_message(self, *_):
            pass

    for name, value in limits.items():
        monkeypatch.setattr(datasets, name, value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        monkeypatch.setattr(datasets, "MNIST_MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(ConnectionError, match=problem):
                datasets.mnist()
        finally:
            server.shutdown()
            thread.join()
    assert not list(cache.iterdir())


def test_a_file_longer_than_mnists_is_not_read(small):
    os.truncate(small / NAMES[0], 10**11)  # takes no space on most file systems
    with pytest.raises(ValueError, match=r"100,000,000,000 bytes, more than any file of MNIST"):
        datasets.mnist(small)


def test_offline(cache, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    server.server_close()  # nobody listens at this port now
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", (f"http://127.0.0.1:{server.server_port}/",))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionError) as caught:
        datasets.mnist()
    for part in ("could not download", server.server_port, *NAMES, cache, "FASTNN_DATA"):
        assert str(part) in str(caught.value)


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("platform", "variable", "default"),
    [
        ("linux", "XDG_CACHE_HOME", ".cache"),
        ("darwin", None, "Library/Caches"),
        ("win32", "LOCALAPPDATA", "AppData/Local"),
    ],
)
def test_cache_directory(platform, variable, default, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert files.cache_directory() == tmp_path / default / "fastnn"
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
        assert files.cache_directory() == tmp_path / "elsewhere" / "fastnn"
        monkeypatch.setenv(variable, "relative")
        assert files.cache_directory() == tmp_path / default / "fastnn"


@pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
def test_files_are_written_with_the_usual_permissions(tmp_path):
    target, twin = tmp_path / "file", tmp_path / "twin"
    files.write_atomically(target, b"first")
    twin.touch()
    assert target.stat().st_mode == twin.stat().st_mode
    target.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(target)
    files.write_atomically(link, b"second")
    assert link.is_symlink()
    assert target.read_bytes() == b"second"
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="disk full"):
            files.write_atomically(target, b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_writing_into_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "missing" / "file", b"")
