"""The scalar formulas of the Numba engines, compiled and as plain Python, against NumPy in a higher
precision.
"""

import functools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from fastnn._kernels import opcodes, scalars

JIT = not config.DISABLE_JIT
# the kernels'
OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}
PRECISIONS = {np.float32: np.float64, np.float64: np.longdouble}  # and what to check them with
CODES = {
    name: getattr(opcodes, name.upper())
    for name in (f[2:] for f in dir(scalars) if f.startswith("f_"))
}
POINTS = 100_000 if JIT else 300

# NumPy scalars warn of every overflow
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning")]
precisions = pytest.mark.parametrize("dtype", PRECISIONS)
activations = pytest.mark.parametrize("name", CODES)


@functools.cache
def loop(function, code=None):
    """The function over an array, compiled as the kernels do it; with a code, one of the three that
    take (code, x, alpha).
    """
    if code is None:

        @njit(**OPTIONS)
        def run(x, out):
            for i in range(x.size):
                out[i] = function(x[i])

    else:

        @njit(**OPTIONS)
        def run(x, alpha, out):
            for i in range(x.size):
                out[i] = function(code, x[i], alpha)

    return run


def over(function, x, code=None, alpha=0.3):
    out = np.empty_like(x)
    loop(function, code)(x, out) if code is None else loop(function, code)(
        x, x.dtype.type(alpha), out
    )
    return out


def activate(name, z):
    return over(scalars.activate, z, CODES[name])


def derivative(name, z):
    """f′(z), by whichever of the two functions knows it."""
    if CODES[name] in opcodes.DERIVATIVE_NEEDS_Z:
        return over(scalars.derivative_from_z, z, CODES[name])
    return over(scalars.derivative, activate(name, z), CODES[name])


def ulps(got, exact):
    """The largest error in units of the last place."""
    unit = np.spacing(np.abs(exact).astype(got.dtype))
    return float(np.max(np.abs(got - exact) / unit, initial=0))


