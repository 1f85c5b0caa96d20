"""Training on a GPU: reproducible bits, streamed samples, the state, and errors."""

import functools

import numpy as np
import pytest
from builders import (
    OUTPUTS,
    STEPPING,
    assert_same_bits,
    features,
    in_threads,
    learnt,
    optimizer,
    relative_error,
    sample_weights,
    targets,
)
from gpu_cases import BACKEND, BOTH, DTYPES, MLP, PATHS, WIDE, data, make, reference_of

import fastnn as fnn
from fastnn.training import loop

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_path = pytest.mark.parametrize("path", PATHS)
each_rule = pytest.mark.parametrize("rule", STEPPING)
ROWS, BATCH = 59, 6  # ten batches, the last one of five


def train(net, rule="adam", epochs=5, rows=ROWS, **options):
    net.fit(
        *data(rows=rows, dtype=net.dtype.name),
        epochs=epochs,
        batch_size=options.pop("batch_size", BATCH),
        optimizer=optimizer(rule) if isinstance(rule, str) else rule,
        progress=False,
        **options,
    )
    return net


# --- the same bits --------------------------------------------------------------------------------


@each_path
@each_dtype
@each_rule
def test_training_twice_gives_the_same_bits(rule, dtype, path):
    a, b = (
        train(make(BOTH[path], dtype=dtype), rule, sample_weight=sample_weights(ROWS))
        for _ in range(2)
    )
    assert_same_bits(a, b)


def test_large_products_give_the_same_bits():
    rng = np.random.default_rng(0)
    X, y, nets = rng.random((1000, 784), dtype=np.float32), rng.integers(0, 10, 1000), []
    for _ in range(3):
        net = fnn.Network(
            [fnn.Dense(1024, "relu"), fnn.Dense(1024, "relu"), fnn.Dense(10)],
            784,
            "softmax_cross_entropy",
            backend=BACKEND,
        )
        net.fit(X, y, epochs=3, batch_size=256, progress=False)
        nets.append(net)
    for net in nets[1:]:
        assert_same_bits(net, nets[0])
        np.testing.assert_array_equal(net.predict(X), nets[0].predict(X))


@each_path
@each_dtype
@each_rule
@pytest.mark.parametrize("saved", [False, True], ids=["", "saved"])
def test_five_epochs_twice_are_ten(rule, dtype, path, saved, tmp_path):
    how = {"rule": optimizer(rule, lr=fnn.Cosine(0.01, 100)), "validation": 0.25}
    whole = train(make(BOTH[path], dtype=dtype), epochs=10, **how)
    parts = train(make(BOTH[path], dtype=dtype), epochs=5, **how)
    if saved:
        parts.save(tmp_path / "half.fastnn")
        parts = fnn.load(tmp_path / "half.fastnn", backend=BACKEND)
    assert_same_bits(train(parts, epochs=5, **how), whole)


@each_path
@each_dtype
def test_bits_do_not_depend_on_where_fit_cuts_an_epoch(dtype, path, monkeypatch):
    nets = [make(BOTH[path], dtype=dtype) for _ in range(2)]
    train(nets[0])
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    assert_same_bits(train(nets[1]), nets[0])


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 63, 64, 65, 73, 137])
def test_graphs_of_several_steps_leave_none_out(steps, monkeypatch):
    """Replays of 64, 8 and 1 steps, whatever their number, are as many steps one at a time."""
    nets, rows = [make(MLP["graph"]) for _ in range(2)], steps * BATCH
    train(nets[0], epochs=1, rows=rows)
    assert nets[0].state.step == steps
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    train(nets[1], epochs=1, rows=rows)
    assert_same_bits(nets[1], nets[0])
    reference = make(MLP["graph"]).copy("float64", "numpy")
    assert (
        relative_error(nets[0].parameters, train(reference, epochs=1, rows=rows).parameters) <= 1e-3
    )


