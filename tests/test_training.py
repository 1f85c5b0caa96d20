"""The training loop: history, going on, validation, callbacks, chunks, divergence, Ctrl-C, progress and L-BFGS."""

import csv
import io
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn as fnn
from fastnn import training as loop
from fastnn.optimizers import OPTIMIZERS

BACKENDS = [name for name, status in fnn.backends().items() if status == "available"]
STEPPING = [name for name in OPTIMIZERS if name != "lbfgs"]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4))
LABELS = X[:, :3].argmax(axis=1)
WRONG = (LABELS + 1) % 3  # the better the network learns LABELS, the worse it scores on these
VALUES = X @ RNG.normal(size=(4, 2)) + 1 + 0.1 * RNG.normal(size=(40, 2))


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


def network(layers=None, loss="softmax_cross_entropy", **options):
    return fnn.Network(layers or [fnn.Dense(3)], 4, loss, **{"dtype": "float64", "backend": "numpy", **options})


def noisy(**options):
    """A network with everything that has a state of its own or draws random numbers."""
    return network([fnn.Dense(6, "tanh"), fnn.BatchNorm(), fnn.Dropout(0.3), fnn.GaussianNoise(0.1), fnn.Dense(3, l2=0.01)], **options)


def raises(error, *parts):
    return pytest.raises(error, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts))


def record_orders(net):
    """The samples of each epoch in the order in which they are trained on, one list per call of the engine."""
    orders, train = [], net.engine.train_steps
    net.engine.train_steps = lambda state, samples, chunk: orders.append(chunk.order.tolist()) or train(state, samples, chunk)
    return orders


class Recorder:
    """Keeps the hooks called, and the parameters after each epoch."""

    def __init__(self):
        self.hooks, self.parameters = [], []

    def on_fit_start(self, training):
        self.hooks.append("start")

    def on_chunk_end(self, training):
        self.hooks.append("chunk")

    def on_epoch_end(self, training):
        self.hooks.append(f"epoch {training.epoch}")
        self.parameters.append(training.net.state.theta.copy())

    def on_fit_end(self, training):
        self.hooks.append("end")


class At:
    """A callback of one hook: calls ``act(training)`` there."""

    def __init__(self, hook, act):
        setattr(self, hook, act)


# --- history --------------------------------------------------------------------------------------------------------------------------

KEYS = {
    "classification": ("softmax_cross_entropy", LABELS, {}, ["loss", "accuracy", "lr", "seconds"]),
    "regression": ("quadratic", np.eye(3)[LABELS], {}, ["loss", "lr", "seconds"]),
    "validation": (
        "softmax_cross_entropy",
        LABELS,
        {"validation": 0.25},
        ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"],
    ),
    "regression, validation": ("mse", np.eye(3)[LABELS], {"validation": 0.25}, ["loss", "val_loss", "val_r2", "lr", "seconds"]),
    "metrics": (
        "mse",
        np.eye(3)[LABELS],
        {"validation": 0.25, "metrics": ("mae", "accuracy", "r2")},
        ["loss", "val_loss", "val_mae", "val_r2", "lr", "seconds"],
    ),
    "no metrics": ("mse", np.eye(3)[LABELS], {"validation": 0.25, "metrics": ()}, ["loss", "val_loss", "lr", "seconds"]),
}


