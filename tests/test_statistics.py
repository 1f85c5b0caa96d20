"""Statistics that engines take of a step.

Their definition, their agreement between engines, and that training does not depend on them.
"""

import numpy as np
import pytest
from builders import (
    EVERYTHING,
    OUTPUTS,
    STACKS,
    WIDTH,
    assert_same_bits,
    features,
    network,
    relative_error,
    targets,
)

import fastnn as fnn
from fastnn._kernels import opcodes as oc
from fastnn._kernels import philox
from fastnn._kernels.contract import Chunk
from fastnn._kernels.tables import ACTIVATIONS
from fastnn.training.samples import checked_samples

ROWS = 23
BOUNDS = np.array([0, 6, 12, 18, 23])
OPTIMIZERS = {
    "sgd": fnn.SGD(0.05),
    "momentum": fnn.SGD(0.05, momentum=0.9),
    "adamw": fnn.AdamW(0.01, weight_decay=0.1),
    "nadam": fnn.NAdam(0.01),
    "rmsprop": fnn.RMSProp(0.01),
    "adagrad": fnn.AdaGrad(0.05),
    "adadelta": fnn.AdaDelta(),
    "clip norm": fnn.Adam(0.01, clip_norm=0.05),
    "clip value": fnn.Adam(0.01, clip_value=0.02),
}


def steps(net, optimizer, every=1):
    """The log of four steps."""
    net.use_optimizer(type(optimizer).__name__)
    samples = checked_samples(net, features(ROWS), targets("values", ROWS))
    return net.engine.train_steps(
        net.state,
        samples,
        Chunk(np.arange(ROWS), BOUNDS, np.full(4, 0.05), optimizer.record(), 6, every),
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", ["everything", *STACKS])
def test_every_engine_takes_the_references_statistics(compiled, stack, optimizer):
    layers = {"everything": EVERYTHING, **STACKS}[stack]
    found, expected = (
        steps(network(layers, backend=name), OPTIMIZERS[optimizer], every=2).statistics
        for name in (compiled, "numpy")
    )
    assert found.shape == expected.shape == (2, len(network(layers).program.ops), oc.N_STATISTICS)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * expected.max())


