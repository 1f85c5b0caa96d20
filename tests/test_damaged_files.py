"""Model files that are damaged, foreign or crafted: nothing but a whole file of fastnn is read."""

import json
import os
import re
import struct
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_cases import VALUES, X, assert_same_state, network, raises
from safetensors.numpy import save_file

import fastnn as fnn
from fastnn import serialization

# --- files that are not whole, or not ours --------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder, a small trained network, and its file's bytes."""
    folder = tmp_path_factory.mktemp("model")
    net = network([fnn.Dense(2, "relu"), fnn.BatchNorm(), fnn.Dense(3)], dtype="float32")
    net.fit(X, VALUES, optimizer=fnn.SGD(0.1, momentum=0.9))
    net.save(folder / "good")
    return folder, net, (folder / "good").read_bytes()


def refuse(folder, data, *parts):
    path = folder / "bad"
    path.write_bytes(data)
    with raises(fnn.ModelFileError, "bad", *parts):
        fnn.load(path, backend="numpy")


def test_truncated_files(model):
    folder, _, data = model
    for length in sorted(
        {*range(64), *range(64, len(data), 37), *range(len(data) - 16, len(data))}
    ):
        refuse(folder, data[:length])
    refuse(folder, data + b"\0")


def load_flipped(model, position, flip):
    folder, net, data = model
    changed = bytearray(data)
    changed[position] ^= flip
    (folder / "flipped").write_bytes(changed)
    try:
        loaded = fnn.load(folder / "flipped", backend="numpy")
    except fnn.ModelFileError:
        return
    assert_same_state(net, loaded)
    assert repr(net) == repr(loaded)


def test_one_wrong_bit_in_each_byte(model):
    for position in range(len(model[2])):
        load_flipped(model, position, 1 << position % 8)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_one_wrong_byte_anywhere(model, data):
    load_flipped(
        model, data.draw(st.integers(0, len(model[2]) - 1)), data.draw(st.integers(1, 255))
    )


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=200))
def test_any_bytes(model, data):
    refuse(model[0], data)


HEADER = b'{"__metadata__":{"format":"fastnn-model-1"}}'
FOREIGN = {
    "empty": b"",
    "text": b"epoch,loss\n1,0.5\n" * 9,
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07os.path\x94.",
    "zip": b"PK\x03\x04" + bytes(100),
    "a huge header": struct.pack("<Q", 2**63) + b"{}",
    "a header of no object": struct.pack("<Q", 2) + b"[]",
    "a header of a number": struct.pack("<Q", 1) + b"1",
    "a deep header": struct.pack("<Q", 200_000) + b"[" * 200_000,
    "no description": struct.pack("<Q", len(HEADER)) + HEADER,
}


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_foreign_files(tmp_path, data):
    refuse(tmp_path, data)


def test_another_programs_safetensors(tmp_path):
    for metadata in (None, {"format": "pt"}):
        save_file({"weight": np.ones(3)}, tmp_path / "bad", metadata=metadata)
        refuse(tmp_path, (tmp_path / "bad").read_bytes())


def test_a_later_format_says_so(model):
    folder, _, data = model
    refuse(
        folder,
        data.replace(b"fastnn-model-1", b"fastnn-model-2"),
        "fastnn-model-2",
        "fastnn-model-1",
    )


def test_missing_file(tmp_path):
    with raises(FileNotFoundError, "no-such-model"):
        fnn.load(tmp_path / "no-such-model")


def test_a_folder_is_no_model(tmp_path):
    with pytest.raises(OSError, match=re.escape(str(tmp_path))):
        fnn.load(tmp_path)


# --- crafted files: the checksum is right, the contents are not -----------------------------------


def craft(folder, net, change):
    """A file whose description and tensors went through ``change``, with a checksum to match."""
    description, tensors = serialization.to_plain(net), serialization.to_tensors(net)
    description = change(description, tensors) or description
    text = description if isinstance(description, str) else json.dumps(description)
    metadata = {
        "format": serialization.FORMAT,
        "description": text,
        "sha256": serialization.checksum(text, tensors),
    }
    save_file(tensors, folder / "crafted", metadata=metadata)
    return folder / "crafted"


def setting(*path_and_value):
    """A change that sets one value deep in the description."""
    *path, last, value = path_and_value

    def change(description, tensors):
        for key in path:
            description = description[key]
        description[last] = value

    return change


def lacking(key):
    return lambda description, tensors: description.pop(key, None) and None


