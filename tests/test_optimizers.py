"""Optimisers: each finds a minimum, each keeps to its options, and mistakes are named."""

import inspect

import numpy as np
import pytest
from builders import (
    EVERYTHING,
    STEPPING,
    assert_same_bits,
    features,
    network,
    optimizer,
    targets,
)

import fastnn as fnn
from fastnn.optim.optimizers import OPTIMIZERS, Optimizer, as_optimizer

each = pytest.mark.parametrize("name", STEPPING)
# Learning rates for the problems below, where the default is meant for networks.
RATES = {
    "sgd": 0.2,
    "momentum": 0.05,
    "nesterov": 0.05,
    "adagrad": 0.5,
    "adadelta": 20.0,
    "rmsprop": 0.02,
    "nadam": 0.05,
}
W, B = np.array([[1.0], [-2.0], [0.5], [3.0]]), np.array([0.7])


def regression(engine, kind, epochs, **dense):
    """Least squares of a linear function: a parabola with its minimum at (W, B)."""
    X = features(60) * [1.0, 0.5, 2.0, 1.0]
    net = fnn.Network([fnn.Dense(1, **dense)], 4, "mse", "float64", engine)
    return net, net.fit(X, X @ W + B, epochs=epochs, batch_size=60, optimizer=kind)


@each
def test_finds_the_minimum_of_a_parabola(engine, name):
    decay = fnn.Cosine(RATES.get(name, 0.05), 600)
    net, history = regression(engine, optimizer(name, lr=decay, weight_decay=0.0), epochs=600)
    assert history["loss"][-1] < 1e-4 * history["loss"][0]
    np.testing.assert_allclose(net.parameters["0.weight"], W, atol=0.05)
    np.testing.assert_allclose(net.parameters["0.bias"], B, atol=0.05)


def test_lbfgs_finds_it_to_rounding(engine):
    net, history = regression(engine, "lbfgs", epochs=50)
    np.testing.assert_allclose(net.parameters["0.weight"], W, atol=1e-6)
    assert history.stopped == "converged"
    assert len(history["loss"]) < 50


@each
def test_weight_decay_is_for_weights_only(engine, name):
    """Where all samples are zero no weight has a gradient, and decay alone moves weights."""
    nets = [
        fnn.Network([fnn.LayerNorm(), fnn.Dense(3)], 4, "mse", "float64", engine) for _ in range(2)
    ]
    start = nets[0].parameters["1.weight"].copy()
    for net, decay in zip(nets, (0.1, 0.0), strict=True):
        net.fit(
            np.zeros((10, 4)),
            np.ones((10, 3)),
            batch_size=10,
            optimizer=optimizer(name, lr=1e-3, weight_decay=decay),
        )
    decayed, plain = (net.parameters for net in nets)
    np.testing.assert_array_equal(plain["1.weight"], start)
    assert (np.abs(decayed["1.weight"]) < np.abs(start)).all()
    for key in ("0.scale", "0.shift", "1.bias"):
        np.testing.assert_array_equal(decayed[key], plain[key])


@each
@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"clip_value": 0.05}])
def test_a_schedule_of_weight_decay_is_that_decay_at_each_step(engine, name, options):
    schedule, data = fnn.FlatCosine(0.3, 10, 0.2), (features(23), targets("values", 23))
    scheduled, by_hand = (network(EVERYTHING, backend=engine) for _ in range(2))
    scheduled.fit(
        *data, 12, 23, optimizer(name, lr=0.01, weight_decay=schedule, **options), progress=False
    )
    for step in range(12):
        decay = schedule(step)
        by_hand.fit(
            *data, 1, 23, optimizer(name, lr=0.01, weight_decay=decay, **options), progress=False
        )
    assert_same_bits(scheduled, by_hand)


def test_lbfgs_takes_no_schedule():
    with pytest.raises(TypeError, match=r"weight_decay must be a number, not FlatCosine"):
        fnn.LBFGS(weight_decay=fnn.FlatCosine(0.1, 10))


