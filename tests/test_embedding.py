"""Embedding: rows of tables instead of columns of codes, in every engine."""

import numpy as np
import pytest
from builders import INPUTS, OUTPUTS, flat, network, relative_error, targets
from hypothesis import given
from hypothesis import strategies as st
from network_cases import raises

import fastnn as fnn
from fastnn.data.validation import check_codes

CARDINALITIES, SIZE, NUMBERS = (5, 1, 40), 3, 2
RNG = np.random.default_rng(0)


def samples(rows, numbers=NUMBERS, cardinalities=CARDINALITIES, seed=0):
    rng = np.random.default_rng(seed)
    codes = [rng.integers(0, n, rows) for n in cardinalities]
    return np.column_stack([rng.normal(size=(rows, numbers)), *codes])


def stack(cardinalities=CARDINALITIES, **options):
    return [
        fnn.Embedding(cardinalities, SIZE, **options),
        fnn.Dropout(0.2),
        fnn.Scale(),
        fnn.Dense(7, "tanh"),
        fnn.Dense(OUTPUTS),
    ]


def embedded(engine, dtype="float64", **options):
    inputs = NUMBERS + len(CARDINALITIES)
    return network(stack(**options), "softmax_cross_entropy", engine, dtype, inputs)


def test_it_equals_one_hot_columns(engine):
    """A table is the weight of a Dense layer without bias that is given one-hot columns."""
    X = samples(20)
    net = embedded(engine)
    table, columns = net.parameters["0.weight"], []
    for first, n, codes in zip((0, 5, 6), CARDINALITIES, X[:, NUMBERS:].T, strict=True):
        columns.append(np.eye(n)[codes.astype(int)] @ table[first : first + n])
    z = np.hstack([X[:, :NUMBERS], *columns]) * net.parameters["2.scale"]
    for name in ("3", "4"):
        z = z @ net.parameters[f"{name}.weight"] + net.parameters[f"{name}.bias"]
        z = np.tanh(z) if name == "3" else z
    np.testing.assert_allclose(net.forward(X), z, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("training", [False, True])
def test_gradients_follow_central_differences(engine, training):
    net, X = embedded(engine), samples(6)
    errors = fnn.check_gradients(net, X, targets("labels", 6), training, step=1e-5, samples=16)
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
def test_engines_agree_on_gradients(compiled, dtype, rows, threads, use_threads):
    use_threads(threads)
    X, y = samples(rows), targets("labels", rows)
    (_, found), (_, expected) = (
        embedded(name, dtype).gradients(X, y, training=True) for name in (compiled, "numpy")
    )
    assert relative_error(found, expected) <= {"float64": 1e-12, "float32": 2e-5}[dtype]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_engines_agree_on_training(compiled, optimizer, clip_norm):
    X, y = samples(60), targets("labels", 60)
    kind = type(fnn.optim.optimizers.as_optimizer(optimizer))
    learnt = []
    for name in (compiled, "numpy"):
        net = embedded(name, lr_factor=2.0, decay_factor=0.5)
        net.fit(X, y, 3, 16, kind(weight_decay=0.1, clip_norm=clip_norm), progress=False)
        learnt.append(dict(net.parameters))
    np.testing.assert_allclose(flat(learnt[0]), flat(learnt[1]), rtol=1e-9, atol=1e-12)


def test_rows_that_no_sample_uses_stay_as_they_are(engine):
    net = embedded(engine)
    before = net.parameters["0.weight"].copy()
    X = samples(40, cardinalities=(2, 1, 40))
    net.fit(X, targets("labels", 40), 2, 8, fnn.SGD(0.1), progress=False)
    moved = (net.parameters["0.weight"] != before).any(axis=1)
    assert moved[:2].all()
    assert not moved[2:5].any()


def test_only_codes(engine):
    net = network([fnn.Embedding([4] * INPUTS, 2), fnn.Dense(OUTPUTS)], "mse", engine)
    X = samples(30, 0, [4] * INPUTS)
    before = net.evaluate(X, targets("values", 30))["loss"]
    net.fit(X, targets("values", 30), 20, 8, fnn.Adam(0.02), progress=False)
    assert net.evaluate(X, targets("values", 30))["loss"] < before


def test_a_saved_network_is_the_same(engine, tmp_path):
    net, X = embedded(engine), samples(10)
    net.fit(X, targets("labels", 10), progress=False)
    net.save(tmp_path / "m.fastnn")
    again = fnn.load(tmp_path / "m.fastnn", backend=engine)
    assert repr(again) == repr(net)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def test_codes_on_a_gpu_are_looked_at_on_the_host():
    class OnGpu:
        def to_host(self):
            return np.array([[0.5, 3.0]])

    check_codes(OnGpu(), (4,))
    with raises(ValueError, "X[0, 1] is 3", "from 0 to 2"):
        check_codes(OnGpu(), (3,))


# --- codes that are none --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-1, 5, 0.5, 1e30])
def test_what_is_no_code_is_named(value):
    net, X = embedded("numpy"), samples(4)
    X[2, NUMBERS] = value
    what = f"X[2, 2] is {value:g}", "column 2 holds codes", "from 0 to 4"
    for use in (net.predict, net.forward):
        with raises(ValueError, *what):
            use(X)
    for use in (net.fit, net.evaluate, net.gradients):
        with raises(ValueError, *what):
            use(X, targets("labels", 4))


@given(st.lists(st.floats(width=32), min_size=8, max_size=8), st.floats(width=32))
def test_no_buffer_leads_outside_the_tables(found, code):
    """A model file may hold any numbers; engines read inside the tables all the same."""
    for engine in ("numpy", "cython"):
        if fnn.backends()[engine] != "available":
            continue
        net = embedded(engine, "float32")
        net.state.buffers[:] = np.resize(np.float32(found), len(net.state.buffers))
        X = samples(3).astype(np.float32)
        X[:, NUMBERS:] = code
        net.engine.forward(net.state, X)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (dict(cardinalities=[]), ["cardinalities", "at least one"]),
        (dict(cardinalities=[3, 0]), ["cardinalities[1]", "at least 1"]),
        (dict(cardinalities="ab"), ["cardinalities", "list of integers"]),
        (dict(cardinalities=3), ["cardinalities", "list of integers"]),
        (dict(cardinalities=[1 << 25]), ["at most 16,777,216"]),
        (dict(cardinalities=[3], size=0), ["size"]),
        (dict(cardinalities=[3], init="auto"), ["init cannot be 'auto'"]),
        (dict(cardinalities=[3], lr_factor=-1), ["lr_factor"]),
    ],
)
def test_bad_arguments(arguments, parts):
    with raises((ValueError, TypeError), *parts):
        fnn.Embedding(**arguments)


def test_it_must_come_first_and_fit_the_inputs():
    with raises(ValueError, "layer 1 (Embedding)", "first layer"):
        network([fnn.Dense(5), *stack()])
    with raises(ValueError, "layer 0 (Embedding)", "3 cardinalities", "only 2 inputs"):
        network(stack(), inputs=2)
