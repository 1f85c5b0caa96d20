"""The training loop: history, going on, validation, chunks and divergence."""

import numpy as np
import pytest
from training_cases import (
    LABELS,
    RNG,
    STEPPING,
    VALUES,
    At,
    Recorder,
    X,
    network,
    noisy,
    raises,
    record_orders,
)

import fastnn as fnn
from fastnn.training import loop as loop

# --- history --------------------------------------------------------------------------------------

KEYS = {
    "classification": ("softmax_cross_entropy", LABELS, {}, ["loss", "accuracy", "lr", "seconds"]),
    "regression": ("quadratic", np.eye(3)[LABELS], {}, ["loss", "lr", "seconds"]),
    "validation": (
        "softmax_cross_entropy",
        LABELS,
        {"validation": 0.25},
        ["loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"],
    ),
    "regression, validation": (
        "mse",
        np.eye(3)[LABELS],
        {"validation": 0.25},
        ["loss", "val_loss", "val_r2", "lr", "seconds"],
    ),
    "metrics": (
        "mse",
        np.eye(3)[LABELS],
        {"validation": 0.25, "metrics": ("mae", "accuracy", "r2")},
        ["loss", "val_loss", "val_mae", "val_r2", "lr", "seconds"],
    ),
    "no metrics": (
        "mse",
        np.eye(3)[LABELS],
        {"validation": 0.25, "metrics": ()},
        ["loss", "val_loss", "lr", "seconds"],
    ),
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


def test_loss_and_accuracy_are_means_over_what_was_trained_on(engine):
    weights = RNG.uniform(size=40)
    net, halves = network(backend=engine), []
    with_one_step = network(backend=engine)
    for rows in (slice(0, 30), slice(30, 40)):
        scores = with_one_step.evaluate(X[rows], LABELS[rows], sample_weight=weights[rows])
        halves.append((weights[rows].sum(), scores))
        with_one_step.fit(
            X[rows], LABELS[rows], batch_size=30, optimizer="sgd", sample_weight=weights[rows]
        )
    history = net.fit(
        X, LABELS, batch_size=30, optimizer="sgd", shuffle=False, sample_weight=weights
    )
    for name in ("loss", "accuracy"):
        assert history[name] == [
            pytest.approx(sum(w * scores[name] for w, scores in halves) / weights.sum(), rel=1e-9)
        ]


def test_accuracy_of_an_exact_share_is_that_share(engine):
    net = network(dtype="float32", backend=engine)
    share = (net.predict(X).argmax(axis=1) == LABELS).mean()
    assert net.fit(X, LABELS, batch_size=40, optimizer="sgd")["accuracy"] == [share]


def test_the_rate_recorded_is_that_of_the_last_step():
    history = network().fit(
        X, LABELS, epochs=3, batch_size=10, optimizer=fnn.SGD(fnn.Exponential(1.0, 0.5))
    )
    assert history["lr"] == [0.5**3, 0.5**7, 0.5**11]


# --- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", STEPPING)
def test_fit_goes_on_where_it_stopped(engine, optimizer):
    once, twice = noisy(backend=engine), noisy(backend=engine)
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


def test_same_kind_keeps_its_state_and_takes_new_rates(engine):
    net = network(backend=engine)
    g1, _ = step(net, fnn.SGD(0.1, momentum=0.9))
    g2, change = step(net, fnn.SGD(0.5, momentum=0.9))
    np.testing.assert_allclose(change, -0.5 * (0.9 * g1 + g2), rtol=1e-9)
    assert net.state.optimizer_step == 2


def test_another_kind_starts_afresh(engine):
    net = network(backend=engine)
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
    for bad in (
        {"optimizer": "sgd", "callbacks": [fnn.EarlyStopping()]},
        {"optimizer": "sgd", "validation": 2.0},
    ):
        with pytest.raises(ValueError, match=r"val_loss|validation"):
            net.fit(X, LABELS, **bad)
        assert (net.optimizer_kind, net.state.optimizer_step, net.epochs) == (
            "Adam",
            step_before,
            1,
        )
        np.testing.assert_array_equal(net.state.theta, before)


# --- order and validation -------------------------------------------------------------------------


def test_without_shuffle_samples_come_in_order(engine):
    net = network(backend=engine)
    orders = record_orders(net)
    net.fit(X, LABELS, epochs=2, batch_size=7, shuffle=False)
    assert orders == [list(range(40))] * 2


def test_every_epoch_has_an_order_of_its_own_the_same_on_every_engine(engine):
    orders = []
    for net in (network(backend=engine), network(backend="numpy")):
        orders.append(record_orders(net))
        net.fit(X, LABELS, epochs=3, batch_size=7)
    assert orders[0] == orders[1]
    assert all(sorted(order) == list(range(40)) for order in orders[0])
    assert len({tuple(order) for order in orders[0]} | {tuple(range(40))}) == 4


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_short_last_batch_may_be_dropped(engine, shuffle):
    net, weights = network(backend=engine), RNG.uniform(0.5, 1, size=40)
    orders = record_orders(net)
    history = net.fit(
        X, LABELS, 4, 12, "sgd", shuffle=shuffle, sample_weight=weights, drop_last=True
    )
    assert [len(order) for order in orders] == [36] * 4
    assert net.state.step == 12
    used = [set(order) for order in orders]
    assert len(set.union(*used)) == (40 if shuffle else 36)
    # The means of an epoch are those of the samples it used.
    other = network(backend=engine)
    whole = other.fit(X[:36], LABELS[:36], 4, 12, "sgd", shuffle=False, sample_weight=weights[:36])
    if not shuffle:
        assert (history["loss"], history["accuracy"]) == (whole["loss"], whole["accuracy"])


@pytest.mark.parametrize(("rows", "batch_size"), [(40, 64), (40, 40), (40, 20), (1, 2)])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_nothing_is_dropped_where_no_batch_is_shorter(rows, batch_size, optimizer):
    nets = [network(), network()]
    for net, drop_last in zip(nets, (True, False), strict=True):
        net.fit(X[:rows], LABELS[:rows], 2, batch_size, optimizer, drop_last=drop_last)
    np.testing.assert_array_equal(nets[0].state.theta, nets[1].state.theta)


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
    assert (scores["loss"], scores["accuracy"]) == (
        history["val_loss"][-1],
        history["val_accuracy"][-1],
    )


def test_the_seed_chooses_what_is_held_out():
    held_out = []
    for seed in (0, 0, 1):
        net = network(seed=seed)
        orders = record_orders(net)
        net.fit(X, LABELS, validation=0.25)
        held_out.append(sorted(orders[0]))
    assert held_out[0] == held_out[1] != held_out[2]


def test_validation_pair(engine):
    net = network(backend=engine)
    orders = record_orders(net)
    history = net.fit(
        X[:30],
        LABELS[:30],
        epochs=2,
        validation=(X[30:].tolist(), LABELS[30:].tolist()),
        metrics=("accuracy", "mae"),
    )
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
        ("20%", TypeError, ["validation", "fraction", "str"]),
        (X, TypeError, ["validation", "(X, y)", "ndarray"]),
        ((X,), TypeError, ["validation", "(X, y)"]),
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


# --- chunks ---------------------------------------------------------------------------------------


def train_in_chunks(monkeypatch, engine, first, seconds):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", first)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", seconds)
    recorder, net = Recorder(), noisy(backend=engine)
    optimizer = fnn.NAdam(fnn.OneCycle(0.1, 50), clip_norm=1.0)
    history = net.fit(
        X,
        LABELS,
        epochs=3,
        batch_size=3,
        optimizer=optimizer,
        validation=0.25,
        callbacks=[recorder],
    )
    return net, history, recorder.hooks.count("chunk")


