"""The CUDA engine's kernels in the simulator, against the reference engine.

Every operation, activation, loss and optimiser runs on each path. *persistent* is a grid of one
block, *cooperative* one of three blocks with grid barriers. *graph* is a step as a sequence of
launches with small tiles and several blocks, *large* the same with large tiles. Where there are
several blocks, each has two warps. `race` watches for races.
"""

import numpy as np
import pytest
from kernel_cases import (
    BLOCK,
    ENSEMBLE,
    PATHS,
    TABLE,
    TOLERANCE,
    assert_close,
    assert_evaluations_agree,
    assert_steps_agree,
    network,
    on_path,
    samples_for,
    state_of,
)
from race import watched

import fastnn as fnn
from fastnn._kernels import opcodes
from fastnn._kernels.contract import Chunk
from fastnn._kernels.numba_cuda.engine import CudaEngine
from fastnn._kernels.numba_cuda.runtime import plan
from fastnn._kernels.reference_engine import ReferenceEngine
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.losses import LOSSES
from fastnn.optim.optimizers import OPTIMIZERS

DESCENDING = [name for name in OPTIMIZERS if name != "lbfgs"]


@pytest.fixture
def no_races():
    """Watch for races, which takes several times as long.

    Tests of formulas of an element go without.
    """
    with watched():
        yield


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    on_path(request.param, monkeypatch)
    return request.param


@pytest.mark.usefixtures("no_races")
def test_every_operation(path):
    nets = [network(layers) for layers in (BLOCK, TABLE, ENSEMBLE)]
    codes = {int(code) for net in nets for code in net.program.ops["code"]}
    assert codes == set(opcodes.OPERATIONS.values()) - {opcodes.ELEMENTWISE}
    for net in nets:
        assert_steps_agree(net, samples_for(net, 7), fnn.Adam(), 3, every=1)


@pytest.mark.parametrize(
    "optimizer",
    [fnn.SGD(0.1, weight_decay=0.1), fnn.AdamW(weight_decay=0.1), fnn.NAdam(clip_norm=0.1)],
    ids=["sgd", "adamw", "clipped"],
)
def test_factors_of_single_arrays(path, optimizer):
    net = network(TABLE)
    assert_steps_agree(net, samples_for(net, 7, weights=True), optimizer, 3)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_schedules_of_dropout_and_weight_decay(path, clip_norm):
    layers = [
        fnn.Dense(5, "sigmoid"),
        fnn.Dropout(fnn.FlatCosine(0.5, 4, 0.25)),
        fnn.LayerNorm(),
        fnn.Dropout(0.3),
        fnn.Scale(decay_factor=2.0),
        fnn.Dropout(fnn.Warmup(5, 0.4)),
        fnn.Dense(3),
    ]
    optimizer = fnn.AdamW(weight_decay=fnn.Cosine(0.3, 5), clip_norm=clip_norm)
    net = network(layers)
    assert_steps_agree(net, samples_for(net, 7, weights=True), optimizer, 3, every=2, epochs=2)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_and_predictions_of_a_table(path, training):
    net = network(TABLE)
    samples, engines = (
        samples_for(net, 7),
        [make(net.program) for make in (ReferenceEngine, CudaEngine)],
    )
    (_, expected), (_, found) = (e.gradients(net.state, samples, training) for e in engines)
    assert_close(expected, found, TOLERANCE["float64"], "gradients")
    expected, found = (e.forward(net.state, samples.X)[0] for e in engines)
    assert_close(expected, found, TOLERANCE["float64"], "outputs")


@pytest.mark.usefixtures("no_races")
def test_an_elementwise_operation_and_constraints(path):
    net = network(
        [
            fnn.Dropout(0.5),
            fnn.Dense(5, "tanh", max_norm=0.4),
            fnn.Residual([fnn.Dense(5)]),
            fnn.Activation("selu"),
            fnn.Dense(3),
        ]
    )
    assert opcodes.ELEMENTWISE in net.program.ops["code"]
    assert_steps_agree(
        net, samples_for(net, 7, weights=True), fnn.SGD(0.1, momentum=0.9), 3, every=2
    )


