"""Writers that are killed: the file is the old one or the new one, whole, and leftovers go."""

import csv
import time
from pathlib import Path

import numpy as np
from safetensors import safe_open

import fastnn as fnn
from campaigns.children import killed_after, process
from campaigns.running import Fault, check

_EPOCHS = 40  # of a training with a checkpoint after each
_X = np.random.default_rng(0).normal(size=(60, 8)).astype("float32")
_Y = np.arange(60) % 3
_TABLE = "size,colour,price\n" + "".join(f"{i % 9},{'rgb'[i % 3]},{i % 2}\n" for i in range(200))
_TRAIN = ("-m", "fastnn", "train", "d.csv", "--backend", "numpy", "--layers", "64", "--quiet")


def _network(width: int, seed: int = 0) -> fnn.Network:
    return fnn.mlp([8, width, 3], seed=seed, backend="numpy")


def _leftovers(folder: Path) -> int:
    return len(list(folder.glob(".fastnn-*.tmp")))


def _digest(path: Path) -> str:
    """The checksum of all that a model file holds; loading it compares it with the contents.

    The bytes of two files of one network may differ, in the order of their headers.
    """
    try:
        fnn.load(path, "numpy")
    except fnn.ModelFileError as error:
        raise Fault(str(error)) from error
    with safe_open(path, "numpy") as file:
        return file.metadata()["sha256"]


class Campaign:
    """Kills of `Network.save`, of `Checkpoint` with `CSVLogger`, and of ``fastnn train --out``."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.folder.joinpath("d.csv").write_text(_TABLE)
        self.networks = [[_network(width, seed) for seed in (0, 1)] for width in (8, 3000, 100_000)]
        self.versions = [[self._saved(net) for net in pair] for pair in self.networks]
        self.fit_seconds, self.epochs = self._reference()
        self.train_seconds, self.trained = self._train_once()

    def attempt(self, rng: np.random.Generator) -> str:
        for path in self.folder.glob("*.fastnn"):
            path.unlink()
        self.folder.joinpath("log.csv").unlink(missing_ok=True)
        kinds, shares = (self.save, self.checkpoint, self.train), (0.4, 0.4, 0.2)
        kind = kinds[rng.choice(3, p=shares)]
        found = kind(rng)
        left = _leftovers(self.folder)
        _network(4).save(self.folder / "next.fastnn")
        check(not _leftovers(self.folder), "a leftover outlived the next save in its folder")
        return f"{kind.__name__}: {found}{', with a leftover, cleared' if left else ''}"

    def save(self, rng: np.random.Generator) -> str:
        """Two networks saved in turn to one file."""
        size = rng.integers(3)
        pair, versions, path = self.networks[size], self.versions[size], self.folder / "m.fastnn"
        pair[0].save(path)

        def work() -> None:
            while True:
                for net in pair[::-1]:
                    net.save(path)

        killed_after(work, rng.uniform(0, 0.03))
        return self._is_one_of(path, versions)

    def checkpoint(self, rng: np.random.Generator) -> str:
        """A training with a log and a checkpoint, resumed after the kill."""
        path, log = self.folder / "m.fastnn", self.folder / "log.csv"
        killed_after(lambda: self._fit(path, log), rng.uniform(0, 1.1 * self.fit_seconds))
        rows = self._rows(log)
        if not path.exists():
            check(len(rows) <= 1, f"no checkpoint, and {len(rows)} epochs in the log")
            return "no epoch yet"
        self._is_one_of(path, self.epochs)
        net = fnn.load(path, "numpy")
        check(net.epochs <= len(rows) <= net.epochs + 1, f"{len(rows)} rows, {net.epochs} epochs")
        net.fit(_X, _Y, epochs=2, callbacks=[fnn.CSVLogger(log)], progress=False)
        self._rows(log, net.epochs)
        return "resumed" if net.epochs < _EPOCHS + 2 else "after the last epoch"

    def train(self, rng: np.random.Generator) -> str:
        """The command line, in whose place a model is already."""
        path = self.folder / "m.fastnn"
        self.networks[0][0].save(path)
        with process(*_TRAIN, "--out", "m.fastnn", folder=self.folder) as child:
            time.sleep(rng.uniform(0.2, 1.1) * self.train_seconds)
            child.kill()
        return self._is_one_of(path, [self.versions[0][0], self.trained])

    def _saved(self, net: fnn.Network) -> str:
        net.save(self.folder / "reference.fastnn")
        return _digest(self.folder / "reference.fastnn")

    def _is_one_of(self, path: Path, versions: list[str]) -> str:
        """Whether a file is a known version and loads."""
        digest = _digest(path)
        check(digest in versions, f"{path.name} holds another network than was saved")
        return "the old file" if digest == versions[0] else "a new file"

    def _rows(self, log: Path, epochs: int | None = None) -> list[dict[str, str]]:
        """The rows of a log, in which no epoch is missing or twice."""
        if not log.exists():
            return []
        with open(log, newline="") as file:
            rows = list(csv.DictReader(file))
        found = [row["epoch"] for row in rows]
        expected = [str(i + 1) for i in range(epochs or len(rows))]
        check(found == expected, f"the log has the epochs {found}")
        check(all(row["seconds"] for row in rows), "a row of the log is cut off")
        return rows

    def _fit(self, path: Path, log: Path) -> None:
        callbacks = [fnn.CSVLogger(log), fnn.Checkpoint(path)]
        _network(16).fit(_X, _Y, epochs=_EPOCHS, callbacks=callbacks, progress=False)

    def _reference(self) -> tuple[float, list[str]]:
        """How long that training takes, and its checkpoints."""
        started = time.perf_counter()
        self._fit(self.folder / "{epoch}.fastnn", self.folder / "log.csv")
        seconds = time.perf_counter() - started
        names = [f"{epoch + 1}.fastnn" for epoch in range(_EPOCHS)]
        return seconds, [_digest(self.folder / name) for name in names]

    def _train_once(self) -> tuple[float, str]:
        """How long ``fastnn train`` takes here, and its model."""
        started = time.perf_counter()
        with process(*_TRAIN, "--out", "m.fastnn", folder=self.folder) as child:
            _, err = child.communicate()
        check(child.returncode == 0, f"fastnn train ended with {child.returncode}: {err}")
        return time.perf_counter() - started, _digest(self.folder / "m.fastnn")
