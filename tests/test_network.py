"""The network: names and shapes of its arrays, initial weights, predictions."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from network_cases import LABELS, RNG, VALUES, X, arrays, assert_same_arrays, raises, small

import fastnn as fnn
from fastnn.nn.layers import LAYERS
from fastnn.nn.losses import LOSSES

# --- parameters and buffers -----------------------------------------------------------------------

SCALES = {"0.scale": (4,), "0.shift": (4,)}
DENSE = {"1.weight": (4, 2), "1.bias": (2,)}
NESTED = [
    fnn.Dense(4),
    fnn.Residual(
        [fnn.Dense(6), fnn.Residual([fnn.BatchNorm(), fnn.Dense(3, bias=False)]), fnn.Dense(5)]
    ),
]
NAMES = {
    "dense": ([fnn.Dense(2)], {"0.weight": (4, 2), "0.bias": (2,)}, {}),
    "no bias": ([fnn.Dense(2, bias=False)], {"0.weight": (4, 2)}, {}),
    "activation": ([fnn.Activation("relu"), fnn.Dense(2)], DENSE, {}),
    "dropout": ([fnn.Dropout(0.5), fnn.Dense(2)], DENSE, {}),
    "noise": ([fnn.GaussianNoise(0.5), fnn.Dense(2)], DENSE, {}),
    "layer norm": ([fnn.LayerNorm(), fnn.Dense(2)], SCALES | DENSE, {}),
    "batch norm": (
        [fnn.BatchNorm(), fnn.Dense(2)],
        SCALES | DENSE,
        {"0.running_mean": (4,), "0.running_var": (4,)},
    ),
    "residual": (
        [fnn.Residual([fnn.Dense(4)]), fnn.Dense(2)],
        {"0.0.weight": (4, 4), "0.0.bias": (4,)} | DENSE,
        {},
    ),
    "projection": (
        [fnn.Residual([fnn.Dense(2)])],
        {"0.0.weight": (4, 2), "0.0.bias": (2,), "0.projection.weight": (4, 2)},
        {},
    ),
    "forced projection": (
        [fnn.Residual([fnn.Activation("tanh"), fnn.Dense(4)], projection=True)],
        {"0.1.weight": (4, 4), "0.1.bias": (4,), "0.projection.weight": (4, 4)},
        {},
    ),
    "nested": (
        NESTED,
        {
            "0.weight": (4, 4),
            "0.bias": (4,),
            "1.0.weight": (4, 6),
            "1.0.bias": (6,),
            "1.1.0.scale": (6,),
            "1.1.0.shift": (6,),
            "1.1.1.weight": (6, 3),
            "1.1.projection.weight": (6, 3),
            "1.2.weight": (3, 5),
            "1.2.bias": (5,),
            "1.projection.weight": (4, 5),
        },
        {"1.1.0.running_mean": (6,), "1.1.0.running_var": (6,)},
    ),
}


@pytest.mark.parametrize(("layers", "parameters", "buffers"), NAMES.values(), ids=NAMES)
def test_names_order_and_shapes(layers, parameters, buffers):
    net = small("mse", layers)
    assert [(name, a.shape) for name, a in net.parameters.items()] == list(parameters.items())
    assert {name: a.shape for name, a in net.buffers.items()} == buffers
    assert net.n_parameters == sum(int(np.prod(shape)) for shape in parameters.values())
    assert net.outputs == net.predict(X).shape[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_are_views_of_the_networks_dtype(dtype):
    net = small(layers=NAMES["batch norm"][0], loss="mse", dtype=dtype)
    for name, array in net.parameters.items():
        assert array.dtype == dtype
        array[...] = 7
        assert (net.parameters[name] == 7).all()
    np.testing.assert_array_equal(net.buffers["0.running_mean"], np.zeros(4))
    np.testing.assert_array_equal(net.buffers["0.running_var"], np.ones(4))


def test_fresh_scales_are_one_and_shifts_and_biases_zero():
    net = small(layers=[fnn.LayerNorm(), fnn.Dense(2)], loss="mse")
    assert (net.parameters["0.scale"] == 1).all()
    assert not net.parameters["0.shift"].any()
    assert not net.parameters["1.bias"].any()


def test_assignment_copies_and_takes_any_numbers():
    net, values = small(dtype="float32"), np.arange(5)
    net.parameters["0.bias"] = values
    values[:] = 0
    np.testing.assert_array_equal(net.parameters["0.bias"], np.arange(5, dtype=np.float32))
    net.parameters["0.bias"] = [1, 2, 3, 4, 5]
    assert net.parameters["0.bias"].sum() == 15


@pytest.mark.parametrize(
    ("name", "value", "error", "parts"),
    [
        ("0.weight", np.zeros((5, 4)), ValueError, ["0.weight", "(4, 5)", "(5, 4)"]),
        ("0.bias", 1.0, ValueError, ["0.bias", "(5,)", "()"]),
        ("0.bias", [1, 2, 3, 4, np.nan], ValueError, ["0.bias", "finite"]),
        ("0.bias", [1, 2, 3, 4, np.inf], ValueError, ["0.bias", "finite"]),
        ("0.bias", [1, 2, 3, 4, 1e300], ValueError, ["0.bias"]),  # infinite in float32
        ("0.bias", "text", TypeError, ["0.bias"]),
        ("7.weight", np.zeros(3), KeyError, ["7.weight", "known", "0.weight", "1.bias"]),
    ],
)
def test_bad_assignment_is_refused_and_changes_nothing(name, value, error, parts):
    net = small(dtype="float32")
    before = arrays(net)
    with raises(error, *parts):
        net.parameters[name] = value
    assert_same_arrays(before, arrays(net))


def test_unknown_names_are_reported_with_the_known_ones():
    net = small(layers=NAMES["batch norm"][0], loss="mse")
    with raises(KeyError, "buffer", "'running_mean'", "0.running_mean", "0.running_var"):
        net.buffers["running_mean"]
    assert "nothing" not in net.parameters
    assert (
        repr(net.parameters)
        == "{'0.scale': (4,), '0.shift': (4,), '1.weight': (4, 2), '1.bias': (2,)}"
    )


def test_repr_shows_layers_options_and_size():
    layers = [
        fnn.Dense(5, "relu", init="nielsen"),
        fnn.Dropout(0.2),
        fnn.Residual([fnn.Dense(5)]),
        fnn.Dense(1200),
    ]
    text = repr(small("mse", layers, seed=3))
    for part in (
        "Dense(units=5, activation='relu', init='nielsen')",
        "Dropout(rate=0.2)",
        "Residual(layers=[Dense(units=5)])",
    ):
        assert part in text
    for part in ("inputs=4", "mse", "'float64'", "backend='numpy'", "seed=3", "7,255 parameters"):
        assert part in text


def test_printed_layers_can_be_typed_in_again():
    layers = [
        fnn.Dense(5, fnn.Activation("elu", alpha=2.0), l2=0.1),
        fnn.BatchNorm(0.2),
        fnn.Residual([fnn.Dense(5)], "relu", False),
    ]
    assert repr(
        eval(repr(layers), vars(fnn) | {name: getattr(fnn, name) for name in LAYERS})
    ) == repr(layers)


# --- initial weights ------------------------------------------------------------------------------


def test_same_seed_same_parameters_on_every_engine(engine):
    net, other = (
        small(layers=NESTED, loss="mse", backend=engine, seed=5),
        small(layers=NESTED, loss="mse", seed=5),
    )
    assert_same_arrays(arrays(net), arrays(other))
    assert (
        small(layers=NESTED, loss="mse", backend=engine, seed=6).parameters["0.weight"]
        != net.parameters["0.weight"]
    ).any()


def test_layers_of_equal_shape_start_differently():
    net = small("mse", [fnn.Dense(4), fnn.Dense(4)])
    assert (net.parameters["0.weight"] != net.parameters["1.weight"]).all()


def test_both_precisions_start_from_the_same_numbers():
    single, double = (small(dtype=dtype) for dtype in ("float32", "float64"))
    assert_same_arrays(
        arrays(single), {name: a.astype("float32") for name, a in double.parameters.items()}
    )


def test_array_as_initialiser():
    net = small("mse", [fnn.Dense(2, init=np.arange(8).reshape(4, 2), bias_init=[1, 2])])
    np.testing.assert_array_equal(net.parameters["0.weight"], np.arange(8).reshape(4, 2))
    np.testing.assert_array_equal(net.parameters["0.bias"], [1, 2])


# --- predictions ----------------------------------------------------------------------------------

LINKS = {
    "softmax_cross_entropy": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    "binary_cross_entropy": lambda z: 1 / (1 + np.exp(-z)),
    "poisson": np.exp,
    "quantile": lambda z: np.sort(z, axis=1),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_predict_applies_the_link_to_forward(loss, dtype):
    net = small(loss, dtype=dtype)
    raw, prediction = net.forward(X), net.predict(X)
    assert raw.shape == prediction.shape == (30, 3)
    assert raw.dtype == prediction.dtype == dtype
    np.testing.assert_allclose(prediction, LINKS.get(loss, lambda z: z)(raw), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_is_stable(engine, dtype):
    net = small(dtype=dtype, backend=engine)
    net.parameters["1.weight"][...] = 0
    net.parameters["1.bias"] = [1000, -1000, 1000]
    np.testing.assert_allclose(net.predict(X), np.tile([0.5, 0.0, 0.5], (30, 1)))
    loss, gradients = net.gradients(X, np.full(30, 1))
    assert loss == pytest.approx(2000 + np.log(2))
    np.testing.assert_allclose(gradients["1.bias"], [0.5, -1, 0.5], rtol=1e-6)


def test_forward_is_the_formula(engine):
    net = small(backend=engine)
    p = net.parameters
    expected = np.tanh(X @ p["0.weight"] + p["0.bias"]) @ p["1.weight"] + p["1.bias"]
    np.testing.assert_allclose(net.forward(X), expected, rtol=1e-12)
    np.testing.assert_allclose(net.forward(X[:1]), expected[:1], rtol=1e-12)


def test_results_are_the_callers_own(engine):
    """A later call must not change what an earlier one returned."""
    net = small(backend=engine)
    first, gradient = net.forward(X), net.gradients(X, LABELS)[1]["0.weight"]
    kept, kept_gradient = first.copy(), gradient.copy()
    net.forward(-X), net.gradients(-X, LABELS)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(gradient, kept_gradient)


def test_many_rows_are_predicted_as_few_are(engine):
    net, rows = small(backend=engine), RNG.normal(size=(1500, 4))
    np.testing.assert_allclose(
        net.forward(rows),
        np.vstack([net.forward(part) for part in np.array_split(rows, 7)]),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    "layers", [[fnn.Dropout(0.5)], [fnn.GaussianNoise(3.0)]], ids=["dropout", "noise"]
)
def test_prediction_has_no_noise(engine, layers):
    net, plain = small(layers=[*layers, fnn.Dense(3)], backend=engine), small(layers=[fnn.Dense(3)])
    plain.parameters["0.weight"] = net.parameters["1.weight"]
    np.testing.assert_allclose(net.predict(X), plain.predict(X), rtol=1e-12)


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"]
)
def test_a_copy_is_independent_and_complete(engine, clone):
    net = small(layers=[fnn.Dense(5, "tanh"), fnn.BatchNorm(), fnn.Dense(3)], backend=engine)
    net.fit(X, LABELS)
    before, twin = arrays(net), clone(net)
    np.testing.assert_array_equal(twin.predict(X), net.predict(X))
    twin.fit(X, LABELS, epochs=2)
    assert_same_arrays(before, arrays(net))
    net.fit(X, LABELS, epochs=2)
    assert_same_arrays(arrays(twin), arrays(net))


@pytest.mark.parametrize(
    ("loss", "call"), [("poisson", "predict"), ("poisson", "evaluate"), ("mse", "evaluate")]
)
def test_an_overflow_is_infinity_not_a_warning(loss, call):
    net = small(loss, dtype="float32")
    net.parameters["1.bias"] = [1e30, 1e30, 1e30]
    result = net.predict(X) if call == "predict" else net.evaluate(X, np.ones((30, 3)))["loss"]
    assert np.isinf(result).all()


def test_memory_does_not_grow_with_the_square_of_the_classes():
    net = small(layers=[fnn.Dense(5000)], dtype="float32")
    tracemalloc.start()
    net.evaluate(X, LABELS)
    net.gradients(X, LABELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # a table of 5000 × 5000 is 100 MB


# --- binary cross-entropy -------------------------------------------------------------------------


def sigmoid_outputs(backend="numpy", **options):
    """A network thrice: its sigmoid the link only, in the output layer, a layer of its own."""
    kinds = {
        "linear": [fnn.Dense(2)],
        "sigmoid": [fnn.Dense(2, "sigmoid")],
        "layer": [fnn.Dense(2), fnn.Activation("sigmoid")],
    }
    return [
        small("binary_cross_entropy", [fnn.Dense(5, "tanh"), *end], backend=backend, **options)
        for end in kinds.values()
    ]


def test_a_sigmoid_output_means_the_same_as_a_linear_one(engine):
    targets = (VALUES[:, :2] > 0).astype(float)
    nets = sigmoid_outputs(engine)
    for net in nets:
        net.fit(X, targets, epochs=2, batch_size=7)
    for net in nets[1:]:
        assert_same_arrays(arrays(nets[0]), arrays(net))
        np.testing.assert_array_equal(net.forward(X), nets[0].forward(X))
        np.testing.assert_array_equal(net.predict(X), nets[0].predict(X))
        assert net.evaluate(X, targets) == nets[0].evaluate(X, targets)
    assert (nets[1].forward(X) < 0).any()  # logits, not probabilities


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binary_cross_entropy_is_stable(engine, dtype):
    for net in sigmoid_outputs(engine, dtype=dtype):
        net.parameters["1.weight"][...] = 0
        net.parameters["1.bias"] = [1000, -1000]
        loss, gradients = net.gradients(X, np.tile([0.0, 1.0], (30, 1)))
        assert loss == pytest.approx(2000)
        np.testing.assert_allclose(gradients["1.bias"], [1, -1], rtol=1e-6)
        assert net.evaluate(X, np.tile([1.0, 0.0], (30, 1))) == {
            "loss": pytest.approx(0, abs=1e-6),
            "accuracy": 1.0,
        }
        np.testing.assert_allclose(net.predict(X), np.tile([1.0, 0.0], (30, 1)), atol=1e-30)
