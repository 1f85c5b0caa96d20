"""Numbers at the edge: activations, losses, optimisers and layers near overflow and underflow.

The right value or, where a number format has none, an error that says so; never NaN out of finite
numbers without a word, and never a training that stands still.
"""

import numpy as np
import pytest
from network_cases import raises

import fastnn as fnn
from fastnn._kernels.tables import ACTIVATIONS, LOSSES, OPTIMIZERS
from fastnn.callbacks import GradientFlow

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
RNG = np.random.default_rng(0)
# f(z) and f′(z) as z goes to infinity and to minus infinity; at its largest SELU's f overflows.
_GROWS, _GATED = (np.inf, 1, 0, 0), ("gelu", "silu", "mish", "softplus", "relu")
LIMITS = {
    "linear": (np.inf, 1, -np.inf, 1),
    "leaky_relu": (np.inf, 1, -np.inf, 0.01),
    "elu": (np.inf, 1, -1, 0),
    "selu": (np.inf, 1.0507009873554805, -1.7580993408473766, 0),
    "sigmoid": (1, 0, 0, 0),
    "hard_sigmoid": (1, 0, 0, 0),
    **dict.fromkeys(("tanh", "softsign", "hard_tanh"), (1, 0, -1, 0)),
    **dict.fromkeys(_GATED, _GROWS),
}


def largest(dtype):
    return float(np.finfo(dtype).max)


def single(activation, dtype, engine, rate=0.0):
    """f of one number, by a weight of 1."""
    layers = [fnn.Dense(1, activation, init=np.ones((1, 1)))]
    layers += [fnn.Dropout(rate)] if rate else []
    return fnn.Network(layers, 1, "mae", dtype, engine)


def slope_of(net, X, output, training):
    """f′ of one number: the bias's gradient where ∂ℓ/∂f is 1 or −1."""
    target = 0.0 if output != 0 else 1.0
    _, gradients = net.gradients(X, np.array([target]), training=training)
    return float(gradients["0.bias"][0]) * (1 if output > 0 else -1)


# --- activations ----------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("rate", [0.0, 1e-6], ids=["", "with dropout"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_have_their_limits(engine, name, rate, dtype):
    """With dropout the forward pass stores f′."""
    net = single(name, dtype, engine, rate)
    for sign, value, slope in ((1, *LIMITS[name][:2]), (-1, *LIMITS[name][2:])):
        for size in (1e4, 1e30, largest(dtype) / 2):
            X = np.array([[sign * size]], dtype)
            output = float(net.forward(X)[0, 0])
            expected = value if np.isfinite(value) else sign * size * abs(slope)
            assert output == pytest.approx(expected, rel=1e-3, abs=1e-3)
            found = slope_of(net, X, output, training=rate > 0)
            assert found == pytest.approx(slope, rel=1e-3, abs=1e-3)


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_near_zero(engine, name, dtype):
    net, tiny = single(name, dtype, engine), float(np.finfo(dtype).tiny)
    at_zero = float(net.forward(np.zeros((1, 1)))[0, 0])
    for z in (0.0, -0.0, tiny / 16, -tiny / 16, tiny, -tiny, 1e-30, -1e-30, 1e-9, -1e-9):
        X = np.array([[z]], dtype)
        output = float(net.forward(X)[0, 0])
        assert output == pytest.approx(at_zero, abs=1e-8)
        assert 0 <= slope_of(net, X, output, training=False) <= 1.8


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_at_the_largest_numbers(engine, name, dtype):
    net = single(name, dtype, engine)
    for sign in (1, -1):
        X = np.array([[sign * largest(dtype)]], dtype)
        output = float(net.forward(X)[0, 0])
        assert not np.isnan(output)
        if np.isfinite(output):
            assert np.isfinite(slope_of(net, X, output, training=False))


# --- losses ---------------------------------------------------------------------------------------


def identity(loss, k, dtype, engine):
    return fnn.Network([fnn.Dense(k, init=np.eye(k))], k, loss, dtype, engine)


