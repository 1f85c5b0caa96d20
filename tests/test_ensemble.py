"""`Ensemble`: averaged predictions, their scores, and the file."""

import json
import struct

import numpy as np
import pytest

import fastnn as fnn
from fastnn import serialization
from fastnn.errors import ModelFileError

RNG = np.random.default_rng(5)
X = RNG.normal(size=(40, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
TARGETS = {
    "softmax_cross_entropy": (3, LABELS),
    "binary_cross_entropy": (1, LABELS % 2),
    "mse": (2, RNG.normal(size=(40, 2))),
    "poisson": (1, RNG.integers(0, 5, 40).astype(float)),
}


def networks(loss, n=3, **options):
    outputs, _ = TARGETS[loss]
    sizes = [3, 4, outputs]
    return [fnn.mlp(sizes, loss=loss, seed=s, backend="numpy", **options) for s in range(n)]


@pytest.mark.parametrize("loss", TARGETS)
def test_predictions_are_the_mean_and_the_spread_of_the_members(loss):
    nets = networks(loss)
    each = np.array([net.predict(X) for net in nets], np.float64)
    mean, spread = fnn.Ensemble(nets).predict(X, spread=True)
    np.testing.assert_allclose(mean, each.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(spread, each.std(axis=0), rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(fnn.Ensemble(nets).predict(X), mean)


@pytest.mark.parametrize("loss", TARGETS)
def test_one_member_scores_as_itself(loss):
    (net,) = networks(loss, 1)
    y, w = TARGETS[loss][1], RNG.integers(0, 3, 40).astype(float)
    expected = net.evaluate(X, y, w, metrics=["accuracy", "rmse"])
    found = fnn.Ensemble([net]).evaluate(X, y, w, metrics=["accuracy", "rmse"])
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_that_of_the_averaged_probabilities():
    together = fnn.Ensemble(networks("softmax_cross_entropy"))
    p = together.predict(X)
    expected = -np.log(p[np.arange(40), LABELS]).mean()
    scores = together.evaluate(X, LABELS)
    assert scores["loss"] == pytest.approx(expected, rel=1e-5)
    assert scores["accuracy"] == (p.argmax(axis=1) == LABELS).mean()


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "binary_cross_entropy", "poisson"])
def test_networks_that_average_members_themselves(loss):
    outputs, y = TARGETS[loss]
    layers = [fnn.BatchEnsemble(3, [fnn.Dense(4, "tanh"), fnn.Heads(outputs)])]
    net = fnn.Network(layers, 3, loss, backend="numpy")
    of_one = fnn.Network([fnn.Scale()], outputs, loss, backend="numpy")
    found = fnn.Ensemble([net]).evaluate(X, y, metrics=["accuracy", "rmse"])
    expected = net.evaluate(X, y, metrics=["accuracy", "rmse"])
    # The network's own loss is the mean of its members' losses.
    expected["loss"] = of_one.evaluate(fnn.Ensemble([net]).forward(X), y)["loss"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_quantiles_are_averaged():
    loss = fnn.Loss("quantile", levels=(0.1, 0.5, 0.9))
    nets = [fnn.mlp([3, 4, 3], loss=loss, seed=s, backend="numpy") for s in range(2)]
    together, y = fnn.Ensemble(nets), RNG.normal(size=40)
    mean = np.mean([net.predict(X) for net in nets], axis=0)
    np.testing.assert_allclose(together.forward(X), mean, rtol=1e-6)
    e = y[:, None] - mean
    pinball = np.where(e > 0, e * loss.levels, e * (np.array(loss.levels) - 1)).mean()
    assert together.evaluate(X, y)["loss"] == pytest.approx(pinball, rel=1e-5)


def test_raw_outputs_are_those_of_the_averaged_prediction():
    together = fnn.Ensemble(networks("softmax_cross_entropy"))
    e = np.exp(together.forward(X))
    np.testing.assert_allclose(e / e.sum(axis=1, keepdims=True), together.predict(X), rtol=1e-5)


def test_one_file_for_all(tmp_path):
    together = fnn.Ensemble(networks("mse", dtype="float64"), {"unit": "m"})
    together.save(tmp_path / "e.fastnn")
    loaded = fnn.load(tmp_path / "e.fastnn", "numpy")
    assert isinstance(loaded, fnn.Ensemble)
    assert (len(loaded), loaded.metadata, loaded.dtype) == (3, {"unit": "m"}, np.float64)
    np.testing.assert_array_equal(loaded.predict(X), together.predict(X))
    assert "Ensemble of 3" in repr(loaded)


def test_companions_are_saved_along(tmp_path):
    (other,) = networks("softmax_cross_entropy", 1)
    fnn.Ensemble(networks("mse"), companions={"classes": other}).save(tmp_path / "e.fastnn")
    loaded = fnn.load(tmp_path / "e.fastnn", "numpy")
    assert len(loaded) == 3
    np.testing.assert_array_equal(loaded.companions["classes"].predict(X), other.predict(X))


@pytest.mark.parametrize(
    ("members", "error", "message"),
    [
        ([], ValueError, "at least one Network"),
        ([1], TypeError, r"networks\[0\] must be a Network, not int"),
    ],
)
def test_what_is_no_ensemble(members, error, message):
    with pytest.raises(error, match=message):
        fnn.Ensemble(members)


@pytest.mark.parametrize(
    ("companions", "error", "message"),
    [
        ({"x": 1}, TypeError, r"companions\['x'\] must be a Network, not int"),
        ({"0": None}, ValueError, "a companion's name must be one such as"),
        ({"a/b": None}, ValueError, "a companion's name must be one such as"),
    ],
)
def test_bad_companions(companions, error, message):
    nets = networks("mse", 1)
    companions = {name: nets[0] if net is None else net for name, net in companions.items()}
    with pytest.raises(error, match=message):
        fnn.Ensemble(nets, companions=companions)


def test_a_network_is_no_sequence_of_them():
    with pytest.raises(TypeError, match="such as \\[net\\], not a Network"):
        fnn.Ensemble(networks("mse", 1)[0])


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([2, 1], {"loss": "mse"}, r"networks\[1\] has inputs 2, but networks\[0\] has 3"),
        ([3, 2], {"loss": "mse"}, "outputs 2"),
        ([3, 1], {"loss": "mae"}, r"loss Loss\('mae'\)"),
        ([3, 1], {"loss": "mse", "dtype": "float64"}, "dtype float64"),
    ],
)
def test_members_must_fit_each_other(sizes, options, message):
    first, other = (
        fnn.mlp([3, 1], loss="mse", backend="numpy"),
        fnn.mlp(sizes, backend="numpy", **options),
    )
    with pytest.raises(ValueError, match=message):
        fnn.Ensemble([first, other])


def crafted(path, change):
    """A file whose checksum is right and whose contents are not."""
    from safetensors.numpy import save

    nets = networks("mse", 2)
    plain = {
        "members": [serialization.to_plain(net) for net in nets],
        "companions": {},
        "metadata": {},
    }
    tensors = {
        f"{k}/{name}": tensor
        for k, net in enumerate(nets)
        for name, tensor in serialization.to_tensors(net).items()
    }
    change(plain, tensors)
    text = json.dumps(plain)
    metadata = {
        "format": serialization.ENSEMBLE_FORMAT,
        "description": text,
        "sha256": serialization.checksum(text, tensors),
    }
    path.write_bytes(save(tensors, metadata=metadata))


@pytest.mark.parametrize(
    "change",
    [
        lambda plain, tensors: plain["members"].clear(),
        lambda plain, tensors: plain["members"].append(plain["members"][0]),
        lambda plain, tensors: tensors.pop("1/0.weight"),
        lambda plain, tensors: plain.pop("metadata"),
        lambda plain, tensors: plain.update(companions={"x": plain["members"][0]}),
        lambda plain, tensors: plain.update(members=3),
        lambda plain, tensors: plain["members"][1].update(inputs=4),
    ],
)
def test_contents_that_do_not_fit(tmp_path, change):
    path = tmp_path / "e.fastnn"
    crafted(path, lambda plain, tensors: None)
    fnn.load(path, "numpy")
    crafted(path, change)
    with pytest.raises(ModelFileError, match="does not describe a network"):
        fnn.load(path, "numpy")


def test_cut_off_and_changed_files(tmp_path):
    path = tmp_path / "e.fastnn"
    fnn.Ensemble(networks("mse", 2)).save(path)
    data = path.read_bytes()
    length = struct.unpack_from("<Q", data)[0]
    for damaged in (data[: len(data) // 2], data[: 8 + length] + bytes(len(data) - 8 - length)):
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            fnn.load(path, "numpy")
