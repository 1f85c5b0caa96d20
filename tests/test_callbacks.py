"""Callbacks of `fit`: the hooks, early stopping, plateaus, checkpoints, the CSV log."""

import csv
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from training_cases import LABELS, WRONG, At, Recorder, X, network, noisy, raises

import fastnn as fnn
from fastnn.training import loop as loop


def test_hooks_and_their_order(monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    first, second = Recorder(), Recorder()
    network().fit(X, LABELS, epochs=2, batch_size=20, callbacks=(first, second))
    assert (
        first.hooks
        == ["start", "chunk", "chunk", "epoch 1", "chunk", "chunk", "epoch 2", "end"]
        == second.hooks
    )


def test_callbacks_see_the_training():
    seen = []
    net = network()
    see = At(
        "on_epoch_end",
        lambda t: seen.append((t.net is net, t.epoch, t.epochs, t.logged, len(t.history["loss"]))),
    )
    net.fit(X, LABELS, epochs=2, callbacks=[see])
    logged = ("loss", "accuracy", "lr", "seconds")
    assert seen == [(True, 1, 2, logged, 1), (True, 2, 2, logged, 2)]


def test_a_callback_can_stop():
    history = network().fit(
        X,
        LABELS,
        epochs=9,
        callbacks=[At("on_epoch_end", lambda t: t.epoch == 2 and t.stop("enough"))],
    )
    assert (len(history["loss"]), history.stopped) == (2, "enough")


def test_an_error_of_a_callback_passes_on_and_the_others_end():
    recorder = Recorder()
    with raises(ZeroDivisionError, "division"):
        network().fit(X, LABELS, callbacks=[recorder, At("on_epoch_end", lambda t: 1 / 0)])
    assert recorder.hooks == ["start", "chunk", "epoch 1", "end"]


def feed(callback, name, figures):
    """Feed a callback the figures of each epoch; returns reasons to stop and rate factors."""
    reasons, factors = [], []
    training = SimpleNamespace(
        history={name: []}, logged=(name,), rate_factor=1.0, net=network(), stop=reasons.append
    )
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


def test_early_stopping_may_keep_the_last_of_equals():
    stopping = fnn.EarlyStopping("val_accuracy", patience=1, keep_ties=True)
    values, kept = [0.5, 0.9, 0.9, 0.8, 0.7], []
    history = {"val_accuracy": []}
    state = SimpleNamespace(snapshot=lambda: len(history["val_accuracy"]), restore=kept.append)
    training = SimpleNamespace(
        history=history,
        logged=("val_accuracy",),
        net=SimpleNamespace(state=state),
        stop=lambda reason: kept.append("stopped"),
    )
    stopping.on_fit_start(training)
    for value in values:
        history["val_accuracy"].append(value)
        stopping.on_epoch_end(training)
    stopping.on_fit_end(training)
    assert kept == ["stopped", 3]


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_time_limit_ends_a_training_within_an_epoch(optimizer):
    history = network().fit(
        X, LABELS, epochs=100_000, optimizer=optimizer, callbacks=[fnn.TimeLimit(1e-6)]
    )
    assert len(history["loss"]) == 1
    assert history.stopped == "the time limit of 1e-06 s is over"


def test_a_time_limit_cuts_an_epoch_short(monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 1)  # chunks of one mini-batch
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    net = network()
    net.fit(X, LABELS, epochs=5, batch_size=4, callbacks=[fnn.TimeLimit(1e-9)])
    assert (net.epochs, net.state.step) == (1, 1)


def test_early_stopping_min_delta():
    assert (
        feed(fnn.EarlyStopping("loss", patience=1, min_delta=0.2), "loss", [1.0, 0.9, 0.85, 0.1])[0]
        == 3
    )


@pytest.mark.parametrize("first", [np.nan, np.inf])
def test_early_stopping_gets_over_a_bad_first_score(first):
    assert feed(fnn.EarlyStopping(patience=1), "val_loss", [first, 3.0, 2.0, 1.0, 0.5])[0] == 5


def test_early_stopping_restores_the_best_parameters(engine):
    recorder = Recorder()
    net = noisy(backend=engine)
    options = {
        "epochs": 50,
        "batch_size": 10,
        "validation": (X, WRONG),
        "optimizer": fnn.Adam(0.05),
    }
    history = net.fit(X, LABELS, callbacks=[fnn.EarlyStopping(patience=3), recorder], **options)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 1 + 4 < 50
    assert "val_loss" in history.stopped
    np.testing.assert_array_equal(net.state.theta, recorder.parameters[best])
    assert net.evaluate(X, WRONG)["loss"] == history["val_loss"][best]  # running statistics too


def test_early_stopping_may_keep_the_last_parameters():
    recorder, net = Recorder(), network()
    net.fit(
        X,
        LABELS,
        epochs=9,
        validation=(X, WRONG),
        callbacks=[recorder, fnn.EarlyStopping(patience=1, restore_best=False)],
    )
    np.testing.assert_array_equal(net.state.theta, recorder.parameters[-1])


def test_early_stopping_restores_also_where_all_epochs_ran():
    recorder, net = Recorder(), network()
    net.fit(
        X,
        LABELS,
        epochs=3,
        validation=(X, WRONG),
        callbacks=[recorder, fnn.EarlyStopping(patience=9)],
    )
    np.testing.assert_array_equal(net.state.theta, recorder.parameters[0])


def test_early_stopping_serves_several_calls():
    stopping, options = fnn.EarlyStopping(patience=1), {"epochs": 9, "validation": (X, WRONG)}
    assert len(network().fit(X, LABELS, callbacks=[stopping], **options)["loss"]) == 3
    assert len(network().fit(X, LABELS, callbacks=[stopping], **options)["loss"]) == 3


@pytest.mark.parametrize("kind", [fnn.EarlyStopping, fnn.ReduceOnPlateau])
@pytest.mark.parametrize(
    ("monitor", "hint"),
    [("val_loss", "give fit validation data"), ("acuracy", "recorded: loss, accuracy, lr")],
)
def test_a_missing_figure_is_reported_before_training(kind, monitor, hint):
    net = network()
    before = net.state.theta.copy()
    with raises(ValueError, kind.__name__, repr(monitor), hint):
        net.fit(X, LABELS, callbacks=[kind(monitor)])
    np.testing.assert_array_equal(net.state.theta, before)


def test_reduce_on_plateau():
    callback = fnn.ReduceOnPlateau("loss", factor=0.5, patience=1, minimum=0.2)
    assert feed(callback, "loss", [3, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1])[1] == [
        1,
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        0.25,
        0.2,
        0.2,
        0.2,
    ]


def test_reduce_on_plateau_lowers_the_rate(engine):
    options = {"epochs": 4, "batch_size": 40, "validation": (X, WRONG), "optimizer": fnn.SGD(0.1)}
    net = network(backend=engine)
    history = net.fit(X, LABELS, callbacks=[fnn.ReduceOnPlateau(factor=0.5, patience=0)], **options)
    assert history["lr"] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    by_hand = network(backend=engine)
    for rate in history["lr"]:
        by_hand.fit(X, LABELS, batch_size=40, optimizer=fnn.SGD(rate))
    np.testing.assert_array_equal(net.state.theta, by_hand.state.theta)


def test_checkpoint(tmp_path):
    recorder, net = Recorder(), network()
    for _ in range(2):
        net.fit(
            X,
            LABELS,
            epochs=4,
            callbacks=[recorder, fnn.Checkpoint(tmp_path / "net-{epoch:02d}.fastnn", every=2)],
        )
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
    histories = [
        net.fit(X, LABELS, epochs=2, callbacks=[logger]),
        net.fit(X, LABELS, validation=0.25, callbacks=[logger]),
    ]
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch",
        "loss",
        "accuracy",
        "lr",
        "seconds",
        "val_loss",
        "val_accuracy",
    ]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [float(row["loss"]) for row in rows] == histories[0]["loss"] + histories[1]["loss"]
    assert (rows[0]["val_loss"], float(rows[2]["val_loss"])) == ("", histories[1]["val_loss"][0])


