"""The CUDA engine against the reference: each entry of the tables, both dtypes, both paths."""

import numpy as np
import pytest
from builders import (
    INNER_LAYERS,
    LOSS_CASES,
    OUTPUTS,
    STEPPING,
    WIDTH,
    assert_same_bits,
    example,
    features,
    learnt,
    network,
    optimizer,
    relative_error,
    sample_weights,
    targets,
)
from gpu_cases import (
    ALL_STACKS,
    BACKEND,
    BOTH,
    DTYPES,
    GRADIENT_ERROR,
    MLP,
    PATHS,
    ROWS,
    WIDE,
    assert_gradients,
    data,
    make,
    reference_of,
    stack,
    wide_example,
)
from test_engine_threads import masks_drawn

import fastnn as fnn
from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Chunk
from fastnn.nn.activations import ACTIVATIONS
from fastnn.training.samples import checked_samples

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_path = pytest.mark.parametrize("path", PATHS)
STEPS, BATCH = 200, 8


@pytest.mark.real
@each_path
def test_each_path_is_taken(path):
    """The tests below rely on it."""
    assert make(MLP[path]).engine._plan.path == path
    assert make(BOTH[path]).engine._plan.path == path
    assert make(stack(ALL_STACKS["wide"], path)).engine._plan.path == path


# --- gradients ------------------------------------------------------------------------------------


@pytest.mark.simulator
@each_path
@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation, dtype, path):
    net = make(stack([fnn.Dense(WIDTH, activation), fnn.Dense(OUTPUTS)], path), dtype=dtype)
    assert_gradients(net, *data(dtype=dtype))


@each_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_wide_activations(activation, dtype):
    assert_gradients(
        make(wide_example("Dense", activation), dtype=dtype), *data(dtype=dtype, rows=70)
    )


@pytest.mark.simulator
@each_path
@each_dtype
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("loss", LOSS_CASES)
def test_losses(loss, weighted, dtype, path):
    net = make(
        stack([fnn.Dense(WIDTH, "tanh"), fnn.Dense(OUTPUTS)], path), LOSS_CASES[loss][0], dtype
    )
    options = {"sample_weight": sample_weights(ROWS)} if weighted else {}
    assert_gradients(net, *data(loss, dtype=dtype), **options)


@each_dtype
@pytest.mark.parametrize("kind", INNER_LAYERS)
def test_layers(kind, dtype):
    assert_gradients(make(example(kind), dtype=dtype), *data(dtype=dtype))
    assert_gradients(make(wide_example(kind), dtype=dtype), *data(dtype=dtype, rows=70))


@pytest.mark.simulator
@each_path
@each_dtype
@pytest.mark.parametrize("name", ALL_STACKS)
def test_stacks(name, dtype, path):
    assert_gradients(make(stack(ALL_STACKS[name], path), dtype=dtype), *data(dtype=dtype))


@each_dtype
@pytest.mark.parametrize("name", PATHS)
def test_everything_at_once(name, dtype):
    assert_gradients(make(BOTH[name], dtype=dtype), *data(dtype=dtype, rows=130))


@each_dtype
@pytest.mark.parametrize("rows", [1, 2, 7, 31, 32, 33, 255, 256, 257, 1000])
def test_any_number_of_rows(rows, dtype):
    for path in PATHS:
        assert_gradients(make(MLP[path], dtype=dtype), *data(dtype=dtype, rows=rows))


@each_dtype
@pytest.mark.parametrize("width", [1, 3, 31, 32, 33, 127, 128, 129, 200, 513])
def test_any_width(width, dtype):
    norms = [fnn.LayerNorm()] * (width > 1)  # one value is its own mean
    net = make(
        [
            fnn.Dense(width, "tanh"),
            *norms,
            fnn.Dense(width, "sigmoid"),
            fnn.BatchNorm(),
            fnn.Dense(OUTPUTS),
        ],
        dtype=dtype,
    )
    assert_gradients(net, *data(dtype=dtype, rows=40))


@each_dtype
def test_wide_inputs_and_many_classes(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(150, 784)).astype(np.float32).astype(dtype), rng.integers(0, 100, 150)
    for hidden in (30, 300):
        net = fnn.Network(
            [fnn.Dense(hidden, "relu"), fnn.Dense(100)],
            784,
            "softmax_cross_entropy",
            dtype,
            BACKEND,
        )
        assert_gradients(net, X, y)


