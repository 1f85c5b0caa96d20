"""Model files: what was saved comes back, training goes on bit for bit, and nothing but a whole
file of this library is accepted.
"""

import errno
import json
import os
import re
import stat
import struct

import numpy as np
import pytest
from builders import ENGINES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import fastnn as fnn
from fastnn import serialization
from fastnn.nn.initializers import INITIALIZERS
from fastnn.nn.losses import LOSSES
from fastnn.optim.optimizers import OPTIMIZERS

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))
VALUES = np.abs(RNG.normal(size=(20, 3)))
VALUES /= VALUES.sum(axis=1, keepdims=True)  # targets for every loss

STACKS = {
    "dense": [fnn.Dense(3, "sigmoid", init="nielsen", bias_init="standard_normal")],
    "dense, all options": [
        fnn.Dense(
            3,
            fnn.Activation("elu", alpha=0.5),
            fnn.Initializer("normal", std=0.3),
            False,
            l1=0.1,
            l2=0.2,
            max_norm=3,
        )
    ],
    "array": [fnn.Dense(3, init=np.ones((4, 3)), bias_init=[1, 2, 3])],
    "activation": [fnn.Dense(3), fnn.Activation("leaky_relu", alpha=0.2)],
    "batch norm": [fnn.BatchNorm(0.3, 1e-3), fnn.Dense(3)],
    "layer norm": [fnn.LayerNorm(1e-3), fnn.Dense(3)],
    "dropout": [fnn.Dropout(0.25), fnn.Dense(3)],
    "noise": [fnn.GaussianNoise(0.25), fnn.Dense(3)],
    "residual": [
        fnn.Residual(
            [fnn.Dense(5), fnn.Residual([fnn.BatchNorm(), fnn.Dense(3)], "tanh", projection=True)]
        ),
        fnn.Dense(3),
    ],
}


def network(layers=None, loss="mse", **options):
    return fnn.Network(
        layers or [fnn.Dense(3)], 4, loss, **{"dtype": "float64", "backend": "numpy", **options}
    )


def raises(error, *parts):
    return pytest.raises(
        error, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts)
    )


def assert_same_state(a, b):
    for name in ("theta", "buffers", "slots", "mu_product"):
        np.testing.assert_array_equal(getattr(a.state, name), getattr(b.state, name), err_msg=name)
    for name in ("seed", "step", "optimizer_step"):
        assert getattr(a.state, name) == getattr(b.state, name)
    assert (a.epochs, a.optimizer_kind, a.metadata) == (b.epochs, b.optimizer_kind, b.metadata)


def round_trip(net, path, optimizer, backend="numpy"):
    """Save in the midst of training, load, and go on with both."""
    options = {"epochs": 2, "batch_size": 6, "optimizer": optimizer}
    net.fit(X, VALUES, **options)
    net.save(path)
    loaded = fnn.load(path, backend=backend)
    assert_same_state(net, loaded)
    np.testing.assert_array_equal(net.predict(X), loaded.predict(X))
    histories = [n.fit(X, VALUES, **options) for n in (net, loaded)]
    assert histories[0]["loss"] == histories[1]["loss"]
    assert_same_state(net, loaded)
    return loaded


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_every_layer_comes_back(tmp_path, layers):
    net = network(layers, seed=2**64 - 1)
    loaded = round_trip(net, tmp_path / "m", "adam")
    shown = [re.sub(r"array\([^)]*\)", "array", repr(n)) for n in (net, loaded)]
    assert shown[0] == shown[1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_goes_on(tmp_path, optimizer):
    round_trip(network(STACKS["residual"]), tmp_path / "m", optimizer)


@pytest.mark.parametrize(
    "loss",
    [*LOSSES, fnn.Loss("huber", delta=0.3), fnn.Loss("softmax_cross_entropy", label_smoothing=0.2)],
)
def test_every_loss_comes_back(tmp_path, loss):
    net = network(loss=loss)
    assert repr(round_trip(net, tmp_path / "m", "sgd").loss) == repr(net.loss)


@pytest.mark.parametrize("init", INITIALIZERS)
def test_every_initializer_comes_back(tmp_path, init):
    net = network([fnn.Dense(3, init=init, bias_init=init)])
    net.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m", backend="numpy")
    assert_same_state(net, loaded)
    assert repr(loaded) == repr(net)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ENGINES)