@pytest.mark.parametrize(("loss", "y", "options", "keys"), KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_history(loss, y, options, keys, optimizer):
    history = network(loss=loss).fit(X, y, epochs=3, optimizer=optimizer, **options)
    assert list(history) == keys
    assert all(len(values) == 3 for values in history.values())
    assert all(type(value) is float for values in history.values() for value in values)
    assert isinstance(history, fnn.History)
    assert history.stopped is None
    assert min(history["seconds"]) > 0


def test_loss_and_accuracy_are_means_over_what_was_trained_on(backend):
    weights = RNG.uniform(size=40)
    net, halves = network(backend=backend), []
    with_one_step = network(backend=backend)
    for rows in (slice(0, 30), slice(30, 40)):
        scores = with_one_step.evaluate(X[rows], LABELS[rows], sample_weight=weights[rows])
        halves.append((weights[rows].sum(), scores))
        with_one_step.fit(X[rows], LABELS[rows], batch_size=30, optimizer="sgd", sample_weight=weights[rows])
    history = net.fit(X, LABELS, batch_size=30, optimizer="sgd", shuffle=False, sample_weight=weights)
    for name in ("loss", "accuracy"):
        assert history[name] == [pytest.approx(sum(w * scores[name] for w, scores in halves) / weights.sum(), rel=1e-9)]


def test_accuracy_of_an_exact_share_is_that_share(backend):
    net = network(dtype="float32", backend=backend)
    share = (net.predict(X).argmax(axis=1) == LABELS).mean()
    assert net.fit(X, LABELS, batch_size=40, optimizer="sgd")["accuracy"] == [share]


def test_the_rate_recorded_is_that_of_the_last_step():
    history = network().fit(X, LABELS, epochs=3, batch_size=10, optimizer=fnn.SGD(fnn.Exponential(1.0, 0.5)))
    assert history["lr"] == [0.5**3, 0.5**7, 0.5**11]


# --- going on -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", STEPPING)
def test_fit_goes_on_where_it_stopped(backend, optimizer):
    once, twice = noisy(backend=backend), noisy(backend=backend)
    whole = once.fit(X, LABELS, epochs=5, batch_size=12, optimizer=optimizer)
    parts = [twice.fit(X, LABELS, epochs=n, batch_size=12, optimizer=optimizer) for n in (2, 3)]
    np.testing.assert_array_equal(once.state.theta, twice.state.theta)
    np.testing.assert_array_equal(once.state.buffers, twice.state.buffers)
    np.testing.assert_array_equal(once.state.slots, twice.state.slots)
    assert parts[0]["loss"] + parts[1]["loss"] == whole["loss"]
    assert once.epochs == twice.epochs == 5


def step(net, optimizer):
    """The gradient before, and the change of the weights by, one step on all samples."""
    before, gradient = net.parameters["0.weight"].copy(), net.gradients(X, LABELS)[1]["0.weight"]
    net.fit(X, LABELS, batch_size=40, optimizer=optimizer)
    return gradient, net.parameters["0.weight"] - before


def test_same_kind_keeps_its_state_and_takes_new_rates(backend):
    net = network(backend=backend)
    g1, _ = step(net, fnn.SGD(0.1, momentum=0.9))
    g2, change = step(net, fnn.SGD(0.5, momentum=0.9))
    np.testing.assert_allclose(change, -0.5 * (0.9 * g1 + g2), rtol=1e-9)
    assert net.state.optimizer_step == 2


def test_another_kind_starts_afresh(backend):
    net = network(backend=backend)
    step(net, fnn.SGD(0.1, momentum=0.9))
    gradient, change = step(net, fnn.Adam(0.01))
    np.testing.assert_allclose(change, -0.01 * np.sign(gradient), rtol=1e-3)
    gradient, change = step(net, fnn.SGD(0.1, momentum=0.9))
    np.testing.assert_allclose(change, -0.1 * gradient, rtol=1e-9)


def test_schedules_go_on_in_the_next_call():
    net, optimizer = network(), fnn.SGD(fnn.Exponential(1.0, 0.5))
    rates = [net.fit(X, LABELS, batch_size=10, optimizer=optimizer)["lr"][0] for _ in range(2)]
    assert rates == [0.5**3, 0.5**7]


def test_a_refused_call_changes_nothing():
    net = network()
    net.fit(X, LABELS)
    before, step_before = net.state.theta.copy(), net.state.optimizer_step
    for bad in ({"optimizer": "sgd", "callbacks": [fnn.EarlyStopping()]}, {"optimizer": "sgd", "validation": 2.0}):
        with pytest.raises(ValueError, match=r"val_loss|validation"):
            net.fit(X, LABELS, **bad)
        assert (net.optimizer_kind, net.state.optimizer_step, net.epochs) == ("Adam", step_before, 1)
        np.testing.assert_array_equal(net.state.theta, before)


# --- order and validation -------------------------------------------------------------------------------------------------------------


def test_without_shuffle_samples_come_in_order(backend):
    net = network(backend=backend)
    orders = record_orders(net)
    net.fit(X, LABELS, epochs=2, batch_size=7, shuffle=False)
    assert orders == [list(range(40))] * 2


def test_every_epoch_has_an_order_of_its_own_the_same_on_every_engine(backend):
    orders = []
    for net in (network(backend=backend), network(backend="numpy")):
        orders.append(record_orders(net))
        net.fit(X, LABELS, epochs=3, batch_size=7)
    assert orders[0] == orders[1]
    assert all(sorted(order) == list(range(40)) for order in orders[0])
    assert len({tuple(order) for order in orders[0]} | {tuple(range(40))}) == 4


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("share", [0.25, 0.9])
def test_held_out_samples_are_never_trained_on(share, shuffle):
    net = network()
    orders = record_orders(net)
    history = net.fit(X, LABELS, epochs=3, batch_size=4, validation=share, shuffle=shuffle)
    trained = sorted(orders[0])
    assert len(trained) == 40 - round(40 * share)
    assert all(sorted(order) == trained for order in orders)
    held_out = np.setdiff1d(np.arange(40), trained)
    scores = net.evaluate(X[held_out], LABELS[held_out])
    assert (scores["loss"], scores["accuracy"]) == (history["val_loss"][-1], history["val_accuracy"][-1])


def test_the_seed_chooses_what_is_held_out():
    held_out = []
    for seed in (0, 0, 1):
        net = network(seed=seed)
        orders = record_orders(net)
        net.fit(X, LABELS, validation=0.25)
        held_out.append(sorted(orders[0]))
    assert held_out[0] == held_out[1] != held_out[2]


def test_validation_pair(backend):
    net = network(backend=backend)
    orders = record_orders(net)
    history = net.fit(X[:30], LABELS[:30], epochs=2, validation=(X[30:].tolist(), LABELS[30:].tolist()), metrics=("accuracy", "mae"))
    assert sorted(orders[0]) == list(range(30))
    scores = net.evaluate(X[30:], LABELS[30:], metrics=("accuracy", "mae"))
    assert {name: history[f"val_{name}"][-1] for name in scores} == scores


def test_a_numpy_number_is_a_fraction():
    assert "val_loss" in network().fit(X, LABELS, validation=np.float32(0.25))


@pytest.mark.parametrize(
    ("validation", "error", "parts"),
    [
        (0.0, ValueError, ["validation", "0.0", "(0, 1)"]),
        (1.0, ValueError, ["validation", "1.0", "(0, 1)"]),
        (7, ValueError, ["validation", "7", "(0, 1)"]),
        (np.nan, ValueError, ["validation", "nan"]),
        (0.001, ValueError, ["validation=0.001", "40 samples", "0 to validate"]),
        (0.999, ValueError, ["validation=0.999", "40 samples", "0 to train"]),
        (True, TypeError, ["validation", "bool"]),
        ("20%", TypeError, ["validation", "fraction", "pair", "str"]),
        (X, TypeError, ["validation", "pair (X, y)", "ndarray"]),
        ((X,), TypeError, ["validation", "pair (X, y)"]),
        ((X[:, :3], LABELS), ValueError, ["validation", "3 columns", "4"]),
        ((X, LABELS + 9), ValueError, ["validation", "y is", "0 to 2"]),
    ],
)
def test_bad_validation(validation, error, parts):
    with raises(error, *parts):
        network().fit(X, LABELS, validation=validation)


@pytest.mark.parametrize("weighted", [0, 1])
def test_no_weight_left_to_train_on_or_to_score(weighted):
    net = network()
    orders = record_orders(net)
    net.fit(X, LABELS, validation=0.25)
    held_out = ~np.isin(np.arange(40), orders[0])
    with raises(ValueError, "weight"):
        net.fit(X, LABELS, validation=0.25, sample_weight=held_out == weighted)


# --- callbacks ------------------------------------------------------------------------------------------------------------------------


def test_hooks_and_their_order(monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    first, second = Recorder(), Recorder()
    network().fit(X, LABELS, epochs=2, batch_size=20, callbacks=(first, second))
    assert first.hooks == ["start", "chunk", "chunk", "epoch 1", "chunk", "chunk", "epoch 2", "end"] == second.hooks


def test_callbacks_see_the_training():
    seen = []
    net = network()
    see = At("on_epoch_end", lambda t: seen.append((t.net is net, t.epoch, t.epochs, t.logged, len(t.history["loss"]))))
    net.fit(X, LABELS, epochs=2, callbacks=[see])
    logged = ("loss", "accuracy", "lr", "seconds")
    assert seen == [(True, 1, 2, logged, 1), (True, 2, 2, logged, 2)]


def test_a_callback_can_stop():
    history = network().fit(X, LABELS, epochs=9, callbacks=[At("on_epoch_end", lambda t: t.epoch == 2 and t.stop("enough"))])
    assert (len(history["loss"]), history.stopped) == (2, "enough")


def test_an_error_of_a_callback_passes_on_and_the_others_end():
    recorder = Recorder()
    with raises(ZeroDivisionError, "division"):
        network().fit(X, LABELS, callbacks=[recorder, At("on_epoch_end", lambda t: 1 / 0)])
    assert recorder.hooks == ["start", "chunk", "epoch 1", "end"]


def feed(callback, name, figures):
    """Figures of one epoch after another as a callback sees them; returns reasons to stop and rate factors, one an epoch."""
    reasons, factors = [], []
    training = SimpleNamespace(history={name: []}, logged=(name,), rate_factor=1.0, net=network(), stop=reasons.append)
    callback.on_fit_start(training)
    for figure in figures:
        training.history[name].append(figure)
        callback.on_epoch_end(training)
        factors.append(training.rate_factor)
        if reasons:
            break
    return len(training.history[name]), factors


@pytest.mark.parametrize(
    ("monitor", "figures", "epochs"),
    [
        ("val_loss", [3, 2, 1, 1, 2, 9], 6),
        ("val_loss", [3, 2, 2.5, 1.9, 2, 2, 2, 9], 7),
        ("loss", [1, 2, 3, 4, 5], 4),
        ("val_accuracy", [0.1, 0.2, 0.2, 0.1, 0.2, 0.9], 5),
        ("val_r2", [-1, -0.5, 0.5, 0.6], 4),
        ("val_rmse", [1, 0.9, 0.8, 0.7], 4),
        ("val_mae", [1, 1, 1, 1], 4),
    ],
)
def test_early_stopping_knows_what_better_means(monitor, figures, epochs):
    assert feed(fnn.EarlyStopping(monitor, patience=2), monitor, figures)[0] == epochs


def test_early_stopping_min_delta():
    assert feed(fnn.EarlyStopping("loss", patience=1, min_delta=0.2), "loss", [1.0, 0.9, 0.85, 0.1])[0] == 3


@pytest.mark.parametrize("first", [np.nan, np.inf])
def test_early_stopping_gets_over_a_bad_first_score(first):
    assert feed(fnn.EarlyStopping(patience=1), "val_loss", [first, 3.0, 2.0, 1.0, 0.5])[0] == 5


def test_early_stopping_restores_the_best_parameters(backend):
    recorder = Recorder()
    net = noisy(backend=backend)
    options = {"epochs": 50, "batch_size": 10, "validation": (X, WRONG), "optimizer": fnn.Adam(0.05)}
    history = net.fit(X, LABELS, callbacks=[fnn.EarlyStopping(patience=3), recorder], **options)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 1 + 4 < 50
    assert "val_loss" in history.stopped
    np.testing.assert_array_equal(net.state.theta, recorder.parameters[best])
    assert net.evaluate(X, WRONG)["loss"] == history["val_loss"][best]  # running statistics too


def test_early_stopping_may_keep_the_last_parameters():
    recorder, net = Recorder(), network()
    net.fit(X, LABELS, epochs=9, validation=(X, WRONG), callbacks=[recorder, fnn.EarlyStopping(patience=1, restore_best=False)])
    np.testing.assert_array_equal(net.state.theta, recorder.parameters[-1])


def test_early_stopping_restores_also_where_all_epochs_ran():
    recorder, net = Recorder(), network()
    net.fit(X, LABELS, epochs=3, validation=(X, WRONG), callbacks=[recorder, fnn.EarlyStopping(patience=9)])
    np.testing.assert_array_equal(net.state.theta, recorder.parameters[0])


def test_early_stopping_serves_several_calls():
    stopping, options = fnn.EarlyStopping(patience=1), {"epochs": 9, "validation": (X, WRONG)}
    assert len(network().fit(X, LABELS, callbacks=[stopping], **options)["loss"]) == 3
    assert len(network().fit(X, LABELS, callbacks=[stopping], **options)["loss"]) == 3


@pytest.mark.parametrize("kind", [fnn.EarlyStopping, fnn.ReduceOnPlateau])
@pytest.mark.parametrize(("monitor", "hint"), [("val_loss", "give fit validation data"), ("acuracy", "recorded: loss, accuracy, lr")])
def test_a_missing_figure_is_reported_before_training(kind, monitor, hint):
    net = network()
    before = net.state.theta.copy()
    with raises(ValueError, kind.__name__, repr(monitor), hint):
        net.fit(X, LABELS, callbacks=[kind(monitor)])
    np.testing.assert_array_equal(net.state.theta, before)


def test_reduce_on_plateau():
    callback = fnn.ReduceOnPlateau("loss", factor=0.5, patience=1, minimum=0.2)
    assert feed(callback, "loss", [3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1])[1] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2, 0.2]


def test_reduce_on_plateau_lowers_the_rate(backend):
    options = {"epochs": 4, "batch_size": 40, "validation": (X, WRONG), "optimizer": fnn.SGD(0.1)}
    net = network(backend=backend)
    history = net.fit(X, LABELS, callbacks=[fnn.ReduceOnPlateau(factor=0.5, patience=0)], **options)
    assert history["lr"] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    by_hand = network(backend=backend)
    for rate in history["lr"]:
        by_hand.fit(X, LABELS, batch_size=40, optimizer=fnn.SGD(rate))
    np.testing.assert_array_equal(net.state.theta, by_hand.state.theta)


def test_checkpoint(tmp_path):
    recorder, net = Recorder(), network()
    for _ in range(2):
        net.fit(X, LABELS, epochs=4, callbacks=[recorder, fnn.Checkpoint(tmp_path / "net-{epoch:02d}.fastnn", every=2)])
    assert sorted(os.listdir(tmp_path)) == [f"net-{epoch:02d}.fastnn" for epoch in (2, 4, 6, 8)]
    loaded = fnn.load(tmp_path / "net-06.fastnn", backend="numpy")
    assert loaded.epochs == 6
    np.testing.assert_array_equal(loaded.state.theta, recorder.parameters[5])


def test_checkpoint_of_one_name_keeps_the_newest(tmp_path):
    network().fit(X, LABELS, epochs=3, callbacks=[fnn.Checkpoint(str(tmp_path / "newest"))])
    assert os.listdir(tmp_path) == ["newest"]
    assert fnn.load(tmp_path / "newest", backend="numpy").epochs == 3


def test_checkpoint_leaves_other_braces_alone(tmp_path):
    network().fit(X, LABELS, callbacks=[fnn.Checkpoint(tmp_path / "{run 1}-{epoch}")])
    assert os.listdir(tmp_path) == ["{run 1}-1"]


@pytest.mark.parametrize("kind", [fnn.Checkpoint, fnn.CSVLogger])
def test_a_folder_that_is_not_there_is_reported_before_training(tmp_path, kind):
    net = network()
    with raises(FileNotFoundError, "folder"):
        net.fit(X, LABELS, callbacks=[kind(tmp_path / "missing" / "file")])
    assert net.epochs == 0


def test_csv_logger(tmp_path):
    path, net = tmp_path / "log.csv", network()
    logger = fnn.CSVLogger(path)
    histories = [net.fit(X, LABELS, epochs=2, callbacks=[logger]), net.fit(X, LABELS, validation=0.25, callbacks=[logger])]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "accuracy", "lr", "seconds", "val_loss", "val_accuracy"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == histories[0]["loss"] + histories[1]["loss"]
    assert (rows[0]["val_loss"], float(rows[2]["val_loss"])) == ("", histories[1]["val_loss"][0])


def test_csv_is_never_half_written(tmp_path, monkeypatch):
    path, net, replace = tmp_path / "log.csv", network(), os.replace
    seen = []

    def replace_later(source, target):
        seen.append((Path(source).read_text(), path.read_text() if path.exists() else None))
        if len(seen) == 3:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_later)
    with raises(OSError, "No space"):
        net.fit(X, LABELS, epochs=5, callbacks=[fnn.CSVLogger(path)])
    assert [new.count("\n") for new, _ in seen] == [2, 3, 4]
    assert [old for _, old in seen] == [None, *[new for new, _ in seen[:2]]]
    assert path.read_text() == seen[1][0]
    assert os.listdir(tmp_path) == ["log.csv"]


