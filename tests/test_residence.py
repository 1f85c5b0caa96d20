"""A state on the device: it stays there while a network trains, and whoever looks at it, or writes
to it, need not know.
"""

import copy
import inspect
import os
import pickle
import signal
import threading

import fake_gpu
import numpy as np
import pytest
from builders import assert_same_bits
from training_cases import LABELS, VALUES, At, Recorder, X, network, noisy

import fastnn as fnn
from fastnn._kernels.contract import Chunk, Engine, State
from fastnn._kernels.numba_cuda import engine as cuda_engine
from fastnn.data.samples import checked_samples
from fastnn.training import loop as loop

OPTIMIZERS = ["sgd", "adam", "rmsprop", "adadelta", "adamw", "lbfgs"]


@pytest.fixture(params=["persistent", "graph"])
def gpu(request, monkeypatch):
    return fake_gpu.install(monkeypatch, request.param)


@pytest.fixture
def many_chunks(monkeypatch):
    """A step each."""
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)


def pair(make=noisy, **options):
    """The same network on the GPU and on the reference."""
    return make(backend="cuda", **options), make(backend="numpy", **options)


# --- the same as anywhere -------------------------------------------------------------------------


def test_signatures_are_the_contracts():
    for name, function in inspect.getmembers(Engine, inspect.isfunction):
        if name == "__init__" or not name.startswith("_"):
            assert inspect.signature(getattr(cuda_engine.CudaEngine, name)) == inspect.signature(
                function
            ), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_gives_the_bits_of_the_engine_below(gpu, optimizer):
    weights = np.linspace(0.5, 2, len(X))
    nets = pair()
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


def test_figures_of_layers(gpu, many_chunks):
    flows = [
        net.fit(X, LABELS, 2, 7, callbacks=[fnn.GradientFlow(every=3)]).gradient_flow
        for net in pair()
    ]
    assert flows[0].to_plain() == flows[1].to_plain()


def test_gradients_and_predictions(gpu):
    nets = pair()
    for training in (False, True):
        found, expected = (net.gradients(X, LABELS, training=training) for net in nets)
        assert found[0] == expected[0]
        for name in expected[1]:
            np.testing.assert_array_equal(found[1][name], expected[1][name])
    # BLAS rounds another number of rows another way
    for method in ("predict", "forward"):
        np.testing.assert_allclose(*(getattr(net, method)(X) for net in nets), rtol=1e-11)
    for hidden in zip(*(net.activations(X) for net in nets), strict=True):
        np.testing.assert_allclose(*hidden, rtol=1e-11)
    assert nets[0].evaluate(X, LABELS) == pytest.approx(nets[1].evaluate(X, LABELS), rel=1e-11)


def test_regression_with_values(gpu):
    nets = pair(network, layers=[fnn.Dense(2, l2=0.1, l1=0.01)], loss="mse")
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
    nets = pair()
    for net in nets:
        net.fit(X, LABELS, 2, 7, callbacks=[fnn.GradientFlow(every=2)])
    assert_same_bits(*nets)
    assert gpu.launches >= 12


# --- where the numbers are ------------------------------------------------------------------------


def test_little_goes_over_the_bus(gpu, many_chunks):
    wide = fnn.mlp([4, 300, 3], backend="cuda", dtype="float64")
    size = 8 * wide.program.n_parameters
    fit = At("on_chunk_end", lambda training: None)
    wide.fit(X, LABELS, 3, 4, callbacks=[fit])
    big = [n for n in gpu.downloads if n >= X.nbytes]
    assert sorted(big) == [size, 2 * size]  # once, at the end: θ and Adam's slots
    assert gpu.uploads.count(X.nbytes) == 1
    assert gpu.uploads.count(size) == 1


def test_a_step_is_recorded_once(gpu, many_chunks):
    """And once more when the first prediction has needed room of its own."""
    noisy(backend="cuda").fit(X, LABELS, 5, 4, validation=(X, LABELS))
    assert gpu.recordings == (0 if cuda_engine.Plan.path == "persistent" else 2)


def test_snapshots_use_the_same_memory_again(gpu, many_chunks):
    made, empty = [], gpu.empty
    gpu.empty = lambda n, dtype: made.append(n) or empty(n, dtype)
    net = fnn.mlp([4, 300, 3], backend="cuda", dtype="float64")
    net.fit(X, LABELS, 3, 4)
    # θ; what was sound, and what may become so
    assert made.count(net.program.n_parameters) == 1 + 2


def test_an_epoch_reads_penalties_where_they_are(gpu, many_chunks):
    net = network([fnn.Dense(50, l2=0.1), fnn.Dense(3)], backend="cuda")
    net.fit(X, LABELS, 3, 4)
    assert gpu.uploads.count(8 * net.program.n_parameters) == 1