def log_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def resumed(folder, epochs=1, logger=None, **options):
    """Train a copy of the saved network as a new process would, with a new logger."""
    net = fnn.load(folder / "m", backend="numpy")
    net.fit(X, LABELS, epochs, callbacks=[logger or fnn.CSVLogger(folder / "log.csv")], **options)
    net.save(folder / "m")


@pytest.fixture
def logged(tmp_path):
    """A folder with a network of three epochs and its log."""
    net = network()
    net.fit(X, LABELS, epochs=3, callbacks=[fnn.CSVLogger(tmp_path / "log.csv")])
    net.save(tmp_path / "m")
    return tmp_path


def test_a_resumed_training_goes_on_in_the_log(logged):
    before = (logged / "log.csv").read_text()
    resumed(logged, 2)
    text = (logged / "log.csv").read_text()
    assert text.startswith(before)
    assert text.count("epoch") == 1
    resumed(logged)
    assert [row["epoch"] for row in log_of(logged / "log.csv")] == ["1", "2", "3", "4", "5", "6"]


def test_columns_may_be_added_and_dropped_when_a_training_is_resumed(logged):
    resumed(logged, validation=0.25)
    resumed(logged)
    rows = log_of(logged / "log.csv")
    assert [row["val_loss"] != "" for row in rows] == [False, False, False, True, False]
    assert all(row["loss"] for row in rows)