# --- chunks ---------------------------------------------------------------------------------------------------------------------------


def train_in_chunks(monkeypatch, backend, first, seconds):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", first)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", seconds)
    recorder, net = Recorder(), noisy(backend=backend)
    optimizer = fnn.NAdam(fnn.OneCycle(0.1, 50), clip_norm=1.0)
    history = net.fit(X, LABELS, epochs=3, batch_size=3, optimizer=optimizer, validation=0.25, callbacks=[recorder])
    return net, history, recorder.hooks.count("chunk")


def test_chunks_change_nothing(backend, monkeypatch):
    whole, history, chunks = train_in_chunks(monkeypatch, backend, 1e15, 1e6)
    assert chunks == 3
    for first, seconds in ((0, 0), (0, 1e6), (3 * 6 * whole.program.n_parameters * 3, 0)):
        cut, cut_history, chunks = train_in_chunks(monkeypatch, backend, first, seconds)
        assert 3 < chunks <= 30
        for name in ("theta", "buffers", "slots", "products"):
            np.testing.assert_array_equal(getattr(whole.state, name), getattr(cut.state, name), err_msg=name)
        for name in ("val_loss", "val_accuracy", "accuracy", "lr"):
            assert history[name] == cut_history[name]


def test_chunks_do_not_change_the_loss_recorded(backend, monkeypatch):
    """Where an epoch is cut depends on the clock; what it reports must not."""
    _, history, _ = train_in_chunks(monkeypatch, backend, 1e15, 1e6)
    _, cut_history, _ = train_in_chunks(monkeypatch, backend, 0, 0)
    assert history["loss"] == pytest.approx(cut_history["loss"], rel=1e-12)


