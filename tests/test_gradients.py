"""Backpropagation: against central differences, and every engine against the reference."""

import numpy as np
import pytest
from builders import (
    COMPILED,
    INNER_LAYERS,
    LOSS_CASES,
    OUTPUTS,
    STACKS,
    example,
    features,
    layer,
    network,
    relative_error,
    sample_weights,
    targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.nn.activations import ACTIVATIONS

AGREEMENT = {"float64": 1e-10, "float32": 2e-5}
either_pass = pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
each_loss = pytest.mark.parametrize("case", LOSS_CASES)
each_layer = pytest.mark.parametrize("kind", INNER_LAYERS)
each_stack = pytest.mark.parametrize("stack", STACKS)


# --- against central differences ------------------------------------------------------------------


def check(layers, case, engine, training, samples=8):
    loss, kind = LOSS_CASES[case]
    errors = fnn.check_gradients(
        network(layers, loss, engine),
        features(5),
        targets(kind, 5),
        training,
        step=1e-5,
        samples=samples,
    )
    assert max(errors.values()) <= 1e-6, errors


@either_pass
@each_layer
def test_each_layer_with_each_activation(engine, kind, training):
    for activation in ACTIVATIONS:
        check(example(kind, activation), "quadratic", engine, training, samples=4)


@either_pass
@each_loss
def test_each_loss_with_each_layer(engine, case, training):
    for kind in INNER_LAYERS:
        check(example(kind), case, engine, training, samples=4)


@either_pass
@each_stack
def test_each_stack(engine, stack, training):
    check(STACKS[stack], "softmax_cross_entropy", engine, training)


# --- against the reference ------------------------------------------------------------------------


def compare(
    layers, case, engine, training, dtype="float64", rows=13, weighted=False, tolerance=None
):
    loss, kind = LOSS_CASES[case]
    X, y, w = features(rows), targets(kind, rows), sample_weights(rows) if weighted else None
    (cost, found), (reference_cost, expected) = (
        network(layers, loss, name, dtype).gradients(X, y, training, sample_weight=w)
        for name in (engine, "numpy")
    )
    tolerance = tolerance or AGREEMENT[dtype]
    assert abs(cost - reference_cost) <= tolerance * max(abs(reference_cost), 1.0)
    assert relative_error(found, expected) <= tolerance, {
        n: relative_error({n: found[n]}, {n: expected[n]}) for n in found
    }


@pytest.mark.parametrize("dtype", AGREEMENT)
@either_pass
@each_layer
@each_loss
def test_engines_agree_on_each_layer_loss_and_activation(compiled, case, kind, training, dtype):
    for activation in ACTIVATIONS:
        compare(example(kind, activation), case, compiled, training, dtype)


@pytest.mark.parametrize("dtype", AGREEMENT)
@either_pass
@each_stack
def test_engines_agree_on_each_stack(compiled, stack, training, dtype):
    for case in LOSS_CASES:
        compare(STACKS[stack], case, compiled, training, dtype, weighted=True)


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 100])
@either_pass
def test_engines_agree_on_each_batch_size(compiled, rows, training):
    for stack in ("nested residuals", "wide", "norms at the end"):
        compare(
            STACKS[stack], "softmax_cross_entropy", compiled, training, rows=rows, tolerance=1e-8
        )


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        ("binary_cross_entropy", features(9, 1)[:, 0] > 0),
        ("poisson", np.arange(9)),
        ("mse", np.arange(9.0)),
    ],
)
def test_engines_agree_on_one_output(compiled, loss, y):
    found, expected = (
        network([fnn.Dense(3, "tanh"), fnn.Dense(1, "sigmoid")], loss, name).gradients(
            features(9), y
        )[1]
        for name in (compiled, "numpy")
    )
    assert relative_error(found, expected) <= 1e-10


def test_integer_labels_become_one_hot_rows(engine):
    labels = targets("labels", 9)
    for loss in ("softmax_cross_entropy", "binary_cross_entropy", "mse", "quadratic"):
        net = network(STACKS["activation at the end"], loss, engine)
        (cost, found), (same_cost, expected) = (
            net.gradients(features(9), y) for y in (labels, np.eye(OUTPUTS)[labels])
        )
        assert cost == pytest.approx(same_cost, rel=1e-12)
        assert relative_error(found, expected) <= 1e-12


def test_gradients_change_nothing(engine):
    net = network(STACKS["nested residuals"], backend=engine)
    theta, buffers = net.state.theta.copy(), net.state.buffers.copy()
    net.gradients(features(9), targets("values", 9), training=True)
    np.testing.assert_array_equal(net.state.theta, theta)
    np.testing.assert_array_equal(net.state.buffers, buffers)
    assert net.state.step == 0


# --- random networks ------------------------------------------------------------------------------

OF_NUMBERS = ("PiecewiseLinear", "Periodic")  # which want three columns; they are in test_fuzz
names = st.sampled_from(list(ACTIVATIONS))
widths = st.integers(1, 40)
simple = st.builds(
    layer,
    st.sampled_from([k for k in INNER_LAYERS if k not in ("Residual", *OF_NUMBERS)]),
    names,
    widths,
    st.floats(0, 0.9),
    st.floats(0, 1),
)
stacks = st.lists(
    st.recursive(
        simple,
        lambda inner: st.builds(
            fnn.Residual,
            st.lists(inner, min_size=1, max_size=3),
            names,
            st.sampled_from(["auto", True]),
        ),
        max_leaves=4,
    ),
    max_size=4,
)


@settings(max_examples=150)
@given(stacks, st.sampled_from(list(LOSS_CASES)), widths, st.booleans(), st.booleans())
def test_engines_agree_on_random_networks(layers, case, rows, training, weighted):
    for engine in COMPILED:
        # A norm of two rows or columns is ±1 but for ε, and magnifies the rounding errors before it
        # up to 300 times.
        compare(
            [*layers, fnn.Dense(OUTPUTS)],
            case,
            engine,
            training,
            rows=rows,
            weighted=weighted,
            tolerance=1e-7,
        )
