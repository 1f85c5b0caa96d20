"""The state on the device while a network trains: reads and writes on the host see it as usual."""

import copy
import inspect
import pickle

import fake_gpu
import numpy as np
import pytest
from builders import assert_same_bits
from training_cases import LABELS, VALUES, At, Recorder, X, network, noisy

import fastnn as fnn
from fastnn._kernels.contract import Engine
from fastnn._kernels.numba_cuda import engine as cuda_engine
from fastnn.training.samples import checked_samples

OPTIMIZERS = ["sgd", "adam", "rmsprop", "adadelta", "adamw", "lbfgs"]


@pytest.fixture(params=["persistent", "graph"])
def gpu(request, monkeypatch):
    return fake_gpu.install(monkeypatch, request.param)


@pytest.fixture
def many_chunks(monkeypatch):
    fake_gpu.one_step_chunks(monkeypatch)


# --- the same bits as on the CPU ------------------------------------------------------------------


def test_signatures_are_the_contracts():
    for name, function in inspect.getmembers(Engine, inspect.isfunction):
        if name == "__init__" or not name.startswith("_"):
            assert inspect.signature(getattr(cuda_engine.CudaEngine, name)) == inspect.signature(
                function
            ), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_gives_the_bits_of_the_engine_below(gpu, optimizer):
    weights = np.linspace(0.5, 2, len(X))
    nets = fake_gpu.pair()
    histories = [
        net.fit(X, LABELS, 3, 7, optimizer, validation=(X, LABELS), sample_weight=weights)
        for net in nets
    ]
    assert_same_bits(*nets)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        # the clock cuts epochs into sums
        np.testing.assert_allclose(histories[0][name], histories[1][name], rtol=1e-11)


def test_two_fits_equal_one(gpu):
    once, twice = noisy(backend="cuda"), noisy(backend="cuda")
    once.fit(X, LABELS, 4, 7)
    twice.fit(X, LABELS, 2, 7)
    twice.fit(X, LABELS, 2, 7)
    assert_same_bits(once, twice)


def test_statistics_of_layers(gpu, many_chunks):
    flows = [
        net.fit(X, LABELS, 2, 7, callbacks=[fnn.GradientFlow(every=3)]).gradient_flow
        for net in fake_gpu.pair()
    ]
    assert flows[0].to_plain() == flows[1].to_plain()


def test_gradients_and_predictions(gpu):
    nets = fake_gpu.pair()
    for training in (False, True):
        found, expected = (net.gradients(X, LABELS, training=training) for net in nets)
        assert found[0] == expected[0]
        for name in expected[1]:
            np.testing.assert_array_equal(found[1][name], expected[1][name])
    # Rounding of BLAS depends on the number of rows.
    for method in ("predict", "forward"):
        np.testing.assert_allclose(*(getattr(net, method)(X) for net in nets), rtol=1e-11)
    for hidden in zip(*(net.activations(X) for net in nets), strict=True):
        np.testing.assert_allclose(*hidden, rtol=1e-11)
    assert nets[0].evaluate(X, LABELS) == pytest.approx(nets[1].evaluate(X, LABELS), rel=1e-11)


@pytest.mark.parametrize("labels", [LABELS, np.eye(3)[LABELS]], ids=["labels", "one-hot"])
def test_evaluations(gpu, labels):
    """In passes of seven rows, in the engine's terms."""
    net, other = fake_gpu.pair()
    samples = checked_samples(net, X, labels, sample_weight=np.linspace(0.5, 2, len(X)))
    found = net.engine.evaluate(net.state, samples)
    expected = other.engine.evaluate(other.state, samples)
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=1e-11)
    for name in ("loss", "weight", "correct_weight"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-11), name


def test_regression_with_values(gpu):
    nets = fake_gpu.pair(network, layers=[fnn.Dense(2, l2=0.1, l1=0.01)], loss="mse")
    np.testing.assert_allclose(
        *(net.fit(X, VALUES, 3, 7, "sgd")["loss"] for net in nets), rtol=1e-11
    )
    assert_same_bits(*nets)


def test_rows_that_are_not_finite_are_named(gpu):
    spoilt = X.copy()
    spoilt[33, 2] = np.nan
    with pytest.raises(ValueError, match="X is nan at row 33, column 2"):
        noisy(backend="cuda").predict(spoilt)


def test_a_long_chunk_is_cut(gpu, monkeypatch):
    monkeypatch.setattr(cuda_engine, "_FIRST_OPERATIONS", 1)
    monkeypatch.setattr(cuda_engine, "_SECONDS", 0.0)
    nets = fake_gpu.pair()
    for net in nets:
        net.fit(X, LABELS, 2, 7, callbacks=[fnn.GradientFlow(every=2)])
    assert_same_bits(*nets)
    assert gpu.launches >= 12


# --- copies between host and device ---------------------------------------------------------------


def test_few_copies_between_host_and_device(gpu, many_chunks):
    wide = fnn.mlp([4, 300, 3], backend="cuda", dtype="float64")
    size = 8 * wide.program.n_parameters
    fit = At("on_chunk_end", lambda training: None)
    wide.fit(X, LABELS, 3, 4, callbacks=[fit])
    big = [n for n in gpu.downloads if n >= X.nbytes]
    assert sorted(big) == [size, 2 * size]  # once, at the end: θ and Adam's slots
    assert gpu.uploads.count(X.nbytes) == 1
    assert gpu.uploads.count(size) == 1