def test_epochs_that_were_lost_are_replaced(logged):
    """A run was killed after it wrote rows of epochs that no saved network has."""
    fnn.load(logged / "m", backend="numpy").fit(
        X, LABELS, 4, callbacks=[fnn.CSVLogger(logged / "log.csv")]
    )
    lost = log_of(logged / "log.csv")
    assert len(lost) == 7
    resumed(logged)
    rows = log_of(logged / "log.csv")
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[3]["loss"] == lost[3]["loss"]


def test_another_training_does_not_replace_a_log(logged):
    before = (logged / "log.csv").read_bytes()
    with raises(ValueError, "log.csv", "up to epoch 3", "overwrite=True"):
        network().fit(X, LABELS, callbacks=[fnn.CSVLogger(logged / "log.csv")])
    assert (logged / "log.csv").read_bytes() == before
    network().fit(X, LABELS, callbacks=[fnn.CSVLogger(logged / "log.csv", overwrite=True)])
    assert [row["epoch"] for row in log_of(logged / "log.csv")] == ["1"]
    resumed(logged, logger=fnn.CSVLogger(logged / "log.csv", overwrite=True))
    assert [row["epoch"] for row in log_of(logged / "log.csv")] == ["1", "4"]


@pytest.mark.parametrize(
    "contents",
    [
        b"a,b\n1,2\n",
        b"epoch,loss\n1,0.5\n2,0.2",
        b"epoch,loss\n1,0.5\n2\n",
        b"epoch,loss\n1,0.5\n2,0.4,3\n",
        b"epoch,loss\none,0.5\n",
        b"epoch,loss\n" + b"9" * 5000 + b",0.5\n",
        b"epoch;loss\n1;0.5\n",
        b"epochs,loss\n",
        b"epoch,loss,loss\n1,2,3\n",
        b'epoch,loss\n1,"0.5\n',
        b"epoch,\xff\n1,2\n",
        b"\0" * 100,
        b"PK\x03\x04",
    ],
)
def test_a_file_that_is_no_log_is_refused_before_training(logged, contents):
    (logged / "log.csv").write_bytes(contents)
    net = fnn.load(logged / "m", backend="numpy")
    with raises(ValueError, "log.csv", "is not a log", "another path"):
        net.fit(X, LABELS, callbacks=[fnn.CSVLogger(logged / "log.csv", overwrite=True)])
    assert (logged / "log.csv").read_bytes() == contents
    assert net.epochs == 3


def test_an_empty_file_and_one_of_a_spreadsheet_are_logs(logged):
    text = (logged / "log.csv").read_text()
    (logged / "log.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    resumed(logged)
    assert [row["epoch"] for row in log_of(logged / "log.csv")] == ["1", "2", "3", "4"]
    for number, empty in enumerate((b"", b"epoch,loss\n"), 5):
        (logged / "log.csv").write_bytes(empty)
        resumed(logged)
        assert [row["epoch"] for row in log_of(logged / "log.csv")] == [str(number)]


@pytest.mark.parametrize("name", ["file", "./file", "link"])
@pytest.mark.parametrize("kind", [fnn.Checkpoint, fnn.CSVLogger])
def test_two_callbacks_on_one_file_are_refused(tmp_path, monkeypatch, kind, name):
    monkeypatch.chdir(tmp_path)
    os.symlink("file", "link")
    net = network()
    with raises(ValueError, f"callbacks[1] ({kind.__name__})", "callbacks[0] (Checkpoint)"):
        net.fit(X, LABELS, callbacks=[fnn.Checkpoint("file"), kind(name)])
    assert net.epochs == 0


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