# --- divergence -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lr", [30.0, 1e15, 1e300])
def test_divergence(backend, dtype, lr):
    recorder, net = Recorder(), network([fnn.Dense(5), fnn.BatchNorm(), fnn.Dense(5), fnn.Dense(2)], "mse", dtype=dtype, backend=backend)
    with raises(fnn.DivergenceError, "epoch", "mini-batch", "learning rate", f"{lr:g}") as caught:
        net.fit(X, VALUES, epochs=200, batch_size=10, optimizer=fnn.SGD(lr), callbacks=[recorder])
    error = caught.value
    assert f"epoch {error.epoch}, mini-batch {error.step}" in str(error)
    assert 1 <= error.step <= 4
    assert error.epoch == len(recorder.parameters) + 1
    assert recorder.hooks[-1] == "end"
    assert np.isfinite(net.state.theta).all()
    assert np.isfinite(net.state.buffers).all()
    assert net.optimizer_kind is None


def test_divergence_says_where(backend):
    data = X.copy()

    def spoil(training):
        if training.epoch == 2:
            data[25] = 1e200  # float64 is not copied: the third mini-batch of ten rows

    with raises(fnn.DivergenceError, "epoch 3, mini-batch 3", "the loss became inf") as caught:
        network([fnn.Dense(2)], "mse", backend=backend).fit(
            data, VALUES, epochs=9, batch_size=10, shuffle=False, optimizer="sgd", callbacks=[At("on_epoch_end", spoil)]
        )
    assert (caught.value.epoch, caught.value.step) == (3, 3)