def test_every_engine_and_precision_goes_on(tmp_path, backend, dtype):
    layers = [fnn.Dense(5, "gelu"), fnn.BatchNorm(), fnn.Dropout(0.3), *STACKS["residual"]]
    loaded = round_trip(
        network(layers, backend=backend, dtype=dtype),
        tmp_path / "m",
        fnn.NAdam(fnn.Cosine(0.01, 20)),
        backend,
    )
    assert (loaded.backend, loaded.dtype) == (backend, dtype)


def test_a_file_serves_every_engine(tmp_path):
    network(STACKS["residual"], backend=ENGINES[-1]).save(tmp_path / "m")
    predictions = [fnn.load(tmp_path / "m", backend=name).predict(X) for name in ENGINES]
    for prediction in predictions[1:]:
        np.testing.assert_allclose(prediction, predictions[0], rtol=1e-12)
    with raises(ValueError, "backend", "'gpu'"):
        fnn.load(tmp_path / "m", backend="gpu")


def test_metadata_comes_back(tmp_path):
    net = network()
    net.metadata = {
        "classes": ["ja", "nein", "한국"],
        "mean": [0.1, 1e-300],
        "nested": {"flag": True, "nothing": None, "n": 2**60},
    }
    net.save(tmp_path / "m")
    assert fnn.load(tmp_path / "m", backend="numpy").metadata == net.metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": np.ones(3)},
        {"a": {1, 2}},
        {"a": object()},
        {("a", "b"): 1},
        {"a": "\ud800"},
        [1],
        {1: "one"},
    ],
)
def test_metadata_that_would_not_come_back_is_refused(tmp_path, metadata):
    """A dict with keys that are no strings would come back changed."""
    net, path = network(), tmp_path / "m"
    net.save(path)
    before = path.read_bytes()
    net.metadata = metadata
    with pytest.raises((TypeError, ValueError), match="metadata"):
        net.save(path)
    assert path.read_bytes() == before


def test_a_loaded_network_can_do_all_that_a_fresh_one_can(tmp_path):
    net = network([fnn.Dense(3, init=np.ones((4, 3))), fnn.Dense(3)])
    net.save(tmp_path / "m")
    loaded = fnn.load(str(tmp_path / "m"), backend="numpy")
    assert repr(loaded.parameters) == repr(net.parameters)
    assert loaded.evaluate(X, VALUES) == net.evaluate(X, VALUES)
    assert fnn.check_gradients(loaded, X, VALUES) == fnn.check_gradients(net, X, VALUES)
    loaded.save(tmp_path / "m2")
    assert_same_state(fnn.load(tmp_path / "m2", backend="numpy"), net)
    assert serialization.to_plain(loaded) == serialization.to_plain(net)


def test_the_file_is_plain_safetensors(tmp_path):
    path, net = tmp_path / "m", network([fnn.BatchNorm(), fnn.Dense(3)])
    net.fit(X, VALUES)
    net.save(path)
    tensors = load_file(path)
    for name, values in {**net.parameters, **net.buffers}.items():
        np.testing.assert_array_equal(tensors[name], values)
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["description"])
    assert (description["fastnn"], description["inputs"], description["optimizer"]) == (
        fnn.__version__,
        4,
        "Adam",
    )
    assert [layer["layer"] for layer in description["layers"]] == ["BatchNorm", "Dense"]


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


def test_a_huge_network_is_refused_before_memory_is_taken(tmp_path):
    """The tensors in the file say how large the network may be."""
    # 4 GB of parameters and optimiser's state
    path = craft(tmp_path, network(), setting("layers", 0, "units", 2**26))
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(fnn.ModelFileError):
        fnn.load(path, backend="numpy")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


# --- saving that fails ----------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, function, code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    net, path = network(), tmp_path / "m"
    net.save(path)
    before = path.read_bytes()
    net.fit(X, VALUES)
    monkeypatch.setattr(os, function, fail)
    with raises(OSError, os.strerror(code)):
        net.save(path)
    with pytest.raises(OSError, match=os.strerror(code)):
        net.save(tmp_path / "new")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["m"]
    assert path.read_bytes() == before
    net.save(path)
    assert_same_state(fnn.load(path, backend="numpy"), net)


def test_saving_over_a_file_keeps_its_permissions(tmp_path):
    net, path = network(), tmp_path / "m"
    net.save(path)
    path.chmod(0o640)
    net.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_path_that_cannot_be_a_file(tmp_path):
    with raises(IsADirectoryError, str(tmp_path), "folder"):
        network().save(tmp_path)
    with raises(FileNotFoundError, "missing", "folder"):
        network().save(tmp_path / "missing" / "m")
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with raises(PermissionError, "permission"):
            network().save(tmp_path / "m")
    finally:
        tmp_path.chmod(0o700)