@pytest.mark.parametrize("n", [1, 2, 3])
def test_threads_add_up(compiled, n, use_threads):
    use_threads(n)
    found, expected = (
        steps(network(STACKS["wide"], backend=name), OPTIMIZERS["clip norm"]).statistics
        for name in (compiled, "numpy")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_the_reference_measures():
    net = network([fnn.Dense(WIDTH, "relu"), fnn.Dense(WIDTH, "sigmoid"), fnn.Dense(OUTPUTS)])
    X, y = 3 * features(ROWS), targets("values", ROWS)
    net.parameters["0.weight"][:, 1], net.parameters["0.bias"][1] = 0, -1  # a dead unit
    net.parameters["1.bias"] = [9, -9, 0, 0, 0]  # two saturated ones
    before = {name: values.copy() for name, values in net.parameters.items()}
    _, gradients = net.gradients(X, y)
    samples = checked_samples(net, X, y)
    net.use_optimizer("SGD")
    whole = Chunk(
        np.arange(ROWS), np.array([0, ROWS]), np.array([0.1]), fnn.SGD(0.1).record(), ROWS, every=1
    )
    (statistics,) = net.engine.train_steps(net.state, samples, whole).statistics
    hidden = np.maximum(X @ before["0.weight"] + before["0.bias"], 0)
    second = 1 / (1 + np.exp(-(hidden @ before["1.weight"] + before["1.bias"])))
    for layer in range(3):
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        moved = net.parameters[weight] - before[weight]
        expected = [
            np.square(array).sum()
            for array in (gradients[bias], gradients[weight], before[weight], moved)
        ]
        np.testing.assert_allclose(statistics[layer, : oc.UPDATE + 1], expected, rtol=1e-9)
    np.testing.assert_allclose(statistics[:2, oc.VALUES], [hidden.sum(), second.sum()])
    np.testing.assert_allclose(
        statistics[:2, oc.SQUARES], [np.square(hidden).sum(), np.square(second).sum()]
    )
    assert list(statistics[:, oc.DEAD]) == [np.all(hidden == 0, axis=0).sum(), 0, 0]
    assert list(statistics[:, oc.SATURATED]) == [0, ((second < 0.05) | (second > 0.95)).sum(), 0]
    assert statistics[0, oc.DEAD] >= 1
    assert statistics[1, oc.SATURATED] >= ROWS


@pytest.mark.parametrize(
    "activation", [name for name, row in ACTIVATIONS.items() if row.saturation]
)
def test_a_saturated_zero_is_told_from_a_dropped_one(engine, activation):
    """σ(−1000) and hard_sigmoid(−3) are exactly 0, as is what dropout puts out."""
    net = network(
        [fnn.Dense(WIDTH, activation), fnn.Dropout(0.4), fnn.Dense(OUTPUTS)], backend=engine
    )
    net.parameters["0.weight"], net.parameters["0.bias"] = (
        np.zeros((4, WIDTH)),
        np.full(WIDTH, -1000.0),
    )
    log, _ = net.engine.gradients(
        net.state, checked_samples(net, features(ROWS), targets("values", ROWS)), True, measure=True
    )
    kept = philox.random_bits(
        net.seed, oc.STREAM_MASK, 0, WIDTH, rows=ROWS
    ) >= philox.dropout_threshold(0.4)
    assert log.statistics[0, 0, oc.SATURATED] == kept.sum() < kept.size


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_measuring_changes_nothing(engine, optimizer):
    nets = [network(EVERYTHING, backend=engine) for _ in range(2)]
    logs = [
        steps(net, OPTIMIZERS[optimizer], every) for net, every in zip(nets, (0, 1), strict=True)
    ]
    assert [len(log.statistics) for log in logs] == [0, 4]
    if optimizer == "sgd":  # Then its update is not fused into a GEMM and rounds differently.
        assert relative_error(nets[0].parameters, nets[1].parameters) < 1e-13
    else:
        assert_same_bits(*nets)


def test_every_counts_steps_across_chunks(engine):
    net = network(EVERYTHING, backend=engine)
    net.use_optimizer("Adam")
    samples, taken = checked_samples(net, features(ROWS), targets("values", ROWS)), []
    for first, last in ((0, 1), (1, 4), (4, 6), (6, 7)):
        bounds = np.arange(first, last + 1) * 3 - first * 3
        chunk = Chunk(
            np.arange(3 * (last - first)),
            bounds,
            np.full(last - first, 0.01),
            fnn.Adam().record(),
            3,
            every=3,
        )
        taken.append(len(net.engine.train_steps(net.state, samples, chunk).statistics))
    assert taken == [1, 1, 0, 1]  # steps 0, 3 and 6


def test_a_gradient_is_measured_without_an_update(engine):
    net = network(STACKS["nested residuals"], backend=engine)
    log, _ = net.engine.gradients(
        net.state, checked_samples(net, features(ROWS), targets("values", ROWS)), True, measure=True
    )
    (statistics,) = log.statistics
    _, gradients = net.gradients(features(ROWS), targets("values", ROWS), training=True)
    expected = [
        np.square(gradients[a.name]).sum()
        for a in net.program.parameters
        if a.kind in ("weight", "scale")
    ]
    learning = sorted(
        (op["weight"], row)
        for op, row in zip(net.program.ops, statistics, strict=True)
        if op["weight"] >= 0
    )
    np.testing.assert_allclose([row[oc.GRADIENT] for _, row in learning], expected)
    assert not statistics[:, oc.UPDATE].any()


def test_a_step_that_diverges_is_not_recorded(engine):
    net = network([fnn.Dense(OUTPUTS)], backend=engine)
    net.parameters["0.weight"] = 1e200 * np.ones((4, OUTPUTS))
    log = steps(net, fnn.SGD(0.05))
    assert not log.finite
    assert len(log.statistics) == 0


def test_tiny_and_huge_gradients_are_measured_in_single_precision(compiled):
    for scale in (1e-25, 1e22):
        net = network([fnn.Dense(OUTPUTS)], "mae", compiled, dtype="float32")
        X, y = np.full((ROWS, 4), scale), targets("values", ROWS)
        log, gradient = net.engine.gradients(
            net.state, checked_samples(net, X, y), True, measure=True
        )
        expected = np.square(gradient[: 4 * OUTPUTS].astype(np.float64)).sum()
        np.testing.assert_allclose(log.statistics[0, 0, oc.GRADIENT], expected, rtol=1e-5)
        assert expected > 0


def test_a_small_variance_beside_a_large_mean_is_not_lost(compiled):
    rng = np.random.default_rng(0)
    net = network([fnn.Dense(400), fnn.Dense(OUTPUTS)], backend=compiled, dtype="float32")
    net.parameters["0.weight"], net.parameters["0.bias"] = (
        np.zeros((4, 400)),
        1 + 1e-5 * rng.normal(size=400),
    )
    y = np.repeat(net.parameters["0.bias"][None].astype(np.float64), ROWS, axis=0)
    log, _ = net.engine.gradients(
        net.state, checked_samples(net, features(ROWS), targets("values", ROWS)), True, measure=True
    )
    total, squares = log.statistics[0, 0, [oc.VALUES, oc.SQUARES]] / y.size
    assert squares - total**2 == pytest.approx(y.var(), rel=1e-3)
