"""Model files that are damaged or crafted: only `ModelFileError`, soon, and without much memory."""

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import fastnn as fnn
from campaigns import guard
from campaigns.commands import check_ending, command
from campaigns.running import check
from fastnn.serialization import checksum

_SECONDS, _MEGABYTES = 1.0, 200.0
_LONGEST = 1_000_000  # letters of a repeated description: time and memory grow with the file
_TABLE = "size,colour,price\n" + "".join(f"{i % 9},{'rgb'[i % 3]},{i % 7}.5\n" for i in range(60))
_NASTY = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        0.5,
        -0.0,
        1e308,
        1e-320,
        2**31,
        2**40,
        2**63,
        2**64,
        10**400,
    ),
    *("", "a", "relu", "Dense", "Adam", "float64", "\x1b[2J", "../..", "é" * 9, "x" * 100_000),
    *([], {}, [[]], [0] * 3, {"name": "relu"}, {"layer": "Dense", "units": 2}, float("nan")),
]


# --- models ---------------------------------------------------------------------------------------


def _networks() -> dict[str, tuple[fnn.Network, np.ndarray]]:
    """Networks of several sizes and kinds, with targets to train them on."""
    inner = [fnn.Dense(5, "gelu"), fnn.LayerNorm(), fnn.Residual([fnn.Dense(5, "tanh")])]
    mixed = [fnn.Dense(5), fnn.BatchNorm(), fnn.Dropout(0.1), fnn.Residual(inner), fnn.Dense(2)]
    of_table = [
        fnn.Embedding([2, 3], 2),
        fnn.PiecewiseLinear(4, 3, 2, lr_factor=0.5),
        fnn.Periodic(3, 0.1, 2, "plr", shared=True, features=6),
        fnn.Scale(lr_factor=6.0),
        fnn.Dense(5, fnn.Activation("mish", parametric=True), scaling="ntk", decay_factor=0.5),
        fnn.Dense(2),
    ]
    labels, values = np.arange(30) % 2, np.linspace(-1, 1, 60).reshape(30, 2)
    return {
        "small": (fnn.mlp([4, 2], backend="numpy"), labels),
        "mixed": (fnn.Network(mixed, 4, "huber", dtype="float64", backend="numpy"), values),
        "deep": (fnn.mlp([4, *[3] * 60, 2], batch_norm=True, backend="numpy"), labels),
        "wide": (fnn.mlp([4, 300, 200, 2], backend="numpy"), labels),
        "of a table": (fnn.Network(of_table, 4, "softmax_cross_entropy", backend="numpy"), labels),
    }


def _save_models(folder: Path) -> list[Path]:
    """Trained models with the state of optimisers, and one of a table."""
    rng, paths = np.random.default_rng(0), []
    kinds = (fnn.SGD(0.1), fnn.Adam(), fnn.NAdam(), fnn.SGD(0.1, momentum=0.9), fnn.AdamW())
    for (name, (net, y)), optimizer in zip(_networks().items(), kinds, strict=True):
        X = rng.normal(size=(30, 4))
        X[:, 2:] = rng.integers(0, 2, (30, 2))  # for an embedding these are codes
        net.fit(X, y, epochs=2, optimizer=optimizer, progress=False)
        paths.append(folder / f"{name}.fastnn")
        net.save(paths[-1])
    folder.joinpath("d.csv").write_text(_TABLE)
    options = ("--layers", "4", "--epochs", "1", "--backend", "numpy", "--out", "table.fastnn")
    status, _, err = command("train", "d.csv", *options, folder=folder)
    check(status == 0, err)
    return [*paths, folder / "table.fastnn"]


# --- damage ---------------------------------------------------------------------------------------


def _position(rng: np.random.Generator, data: bytearray) -> int:
    """A place in a file: every second one in its header."""
    header = 8 + struct.unpack_from("<Q", data)[0] if len(data) >= 8 else len(data)
    end = min(header, len(data)) if rng.random() < 0.5 else len(data)
    return int(rng.integers(max(end, 1)))


def flip(rng: np.random.Generator, data: bytearray) -> None:
    for _ in range(rng.integers(1, 9)):
        data[_position(rng, data)] ^= 1 << int(rng.integers(8))


def truncate(rng: np.random.Generator, data: bytearray) -> None:
    del data[_position(rng, data) :]


def insert(rng: np.random.Generator, data: bytearray) -> None:
    place = _position(rng, data)
    data[place:place] = rng.bytes(int(rng.integers(1, 100)))


def remove(rng: np.random.Generator, data: bytearray) -> None:
    place = _position(rng, data)
    del data[place : place + int(rng.integers(1, 100))]


def repeat(rng: np.random.Generator, data: bytearray) -> None:
    place = _position(rng, data)
    data[place:place] = data[place : place + int(rng.integers(1, 1000))]


def overwrite(rng: np.random.Generator, data: bytearray) -> None:
    place, length = _position(rng, data), int(rng.integers(1, 4096))
    filler = (b"\0", b"\xff", b"[", b'{"')[rng.integers(4)]
    data[place : place + length] = (filler * length)[:length]


def header_length(rng: np.random.Generator, data: bytearray) -> None:
    lengths = (0, 1, 10**6, 99_999_999, 10**8 + 1, 2**63, 2**64 - 1, int(rng.integers(2**20)))
    struct.pack_into("<Q", data, 0, lengths[rng.integers(len(lengths))])