@each_path
@each_dtype
@pytest.mark.parametrize("rows", [1, 5, 6, 7, 13])
def test_last_batches_of_any_length(rows, dtype, path):
    net = make(BOTH[path] if rows > 1 else MLP[path], dtype=dtype)
    reference = reference_of(net)
    for one in (net, reference):
        train(one, "sgd", epochs=4, rows=rows)
    assert relative_error(net.parameters, reference.parameters) <= (
        1e-4 if dtype == "float32" else 1e-9
    )


def test_batches_change_size_from_call_to_call():
    for path in PATHS:
        nets = [
            make(MLP[path], dtype="float64"),
            make(MLP[path], dtype="float64").copy(backend="numpy"),
        ]
        for net in nets:
            for batch_size in (6, 20, 3, 59, 6):
                train(net, epochs=1, batch_size=batch_size)
        assert relative_error(nets[0].parameters, nets[1].parameters) <= 1e-9


# --- data -----------------------------------------------------------------------------------------


@pytest.mark.real
@each_path
@each_dtype
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_data_larger_than_the_device_gives_the_same_bits(weighted, dtype, path, monkeypatch):
    from fastnn._kernels.numba_cuda.runtime import sample_transfer

    n, rng, streams = 300_000, np.random.default_rng(0), []
    X, y = rng.normal(size=(n, 60)).astype(dtype), rng.normal(size=(n, OUTPUTS))
    weights = rng.integers(0, 3, n) if weighted else None
    make_stream = sample_transfer.StreamedSamples
    monkeypatch.setattr(
        sample_transfer,
        "StreamedSamples",
        lambda *arguments: streams.append(1) or make_stream(*arguments),
    )
    nets, predictions = [], []
    for limit in (None, int(0.9 * X.nbytes)):
        if limit:
            monkeypatch.setenv("FASTNN_CUDA_MEMORY", str(limit))
        net = make(BOTH[path], dtype=dtype, inputs=60)
        net.fit(X, y, epochs=2, batch_size=100, sample_weight=weights, progress=False)
        nets.append(net)
        predictions.append(net.predict(X))
    assert streams, "all data stayed on the GPU"
    assert_same_bits(*nets)
    assert relative_error(*({"z": found} for found in predictions)) <= (
        1e-6 if dtype == "float32" else 1e-13
    )


@each_path
def test_data_may_change_between_calls(path):
    """A call does not use samples of an earlier one."""
    X, y = data(rows=ROWS)
    net, reference = make(MLP[path]), make(MLP[path])
    net.fit(X, y, epochs=2, batch_size=BATCH, progress=False)
    reference.fit(X.copy(), y.copy(), epochs=2, batch_size=BATCH, progress=False)
    other = X[::-1].copy()
    X[:] = other
    net.fit(X, y, epochs=2, batch_size=BATCH, progress=False)
    reference.fit(other, y, epochs=2, batch_size=BATCH, progress=False)
    assert_same_bits(net, reference)


# --- state ----------------------------------------------------------------------------------------


class Observer:
    """Reads the parameters while a training runs, and scales a weight by ``factor``."""

    def __init__(self, factor=None):
        self.factor, self.seen = factor, []

    def on_chunk_end(self, training):
        self.seen.append({name: values.copy() for name, values in training.net.parameters.items()})

    def on_epoch_end(self, training):
        if self.factor is not None:
            training.net.parameters["0.weight"] = self.factor * training.net.parameters["0.weight"]


@each_path
def test_callbacks_see_and_change_parameters(path):
    plain, observer = make(MLP[path], dtype="float64"), Observer()
    train(plain, callbacks=[observer])
    for name, values in plain.parameters.items():
        np.testing.assert_array_equal(observer.seen[-1][name], values)
    assert_same_bits(plain, train(make(MLP[path], dtype="float64")))  # reading changes nothing
    nets = [
        make(MLP[path], dtype="float64"),
        make(MLP[path], dtype="float64").copy(backend="numpy"),
    ]
    for net in nets:
        train(net, callbacks=[Observer(0.5)])
    assert relative_error(learnt(nets[0]), learnt(nets[1])) <= 1e-8
    assert relative_error(nets[0].parameters, plain.parameters) > 1e-3


