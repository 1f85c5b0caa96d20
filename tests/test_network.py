"""The network as users meet it: names, shapes, predictions, scores, weights of samples and
gradients.
"""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from network_cases import LABELS, RNG, VALUES, X, arrays, assert_same_arrays, raises, small

import fastnn as fnn
from fastnn.metrics import METRICS
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


# --- mlp ------------------------------------------------------------------------------------------

MLPS = {
    "plain": (
        {},
        "[Dense(units=6, activation='relu'), Dense(units=6, activation='relu'), Dense(units=2)]",
    ),
    "dropout": (
        {"dropout": 0.1},
        "[Dense(units=6, activation='relu'), Dropout(rate=0.1), Dense(units=6, activation='relu'), Dropout(rate=0.1), Dense(units=2)]",
    ),
    "batch norm": (
        {"batch_norm": True, "activation": "tanh"},
        "[Dense(units=6), BatchNorm(), Activation('tanh'), Dense(units=6), BatchNorm(), Activation('tanh'), Dense(units=2)]",
    ),
    "residual": (
        {"residual": True, "dropout": 0.5},
        "[Dense(units=6, activation='relu'), Dropout(rate=0.5), "
        "Residual(layers=[Dense(units=6, activation='relu'), Dropout(rate=0.5)]), Dense(units=2)]",
    ),
    "output and penalties": (
        {"output": "sigmoid", "l1": 0.1, "l2": 0.2},
        "[Dense(units=6, activation='relu', l1=0.1, l2=0.2), Dense(units=6, activation='relu', l1=0.1, l2=0.2), "
        "Dense(units=2, activation='sigmoid', l1=0.1, l2=0.2)]",
    ),
}


@pytest.mark.parametrize(("options", "layers"), MLPS.values(), ids=MLPS)
def test_mlp(options, layers):
    net = fnn.mlp([4, 6, 6, 2], backend="numpy", **options)
    assert repr(net.layers) == layers
    assert (net.inputs, net.outputs, net.loss.name) == (4, 2, "softmax_cross_entropy")


def test_mlp_without_hidden_layers_and_with_options_of_network():
    net = fnn.mlp((4, 1), loss="mse", dtype="float64", backend="numpy", seed=9)
    assert repr(net.layers) == "[Dense(units=1)]"
    assert (net.dtype, net.backend, net.seed) == (np.float64, "numpy", 9)


@pytest.mark.parametrize(("init", "std"), [("nielsen", 1 / 20), ("standard_normal", 1)])
def test_mlp_draws_biases_as_the_book_does(init, std):
    net = fnn.mlp([400, 2000, 500], init=init, backend="numpy", seed=1)
    for name in ("0.bias", "1.bias"):
        assert abs(net.parameters[name].mean()) < 0.1
        assert abs(net.parameters[name].std() - 1) < 0.1
    assert abs(net.parameters["0.weight"].std() / std - 1) < 0.01
    assert not fnn.mlp([4, 3, 2], init="glorot_normal", backend="numpy").parameters["0.bias"].any()


def test_mlp_of_the_source_has_its_size():
    assert fnn.mlp([784, 15, 10], backend="numpy").n_parameters == 11935


# --- predictions ----------------------------------------------------------------------------------

LINKS = {
    "softmax_cross_entropy": lambda z: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
    "binary_cross_entropy": lambda z: 1 / (1 + np.exp(-z)),
    "poisson": np.exp,
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
    """The same network with the sigmoid as the link only, in the output layer, and as a layer of
    its own.
    """
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


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_keys_and_types_of_evaluate(engine, loss):
    net = small(loss, backend=engine)
    y = {
        "softmax_cross_entropy": LABELS,
        "binary_cross_entropy": VALUES > 0,
        "poisson": abs(VALUES),
    }.get(loss, VALUES)
    scores = net.evaluate(X, y)
    assert list(scores) == ["loss", "accuracy" if LOSSES[loss].classifies else "r2"]
    assert all(type(score) is float for score in scores.values())
    assert scores["loss"] == pytest.approx(net.gradients(X, y)[0], rel=1e-12)


def test_evaluate_takes_metrics():
    net = small("mse")
    residual = net.predict(X) - VALUES
    scores = net.evaluate(X, VALUES, metrics=("mae", "rmse", "r2", "mae"))
    assert list(scores) == ["loss", "mae", "rmse", "r2"]
    assert scores["mae"] == pytest.approx(np.abs(residual).mean())
    assert (
        scores["rmse"]
        == pytest.approx(np.sqrt((residual**2).mean()))
        == pytest.approx(np.sqrt(scores["loss"]))
    )
    assert scores["r2"] == pytest.approx(
        (1 - (residual**2).sum(0) / ((VALUES - VALUES.mean(0)) ** 2).sum(0)).mean()
    )


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_uses_sample_weights(metric):
    net, weights = small(), np.arange(30) % 4
    doubled = np.repeat(np.arange(30), weights)
    weighted = net.evaluate(X, LABELS, sample_weight=weights, metrics=(metric,))
    assert weighted == pytest.approx(
        net.evaluate(X[doubled], LABELS[doubled], metrics=(metric,)), rel=1e-12
    )


@pytest.mark.parametrize("loss", ["quadratic", "mse", "binary_cross_entropy"])
@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None], LABELS.tolist()], ids=["vector", "column", "list"]
)
def test_labels_mean_one_hot_rows(loss, labels):
    net, one_hot = small(loss), np.eye(3)[LABELS]
    scores = net.evaluate(X, labels)
    assert scores["loss"] == net.evaluate(X, one_hot)["loss"]
    assert scores["accuracy"] == (net.predict(X).argmax(axis=1) == LABELS).mean()