def test_views_taken_before_are_right_afterwards(gpu):
    net, other = pair()
    views = {**net.parameters, **net.buffers}
    for n in (net, other):
        n.fit(X, LABELS, 2, 7)
    for name, view in {**other.parameters, **other.buffers}.items():
        np.testing.assert_array_equal(views[name], view)
    assert views["0.weight"] is not net.parameters["0.weight"]
    assert np.shares_memory(views["0.weight"], net.parameters["0.weight"])


def test_what_a_user_writes_counts(gpu):
    nets = pair()
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
    for net, recorder in zip(pair(), recorders, strict=True):
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
    nets = pair()
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

    nets = pair(network, layers=[fnn.Dense(6, "tanh"), fnn.Dense(3, l2=0.1)])
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

    nets = pair()
    for net in nets:
        net.fit(X, LABELS, 1, 7, "sgd", callbacks=[At("on_epoch_end", again)])
    assert_same_bits(*nets)


@pytest.mark.parametrize("restore", [True, False])
def test_early_stopping(gpu, many_chunks, restore):
    wrong = (LABELS + 1) % 3
    nets = pair()
    for net in nets:
        stop = fnn.EarlyStopping(patience=2, restore_best=restore)
        net.fit(X, LABELS, 30, 7, fnn.Adam(0.1), validation=(X, wrong), callbacks=[stop])
    assert nets[0].epochs < 30
    assert_same_bits(*nets)


# --- when something goes wrong --------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e200, 1e308])
def test_divergence_keeps_the_last_finite_parameters(gpu, many_chunks, lr):
    nets, messages = pair(network, layers=[fnn.Dense(6, "relu"), fnn.BatchNorm(), fnn.Dense(3)]), []
    for net in nets:
        net.fit(X, LABELS, 2, 7, "sgd")
        with pytest.raises(fnn.DivergenceError) as error:
            net.fit(X, LABELS, 5, 7, fnn.SGD(lr))
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert_same_bits(*nets)
    for net in nets:
        net.fit(X, LABELS, 1, 7, "sgd")
    assert_same_bits(*nets)


def test_an_exception_in_a_callback(gpu, many_chunks):
    nets = pair()
    for net in nets:
        view = net.state.theta
        with pytest.raises(ZeroDivisionError):
            net.fit(
                X,
                LABELS,
                3,
                7,
                callbacks=[At("on_chunk_end", lambda training: training.epoch == 2 and 1 / 0)],
            )
        assert net.state.theta is view
        assert net.state.residence is None
    assert_same_bits(*nets)


def test_ctrl_c_at_once(gpu, many_chunks):
    def twice(training):
        if training.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    nets = pair()
    for net in nets:
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, LABELS, 3, 7, callbacks=[At("on_chunk_end", twice)])
    assert_same_bits(*nets)


def test_ctrl_c_while_the_device_works(monkeypatch):
    """The steps that were made count, and nothing else."""
    gpu = fake_gpu.install(monkeypatch, "graph")
    net, other = pair()
    step, done = gpu._step, []

    def interrupted(a):
        step(a)
        done.append(1)
        if len(done) == 4:
            raise KeyboardInterrupt

    gpu._step = interrupted
    net.use_optimizer("Adam"), other.use_optimizer("Adam")
    chunk = Chunk(np.arange(40), np.arange(0, 41, 5), np.full(8, 0.1), fnn.Adam(0.1).record(), 5)
    samples = checked_samples(net, X, LABELS)
    with pytest.raises(KeyboardInterrupt), net.engine.resident(net.state, samples):
        net.engine.train_steps(net.state, samples, chunk)
    other.engine.train_steps(
        other.state,
        samples,
        Chunk(chunk.order[:20], chunk.bounds[:5], chunk.rates[:4], chunk.optimizer, 5),
    )
    assert_same_bits(net, other)


def test_ctrl_c_while_the_host_waits(gpu, monkeypatch):
    """The device does the whole piece, so all of it counts."""
    net, other = pair()
    download, waited = gpu.download, []

    def interrupted(*args):
        waited.append(1)
        if len(waited) == 1:
            raise KeyboardInterrupt
        return download(*args)

    net.use_optimizer("Adam"), other.use_optimizer("Adam")
    chunk = Chunk(np.arange(40), np.arange(0, 41, 5), np.full(8, 0.1), fnn.Adam(0.1).record(), 5)
    samples = checked_samples(net, X, LABELS)
    monkeypatch.setattr(gpu, "download", interrupted)
    with pytest.raises(KeyboardInterrupt), net.engine.resident(net.state, samples):
        net.engine.train_steps(net.state, samples, chunk)
    other.engine.train_steps(other.state, samples, chunk)
    assert net.state.step == 8
    assert_same_bits(net, other)