def grid(dtype, low, high):
    """Points spread evenly, and close to 0 by magnitude."""
    magnitudes = np.geomspace(1e-30, 1, POINTS // 10)
    x = np.concatenate([np.linspace(low, high, POINTS), magnitudes, -magnitudes]).astype(dtype)
    return x[(x >= low) & (x <= high)]


@np.vectorize
def exact_erf(x):
    return math.erf(x)


def exact_sigmoid(x):
    return 1 / (1 + np.exp(-x))


RANGE = {np.float32: (-87.3, 88.72), np.float64: (-708.3, 709.78)}
ELEMENTARY = {  # function in higher precision, range of float32 and of float64, greatest error
    "exp": (np.exp, RANGE, 1.25),
    "expm1_negative": (np.expm1, dict.fromkeys(PRECISIONS, (-60.0, 0.0)), 1.5),
    "log1p": (np.log1p, dict.fromkeys(PRECISIONS, (0.0, 1.0)), 2.5),
    "tanh": (np.tanh, dict.fromkeys(PRECISIONS, (-25.0, 25.0)), 2),
    "sigmoid": (exact_sigmoid, {d: (r[0], -r[0]) for d, r in RANGE.items()}, 2),
    "erf": (exact_erf, dict.fromkeys(PRECISIONS, (-6.0, 6.0)), 3),
}


def check_elementary(name, x):
    exact, _, limit = ELEMENTARY[name]
    got = over(getattr(scalars, name), x)
    assert ulps(got, exact(x.astype(PRECISIONS[x.dtype.type]))) <= limit


@precisions
@pytest.mark.parametrize("name", ELEMENTARY)
def test_elementary_functions_are_accurate(name, dtype):
    check_elementary(name, grid(dtype, *ELEMENTARY[name][1][dtype]))


@pytest.mark.parametrize("name", ELEMENTARY)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_elementary_functions_are_accurate_anywhere(name, data):
    for dtype, width in ((np.float32, 32), (np.float64, 64)):
        low, high = (float(dtype(bound)) for bound in ELEMENTARY[name][1][dtype])
        xs = data.draw(
            st.lists(
                st.floats(math.nextafter(low, 0), math.nextafter(high, 0), width=64),
                min_size=1,
                max_size=20,
            )
        )
        check_elementary(name, np.array(xs, f"f{width // 8}"))


@precisions
def test_exp_near_its_bounds(dtype):
    info = np.finfo(dtype)
    top, bottom = np.log(info.max), np.log(info.tiny)
    near = np.array([top, bottom]) + np.arange(-40, 41)[:, None] * np.spacing(
        np.array([top, bottom])
    )
    x = near.ravel().astype(dtype)
    with np.errstate(over="ignore"):
        exact = np.exp(x.astype(PRECISIONS[dtype]))
    representable = exact <= info.max
    assert ulps(over(scalars.exp, x)[representable], exact[representable]) <= 1.25
    assert np.all(over(scalars.exp, x)[~representable] >= info.max)


@precisions
def test_limits(dtype):
    x = np.array([-np.inf, -1e30, 1e30, np.inf, 0], dtype)
    assert over(scalars.exp, x).tolist() == [0, 0, np.inf, np.inf, 1]
    assert over(scalars.sigmoid, x).tolist() == [0, 0, 1, 1, 0.5]
    assert over(scalars.tanh, x).tolist() == [-1, -1, 1, 1, 0]
    assert over(scalars.erf, x).tolist() == [-1, -1, 1, 1, 0]


# Plain formulas for a precision that needs no care, as (f, f(−∞), f(∞)); alpha is 0.3.
SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
PLAIN = {
    "linear": (lambda z: z, -np.inf, np.inf),
    "sigmoid": (exact_sigmoid, 0, 1),
    "tanh": (np.tanh, -1, 1),
    "relu": (lambda z: np.maximum(z, 0), 0, np.inf),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.3 * z), -np.inf, np.inf),
    "elu": (lambda z: np.where(z > 0, z, 0.3 * np.expm1(np.minimum(z, 0))), -0.3, np.inf),
    "selu": (
        lambda z: SCALE * np.where(z > 0, z, SELU_ALPHA * np.expm1(np.minimum(z, 0))),
        -SCALE * SELU_ALPHA,
        np.inf,
    ),
    "gelu": (lambda z: z * (1 + exact_erf(z / np.sqrt(2))) / 2, 0, np.inf),
    "silu": (lambda z: z * exact_sigmoid(z), 0, np.inf),
    "mish": (lambda z: z * np.tanh(np.log1p(np.exp(z))), 0, np.inf),
    "softplus": (lambda z: np.log1p(np.exp(z)), 0, np.inf),
    "softsign": (lambda z: z / (1 + np.abs(z)), -1, 1),
    "hard_sigmoid": (lambda z: np.clip(z / 6 + 0.5, 0, 1), 0, 1),
    "hard_tanh": (lambda z: np.clip(z, -1, 1), -1, 1),
}
KINKS = {
    "relu": [0],
    "leaky_relu": [0],
    "elu": [0],
    "selu": [0],
    "softsign": [0],
    "hard_sigmoid": [-3, 3],
    "hard_tanh": [-1, 1],
}
# these cancel: their error is small beside max(1, |z|), not always beside the result
ABSOLUTE = {"gelu", "hard_sigmoid"}


def test_every_activation_has_a_plain_twin():
    assert set(PLAIN) == set(CODES)
    assert sorted(CODES.values()) == list(range(len(CODES)))


@precisions
@activations
def test_activations_are_accurate(name, dtype):
    z = grid(dtype, -40, 40)
    exact = PLAIN[name][0](z.astype(PRECISIONS[dtype]))
    error = np.abs(activate(name, z) - exact)
    scale = (
        np.maximum(np.abs(exact), np.minimum(np.abs(z), 1) + np.abs(z))
        if name in ABSOLUTE
        else np.abs(exact)
    )
    if name == "hard_sigmoid":
        scale = np.ones_like(exact)
    assert np.all(error <= 5 * np.finfo(dtype).eps * scale)