class Tensor:
    """Like a torch tensor: an array whose ``size`` is a method, not a number."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values

    def size(self):
        return self.values.shape


def test_labels_from_a_tensor_are_labels():
    assert list(small("mse").evaluate(Tensor(X), Tensor(LABELS))) == ["loss", "accuracy"]


@pytest.mark.parametrize(
    ("loss", "targets"),
    [("binary_cross_entropy", [0, 1, 1, 0]), ("binary_cross_entropy", [0.0, 1.0, 1.0, 0.0])],
)
def test_accuracy_of_one_output(loss, targets):
    net = small(loss, [fnn.Dense(1, init=np.ones((1, 1)))], inputs=1)
    assert net.evaluate([[-1.0], [2.0], [-3.0], [-4.0]], targets)["accuracy"] == 0.75


def test_penalties_count(engine):
    layers = [
        fnn.Dense(5, "tanh", l1=0.1, l2=0.2),
        fnn.Residual([fnn.Dense(5, l2=0.3)]),
        fnn.Dense(3, bias_init="standard_normal"),
    ]
    net, bare = (
        small(layers=layers, backend=engine),
        small(layers=[fnn.Dense(5, "tanh"), fnn.Residual([fnn.Dense(5)]), fnn.Dense(3)]),
    )
    for name, values in net.parameters.items():
        bare.parameters[name] = values
    w0, w1 = net.parameters["0.weight"], net.parameters["1.0.weight"]
    penalty = 0.1 * abs(w0).sum() + 0.5 * 0.2 * (w0**2).sum() + 0.5 * 0.3 * (w1**2).sum()
    assert net.penalty() == pytest.approx(penalty)
    assert net.evaluate(X, LABELS)["loss"] == pytest.approx(
        bare.evaluate(X, LABELS)["loss"] + penalty
    )
    (loss, gradients), (bare_loss, bare_gradients) = (
        net.gradients(X, LABELS),
        bare.gradients(X, LABELS),
    )
    assert loss == pytest.approx(bare_loss + penalty)
    np.testing.assert_allclose(
        gradients["0.weight"] - bare_gradients["0.weight"], 0.1 * np.sign(w0) + 0.2 * w0, rtol=1e-9
    )
    np.testing.assert_allclose(gradients["2.bias"], bare_gradients["2.bias"], rtol=1e-9)
    history = net.fit(X, LABELS, batch_size=30, optimizer="sgd")
    assert history["loss"] == [pytest.approx(loss)]


# --- weights of samples and classes ---------------------------------------------------------------


def one_step(X, y, engine, **options):
    """Parameters after one step of plain descent on all samples at once."""
    net = small(backend=engine)
    net.fit(X, y, batch_size=len(X), optimizer=fnn.SGD(0.5), **options)
    return arrays(net)


def test_a_weight_of_two_is_a_row_twice_and_of_zero_no_row(engine):
    weights = np.arange(30) % 3
    rows = np.repeat(np.arange(30), weights)
    labels = (np.arange(30) // 3) % 3
    weighted = one_step(X, labels, engine, sample_weight=weights)
    assert_same_arrays(weighted, one_step(X[rows], labels[rows], engine), rtol=1e-12)
    assert_same_arrays(weighted, one_step(X, labels, engine, sample_weight=weights / 7), rtol=1e-12)


def test_class_weight_is_a_factor_of_sample_weight(engine):
    factors, weights = {0: 2.0, 2: 0.5}, RNG.uniform(size=30)
    by_hand = weights * np.array([2.0, 1.0, 0.5])[LABELS]
    assert_same_arrays(
        one_step(X, LABELS, engine, sample_weight=weights, class_weight=factors),
        one_step(X, LABELS, engine, sample_weight=by_hand),
        rtol=1e-12,
    )


def test_balanced_class_weight_makes_classes_count_alike():
    labels = np.array([0] * 20 + [1] * 8 + [2] * 2)
    by_hand = 1 / np.bincount(labels)[labels]
    assert_same_arrays(
        one_step(X, labels, "numpy", class_weight="balanced"),
        one_step(X, labels, "numpy", sample_weight=by_hand),
        rtol=1e-12,
    )


def test_class_weight_of_a_binary_network_with_one_output():
    labels = LABELS % 2
    nets = [small("binary_cross_entropy", [fnn.Dense(1)]) for _ in range(2)]
    nets[0].fit(X, labels, class_weight={1: 3.0})
    nets[1].fit(X, labels, sample_weight=1 + 2 * labels)
    assert_same_arrays(arrays(nets[0]), arrays(nets[1]), rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"class_weight": {0: 0, 1: 0, 2: 0}},
        {"class_weight": {0: 0}, "sample_weight": (LABELS == 0) * 1.0},
    ],
)
def test_weights_that_leave_nothing_to_learn_are_refused(options):
    with raises(ValueError, "weight"):
        small().fit(X, LABELS, **options)


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_gradients_have_the_parameters_names_and_leave_the_state_alone(engine, training):
    layers = [
        fnn.Dense(5, "gelu"),
        fnn.BatchNorm(),
        fnn.Dropout(0.3),
        fnn.GaussianNoise(0.1),
        fnn.Residual([fnn.Dense(7)]),
        fnn.Dense(3),
    ]
    net = small(layers=layers, backend=engine)
    net.fit(X, LABELS, batch_size=10)
    state = net.state
    before = [a.copy() for a in (state.theta, state.buffers, state.slots, state.mu_product)] + [
        state.step,
        state.optimizer_step,
    ]
    _, gradients = net.gradients(X, LABELS, training=training)
    assert {n: (g.shape, g.dtype) for n, g in gradients.items()} == {
        n: (p.shape, p.dtype) for n, p in net.parameters.items()
    }
    assert list(gradients) == list(net.parameters)
    for kept, now in zip(
        before,
        (
            state.theta,
            state.buffers,
            state.slots,
            state.mu_product,
            state.step,
            state.optimizer_step,
        ),
        strict=True,
    ):
        np.testing.assert_array_equal(kept, now)
    again = net.gradients(X, LABELS, training=training)[1]
    assert_same_arrays(gradients, again)


def test_gradients_in_training_use_batch_statistics(engine):
    net = small(layers=[fnn.BatchNorm(), fnn.Dense(3)], backend=engine)
    shifted = X * 5 + 3
    normalised = (shifted - shifted.mean(0)) / np.sqrt(shifted.var(0) + 1e-5)
    plain = small(layers=[fnn.Dense(3)])
    plain.parameters["0.weight"] = net.parameters["1.weight"]
    assert net.gradients(shifted, LABELS, training=True)[0] == pytest.approx(
        plain.gradients(normalised, LABELS)[0]
    )
    assert net.gradients(shifted, LABELS)[0] == pytest.approx(net.evaluate(shifted, LABELS)["loss"])


def test_gradients_take_sample_weights():
    weights = np.repeat([0, 2], 15)
    weighted, half = (
        small().gradients(X, LABELS, sample_weight=weights),
        small().gradients(X[15:], LABELS[15:]),
    )
    assert weighted[0] == pytest.approx(half[0])
    assert_same_arrays(weighted[1], half[1], rtol=1e-9)


def test_learning_speed_is_the_norm_of_bias_gradients(engine):
    layers = [
        fnn.Dense(5, "sigmoid"),
        fnn.Residual([fnn.Dense(6, "sigmoid")]),
        fnn.Dense(4, "tanh"),
        fnn.Dense(3),
    ]
    net = small(layers=layers, backend=engine)
    _, gradients = net.gradients(X, LABELS)
    expected = [np.linalg.norm(gradients[name]) for name in ("0.bias", "1.0.bias", "2.bias")]
    np.testing.assert_allclose(net.learning_speed(X, LABELS), expected)


def test_learning_speed_names_the_missing_bias():
    with raises(ValueError, "0.bias"):
        small(layers=[fnn.Dense(5, bias=False), fnn.Dense(3)]).learning_speed(X, LABELS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_check_gradients(dtype):
    net = small(
        layers=[
            fnn.Dense(5, "tanh"),
            fnn.BatchNorm(),
            fnn.Residual([fnn.Dense(4)]),
            fnn.Dense(3, l2=0.1),
        ],
        dtype=dtype,
    )
    before = net.state.theta.copy()
    for training in (False, True):
        errors = fnn.check_gradients(net, X, LABELS, training=training, samples=10)
        assert list(errors) == list(net.parameters)
        assert max(errors.values()) < 1e-6
    np.testing.assert_array_equal(net.state.theta, before)


def test_check_gradients_sees_a_wrong_one(monkeypatch):
    right = fnn.Network.gradients

    def wrong(self, X, y, *options):
        loss, gradients = right(self, X, y, *options)
        gradients["1.bias"] += 0.1
        return loss, gradients

    monkeypatch.setattr(fnn.Network, "gradients", wrong)
    errors = fnn.check_gradients(small(), X, LABELS)
    assert errors["1.bias"] > 0.1
    assert errors["0.weight"] < 1e-6