CRAFTED = {
    "a description that is a list": lambda d, t: "[]",
    "no JSON": lambda d, t: "{",
    "deep JSON": lambda d, t: "[" * 100_000,
    "unknown layer": setting("layers", 0, "layer", "Conv2d"),
    "layer of another module": setting("layers", 0, "layer", "os.system"),
    "layer without a name": setting("layers", 0, {"units": 3}),
    "layers a number": setting("layers", 3),
    "layers empty": setting("layers", []),
    "unknown argument": setting("layers", 0, "device", "gpu"),
    "unknown activation": setting("layers", 0, "activation", {"name": "exec", "constants": {}}),
    "activation a string": setting("layers", 0, "activation", "relu"),
    "unknown initializer": setting("layers", 0, "init", {"name": "eval"}),
    "units of 0": setting("layers", 0, "units", 0),
    "units of text": setting("layers", 0, "units", "2"),
    "huge units": setting("layers", 0, "units", 2**40),
    "endless units": setting("layers", 0, "units", 2**70),
    "a bit too many units": setting("layers", 0, "units", 5),
    "huge inputs": setting("inputs", 2**50),
    "inputs of text": setting("inputs", "4"),
    "unknown loss": setting("loss", {"name": "hinge"}),
    "loss without a name": setting("loss", {}),
    "dtype": setting("dtype", "float16"),
    "dtype that NumPy parses": setting("dtype", ","),
    "dtype by another name": setting("dtype", "f4"),
    "another dtype": setting("dtype", "float64"),
    "seed": setting("seed", -1),
    "epochs of text": setting("epochs", "many"),
    "epochs below 0": setting("epochs", -1),
    "step of text": setting("step", "1"),
    "step below 0": setting("step", -1),
    "optimizer_step of text": setting("optimizer_step", None),
    "unknown optimizer": setting("optimizer", "LION"),
    "optimizer a number": setting("optimizer", 3),
    "another optimizer": setting("optimizer", "Adam"),
    "metadata a list": setting("metadata", [1]),
    **{
        f"no {key}": lacking(key)
        for key in (
            "layers",
            "inputs",
            "loss",
            "dtype",
            "seed",
            "epochs",
            "step",
            "optimizer",
            "metadata",
        )
    },
    "a tensor missing": lambda d, t: t.pop("0.weight") is None,
    "a slot missing": lambda d, t: t.pop("optimizer.0.0.weight") is None,
    "another shape": lambda d, t: t.update({"0.weight": t["0.weight"].T.copy()}),
    "a shape that broadcasts": lambda d, t: t.update({"0.weight": np.ones((1, 1), np.float32)}),
    "another type": lambda d, t: t.update({"0.weight": t["0.weight"].astype(np.int64)}),
    "NaN": lambda d, t: t.update({"0.weight": t["0.weight"] * np.float32(np.nan)}),
}


@pytest.mark.parametrize("change", CRAFTED.values(), ids=CRAFTED)
def test_crafted_files(model, tmp_path, change):
    path = craft(tmp_path, model[1], change)
    with raises(fnn.ModelFileError, "crafted"):
        fnn.load(path, backend="numpy")


def test_a_crafted_file_without_a_change_loads(model, tmp_path):
    assert_same_state(
        fnn.load(craft(tmp_path, model[1], lambda d, t: None), backend="numpy"), model[1]
    )


def towering(depth):
    inner = {"layer": "Dense", "units": 3}
    for _ in range(depth):
        inner = {"layer": "Residual", "layers": [inner]}
    return inner


HUGE = {
    "inputs": setting("inputs", 10**9),
    "inputs of 64 bits": setting("inputs", 2**64 - 1),
    "units": setting("layers", 0, "units", 2**26),  # 4 GB of parameters and optimiser's state
    "units of 64 bits": setting("layers", 0, "units", 2**63),
    "100,000 layers": setting("layers", [{"layer": "Dense", "units": 1}] * 100_000),
    "100,000 layers in a block": setting(
        "layers", [{"layer": "Residual", "layers": [{"layer": "BatchNorm"}] * 100_000}]
    ),
    "blocks in blocks": setting("layers", [towering(200)]),
    "very many blocks in blocks": setting("layers", [towering(300)] * 300),
    "an endless step": setting("step", 10**4000),
    "an endless epoch": setting("epochs", 2**63),
    "an endless seed": setting("seed", 10**400),
    "an endless momentum": setting("layers", 1, "momentum", 10**400),
    "an endless constant": setting("loss", {"name": "huber", "delta": 10**400}),
    "half a character": setting("metadata", {"a": "\ud800"}),
    "deep metadata": setting("metadata", {"a": json.loads("[" * 500 + "]" * 500)}),
}


@pytest.mark.parametrize("change", HUGE.values(), ids=HUGE)
def test_a_huge_network_is_refused_before_time_and_memory_are_taken(model, tmp_path, change):
    """The tensors in the file say how large the network may be."""
    path = craft(tmp_path, model[1], change)
    resource = pytest.importorskip("resource")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with raises(fnn.ModelFileError, "crafted"):
        fnn.load(path, backend="numpy")
    assert time.process_time() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    "start",
    [b"\0" * 8, struct.pack("<Q", 10), struct.pack("<Q", 99_000_000), b"\xff" * 8, b"text\n" * 9],
    ids=["zeros", "ten", "99 MB", "ones", "text"],
)
def test_a_long_file_that_is_no_model_is_not_read(tmp_path, start):
    """Nor is one with a header of another program, such as a language model of 10 GB."""
    path = tmp_path / "bad"
    path.write_bytes(start)
    os.truncate(path, 10**12)  # takes no space on most file systems
    started = time.process_time()
    with raises(fnn.ModelFileError, "bad"):
        fnn.load(path)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("size", [-1, 2**63, 10**30, "8", None, 1.5])
def test_a_header_that_lies_about_its_numbers(model, size):
    folder, _, data = model
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + length])
    header["0.weight"]["data_offsets"] = [0, size]
    text = json.dumps(header).encode()
    refuse(folder, struct.pack("<Q", len(text)) + text + data[8 + length :])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_model_comes_through_a_pipe(model, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(model[2]))
    writer.start()
    assert_same_state(fnn.load(tmp_path / "pipe", backend="numpy"), model[1])
    writer.join(10)
