"""PiecewiseLinear: as its authors' package has it, in every engine, with edges from the data."""

import itertools
import tracemalloc

import numpy as np
import pytest
from builders import EDGES, INPUTS, OUTPUTS, features, network, relative_error, targets
from hypothesis import given
from hypothesis import strategies as st
from network_cases import raises

import fastnn as fnn
from fastnn.nn.feature_layers import quantile_edges
from fastnn.nn.lowering import lower

SIZE = 3


def encoded(x, edges):
    """The definition, bin by bin."""
    v = np.array([(x - a) / (b - a) for a, b in itertools.pairwise(edges)])
    v[1:] = np.maximum(v[1:], 0)
    v[:-1] = np.minimum(v[:-1], 1)
    return v


def outputs(net, X, edges=EDGES):
    """What one layer in front of an identity gives, by the definition."""
    w, b = net.parameters["0.weight"], net.parameters["0.bias"]
    columns = []
    for f, of_one in enumerate(edges):
        v = encoded(X[:, f], of_one)
        columns.append(v.T @ w[f, : len(v)] + X[:, [f]] * w[f, -1] + b[f])
    return np.hstack([*columns, X[:, len(edges) :]])


def alone(engine, dtype="float64", bins=EDGES):
    layers = [fnn.PiecewiseLinear(bins, SIZE, len(EDGES)), fnn.Scale()]
    net = network(layers, "mse", engine, dtype)
    net.parameters["1.scale"] = np.ones(net.outputs)
    return net


