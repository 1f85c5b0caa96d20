"""Model files: what was saved comes back, training goes on bit for bit, and saving is atomic."""

import errno
import json
import os
import re
import stat

import numpy as np
import pytest
from builders import ENGINES
from model_cases import STACKS, VALUES, X, assert_same_state, network, raises
from safetensors import safe_open
from safetensors.numpy import load_file

import fastnn as fnn
from fastnn import serialization
from fastnn.nn.initializers import INITIALIZERS
from fastnn.nn.losses import LOSSES
from fastnn.optim.optimizers import OPTIMIZERS


def round_trip(net, path, optimizer, backend="numpy"):
    """Save in the midst of training, load, and go on with both."""
    options = {"epochs": 2, "batch_size": 6, "optimizer": optimizer}
    y = VALUES[:, 0] if net.loss.levels else VALUES
    net.fit(X, y, **options)
    net.save(path)
    loaded = fnn.load(path, backend=backend)
    assert_same_state(net, loaded)
    np.testing.assert_array_equal(net.predict(X), loaded.predict(X))
    histories = [n.fit(X, y, **options) for n in (net, loaded)]
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


@pytest.mark.parametrize(
    ("init", "bias_init"), [*((name, name) for name in INITIALIZERS), ("data", "he+5")]
)
def test_every_initializer_comes_back(tmp_path, init, bias_init):
    net = network([fnn.Dense(3, init=init, bias_init=bias_init)])
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