@pytest.mark.parametrize("first", [0, 1e15], ids=["chunks of one step", "chunks of an epoch"])
@pytest.mark.parametrize("lr", [1e10, 1e200, 1e300])
def test_training_can_go_on_after_divergence(backend, monkeypatch, lr, first):
    """The step that spoils the parameters may be the last of its chunk."""
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", first)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    net = network([fnn.Dense(5, "relu"), fnn.Dense(2)], "mse", backend=backend)
    net.fit(X, VALUES)
    with pytest.raises(fnn.DivergenceError):
        net.fit(X, VALUES, epochs=100, batch_size=10, optimizer=fnn.SGD(lr))
    history = net.fit(X, VALUES, epochs=3, optimizer=fnn.Adam(0.01))
    assert np.isfinite(history["loss"]).all()


# --- Ctrl-C ---------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def handler():
    """A handler of Ctrl-C that counts; whatever a test leaves behind, the one before comes back."""
    calls, before = [], signal.getsignal(signal.SIGINT)

    def on_interrupt(number, frame):
        calls.append(number)

    signal.signal(signal.SIGINT, on_interrupt)
    yield SimpleNamespace(function=on_interrupt, calls=calls)
    signal.signal(signal.SIGINT, before)


def interrupt(training=None):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_ctrl_c_ends_training_soon_and_keeps_what_was_learnt(backend, handler, optimizer):
    net = noisy(backend=backend)
    net.fit(X, LABELS)  # compiled by now
    before = net.state.theta.copy()
    timer = threading.Timer(0.2, interrupt)
    timer.start()
    started = time.perf_counter()
    slow = At("on_epoch_end", lambda training: time.sleep(0.01))
    history = net.fit(X, LABELS, epochs=10**6, batch_size=4, optimizer=optimizer, callbacks=[slow])
    timer.join()
    assert history.stopped == "interrupted"
    assert 0.1 < time.perf_counter() - started < 10
    assert len(history["loss"]) == len(history["seconds"]) > 0
    assert np.isfinite(net.state.theta).all()
    assert (net.state.theta != before).any()
    assert signal.getsignal(signal.SIGINT) is handler.function
    assert not handler.calls
    assert net.fit(X, LABELS).stopped is None