def header(rng: np.random.Generator, data: bytearray) -> None:
    """Change what the header says of tensors: their types, shapes and places."""
    length = struct.unpack_from("<Q", data)[0]
    plain = json.loads(data[8 : 8 + length])
    _mutate(rng, plain)
    text = _json(plain).encode()
    data[: 8 + length] = struct.pack("<Q", len(text)) + text


DAMAGE: tuple[Callable[[np.random.Generator, bytearray], None], ...] = (
    *(flip, truncate, insert, remove, repeat, overwrite, header_length, header),
)


def _mutate(rng: np.random.Generator, plain: Any) -> None:
    """Change something somewhere in a structure of lists and dictionaries."""
    keys = list(plain) if isinstance(plain, dict) else list(range(len(plain)))
    if not keys:
        return
    key = keys[rng.integers(len(keys))]
    if isinstance(plain[key], dict | list) and plain[key] and rng.random() < 0.8:
        _mutate(rng, plain[key])
        return
    change = rng.integers(5)
    if change == 0:
        del plain[key]
    elif change == 1 and isinstance(plain, list):
        most = _LONGEST // len(_json(plain[key]))
        plain.extend([plain[key]] * min(most, int(rng.choice([1, 10, 1000, 20_000]))))
    elif change == 2:
        plain[key] = _nested(int(rng.choice([2, 50, 500])), plain[key])
    elif change == 3:
        plain[key] = plain[keys[rng.integers(len(keys))]]
    else:
        plain[key] = _NASTY[rng.integers(len(_NASTY))]


def _json(plain: Any) -> str:
    """JSON of any depth."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        return json.dumps(plain)
    finally:
        sys.setrecursionlimit(limit)


def _nested(depth: int, value: Any) -> Any:
    """A value deep inside lists, or inside blocks of layers where it is one."""
    for _ in range(depth):
        is_layer = isinstance(value, dict) and "layer" in value
        value = {"layer": "Residual", "layers": [value]} if is_layer else [value]
    return value


# --- attempts -------------------------------------------------------------------------------------


class Campaign:
    """Loads of changed files; some of them by the command line."""

    def __init__(self, folder: Path):
        os.chdir(folder)
        self.folder, self.models = folder, _save_models(folder)
        self.bad = folder / "bad.fastnn"
        for path in self.models:
            fnn.load(path, "numpy").predict(np.zeros((1, fnn.load(path, "numpy").inputs)))
        guard.forbid_huge_memory()

    def attempt(self, rng: np.random.Generator) -> str:
        model = self.models[rng.integers(len(self.models))]
        crafted = rng.random() < 0.4
        what = "crafted" if crafted else self._damage(rng, model)
        if crafted:
            self._craft(rng, model)
        chance = rng.random()
        if chance < 0.1:
            return f"{what}: {self._command(rng, process=chance < 0.005)}"
        seconds = _SECONDS * max(1.0, self.bad.stat().st_size / 1e6)
        with guard.within(seconds, _MEGABYTES):
            try:
                net = fnn.load(self.bad, "numpy")
            except fnn.ModelFileError as error:
                check("bad.fastnn" in str(error), f"the file is not named: {error}")
                return f"{what}: refused"
        self._check_loaded(net, None if crafted else model)
        return f"{what}: loaded, as it describes a network"

    def _damage(self, rng: np.random.Generator, model: Path) -> str:
        """Write a model with changed bytes."""
        data = bytearray(model.read_bytes())
        change = DAMAGE[rng.integers(len(DAMAGE))]
        change(rng, data)
        self.bad.write_bytes(data)
        return change.__name__

    def _craft(self, rng: np.random.Generator, model: Path) -> None:
        """Write a model with another description, whose checksum is right."""
        tensors = load_file(model)
        data = model.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack_from("<Q", data)[0]])
        plain = json.loads(header["__metadata__"]["description"])
        for _ in range(rng.integers(1, 4)):
            _mutate(rng, plain)
        if rng.random() < 0.2:
            tensors.pop(list(tensors)[rng.integers(len(tensors))])
        text = _json(plain)
        metadata = {"format": "fastnn-model-1", "description": text}
        save_file(tensors, self.bad, {**metadata, "sha256": checksum(text, tensors)})

    def _command(self, rng: np.random.Generator, process: bool) -> str:
        """Show or use the file by the command line."""
        kinds = ("info", "bad.fastnn"), ("predict", "bad.fastnn", "d.csv")
        arguments = (*kinds, ("evaluate", "bad.fastnn", "d.csv"))[rng.integers(3)]
        with guard.within(2 * _SECONDS, _MEGABYTES):
            status, _, err = command(*arguments, folder=self.folder, process=process)
        check_ending(arguments, status, err, good=())
        return f"{arguments[0]} ended with {status}{', as a process' if process else ''}"

    def _check_loaded(self, net: fnn.Network, model: Path | None) -> None:
        """Whether a loaded network works, and where only bytes changed is the one saved."""
        if model is None:
            net.predict(np.zeros((1, net.inputs)))
            return
        saved = fnn.load(model, "numpy")
        same = repr(net) == repr(saved) and np.array_equal(net.state.theta, saved.state.theta)
        check(same and net.metadata == saved.metadata, "a damaged file loads as another network")