@each_dtype
def test_products_by_cublaslt(dtype):
    """Large enough for cuBLASLt, where it is installed."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(256, 784)).astype(np.float32).astype(dtype), rng.integers(0, 10, 256)
    net = fnn.Network(
        [fnn.Dense(1024, "relu"), fnn.Dense(1024, "gelu"), fnn.Dense(10)],
        784,
        "softmax_cross_entropy",
        dtype,
        BACKEND,
    )
    assert_gradients(net, X, y)
    net = fnn.Network(
        [fnn.Residual([fnn.Dense(784, "relu")]), fnn.Dense(10)],
        784,
        "softmax_cross_entropy",
        dtype,
        BACKEND,
    )
    assert_gradients(net, X, y)


# --- training -------------------------------------------------------------------------------------


def trained_beside_the_reference(
    layers, rule, loss="softmax_cross_entropy", dtype="float32", steps=STEPS, **options
):
    """The engine's network and the reference's after so many steps."""
    batches = 5
    rows = batches * BATCH - 3  # the last batch of an epoch is short
    X, y = data(loss, rows, dtype)
    net = make(layers, LOSS_CASES[loss][0], dtype)
    reference = reference_of(net)
    for one in (net, reference):
        one.fit(
            X,
            y,
            epochs=-(-steps // batches),
            batch_size=BATCH,
            optimizer=optimizer(rule, **options),
            progress=False,
        )
    assert net.state.step == reference.state.step == steps
    return net, reference


@each_path
@each_dtype
@pytest.mark.parametrize("rule", STEPPING)
def test_trajectories_of_200_steps(rule, dtype, path):
    net, reference = trained_beside_the_reference(MLP[path], rule, dtype=dtype)
    assert relative_error(net.parameters, reference.parameters) <= (
        1e-3 if dtype == "float32" else 1e-8
    )
    assert relative_error({"p": net.state.mu_product}, {"p": reference.state.mu_product}) <= 1e-12


@each_path
@pytest.mark.parametrize("rule", ["sgd", "nesterov", "adam", "adamw", "nadam", "rmsprop"])
@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.05},
        {"clip_value": 0.01},
        {"clip_norm": 0.02},
        {"lr": fnn.Warmup(20, fnn.Cosine(0.01, 180, 0.001))},
    ],
    ids=["weight decay", "clip value", "clip norm", "schedule"],
)
def test_trajectories_with_options(rule, options, path):
    net, reference = trained_beside_the_reference(MLP[path], rule, **options)
    assert relative_error(net.parameters, reference.parameters) <= 1e-3


@each_path
@each_dtype
def test_a_trajectory_of_everything(dtype, path):
    """Dropout, noise, norms, residual blocks, penalties, max-norm."""
    net, reference = trained_beside_the_reference(BOTH[path], "adam", "quadratic", dtype, steps=50)
    assert (
        relative_error(
            {**net.parameters, **net.buffers}, {**reference.parameters, **reference.buffers}
        )
        <= 1e-3
    )


@pytest.mark.simulator
@pytest.mark.parametrize("rule", STEPPING)
def test_optimizers(rule):
    """A few steps in float64 agree to the last digits."""
    nets = [network(MLP["persistent"], backend=name) for name in (BACKEND, "numpy")]
    for net in nets:
        net.fit(
            features(10),
            targets("values", 10),
            epochs=2,
            batch_size=4,
            optimizer=optimizer(rule),
            progress=False,
        )
    for name, values in learnt(nets[0]).items():
        assert relative_error({name: values}, {name: learnt(nets[1])[name]}) <= 1e-9, name


@each_path
@each_dtype
def test_histories(dtype, path):
    X, y = data("softmax_cross_entropy", 100, dtype)
    net = make(MLP[path], "softmax_cross_entropy", dtype)
    options = {
        "epochs": 3,
        "batch_size": 16,
        "validation": 0.2,
        "sample_weight": sample_weights(100),
        "class_weight": "balanced",
    }
    found, expected = (
        one.fit(X, y, progress=False, **options)
        for one in (reference_of(net).copy(dtype, BACKEND), reference_of(net))
    )
    for key in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        np.testing.assert_allclose(
            found[key], expected[key], rtol=1e-4 if dtype == "float32" else 1e-9, err_msg=key
        )


@each_path
def test_lbfgs(path):
    X, y = data("softmax_cross_entropy", 60, "float64")
    net = make(MLP[path], "softmax_cross_entropy", "float64")
    reference = reference_of(net)
    for one in (net, reference):
        one.fit(X, y, epochs=6, optimizer="lbfgs", progress=False)
    assert relative_error(net.parameters, reference.parameters) <= 1e-6


# --- randomness and statistics --------------------------------------------------------------------


@pytest.mark.simulator
@pytest.mark.parametrize("units", [1, 2, 3, 5, 30])
def test_masks_are_the_generators(units):
    for step in (0, 3, 2**32 + 5):
        bits = philox.random_bits(11, opcodes.STREAM_MASK, step, units, rows=12)
        np.testing.assert_array_equal(
            masks_drawn(BACKEND, units, 12, step), bits >= philox.dropout_threshold(0.4)
        )


@pytest.mark.parametrize("units", [WIDE, 1021])
def test_masks_of_wide_layers_are_the_generators(units):
    bits = philox.random_bits(11, opcodes.STREAM_MASK, 7, units, rows=12)
    np.testing.assert_array_equal(
        masks_drawn(BACKEND, units, 12, 7), bits >= philox.dropout_threshold(0.4)
    )


@each_path
def test_batches_are_the_references(path):
    """The bias of a linear network depends on which samples came in which mini-batch."""
    rows, batch = 40, 7
    X, y = features(rows), targets("values", rows)
    nets = [
        network([fnn.Dense(OUTPUTS)] if path == "persistent" else MLP["graph"], backend=name)
        for name in (BACKEND, "numpy")
    ]
    for net in nets:
        net.fit(
            X,
            y,
            epochs=3,
            batch_size=batch,
            optimizer=fnn.SGD(fnn.Exponential(0.1, 0.5)),
            progress=False,
        )
    assert relative_error(nets[0].parameters, nets[1].parameters) <= 1e-11


@each_path
@each_dtype
def test_noise_is_the_references(dtype, path):
    layers = stack(
        [
            fnn.Dense(WIDTH),
            fnn.GaussianNoise(0.5),
            fnn.Dropout(0.3),
            fnn.GaussianNoise(2.0),
            fnn.Dense(OUTPUTS),
        ],
        path,
    )
    net = make(layers, dtype=dtype)
    reference = reference_of(net)
    for step in (0, 1, 10**10):
        net.state.step = reference.state.step = step
        found, expected = (
            one.gradients(*data(dtype=dtype), training=True)[1] for one in (net, reference)
        )
        assert relative_error(found, expected) <= GRADIENT_ERROR[dtype]


@each_path
@each_dtype
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adamw", "nadam"])
def test_statistics(rule, dtype, path):
    net = make(BOTH[path], dtype=dtype)
    net.use_optimizer(type(optimizer(rule)).__name__)
    reference = reference_of(net)
    X, y = data(dtype=dtype)
    chunk = Chunk(
        np.arange(ROWS),
        np.array([0, 6, 12, 18, 23]),
        np.full(4, 0.01),
        optimizer(rule).record(),
        6,
        every=2,
    )
    found, expected = (
        one.engine.train_steps(one.state, checked_samples(one, X, y), chunk)
        for one in (net, reference)
    )
    assert found.statistics.shape == expected.statistics.shape
    largest = np.maximum(np.abs(expected.statistics).max(axis=(0, 1)), 1e-30)
    tolerance = 1e-4 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(
        found.statistics / largest, expected.statistics / largest, rtol=tolerance, atol=tolerance
    )
    np.testing.assert_allclose(found.losses, expected.losses, rtol=tolerance)


@each_path
def test_gradient_flow(path):
    X, y = data("softmax_cross_entropy", 50)
    net = make(MLP[path], "softmax_cross_entropy")
    reference, flows = reference_of(net), []
    for one in (net, reference):
        history = one.fit(
            X, y, epochs=4, batch_size=8, callbacks=[fnn.GradientFlow(every=3)], progress=False
        )
        flows.append(history.gradient_flow)
    assert list(flows[0].steps) == list(flows[1].steps)
    for name in (
        "learning_speed",
        "gradient_norm",
        "weight_norm",
        "update_ratio",
        "activation_mean",
        "activation_variance",
    ):
        np.testing.assert_allclose(
            getattr(flows[0], name), getattr(flows[1], name), rtol=1e-3, atol=1e-6, err_msg=name
        )


def test_initial_parameters_are_the_references():
    nets = [
        fnn.Network(ALL_STACKS["nested residuals"], 4, "mse", backend=name, seed=3)
        for name in (BACKEND, "numpy")
    ]
    assert_same_bits(*nets)