def test_a_device_that_fails(gpu, many_chunks):
    """The network has what the host last had, and can be used."""
    net = noisy(backend="cuda")
    net.fit(X, LABELS)
    before = net.state.theta.copy()

    def break_it(training):
        gpu.fail = RuntimeError("the GPU has fallen off the bus")

    with pytest.raises(RuntimeError, match="fallen off the bus"):
        net.fit(X, LABELS, 3, 7, callbacks=[At("on_fit_start", break_it)])
    np.testing.assert_array_equal(net.state.theta, before)
    net.fit(X, LABELS)


def test_a_device_that_is_lost(gpu, many_chunks):
    """Its numbers are gone; those that the host last had are there."""
    net = noisy(backend="cuda")
    kept = []

    def lose_it(training):
        if training.epoch == 1:
            kept[:] = [training.net.state.theta.copy()]  # brings them back
        elif training.epoch == 3:
            gpu.download = lost

    def lost(*args):
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        net.fit(X, LABELS, 5, 7, callbacks=[At("on_epoch_end", lose_it)])
    assert net.state.residence is None
    np.testing.assert_array_equal(net.state.theta, kept[0])
    net.copy(backend="numpy").predict(X)


# --- the contract itself --------------------------------------------------------------------------


def test_outside_nothing_stays_on_the_device(gpu):
    net = noisy(backend="cuda")
    net.use_optimizer("Adam")
    samples = checked_samples(net, X, LABELS)
    chunk = Chunk(np.arange(40), np.array([0, 40]), np.array([0.1]), fnn.Adam().record(), 40)
    for _ in range(2):
        theta = net.state.theta.copy()
        net.engine.train_steps(net.state, samples, chunk)
        assert net.state.residence is None
        assert (net.state.theta != theta).any()
    assert gpu.uploads.count(X.nbytes) == 2


def test_two_states_on_one_engine(gpu):
    net, other = noisy(backend="cuda", seed=1), noisy(backend="cuda", seed=2)
    expected = other.predict(X)
    samples = checked_samples(net, X, LABELS)
    with net.engine.resident(net.state, samples), net.engine.resident(other.state):
        np.testing.assert_array_equal(net.engine.forward(other.state, X, True)[0], expected)
        assert net.state.residence is None
        net.engine.forward(net.state, X)
        assert net.state.residence is not None
        assert other.state.residence is not None
    assert net.state.residence is other.state.residence is None


def test_one_state_on_two_engines(gpu):
    net, twin = noisy(backend="cuda"), noisy(backend="cuda")
    net.use_optimizer("SGD")
    samples = checked_samples(net, X, LABELS)
    chunk = Chunk(np.arange(40), np.array([0, 40]), np.array([0.1]), fnn.SGD().record(), 40)
    with net.engine.resident(net.state, samples):
        net.engine.train_steps(net.state, samples, chunk)
        found, _ = twin.engine.forward(net.state, X, True)
        np.testing.assert_array_equal(found, net.predict(X))
    np.testing.assert_array_equal(found, net.predict(X))


def test_slots_of_another_optimizer_within_a_residence(gpu):
    nets = pair()
    samples = checked_samples(nets[0], X, LABELS)
    for net in nets:
        with net.engine.resident(net.state, samples):
            for optimizer in (
                fnn.SGD(0.1),
                fnn.Adam(0.1),
                fnn.SGD(0.1, momentum=0.9),
                fnn.AdaDelta(),
            ):
                net.forget_optimizer()
                net.use_optimizer(type(optimizer).__name__)
                chunk = Chunk(
                    np.arange(40), np.arange(0, 41, 10), np.full(4, 0.1), optimizer.record(), 10
                )
                net.engine.train_steps(net.state, samples, chunk)
    assert_same_bits(*nets)


def test_threads_take_turns(gpu):
    """Another thread that predicts while one trains waits, and leaves the training as it is."""
    net, other = pair()
    stop, failed = threading.Event(), []

    def predict():
        while not stop.is_set():
            try:
                assert np.isfinite(net.predict(X)).all()
                net.parameters["0.weight"].sum()
            except BaseException as error:
                failed.append(error)
                return

    thread = threading.Thread(target=predict)
    thread.start()
    net.fit(X, LABELS, 10, 4)
    stop.set()
    thread.join()
    assert not failed
    other.fit(X, LABELS, 10, 4)
    assert_same_bits(net, other)


def test_an_unknown_attribute_of_a_state():
    state = State(np.zeros(1), np.zeros(0), 0)
    with pytest.raises(AttributeError, match="State has no 'tetha'"):
        state.tetha  # noqa: B018
    assert not hasattr(State.__new__(State), "theta")


def test_engines_are_copied_as_what_they_are_made_for(gpu):
    net = noisy(backend="cuda")
    net.predict(X)
    twin = copy.deepcopy(net.engine)
    assert twin.program.n_parameters == net.program.n_parameters
    assert pickle.loads(pickle.dumps(net.engine)).program.dtype == net.program.dtype
