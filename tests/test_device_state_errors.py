"""The state on the device: exceptions in a training, and the rules of `Engine.resident`."""

import copy
import os
import pickle
import signal
import threading

import fake_gpu
import numpy as np
import pytest
from builders import assert_same_bits
from training_cases import LABELS, At, X, network, noisy

import fastnn as fnn
from fastnn._kernels.contract import Chunk, State
from fastnn.training.samples import checked_samples


@pytest.fixture(params=["persistent", "graph"])
def gpu(request, monkeypatch):
    return fake_gpu.install(monkeypatch, request.param)


@pytest.fixture
def many_chunks(monkeypatch):
    fake_gpu.one_step_chunks(monkeypatch)


# --- when something goes wrong --------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e200, 1e308])
def test_divergence_keeps_the_last_finite_parameters(gpu, many_chunks, lr):
    nets, messages = (
        fake_gpu.pair(network, layers=[fnn.Dense(6, "relu"), fnn.BatchNorm(), fnn.Dense(3)]),
        [],
    )
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
    nets = fake_gpu.pair()
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
        assert net.state.device_state is None
    assert_same_bits(*nets)


def test_ctrl_c_at_once(gpu, many_chunks):
    def twice(training):
        if training.epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    nets = fake_gpu.pair()
    for net in nets:
        with pytest.raises(KeyboardInterrupt):
            net.fit(X, LABELS, 3, 7, callbacks=[At("on_chunk_end", twice)])
    assert_same_bits(*nets)


def test_ctrl_c_while_the_device_works(monkeypatch):
    """The steps that were made count, and nothing else."""
    gpu = fake_gpu.install(monkeypatch, "graph")
    net, other = fake_gpu.pair()
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
    net, other = fake_gpu.pair()
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
    """The network has the values that the host last had, and can be used."""
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
    """Its values are lost; those that the host last had are there."""
    net = noisy(backend="cuda")
    kept = []

    def lose_it(training):
        if training.epoch == 1:
            kept[:] = [training.net.state.theta.copy()]  # moves the state to the host
        elif training.epoch == 3:
            gpu.download = lost

    def lost(*args):
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        net.fit(X, LABELS, 5, 7, callbacks=[At("on_epoch_end", lose_it)])
    assert net.state.device_state is None
    np.testing.assert_array_equal(net.state.theta, kept[0])
    net.copy(backend="numpy").predict(X)


# --- the contract itself --------------------------------------------------------------------------


def test_outside_of_resident_nothing_stays_on_the_device(gpu):
    net = noisy(backend="cuda")
    net.use_optimizer("Adam")
    samples = checked_samples(net, X, LABELS)
    chunk = Chunk(np.arange(40), np.array([0, 40]), np.array([0.1]), fnn.Adam().record(), 40)
    for _ in range(2):
        theta = net.state.theta.copy()
        net.engine.train_steps(net.state, samples, chunk)
        assert net.state.device_state is None
        assert (net.state.theta != theta).any()
    assert gpu.uploads.count(X.nbytes) == 2


def test_two_states_on_one_engine(gpu):
    net, other = noisy(backend="cuda", seed=1), noisy(backend="cuda", seed=2)
    expected = other.predict(X)
    samples = checked_samples(net, X, LABELS)
    with net.engine.resident(net.state, samples), net.engine.resident(other.state):
        np.testing.assert_array_equal(net.engine.forward(other.state, X, True)[0], expected)
        assert net.state.device_state is None
        net.engine.forward(net.state, X)
        assert net.state.device_state is not None
        assert other.state.device_state is not None
    assert net.state.device_state is other.state.device_state is None


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


def test_slots_of_another_optimizer_while_resident(gpu):
    nets = fake_gpu.pair()
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
    """A thread that predicts while another trains waits, and does not change the training."""
    net, other = fake_gpu.pair()
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