def test_ctrl_c_ends_after_the_current_chunk(backend, handler, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    recorder = Recorder()
    history = network(backend=backend).fit(X, LABELS, epochs=5, batch_size=4, callbacks=[recorder, At("on_chunk_end", interrupt)])
    assert recorder.hooks == ["start", "chunk", "epoch 1", "end"]
    assert (history.stopped, len(history["loss"])) == ("interrupted", 1)


def test_a_second_ctrl_c_interrupts_at_once(handler):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        network().fit(X, LABELS, callbacks=[recorder, At("on_chunk_end", lambda t: [interrupt(), interrupt()])])
    assert recorder.hooks == ["start", "chunk", "end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_comes_back_after_an_error(handler):
    with pytest.raises(ZeroDivisionError):
        network().fit(X, LABELS, callbacks=[At("on_epoch_end", lambda t: 1 / 0)])
    assert signal.getsignal(signal.SIGINT) is handler.function


def test_fit_in_another_thread(backend, handler):
    net, main, results = noisy(backend=backend), noisy(backend=backend), []
    thread = threading.Thread(target=lambda: results.append(net.fit(X, LABELS, epochs=3)))
    thread.start()
    thread.join()
    assert results[0]["loss"] == main.fit(X, LABELS, epochs=3)["loss"]
    np.testing.assert_array_equal(net.state.theta, main.state.theta)


# --- progress -------------------------------------------------------------------------------------------------------------------------


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Standard error as a terminal; not a fixture, since pytest puts its own back when the test begins."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    return sys.stderr


def lines(text):
    """What was printed for good, without the bar and its control codes."""
    return re.findall(r"epoch .*samples/s.*", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def test_without_a_terminal_nothing_is_printed(capfd):
    network().fit(X, LABELS, epochs=2, validation=0.25)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_terminal_gets_a_line_an_epoch(monkeypatch, capfd, optimizer):
    error = terminal(monkeypatch)
    history = network().fit(X, LABELS, epochs=3, validation=0.25, optimizer=optimizer)
    shown = lines(error.getvalue())
    assert len(shown) == 3
    for epoch, line in enumerate(shown):
        assert line.startswith(f"epoch {epoch + 1}/3")
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert f" {name} {history[name][epoch]:.4g} " in line
        assert f" {30 / history['seconds'][epoch]:,.0f} samples/s" in line
    assert capfd.readouterr().out == ""


def test_progress_can_be_switched_off(monkeypatch):
    error = terminal(monkeypatch)
    network().fit(X, LABELS, progress=False)
    assert error.getvalue() == ""


def test_the_cursor_comes_back_after_an_error(monkeypatch):
    error = terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        network().fit(X, LABELS, callbacks=[At("on_epoch_end", lambda t: 1 / 0)])
    text = error.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_no_standard_error_at_all(monkeypatch):
    """As under pythonw or a service."""
    monkeypatch.setattr(sys, "stderr", None)
    assert network().fit(X, LABELS)["loss"]


# --- L-BFGS ---------------------------------------------------------------------------------------------------------------------------


def linear(backend, **options):
    return network([fnn.Dense(2, **options)], "mse", backend=backend)


def test_lbfgs_finds_the_least_squares_solution(backend):
    net = linear(backend)
    history = net.fit(X, VALUES, epochs=200, optimizer=fnn.LBFGS())
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(40)]), VALUES, rcond=None)[0]
    np.testing.assert_allclose(net.parameters["0.weight"], solution[:4], atol=1e-6)
    np.testing.assert_allclose(net.parameters["0.bias"], solution[4], atol=1e-6)
    assert history.stopped == "converged"
    assert len(history["loss"]) == len(history["lr"]) == net.epochs < 200
    assert (np.diff(history["loss"]) <= 0).all()