@each_path
def test_callbacks_of_the_library(path, tmp_path):
    histories = []
    for backend in (BACKEND, "numpy"):
        net = make(MLP[path], dtype="float64").copy(backend=backend)
        callbacks = [
            fnn.EarlyStopping(patience=2, restore_best=True),
            fnn.Checkpoint(tmp_path / f"{backend}.fastnn", every=2),
            fnn.ReduceOnPlateau(),
        ]
        X, y = data(rows=80, dtype="float64")
        history = net.fit(
            X,
            y,
            epochs=12,
            batch_size=16,
            optimizer=fnn.Adam(0.05),
            validation=0.3,
            callbacks=callbacks,
            progress=False,
        )
        histories.append((history, net, fnn.load(tmp_path / f"{backend}.fastnn", backend="numpy")))
    (found, net, kept), (expected, reference, reference_kept) = histories
    np.testing.assert_allclose(found["val_loss"], expected["val_loss"], rtol=1e-6)
    assert relative_error(net.parameters, reference.parameters) <= 1e-6
    assert relative_error(kept.parameters, reference_kept.parameters) <= 1e-6


@each_path
@each_dtype
def test_saved_on_the_gpu_loaded_without_one(dtype, path, tmp_path):
    net = train(make(BOTH[path], dtype=dtype))
    net.save(tmp_path / "net.fastnn")
    there = fnn.load(tmp_path / "net.fastnn", backend="numpy")
    assert_same_bits(net, there)
    X, _ = data(rows=500, dtype=dtype)
    assert relative_error({"z": net.forward(X)}, {"z": there.forward(X)}) <= (
        1e-5 if dtype == "float32" else 1e-12
    )
    for one in (net, there):
        train(one, epochs=2)
    assert relative_error(net.parameters, there.parameters) <= (
        1e-4 if dtype == "float32" else 1e-9
    )


@each_path
@each_dtype
def test_divergence_stops_before_the_update(dtype, path):
    net = fnn.Network([*MLP[path]], 4, "mse", dtype, BACKEND)
    net.fit(features(ROWS), targets("values", ROWS), batch_size=BATCH, progress=False)
    with pytest.raises(fnn.DivergenceError, match="diverged") as error:
        net.fit(
            features(ROWS),
            1e6 * targets("values", ROWS),
            epochs=300,
            batch_size=BATCH,
            optimizer=fnn.SGD(1e6),
            progress=False,
        )
    assert np.isfinite(net.state.theta).all()
    expected = fnn.Network([*MLP[path]], 4, "mse", dtype, "numpy")
    expected.fit(features(ROWS), targets("values", ROWS), batch_size=BATCH, progress=False)
    with pytest.raises(fnn.DivergenceError) as reference:
        expected.fit(
            features(ROWS),
            1e6 * targets("values", ROWS),
            epochs=300,
            batch_size=BATCH,
            optimizer=fnn.SGD(1e6),
            progress=False,
        )
    assert (error.value.epoch, error.value.step) == (reference.value.epoch, reference.value.step)
    # The network can be trained further.
    net.fit(features(ROWS), targets("values", ROWS), epochs=2, batch_size=BATCH, progress=False)
    assert np.isfinite(net.state.theta).all()


# --- prediction -----------------------------------------------------------------------------------