def test_a_step_is_recorded_once(gpu, many_chunks):
    """And once more after the first prediction, which needs a larger buffer."""
    noisy(backend="cuda").fit(X, LABELS, 5, 4, validation=(X, LABELS))
    assert gpu.recordings == (0 if cuda_engine.Plan.path == "persistent" else 2)


def test_snapshots_use_the_same_memory_again(gpu, many_chunks):
    made, empty = [], gpu.empty
    gpu.empty = lambda n, dtype: made.append(n) or empty(n, dtype)
    net = fnn.mlp([4, 300, 3], backend="cuda", dtype="float64")
    net.fit(X, LABELS, 3, 4)
    # θ, the last finite snapshot, and the next one.
    assert made.count(net.program.n_parameters) == 1 + 2


def test_an_epoch_reads_penalties_where_they_are(gpu, many_chunks):
    net = network([fnn.Dense(50, l2=0.1), fnn.Dense(3)], backend="cuda")
    net.fit(X, LABELS, 3, 4)
    assert gpu.uploads.count(8 * net.program.n_parameters) == 1


def test_views_taken_before_are_right_afterwards(gpu):
    net, other = fake_gpu.pair()
    views = {**net.parameters, **net.buffers}
    for n in (net, other):
        n.fit(X, LABELS, 2, 7)
    for name, view in {**other.parameters, **other.buffers}.items():
        np.testing.assert_array_equal(views[name], view)
    assert views["0.weight"] is not net.parameters["0.weight"]
    assert np.shares_memory(views["0.weight"], net.parameters["0.weight"])


def test_what_a_user_writes_counts(gpu):
    nets = fake_gpu.pair()
    for net in nets:
        net.fit(X, LABELS, 1, 7)
        net.parameters["0.weight"] = np.ones((4, 6))
        net.predict(X)
        net.state.theta[0] = 3.0
        net.fit(X, LABELS, 1, 7)
    assert_same_bits(*nets)


# --- callbacks ------------------------------------------------------------------------------------


def test_callbacks_read(gpu, many_chunks):
    recorders = [Recorder(), Recorder()]
    for net, recorder in zip(fake_gpu.pair(), recorders, strict=True):
        net.fit(X, LABELS, 3, 7, callbacks=[recorder])
    np.testing.assert_array_equal(recorders[0].parameters, recorders[1].parameters)
    assert len(np.unique(recorders[0].parameters, axis=0)) == 3


def shrink(training):
    for name, values in training.net.parameters.items():
        training.net.parameters[name] = values / 2
    training.net.state.slots[...] *= 0.5
    training.net.buffers["1.running_mean"][:] = 0


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("hook", ["on_chunk_end", "on_epoch_end"])
def test_callbacks_write(gpu, many_chunks, hook, optimizer):
    nets = fake_gpu.pair()
    for net in nets:
        net.fit(X, LABELS, 3, 7, optimizer, callbacks=[At(hook, shrink)])
    assert_same_bits(*nets)


def test_callbacks_use_the_network(gpu, many_chunks, tmp_path):
    seen = []

    def look(training):
        net = training.net
        twins = net.copy(backend="numpy"), copy.deepcopy(net), pickle.loads(pickle.dumps(net))
        predictions = [n.predict(X) for n in (net, *twins)]
        for other in predictions[1:]:
            np.testing.assert_allclose(predictions[0], other, rtol=1e-11)
        seen.append((net.evaluate(X, LABELS), net.gradients(X, LABELS)[0], predictions[0]))
        net.learning_speed(X, LABELS)

    nets = fake_gpu.pair(network, layers=[fnn.Dense(6, "tanh"), fnn.Dense(3, l2=0.1)])
    for net in nets:
        checkpoint = fnn.Checkpoint(tmp_path / net.backend)
        net.fit(X, LABELS, 2, 7, callbacks=[At("on_chunk_end", look), checkpoint])
    assert_same_bits(*nets)
    half = len(seen) // 2
    for ours, theirs in zip(seen[:half], seen[half:], strict=True):
        assert ours[0] == pytest.approx(theirs[0], rel=1e-11)
        assert ours[1] == theirs[1]
        np.testing.assert_allclose(ours[2], theirs[2], rtol=1e-11)
    loaded = [fnn.load(tmp_path / name, backend="numpy") for name in ("cuda", "numpy")]
    assert_same_bits(*loaded)


def test_a_fit_inside_a_callback(gpu):
    def again(training):
        if training.epoch == 1:
            training.net.fit(X, LABELS, 1, 5, "sgd")

    nets = fake_gpu.pair()
    for net in nets:
        net.fit(X, LABELS, 1, 7, "sgd", callbacks=[At("on_epoch_end", again)])
    assert_same_bits(*nets)


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping(gpu, many_chunks, restore):
    wrong = (LABELS + 1) % 3
    nets = fake_gpu.pair()
    for net in nets:
        stop = fnn.EarlyStopping(patience=2, restore_best=restore)
        net.fit(X, LABELS, 30, 7, fnn.Adam(0.1), validation=(X, wrong), callbacks=[stop])
    assert nets[0].epochs < 30
    assert_same_bits(*nets)