def test_chunks_change_nothing(engine, monkeypatch):
    whole, history, chunks = train_in_chunks(monkeypatch, engine, 1e15, 1e6)
    assert chunks == 3
    for first, seconds in ((0, 0), (0, 1e6), (3 * 6 * whole.program.n_parameters * 3, 0)):
        cut, cut_history, chunks = train_in_chunks(monkeypatch, engine, first, seconds)
        assert 3 < chunks <= 30
        for name in ("theta", "buffers", "slots", "mu_product"):
            np.testing.assert_array_equal(
                getattr(whole.state, name), getattr(cut.state, name), err_msg=name
            )
        for name in ("val_loss", "val_accuracy", "accuracy", "lr"):
            assert history[name] == cut_history[name]


def test_chunks_do_not_change_the_loss_recorded(engine, monkeypatch):
    """Where an epoch is cut depends on the clock; what it reports must not."""
    _, history, _ = train_in_chunks(monkeypatch, engine, 1e15, 1e6)
    _, cut_history, _ = train_in_chunks(monkeypatch, engine, 0, 0)
    assert history["loss"] == cut_history["loss"]


# --- divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lr", [30.0, 1e15, 1e300])
def test_divergence(engine, dtype, lr):
    recorder, net = (
        Recorder(),
        network(
            [fnn.Dense(5), fnn.BatchNorm(), fnn.Dense(5), fnn.Dense(2)],
            "mse",
            dtype=dtype,
            backend=engine,
        ),
    )
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