def test_coupled_decay_is_a_penalty(engine):
    """Adding λw to the gradient is the penalty ½λ‖w‖²; decoupled decay, AdamW's, is not."""
    penalised, _ = regression(engine, "adam", 20, l2=0.3)
    coupled, _ = regression(engine, fnn.Adam(weight_decay=0.3), 20)
    decoupled, _ = regression(engine, fnn.AdamW(weight_decay=0.3), 20)
    np.testing.assert_allclose(
        coupled.parameters["0.weight"], penalised.parameters["0.weight"], rtol=1e-12
    )
    assert np.abs(decoupled.parameters["0.weight"] - coupled.parameters["0.weight"]).max() > 1e-4


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({"clip_norm": 0.1}, 0.1),
        ({"clip_value": 0.1}, 0.1 * np.sqrt(5)),
        ({"clip_norm": 1e9}, None),
    ],
)
def test_clipping_shortens_the_step(engine, options, length):
    plain, _ = regression(engine, fnn.SGD(1.0), 1)
    clipped, _ = regression(engine, fnn.SGD(1.0, **options), 1)
    start = fnn.Network([fnn.Dense(1)], 4, "mse", "float64", engine)
    step, full = (
        np.concatenate(
            [(net.parameters[k] - start.parameters[k]).ravel() for k in start.parameters]
        )
        for net in (clipped, plain)
    )
    assert np.linalg.norm(step) == pytest.approx(length or np.linalg.norm(full), rel=1e-9)
    if "clip_norm" in options:
        np.testing.assert_allclose(
            step / np.linalg.norm(step), full / np.linalg.norm(full), rtol=1e-9
        )


@each
def test_a_schedule_gives_the_rates(engine, name):
    _, history = regression(engine, optimizer(name, lr=fnn.StepDecay(0.01, 2, 0.1)), 5)
    np.testing.assert_allclose(history["lr"], [0.01, 0.01, 0.001, 0.001, 0.0001])


def test_state_is_kept_while_the_kind_stays():
    net, _ = regression("numpy", fnn.Adam(0.1), 3)
    slots = net.state.slots
    data = features(60), features(60) @ W + B
    net.fit(*data, optimizer=fnn.Adam(0.001), batch_size=60)
    assert net.state.slots is slots
    assert net.state.optimizer_step == 4
    net.fit(*data, optimizer="sgd", batch_size=60)
    assert net.state.optimizer_step == 1
    assert net.state.step == 5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_names(name):
    made = as_optimizer(name)
    assert type(made) is OPTIMIZERS[name]
    assert as_optimizer(made) is made


@each
def test_every_optimizer_takes_the_shared_options(name):
    record = optimizer(name, lr=0.1, weight_decay=0.2, clip_value=0.3, clip_norm=0.4).record()[0]
    assert (record["weight_decay"], record["clip_value"], record["clip_norm"]) == (0.2, 0.3, 0.4)


BAD = {
    "lr": [-0.1, np.nan, np.inf, "fast", None, True],
    "weight_decay": [-1, "much"],
    "clip_value": [0, -1, np.inf],
    "clip_norm": [0, -1, "1"],
    "momentum": [1.0, -0.1],
    "rho": [1.0, -0.1],
    "beta1": [1.0, -0.1],
    "beta2": [1.0, -0.1],
    "epsilon": [0.0, -1e-8],
    "momentum_decay": [-1.0],
    "memory": [0, 1.5],
    "tolerance": [-1.0],
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_mistakes_are_named(name):
    kind = OPTIMIZERS[name]
    taken = [argument for argument in inspect.signature(kind).parameters if argument != "nesterov"]
    assert set(taken) <= set(BAD)
    for argument in taken:
        for value in BAD[argument]:
            with pytest.raises((ValueError, TypeError), match=rf"\b{argument}\b"):
                kind(**{argument: value})


def test_other_mistakes():
    with pytest.raises(ValueError, match="nesterov"):
        fnn.SGD(0.1, nesterov=True)
    with pytest.raises(ValueError, match=r"unknown optimizer 'adamm'.*adam"):
        as_optimizer("adamm")
    with pytest.raises(TypeError, match="optimizer"):
        as_optimizer(3)
    assert all(issubclass(kind, Optimizer) for name, kind in OPTIMIZERS.items() if name != "lbfgs")


POSITIONS = {
    fnn.SGD: "lr momentum nesterov",
    fnn.AdaGrad: "lr epsilon",
    fnn.AdaDelta: "lr rho epsilon",
    fnn.RMSProp: "lr rho epsilon",
    fnn.Adam: "lr beta1 beta2 epsilon",
    fnn.AdamW: "lr beta1 beta2 epsilon",
    fnn.NAdam: "lr beta1 beta2 epsilon",
}


@pytest.mark.parametrize("optimizer", POSITIONS, ids=lambda optimizer: optimizer.__name__)
def test_arguments_without_names_mean_what_the_contract_says(optimizer):
    names = POSITIONS[optimizer].split()
    assert list(inspect.signature(optimizer).parameters)[: len(names)] == names