@pytest.mark.parametrize("drops", [False, True], ids=["plain", "under dropout"])
@pytest.mark.parametrize("path", ["persistent", "large"], indirect=True)
def test_every_activation(path, drops):
    hidden = [
        layer
        for name in ACTIVATIONS
        for layer in (fnn.Dense(3, name), *([fnn.Dropout(0.1)] if drops else []))
    ]
    net = network([*hidden, fnn.Dense(2)])
    assert_steps_agree(net, samples_for(net, 5), fnn.SGD(0.1), 3, every=2)


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("path", ["persistent", "graph"], indirect=True)
def test_every_loss(path, loss):
    net = network([fnn.Dense(4, "sigmoid"), fnn.Dense(3)], loss)
    assert_steps_agree(net, samples_for(net, 7, weights=True), fnn.SGD(0.1), 3)


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("outputs", [2, 3, 40])
def test_labels_of_few_and_many_classes(path, outputs):
    net = network(
        [fnn.Dense(4, "relu"), fnn.Dense(outputs)],
        fnn.Loss("softmax_cross_entropy", label_smoothing=0.1),
    )
    assert_steps_agree(net, samples_for(net, 5, labels=True), fnn.SGD(0.1), 3)


@pytest.mark.parametrize("optimizer", DESCENDING)
@pytest.mark.parametrize("path", ["persistent", "graph"], indirect=True)
def test_every_optimizer(path, optimizer):
    net = network([fnn.Dense(4, "silu"), fnn.Dense(3)])
    assert_steps_agree(net, samples_for(net, 7), OPTIMIZERS[optimizer](weight_decay=0.01), 3)


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize(
    "optimizer",
    [
        fnn.Adam(clip_norm=0.1),
        fnn.SGD(0.1, nesterov=True, momentum=0.9, clip_value=0.01),
        fnn.RMSProp(clip_norm=0.2, clip_value=0.02),
    ],
    ids=["norm", "value", "both"],
)
def test_clipping(path, optimizer):
    net = network([fnn.Dense(5, "elu"), fnn.BatchNorm(), fnn.Dense(3)])
    assert_steps_agree(net, samples_for(net, 7), optimizer, 3, every=2)


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("path", ["persistent", "cooperative", "graph"], indirect=True)
def test_more_than_a_tile(path):
    net = network([fnn.Dense(37, "relu"), fnn.Dense(33, "tanh"), fnn.Dense(3)], inputs=70)
    assert_steps_agree(net, samples_for(net, 20, labels=True), fnn.Adam(), 19)


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse"])
@pytest.mark.parametrize("path", ["cooperative", "graph", "large"], indirect=True)
def test_one_output_and_one_sample(path, loss):
    net = network([fnn.Dense(33, "relu"), fnn.LayerNorm(), fnn.Dense(1)], loss, inputs=1)
    assert_steps_agree(net, samples_for(net, 5), fnn.SGD(0.1), 4)
    assert_steps_agree(net, samples_for(net, 2), fnn.AdamW(), 1, every=2)


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("path", ["large"], indirect=True)
def test_more_than_a_large_tile(path):
    net = network([fnn.Dense(70, "relu"), fnn.Dense(66, "tanh"), fnn.Dense(3)], inputs=18)
    assert_steps_agree(net, samples_for(net, 20, labels=True), fnn.Adam(), 19)


