"""Each activation and its derivative in every engine and dtype: accuracy in ulps, and limits."""

import numpy as np
import pytest
from builders import COMPILED

import fastnn as fnn
from fastnn._kernels.tables import ACTIVATIONS
from fastnn.training.samples import checked_samples

UNITS = 1024  # a power of two, by which a mean over outputs divides exactly
ULPS = 4
each_activation = pytest.mark.parametrize("name", ACTIVATIONS)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
# Activations that cancel → what their error is small beside, where that is more than themselves.
CANCELS = {"gelu": np.abs, "hard_sigmoid": np.ones_like}


def points(dtype):
    """Zeros, subnormal numbers, kinks, ends of the range of either dtype's exponential, a grid."""
    info = np.finfo(dtype)
    special = [0, info.smallest_subnormal, info.tiny / 2, info.tiny, info.eps]
    special += [1 - info.eps, 1, 1 + 2 * info.eps]
    kinks = {abs(kink) for row in ACTIVATIONS.values() for kink in row.kinks} - {0}
    special += [kink * (1 + k * info.eps) for kink in sorted(kinks) for k in (-4, 0, 4)]
    special += [
        3 + 4 * info.eps,
        17,
        30,
        44.9,
        45.1,
        87.2,
        87.4,
        88.6,
        88.8,
        103.9,
        104.1,
        708,
        709.7,
        709.9,
        744,
        746,
        1e4,
    ]
    small = np.geomspace(1e-8, 1, 100)
    rest = np.linspace(-40, 40, UNITS - 2 * len(special) - 2 * len(small))
    return np.concatenate([special, np.negative(special), small, -small, rest]).astype(dtype)


def layer(engine, name, z, dtype, *more):
    """A network of one input, 1, whose units have the values z before their activation."""
    net = fnn.Network([fnn.Dense(UNITS, name, bias=False), *more], 1, "mae", dtype, engine)
    net.parameters["0.weight"] = z[None]
    return net


def values(engine, name, z, dtype):
    return layer(engine, name, z, dtype).forward([[1.0]])[0].astype(np.float64)


def derivatives(engine, name, z, dtype, *more):
    """f′(z) · m: targets lie far below, so that ∂ℓ/∂y is 1/k for each of k outputs."""
    _, gradient = layer(engine, name, z, dtype, *more).gradients(
        [[1.0]], np.full((1, UNITS), -1e30), training=True
    )
    return UNITS * gradient["0.weight"][0].astype(np.float64)


def worst(found, exact, scale, z):
    """The largest error in units of ``scale``, and where."""
    info = np.finfo(z.dtype)
    assert not np.isnan(found).any(), z[np.isnan(found)]
    errors = np.maximum(np.abs(found - exact) - 2 * info.tiny, 0) / (
        info.eps * np.maximum(scale, info.tiny)
    )
    return errors.max(), z[errors.argmax()]


@each_activation
@each_dtype
def test_values_are_accurate(engine, name, dtype):
    z = points(dtype)
    exact = values("numpy", name, z.astype(np.float64), np.float64)
    error, where = worst(
        values(engine, name, z, dtype),
        exact,
        CANCELS.get(name, np.abs)(z if name in CANCELS else exact),
        z,
    )
    assert error <= ULPS, where


@each_activation
@each_dtype
@pytest.mark.parametrize("drops", [False, True], ids=["", "dropout"])
def test_derivatives_are_accurate(engine, name, dtype, drops):
    """Errors are relative to 1, or to |z| where f needs z.

    With dropout the forward pass stores f′(z) · m; without, it may follow from y.
    """
    z, more = points(dtype), [fnn.Dropout(0.5)] if drops else []
    exact, masks = (
        derivatives("numpy", kind, z.astype(np.float64), np.float64, *more)
        for kind in (name, "linear")
    )
    found, scale = derivatives(engine, name, z, dtype, *more), np.ones_like(exact)
    assert set(masks) == ({0, 2} if drops else {1})
    if ACTIVATIONS[name].needs_z:
        scale = np.maximum(scale, np.abs(z))
    if name == "hard_sigmoid":  # beside its kinks y is rounded to the 0 or 1 beyond
        found = np.where(np.abs(np.abs(z) - 3) <= 8 * np.finfo(dtype).eps, exact, found)
    error, where = worst(found, exact, scale * np.maximum(masks, 1), z)
    assert error <= ULPS, where


@each_activation
@each_dtype
@pytest.mark.parametrize("engine", COMPILED)
def test_infinities_give_limits(engine, name, dtype):
    z = np.resize(np.array([-1e4, 1e4, -np.inf, np.inf], dtype), UNITS)
    net = layer(engine, name, np.zeros(UNITS), dtype)
    net.state.theta[:UNITS] = z
    far_low, far_high, low, high = net.forward([[1.0]])[0, :4]
    # 1/z: softsign
    assert low == pytest.approx(far_low if abs(far_low) < 10 else -np.inf, abs=2e-4)
    assert high == pytest.approx(far_high if abs(far_high) < 10 else np.inf, abs=2e-4)


@each_activation
@each_dtype
@pytest.mark.parametrize("drops", [False, True], ids=["", "dropout"])
def test_nan_is_seen_in_outputs_and_loss(engine, name, dtype, drops):
    for units in (1, 3, 16, 37):
        layers = [fnn.Dense(units, name), *([fnn.Dropout(0.1)] if drops else []), fnn.Dense(2)]
        for unit in range(units):
            net = fnn.Network(layers, 1, "mse", dtype, engine)
            net.state.theta[net.program.parameters[1].offset + unit] = np.nan
            assert np.isnan(net.engine.forward(net.state, np.ones((3, 1), dtype))[0]).all()
            log, _ = net.engine.gradients(
                net.state, checked_samples(net, np.ones((9, 1)), np.ones((9, 2))), training=True
            )
            assert not log.finite
            assert np.isnan(log.losses).all()