def test_lbfgs_decays_weights_only(backend):
    net, centred = linear(backend), X - X.mean(axis=0)
    net.fit(X, VALUES, epochs=200, optimizer=fnn.LBFGS(weight_decay=0.3))
    # ∂/∂W of (1/2n)‖XW + b − Y‖² + ½λ‖W‖²: the mean over two outputs halves the squares
    weight = np.linalg.solve(centred.T @ centred / 40 + 0.3 * np.eye(4), centred.T @ (VALUES - VALUES.mean(axis=0)) / 40)
    np.testing.assert_allclose(net.parameters["0.weight"], weight, atol=1e-6)
    np.testing.assert_allclose(net.parameters["0.bias"], VALUES.mean(axis=0) - X.mean(axis=0) @ weight, atol=1e-6)


def test_lbfgs_counts_penalties_like_weight_decay(backend):
    decayed, penalised = linear(backend), linear(backend, l2=0.3)
    decayed.fit(X, VALUES, epochs=200, optimizer=fnn.LBFGS(weight_decay=0.3))
    penalised.fit(X, VALUES, epochs=200, optimizer="lbfgs")
    np.testing.assert_allclose(decayed.state.theta, penalised.state.theta, atol=1e-6)


def test_lbfgs_runs_for_the_epochs_asked_for():
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(3)])
    history = net.fit(X, LABELS, epochs=4, optimizer="lbfgs")
    assert all(len(values) == 4 for values in history.values())
    assert (history.stopped, net.epochs) == (None, 4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lbfgs_with_noise_and_running_statistics(backend, dtype):
    net = noisy(backend=backend, dtype=dtype)
    history = net.fit(X, LABELS, epochs=15, optimizer="lbfgs", validation=0.25)
    assert history["loss"][-1] < history["loss"][0]
    assert np.isfinite([*history["val_loss"], *net.state.buffers]).all()
    assert net.buffers["1.running_mean"].any()
    assert net.state.step == 1  # the next call draws new masks


def test_lbfgs_with_nothing_to_gain():
    net = network([fnn.Dense(2, init="zeros")], "mse")
    history = net.fit(X, np.zeros((40, 2)), epochs=5, optimizer="lbfgs")
    assert (history["loss"], history.stopped) == ([0.0], "converged")


def test_lbfgs_and_early_stopping():
    net = network([fnn.Dense(8, "tanh"), fnn.Dense(3)])
    history = net.fit(X, LABELS, epochs=50, optimizer="lbfgs", validation=(X, WRONG), callbacks=[fnn.EarlyStopping(patience=1)])
    assert "val_loss" in history.stopped
    assert net.evaluate(X, WRONG)["loss"] == min(history["val_loss"])


def test_lbfgs_does_not_pass_over_max_norm():
    with raises(ValueError, "max_norm", "LBFGS"):
        network([fnn.Dense(2, max_norm=0.1)], "mse").fit(X, VALUES, optimizer="lbfgs")


def test_lbfgs_backs_off_from_an_infinite_loss():
    """A trial step of the line search may overflow; that is no divergence."""
    wide = X * 1000
    net = network([fnn.Dense(1)], "poisson")
    net.parameters["0.weight"] = np.full((4, 1), 1e-4)
    history = net.fit(wide, np.exp(X[:, 0]), epochs=20, optimizer="lbfgs")
    assert np.isfinite(history["loss"]).all()