def test_divergence_says_where(engine):
    data = X.copy()

    def spoil(training):
        if training.epoch == 2:
            data[25] = 1e200  # float64 is not copied: the third mini-batch of ten rows

    with raises(fnn.DivergenceError, "epoch 3, mini-batch 3", "the loss became inf") as caught:
        network([fnn.Dense(2)], "mse", backend=engine).fit(
            data,
            VALUES,
            epochs=9,
            batch_size=10,
            shuffle=False,
            optimizer="sgd",
            callbacks=[At("on_epoch_end", spoil)],
        )
    assert (caught.value.epoch, caught.value.step) == (3, 3)


@pytest.mark.parametrize("first", [0, 1e15], ids=["chunks of one step", "chunks of an epoch"])
@pytest.mark.parametrize("lr", [1e10, 1e200, 1e300])
def test_training_can_go_on_after_divergence(engine, monkeypatch, lr, first):
    """The step that spoils the parameters may be the last of its chunk."""
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", first)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    net = network([fnn.Dense(5, "relu"), fnn.Dense(2)], "mse", backend=engine)
    net.fit(X, VALUES)
    with pytest.raises(fnn.DivergenceError):
        net.fit(X, VALUES, epochs=100, batch_size=10, optimizer=fnn.SGD(lr))
    history = net.fit(X, VALUES, epochs=3, optimizer=fnn.Adam(0.01))
    assert np.isfinite(history["loss"]).all()


def test_validation_rows_are_set_aside(engine):
    """Training on the others, as they come, gives the same bits."""
    held_out = np.array([3, 11, 5])
    kept = np.setdiff1d(np.arange(len(X)), held_out)
    first, second = (network(backend=engine) for _ in range(2))
    histories = (
        first.fit(X, LABELS, epochs=2, batch_size=8, shuffle=False, validation=held_out),
        second.fit(
            X[kept],
            LABELS[kept],
            epochs=2,
            batch_size=8,
            shuffle=False,
            validation=(X[np.sort(held_out)], LABELS[np.sort(held_out)]),
        ),
    )
    assert histories[0]["val_loss"] == histories[1]["val_loss"]
    for name, array in first.parameters.items():
        np.testing.assert_array_equal(array, second.parameters[name])


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "at least one"), ([-1], "from 0 to"), ([10**6], "from 0 to"), (None, "none is left")],
)
def test_validation_rows_that_cannot_be_set_aside(rows, message):
    rows = np.arange(len(X)) if rows is None else np.array(rows, int)
    with pytest.raises(ValueError, match=message):
        network().fit(X, LABELS, validation=rows)