@each_path
@each_dtype
@pytest.mark.parametrize("rows", [1, 2, 33, 1000, 20_001])
def test_predictions(rows, dtype, path):
    net = train(make(BOTH[path], dtype=dtype), epochs=1)
    X, _ = data(rows=rows, dtype=dtype)
    reference = reference_of(net)
    assert relative_error({"z": net.forward(X)}, {"z": reference.forward(X)}) <= (
        1e-5 if dtype == "float32" else 1e-12
    )
    blocks = np.concatenate(
        [
            net.forward(X[: rows // 3 + 1]),
            *([net.forward(X[rows // 3 + 1 :])] if rows > rows // 3 + 1 else []),
        ]
    )
    assert relative_error({"z": blocks}, {"z": reference.forward(X)}) <= (
        1e-5 if dtype == "float32" else 1e-12
    )


@each_path
@each_dtype
def test_links(dtype, path):
    for loss in ("softmax_cross_entropy", "binary_cross_entropy", "poisson", "mse"):
        net = make(MLP[path], loss, dtype)
        X, _ = data(rows=100, dtype=dtype)
        np.testing.assert_allclose(
            net.predict(X),
            reference_of(net).predict(X),
            rtol=1e-4 if dtype == "float32" else 1e-10,
            atol=1e-6,
        )


@each_path
@each_dtype
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_noticed(value, dtype, path):
    net = make(MLP[path], dtype=dtype)
    clean, _ = data(rows=300, dtype=dtype)
    for row, column in ((0, 0), (150, 3), (299, 1)):
        X = clean.copy()
        X[row, column] = value
        raw, finite = net.engine.forward(net.state, X)
        assert not finite
        assert np.isnan(raw[row]).all()
        kept = np.arange(300) != row
        np.testing.assert_array_equal(raw[kept], net.engine.forward(net.state, clean)[0][kept])
        with pytest.raises(ValueError, match=f"X is .* row {row}"):
            net.predict(X)
    assert net.engine.forward(net.state, clean)[1]


def test_several_networks_take_turns():
    """Each has its own memory on the one device."""
    alone = [train(make(BOTH[path], seed=seed), epochs=4) for path in PATHS for seed in (1, 2)]
    coexisting = [make(BOTH[path], seed=seed) for path in PATHS for seed in (1, 2)]
    for _ in range(4):
        for net in coexisting:
            train(net, epochs=1)
    for one, other in zip(coexisting, alone, strict=True):
        assert_same_bits(one, other)


def test_networks_in_threads():
    alone = [train(make(BOTH[path], seed=seed), epochs=10) for path in PATHS for seed in (1, 2)]
    coexisting = [make(BOTH[path], seed=seed) for path in PATHS for seed in (1, 2)]
    in_threads(*(functools.partial(train, net, "adam", 10) for net in coexisting))
    for one, other in zip(coexisting, alone, strict=True):
        assert_same_bits(one, other)


@pytest.mark.real
def test_memory_is_given_back():
    """A hundred networks in turn use no more memory than a few."""
    from fastnn._kernels.numba_cuda.driver.device import open_device

    def free():
        return open_device().free_memory()

    X, y = features(200), targets("values", 200)
    for number in range(100):
        net = fnn.Network(
            [fnn.Dense(2048, "relu"), fnn.Dense(1024, "relu"), fnn.Dense(OUTPUTS)],
            4,
            "mse",
            backend=BACKEND,
        )
        net.fit(X, y, batch_size=100, progress=False)
        if number == 10:
            before = free()
    del net
    assert free() >= before - (64 << 20)


def test_a_wide_network_learns():
    """On the MNIST sample of the package."""
    (X, y), (Xt, yt) = fnn.datasets.mnist_sample()
    for layers in (
        [fnn.Dense(64, "relu"), fnn.Dense(10)],
        [fnn.Dense(4 * WIDE, "relu"), fnn.Dropout(0.2), fnn.Dense(10)],
    ):
        net = fnn.Network(layers, 784, "softmax_cross_entropy", backend=BACKEND)
        net.fit(X, y, epochs=10, batch_size=32, progress=False)
        assert net.evaluate(Xt, yt)["accuracy"] > 0.85