@pytest.mark.parametrize("path", ["persistent", "graph"], indirect=True)
def test_a_training_in_float32_ends_where_the_reference_does(path):
    """Normalisation, dropout, a residual block, clipping and Adam: 1e-4 after eight steps."""
    layers = [fnn.Dense(6, "relu", bias=False), *BLOCK[1:4], fnn.Dense(3)]
    net = network(layers, dtype="float32")
    samples, optimizer = samples_for(net, 16, labels=True), fnn.Adam(clip_norm=1.0)
    states = [state_of(net, optimizer) for _ in range(2)]
    bounds = np.arange(0, 65, 8)
    order = np.concatenate([np.random.default_rng(k).permutation(16) for k in range(4)])
    chunk = Chunk(order, bounds, np.full(8, 0.01), optimizer.record(), 8)
    for make, state in zip((ReferenceEngine, CudaEngine), states, strict=True):
        make(net.program).train_steps(state, samples, chunk)
    np.testing.assert_allclose(states[1].theta, states[0].theta, rtol=0, atol=1e-4)
    assert np.abs(states[0].theta - net.state.theta).max() > 0.05


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("training", [False, True])
def test_gradients(path, training):
    net = network(BLOCK)
    samples, state = samples_for(net, 6, weights=True), net.state
    (expected_log, expected), (log, found) = (
        make(net.program).gradients(state, samples, training, True)
        for make in (ReferenceEngine, CudaEngine)
    )
    assert_close(expected, found, 1e-12, "gradient")
    assert_close(expected_log.statistics, log.statistics, 1e-12, "statistics")
    assert_close(expected_log.losses, log.losses, 1e-12, "loss")


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize(
    "loss", ["softmax_cross_entropy", "binary_cross_entropy", "poisson", "mse", "quantile"]
)
@pytest.mark.parametrize("path", ["persistent", "graph"], indirect=True)
def test_predictions(path, loss):
    net = network(BLOCK, loss)
    X = np.random.default_rng(2).normal(size=(37, 4))
    X[5, 2], X[36, 0] = np.inf, np.nan
    for linked in (False, True):
        (expected, finite), (found, found_finite) = (
            make(net.program).forward(net.state, X, linked)
            for make in (ReferenceEngine, CudaEngine)
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert not finite
        assert not found_finite


@pytest.mark.usefixtures("no_races")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("path", ["persistent", "graph"], indirect=True)
def test_evaluations(path, loss):
    net = network(BLOCK, loss)
    assert_evaluations_agree(net, samples_for(net, 37, weights=True))


@pytest.mark.parametrize("path", ["cooperative", "graph"], indirect=True)
def test_evaluations_with_labels_in_several_passes(path, monkeypatch):
    monkeypatch.setattr(plan, "ROWS_PER_PASS", 8)
    net = network(BLOCK)
    assert_evaluations_agree(net, samples_for(net, 37, labels=True))
    assert_evaluations_agree(net, samples_for(net, 37, labels=True, weights=True))


def test_an_evaluation_of_nothing(path):
    net = network(BLOCK)
    found = CudaEngine(net.program).evaluate(net.state, samples_for(net, 0, labels=True))
    assert found.outputs.shape == (0, 3)
    assert (found.loss, found.weight, found.correct_weight) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_arrays_that_are_not_finite_are_found(bad):
    engine, X = CudaEngine(network(BLOCK).program), np.zeros((5, 4))
    assert engine.is_finite(X)
    X[4, 3] = bad
    assert not engine.is_finite(X)


def test_a_divergence_stops_before_its_update(path):
    net = network([fnn.Dense(4, "relu"), fnn.Dense(3)], "mse")
    samples, optimizer = samples_for(net, 9), fnn.SGD(1.0)
    samples.values[4] = np.inf
    chunk = Chunk(np.arange(9), np.arange(0, 10, 3), np.full(3, 0.01), optimizer.record(), 3)
    states = [state_of(net, optimizer) for _ in range(2)]
    logs = [
        make(net.program).train_steps(state, samples, chunk)
        for make, state in zip((ReferenceEngine, CudaEngine), states, strict=True)
    ]
    assert not logs[0].finite
    assert not logs[1].finite
    assert len(logs[1].losses) == 2
    assert states[1].step == 1
    assert_close(states[0].theta, states[1].theta, 1e-12, "theta")


@pytest.mark.parametrize("path", ["cooperative", "graph"], indirect=True)
def test_two_runs_agree_bit_for_bit(path):
    net = network(BLOCK, dtype="float32")
    samples, optimizer = samples_for(net, 7), fnn.Adam(clip_norm=0.1)
    chunk = Chunk(np.arange(7), np.array([0, 3, 6, 7]), np.full(3, 0.05), optimizer.record(), 3)
    states = [state_of(net, optimizer) for _ in range(2)]
    for state in states:
        CudaEngine(net.program).train_steps(state, samples, chunk)
    np.testing.assert_array_equal(states[0].theta, states[1].theta)


def test_numbers_that_overflow_on_the_way(path):
    """The squares of a gradient, and the loss of a sample of weight 0."""
    X, y, weights = [[1e160, -1e160], [1e300, 0.0]], [1e140, 0.0], [1.0, 0.0]
    optimizer, found = fnn.SGD(0.5, clip_norm=1.0), []
    for backend in ("cuda", "numpy"):
        net = fnn.Network([fnn.Dense(1, init="zeros")], 2, "mse", "float64", backend)
        net.fit(X, y, sample_weight=weights, optimizer=optimizer, batch_size=2)
        found.append(net.parameters["0.weight"][:, 0].copy())
        net.state.theta[:] = 1e-170
        scores = net.evaluate(X, [1.0, 0.0], sample_weight=weights)
        assert scores["loss"] == pytest.approx(1.0)
        assert np.isfinite(net.gradients(X, y, sample_weight=weights)[1]["0.bias"]).all()
    np.testing.assert_allclose(found, [np.array([0.5, -0.5]) / 2**0.5] * 2)


def test_a_variance_or_a_state_that_overflows_is_an_error(path):
    X = 1e20 * np.random.default_rng(0).normal(size=(6, 3))
    for layers, size in (([fnn.BatchNorm(), fnn.Dense(1)], 1.0), ([fnn.Dense(1)], 1e-8)):
        net = fnn.Network(layers, 3, "mse", backend="cuda")
        with pytest.raises(fnn.DivergenceError, match="overflowed"):
            net.fit(size * X, size * 1e5 * X[:, 0], optimizer="adam", batch_size=6)
        assert net.state.is_finite()