@precisions
@activations
def test_derivatives_match_central_differences(name, dtype):
    z = np.linspace(-12, 12, min(POINTS, 2001)).astype(dtype)
    for kink in KINKS.get(name, ()):
        z = z[np.abs(z - kink) > 1e-3]
    wide, h = z.astype(np.float64), 1e-5
    slope = (PLAIN[name][0](wide + h) - PLAIN[name][0](wide - h)) / (2 * h)
    assert np.max(np.abs(derivative(name, z) - slope)) < (2e-6 if dtype is np.float32 else 1e-8)


@activations
def test_derivatives_at_kinks_and_infinities_are_finite(name):
    z = np.array([*KINKS.get(name, ()), -np.inf, np.inf], np.float32)
    assert np.all(np.isfinite(derivative(name, z))) or name in {"linear", "leaky_relu"}
    if name == "relu":
        assert derivative(name, np.zeros(1, np.float32)) == 0


@precisions
@activations
def test_activations_at_infinity_and_nan(name, dtype):
    got = activate(name, np.array([-np.inf, np.inf, np.nan], dtype))
    np.testing.assert_allclose(got, [*PLAIN[name][1:], np.nan], rtol=1e-6)
    assert np.isnan(derivative(name, np.array([np.nan], dtype)))[0]


@pytest.mark.parametrize("name", ELEMENTARY)
@precisions
def test_nan_propagates(name, dtype):
    assert np.isnan(over(getattr(scalars, name), np.full(40, np.nan, dtype))).all()


@precisions
@pytest.mark.parametrize("name", [*ELEMENTARY, *CODES])
def test_plain_python_gives_the_compiled_numbers(name, dtype):
    low, high = ELEMENTARY.get(name, (None, {dtype: (-8, 8)}))[1][dtype]
    x = np.linspace(low, high, 80).astype(dtype)
    if name in ELEMENTARY:
        pairs = [(over(getattr(scalars, name), x), [getattr(scalars, name)(v) for v in x])]
    else:
        code, alpha = CODES[name], dtype(0.3)
        pairs = [(activate(name, x), [scalars.activate(code, v, alpha) for v in x])]
        by_z = code in opcodes.DERIVATIVE_NEEDS_Z
        d, at = (scalars.derivative_from_z, x) if by_z else (scalars.derivative, pairs[0][0])
        pairs.append((derivative(name, x), [d(code, v, alpha) for v in at]))
    for compiled, plain in pairs:
        assert {type(v) for v in plain} == {dtype}
        close = (
            np.abs(compiled - plain) <= 2 * np.spacing(np.maximum(np.abs(plain), 0.5))
            if name in CODES
            else ulps(compiled, plain) <= 2
        )
        assert np.all(close)


# --- update rules ---------------------------------------------------------------------------------
# name: (slots, hyperparameters, one step of the textbook on (w, g, slots, hyperparameters))


def plain_sgd(w, g, slots, lr, beta, nesterov):
    slots[0] = beta * slots[0] + g
    return w - lr * (g + beta * slots[0] if nesterov else slots[0])


def plain_adagrad(w, g, slots, lr, eps):
    slots[0] = slots[0] + g**2
    return w - lr * g / np.sqrt(slots[0] + eps)


def plain_adadelta(w, g, slots, lr, rho, rest, eps):
    slots[0] = rho * slots[0] + rest * g**2
    delta = np.sqrt(slots[1] + eps) / np.sqrt(slots[0] + eps) * g
    slots[1] = rho * slots[1] + rest * delta**2
    return w - lr * delta


def plain_rmsprop(w, g, slots, lr, rho, rest, eps):
    slots[0] = rho * slots[0] + rest * g**2
    return w - lr * g / (np.sqrt(slots[0]) + eps)


def plain_adam(w, g, slots, step, *hyper):
    return plain_nadam(w, g, slots, 0, step, *hyper)


def plain_nadam(w, g, slots, step_g, step_m, beta1, rest1, beta2, rest2, root, eps):
    slots[0] = beta1 * slots[0] + rest1 * g
    slots[1] = beta2 * slots[1] + rest2 * g**2
    return w - (step_g * g + step_m * slots[0]) / (np.sqrt(slots[1]) * root + eps)