@each_dtype
@pytest.mark.parametrize("k", [2, 40])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_cross_entropy_of_huge_logits(engine, kind, smoothing, k, dtype):
    """A difference of logits, or a sum of them, may overflow: 0 · ∞ is not what it costs."""
    loss = fnn.Loss("softmax_cross_entropy", label_smoothing=smoothing)
    net = identity(loss, k, dtype, engine)
    for size in (1e30, largest(dtype) / 3, largest(dtype)):
        for low in (-size, size):
            X = np.full((1, k), size, dtype)
            X[0, 1] = low
            y = np.array([0]) if kind == "labels" else np.eye(k)[:1]
            ties = k if low == size else k - 1
            expected = np.log(ties)
            found = net.gradients(X, y)[0], net.evaluate(X, y)["loss"]
            if smoothing and low < size:
                assert min(found) > 0.9 * smoothing / k * size  # or infinite
            else:
                assert found == pytest.approx((expected, expected), rel=1e-2)


@each_dtype
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_huge_numbers_are_no_nan(engine, loss, dtype):
    levels = LOSSES[loss].levels
    with_levels = fnn.Loss(loss, levels=(0.3, 0.8)) if levels else loss
    net, sizes = (
        identity(with_levels, 2, dtype, engine),
        (0.0, 1e-30, 88.0, 1e4, 1e30, largest(dtype)),
    )
    for z in (*sizes, *(-size for size in sizes)):
        for t in (0.0, 1.0) if LOSSES[loss].classifies else (0.0, 1.0, 1e30):
            X = np.array([[z, 0.0]], dtype)
            y = np.full((1, 1 if levels else 2), t)
            if loss == "softmax_cross_entropy":
                y = np.array([int(t)])
            value, gradients = net.gradients(X, y)
            assert not np.isnan([value, net.evaluate(X, y, metrics=())["loss"]]).any()
            if np.isfinite(value):
                assert not np.isnan(gradients["0.bias"]).any()
            assert not np.isnan(net.predict(X)).any()


def test_the_gradient_of_an_infinite_loss_is_nan(engine):
    """And not what an earlier call left behind."""
    net = identity("mse", 2, "float32", engine)
    net.gradients(np.ones((1, 2)), np.zeros((1, 2)))
    loss, gradients = net.gradients(np.full((1, 2), 1e30), np.zeros((1, 2)))
    assert np.isinf(loss)
    assert np.isnan(gradients["0.bias"]).all()


# --- optimisers -----------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "sgd"])
def test_an_optimizer_whose_state_overflows_says_so(engine, name, dtype, tmp_path):
    """Divided by an infinite root every step is 0, for ever."""
    size = 1e12 if dtype == "float32" else 1e100
    net = fnn.Network([fnn.Dense(1)], 3, "mse", dtype, engine)
    X = (size * np.random.default_rng(0).normal(size=(64, 3))).astype(dtype)
    before = net.parameters["0.weight"].copy()
    with raises(fnn.DivergenceError, "the state of", f"overflowed {dtype}", "square"):
        net.fit(X, size**0.5 * X[:, 0], optimizer=name, batch_size=64)
    np.testing.assert_array_equal(net.parameters["0.weight"], before)
    net.save(tmp_path / "model")
    fnn.load(tmp_path / "model", backend="numpy")