@pytest.mark.parametrize("x", [-1e6, -1.0, -0.2, 0.0, 0.05, 0.9, 1.0, 1e6, None])
def test_it_is_the_definition(engine, x):
    """On the edges, between them and beyond them."""
    X = 2 * features(50) if x is None else np.full((2, INPUTS), x)
    np.testing.assert_allclose(
        alone(engine).predict(X), outputs(alone(engine), X), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
def test_engines_agree_on_gradients(compiled, dtype, rows, threads, use_threads):
    use_threads(threads)
    layers = [fnn.PiecewiseLinear(EDGES, SIZE), fnn.Dense(6, "tanh"), fnn.Dense(OUTPUTS)]
    X, y = features(rows), targets("labels", rows)
    (_, found), (_, expected) = (
        network(layers, "softmax_cross_entropy", name, dtype).gradients(X, y, training=True)
        for name in (compiled, "numpy")
    )
    assert relative_error(found, expected) <= {"float64": 1e-12, "float32": 2e-5}[dtype]


def test_it_starts_as_a_linear_map():
    net = fnn.Network([fnn.PiecewiseLinear(EDGES, SIZE), fnn.Dense(1)], INPUTS, "mse", seed=3)
    w, b = net.parameters["0.weight"], net.parameters["0.bias"]
    assert not w[:, :-1].any()
    for started in (w[:, -1], b):
        assert 0 < np.abs(started).max() <= SIZE**-0.5
        assert len(np.unique(started)) == started.size


# --- edges from the data --------------------------------------------------------------------------


def test_edges_are_quantiles_of_the_rows_to_train_on(engine):
    X, y = features(200), targets("values", 200)
    net = network([fnn.PiecewiseLinear(8, SIZE, 3), fnn.Dense(OUTPUTS)], "mse", engine)
    assert not net.buffers["0.bins"].any()
    before = net.predict(X)  # a linear map, as there are no bins yet
    np.testing.assert_allclose(
        before, network(net.layers, "mse", "numpy").predict(X), rtol=1e-9, atol=1e-12
    )
    net.fit(X, y, validation=(1e6 * X, y), progress=False)
    edges = np.quantile(X[:, :3], np.linspace(0, 1, 9), axis=0).T
    np.testing.assert_allclose(net.buffers["0.bins"], np.hstack([np.full((3, 1), 8), edges]))
    net.fit(10 * X, y, progress=False)  # later data do not move them
    np.testing.assert_allclose(net.buffers["0.bins"][:, 1:], edges)


def test_edges_of_codes_are_not_asked_for(engine):
    X = np.hstack([features(60, 2), np.arange(60)[:, None] % 4])
    layers = [fnn.Embedding([4], 2), fnn.PiecewiseLinear(5, SIZE, 2), fnn.Dense(OUTPUTS)]
    net = network(layers, "mse", engine, inputs=3)
    net.fit(X, targets("values", 60), progress=False)
    assert (net.buffers["1.bins"][:, 0] == 5).all()


def test_few_values_and_one_value():
    X = np.column_stack([np.arange(60) % 3, np.full(60, 7.0)])
    few, one = quantile_edges(X, 48)
    assert (few[0], few[-1]) == (0, 2)
    assert len(few) <= 49
    assert len(one) == 0
    net = network([fnn.PiecewiseLinear(48, SIZE), fnn.Dense(OUTPUTS)], "mse", inputs=2)
    net.fit(X, targets("values", 60), progress=False)
    assert net.buffers["0.bins"][:, 0].tolist() == [len(few) - 1, 0]
    assert np.isfinite(net.predict(X)).all()


def test_it_learns_a_step_that_a_line_cannot(engine):
    X = np.linspace(-1, 1, 400)[:, None]
    y = np.where(X > 0.3, 1.0, 0.0)
    net = fnn.Network([fnn.PiecewiseLinear(20, 4), fnn.Dense(1)], 1, "mse", backend=engine)
    net.fit(X, y, 100, 50, fnn.Adam(0.02), progress=False)
    assert net.evaluate(X, y)["r2"] > 0.9


def test_a_saved_network_is_the_same(engine, tmp_path):
    X, y = features(60), targets("values", 60)
    net = network([fnn.PiecewiseLinear(8, SIZE), fnn.Dense(OUTPUTS)], "mse", engine)
    net.fit(X, y, progress=False)
    net.save(tmp_path / "m.fastnn")
    again = fnn.load(tmp_path / "m.fastnn", backend=engine)
    assert repr(again) == repr(net)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


@given(st.lists(st.floats(width=32), min_size=10, max_size=10), st.floats(-10, 10, width=32))
def test_no_buffer_leads_outside_the_maps(found, x):
    """A model file may hold any numbers; engines read inside the maps all the same."""
    for engine in ("numpy", "cython"):
        if fnn.backends()[engine] != "available":
            continue
        net = alone(engine, "float32")
        net.state.buffers[:] = np.resize(np.float32(found), len(net.state.buffers))
        net.engine.forward(net.state, np.full((3, INPUTS), x, np.float32))


def test_no_table_is_made_before_a_file_is_known_to_hold_it():
    """A crafted file of a megabyte may tell of edges that take gigabytes as a table."""
    layer = fnn.PiecewiseLinear([[0.0, 1.0]] * 2000 + [np.arange(20_000.0)], 1)
    tracemalloc.start()
    program = lower([layer, fnn.Dense(1)], 2001, fnn.Loss("mse"), "float32")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert program.n_buffers > 40_000_000
    assert peak < 10_000_000


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (dict(bins=0), ["bins"]),
        (dict(bins="8"), ["bins", "list of arrays"]),
        (dict(bins=[]), ["bins", "list of arrays"]),
        (dict(bins=[[0.0, 1.0], [1.0]]), ["bins[1]", "two or more edges"]),
        (dict(bins=[[1.0, 1.0 + 1e-12]]), ["bins[0]", "above the one before"]),
        (dict(bins=[[0.0, np.inf]]), ["bins[0]", "not finite"]),
        (dict(bins=EDGES, features=2), ["edges for 3 numbers", "features is 2"]),
        (dict(size=0), ["size"]),
    ],
)
def test_bad_arguments(arguments, parts):
    with raises((ValueError, TypeError), *parts):
        fnn.PiecewiseLinear(**arguments)


def test_its_place():
    with raises(ValueError, "layer 1 (PiecewiseLinear)", "bins must be edges"):
        network([fnn.Dense(5), fnn.PiecewiseLinear(8), fnn.Dense(OUTPUTS)])
    with raises(ValueError, "layer 0 (PiecewiseLinear)", "only 4 that are numbers", "features=4"):
        network([fnn.PiecewiseLinear(8, features=5), fnn.Dense(OUTPUTS)])
    with raises(ValueError, "layer 1 (PiecewiseLinear)", "features=3"):
        network([fnn.Embedding([4], 2), fnn.PiecewiseLinear(8), fnn.Dense(OUTPUTS)])