UPDATES = {
    "momentum": (scalars.sgd_momentum, plain_sgd, 1, (0.1, 0.9, False)),
    "nesterov": (scalars.sgd_momentum, plain_sgd, 1, (0.1, 0.9, True)),
    "adagrad": (scalars.adagrad, plain_adagrad, 1, (0.1, 1e-6)),
    "adadelta": (scalars.adadelta, plain_adadelta, 2, (1.0, 0.9, 1 - 0.9, 1e-6)),
    "rmsprop": (scalars.rmsprop, plain_rmsprop, 1, (0.01, 0.999, 1 - 0.999, 1e-6)),
    "adam": (scalars.adam, plain_adam, 2, (0.1, 0.9, 1 - 0.9, 0.999, 1 - 0.999, 30.0, 1e-6)),
    "nadam": (
        scalars.nadam,
        plain_nadam,
        2,
        (0.02, 0.1, 0.9, 1 - 0.9, 0.999, 1 - 0.999, 30.0, 1e-6),
    ),
}


@functools.cache
def update_loop(name):
    rule, _, slots, _ = UPDATES[name]
    if slots == 1:

        @njit(**OPTIONS)
        def run(w, g, s, hyper):
            for i in range(w.size):
                w[i], s[i] = rule(w[i], g[i], s[i], *hyper)

    else:

        @njit(**OPTIONS)
        def run(w, g, s, t, hyper):
            for i in range(w.size):
                w[i], s[i], t[i] = rule(w[i], g[i], s[i], t[i], *hyper)

    return run


@precisions
@pytest.mark.parametrize("name", UPDATES)
def test_updates_follow_the_textbook(name, dtype):
    _, plain, count, hyper = UPDATES[name]
    typed = tuple(h if isinstance(h, bool) else dtype(h) for h in hyper)
    rng = np.random.default_rng(0)
    w = rng.normal(size=50).astype(dtype)
    slots = [np.zeros_like(w) for _ in range(count)]
    exact, exact_slots = w.astype(np.float64), [np.zeros(50) for _ in range(count)]
    for _ in range(10):
        g = rng.normal(size=50).astype(dtype)
        update_loop(name)(w, g, *slots, typed)
        exact = plain(exact, g.astype(np.float64), exact_slots, *hyper)
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(w, exact, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slots, exact_slots, rtol=tolerance, atol=tolerance / 100)


# --- what the compiler makes of it ----------------------------------------------------------------


def assert_float32_vectors(kernel, *args):
    kernel(*args)
    (code,) = (kernel.inspect_llvm(s) for s in kernel.signatures if "float64" not in str(s))
    assert "fpext" not in code, "some arithmetic became float64"
    assert re.search(r"<\d+ x float>", code), "the loop was not vectorised"
    assert not re.search(r"call \w+ @(exp|log1p|tanh|erf|floor|rint)", code), (
        "a call to the C library is left"
    )


@pytest.mark.skipif(not JIT, reason="nothing is compiled")
@activations
def test_loops_are_float32_vectors(name):
    x, alpha = np.zeros(100, np.float32), np.float32(0.3)
    d = (
        scalars.derivative_from_z
        if CODES[name] in opcodes.DERIVATIVE_NEEDS_Z
        else scalars.derivative
    )
    for function in (scalars.activate, d):
        if name != "linear":  # that becomes a copy
            assert_float32_vectors(loop(function, CODES[name]), x, alpha, x.copy())


@pytest.mark.skipif(not JIT, reason="nothing is compiled")
@pytest.mark.parametrize("name", UPDATES)
def test_update_loops_are_float32_vectors(name):
    _, _, count, hyper = UPDATES[name]
    typed = tuple(h if isinstance(h, bool) else np.float32(h) for h in hyper)
    assert_float32_vectors(
        update_loop(name), *(np.ones(100, np.float32) for _ in range(2 + count)), typed
    )