def test_an_epsilon_that_is_zero_in_the_dtype_is_refused():
    net = fnn.Network([fnn.Dense(1)], 3, "mse", backend="numpy")
    with raises(ValueError, "epsilon of the optimizer is 1e-60", "0 in float32"):
        net.fit(np.ones((4, 3)), np.ones(4), optimizer=fnn.AdaGrad(epsilon=1e-60))
    with raises(ValueError, "epsilon of a normalisation is 1e-60", "0 in float32"):
        fnn.Network([fnn.BatchNorm(epsilon=1e-60)], 3, "mse")
    with raises(ValueError, "delta of huber is 1e-300", "0 in float32"):
        fnn.Network([fnn.Dense(1)], 3, fnn.Loss("huber", delta=1e-300))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "size", "target"),
    [("float32", 1e18, 1e18), ("float64", 1e160, 1e140), ("float64", 1e150, 1e150)],
)
def test_a_clipped_step_has_the_length_of_the_norm(
    engine, threads, dtype, size, target, use_threads
):
    use_threads(threads)
    net = fnn.Network([fnn.Dense(1, init="zeros")], 2, "mse", dtype, engine)
    X, y = np.array([[size, -size]] * 2, dtype), np.array([target] * 2, dtype)
    net.fit(X, y, optimizer=fnn.SGD(0.5, clip_norm=1.0))
    expected = np.array([0.5, -0.5]) / np.sqrt(2)
    np.testing.assert_allclose(net.parameters["0.weight"][:, 0], expected, rtol=1e-3)


def test_a_clipping_factor_may_be_subnormal(engine):
    net = fnn.Network([fnn.Dense(1, init="zeros")], 1, "mae", backend=engine)
    net.fit([[1e38]], [1e38], optimizer=fnn.SGD(1e3, clip_norm=1e-3))
    assert net.parameters["0.weight"][0, 0] == pytest.approx(1.0, rel=1e-2)


def test_max_norm_of_a_weight_whose_squares_overflow(engine):
    layers = [fnn.Dense(1, init=np.full((2, 1), 1e200), max_norm=1.0)]
    net = fnn.Network(layers, 2, "mae", "float64", engine)
    net.fit([[1.0, 1.0]], [0.0], optimizer=fnn.SGD(0.0))
    np.testing.assert_allclose(net.parameters["0.weight"], np.full((2, 1), 0.5**0.5))


def test_schedules_that_grow_without_end_overflow_quietly():
    assert fnn.Exponential(1.0, 2.0)(2000) == np.inf
    assert fnn.StepDecay(1e300, 1, 1e10)(1) == np.inf


# --- normalisations -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [fnn.Adam(), fnn.SGD(0.0), fnn.LBFGS()], ids=repr)
def test_a_batch_norm_whose_variance_overflows_says_so(engine, optimizer, tmp_path):
    net = fnn.Network([fnn.BatchNorm(), fnn.Dense(1)], 3, "mse", backend=engine)
    X, y = 1e20 * RNG.normal(size=(32, 3)), RNG.normal(size=32)
    with pytest.raises(fnn.DivergenceError):
        net.fit(X, y, optimizer=optimizer)
    assert np.isnan(net.gradients(X, y, training=True)[0])
    assert all(np.isfinite(buffer).all() for buffer in net.buffers.values())
    net.save(tmp_path / "model")
    fnn.load(tmp_path / "model", backend="numpy")


def test_the_error_names_the_batch_norm():
    net = fnn.Network([fnn.BatchNorm(), fnn.Dense(1)], 3, "mse", backend="numpy")
    with raises(fnn.DivergenceError, "variance of a BatchNorm overflowed float32", "standardise X"):
        net.fit(1e20 * RNG.normal(size=(32, 3)), RNG.normal(size=32))


# --- gradient flow --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_flow_of_weights_and_updates_whose_squares_leave_float32(engine, size):
    """Of a vanishing update the ratio is small, not 0."""
    net = fnn.Network([fnn.Dense(1, init=np.full((3, 1), size))], 3, "mae", backend=engine)
    options = {"optimizer": fnn.SGD(1e-3 * size), "callbacks": [GradientFlow(1)]}
    flow = net.fit(np.ones((4, 3)), np.full(4, -1.0), **options).gradient_flow
    np.testing.assert_allclose(flow.weight_norm, [[3**0.5 * size]], rtol=1e-5)
    np.testing.assert_allclose(flow.update_ratio, [[1e-3]], rtol=1e-3)
