"""The scalar formulas of the Numba engines against NumPy in a higher precision.

They run compiled and as plain Python. Expected values of activations come from the formulas of
`tables`.
"""

import functools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, njit

from fastnn._kernels import elementary, opcodes, reference, scalars
from fastnn._kernels.step_rates import bias_correction, momentum_factor
from fastnn._kernels.tables import ACTIVATIONS, OPTIMIZERS

JIT = not config.DISABLE_JIT
# the kernels'
OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc", "arcp", "nsz"},
}
PRECISIONS = {np.float32: np.float64, np.float64: np.longdouble}  # and what to check them with
POINTS = 100_000 if JIT else 300

# NumPy scalars warn of every overflow
pytestmark = [pytest.mark.filterwarnings("ignore::RuntimeWarning")]
precisions = pytest.mark.parametrize("dtype", PRECISIONS)
activations = pytest.mark.parametrize("name", ACTIVATIONS)


@functools.cache
def loop(function, code=None):
    """The function over an array, compiled as the kernels are.

    With a code, it is one of the three functions of (code, x, alpha).
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


def over(function, x):
    out = np.empty_like(x)
    loop(function)(x, out)
    return out


def over_by_code(function, name, x):
    out = np.empty_like(x)
    loop(function, ACTIVATIONS[name].code)(x, x.dtype.type(alpha_of(name)), out)
    return out


def alpha_of(name):
    """A constant other than the default: 0.3, where it may be that."""
    constant = ACTIVATIONS[name].constants.get("alpha")
    return constant.default if constant and not constant.low < 0.3 < constant.high else 0.3


def activate(name, z):
    return over_by_code(scalars.activate, name, z)


def derivative(name, z):
    """f′(z), by whichever of the two functions knows it."""
    if ACTIVATIONS[name].needs_z:
        return over_by_code(scalars.derivative_from_z, name, z)
    return over_by_code(scalars.derivative, name, activate(name, z))


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
    got = over(getattr(elementary, name), x)
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
@pytest.mark.parametrize("bound", [0.25, 100.0])
def test_cosines_and_sines_are_accurate(dtype, bound):
    t, half_turn = grid(dtype, -bound, bound), 4 * np.arctan(PRECISIONS[dtype](1))
    quarters = np.rint(4 * t.astype(PRECISIONS[dtype]))
    rest = 2 * half_turn * (t - quarters / 4)
    c, s = np.cos(rest), np.sin(rest)
    for number, exact in enumerate(([c, -s, -c, s], [s, c, -s, -c])):
        got = over(part_of_circle(number), t)
        assert ulps(got, np.choose(quarters.astype(int) % 4, exact)) <= 2


@functools.cache
def part_of_circle(number):
    circle = elementary.cos_sin_turns
    return njit(lambda t: circle(t)[number], **OPTIONS)


@precisions
def test_turns_that_tell_no_phase(dtype):
    """They count as 0 from where neighbouring float32 are a quarter of a turn apart."""
    t = np.array([2.0**20 + 0.25, -0.25, 0.5, 2.0**31, -1e30, np.inf, -np.inf, np.nan], dtype)
    cosines, sines = (over(part_of_circle(number), t) for number in (0, 1))
    np.testing.assert_array_equal(cosines, [0, 0, -1, 1, 1, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(sines, [1, -1, 0, 0, 0, np.nan, np.nan, np.nan])


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
    assert ulps(over(elementary.exp, x)[representable], exact[representable]) <= 1.25
    assert np.all(over(elementary.exp, x)[~representable] >= info.max)


@precisions
def test_limits(dtype):
    x = np.array([-np.inf, -1e30, 1e30, np.inf, 0], dtype)
    assert over(elementary.exp, x).tolist() == [0, 0, np.inf, np.inf, 1]
    assert over(elementary.sigmoid, x).tolist() == [0, 0, 1, 1, 0.5]
    assert over(elementary.tanh, x).tolist() == [-1, -1, 1, 1, 0]
    assert over(elementary.erf, x).tolist() == [-1, -1, 1, 1, 0]


# What formulas of `tables` may use beside z and alpha.
NAMES = {name: getattr(np, name) for name in ("exp", "expm1", "log1p", "tanh", "sqrt", "abs")}
NAMES |= {name: getattr(np, name) for name in ("where", "maximum", "minimum", "clip")}
NAMES["Phi"] = lambda z: (1 + exact_erf(z / np.sqrt(2))) / 2
FAR, INFINITE = 1e8, 1e6  # f(±FAR) stands for the limit; beyond INFINITE it is ±∞
# f″ jumps: a central difference errs by as much as its step.
BENDS = {"softsign": (0,)}
# These cancel: their error is small beside max(1, |z|), not always beside the result.
ABSOLUTE = {"gelu", "hard_sigmoid"}


def plain(name, z):
    """f(z) by the formula of the table, which needs no care in the precision of ``z``."""
    names = {**NAMES, "z": z, "alpha": z.dtype.type(alpha_of(name))}
    return eval(ACTIVATIONS[name].formula, {"__builtins__": {}}, names)


def limits(name):
    """f(−∞) and f(∞) by the formula of the table."""
    far = plain(name, np.array([-FAR, FAR], np.longdouble)).astype(np.float64)
    return np.where(np.abs(far) > INFINITE, np.sign(far) * np.inf, far)


def test_codes_are_the_numbers_of_the_rows():
    assert [row.code for row in ACTIVATIONS.values()] == list(range(len(ACTIVATIONS)))


@activations
def test_formulas_of_the_table_work_on_arrays(name):
    for dtype in (np.float64, np.longdouble):
        z = np.linspace(-3, 3, 7).astype(dtype)
        assert plain(name, z).shape == z.shape
        assert np.isfinite(plain(name, z)).all()


@precisions
@activations
def test_activations_are_accurate(name, dtype):
    z = grid(dtype, -40, 40)
    exact = plain(name, z.astype(PRECISIONS[dtype]))
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
    for kink in (*ACTIVATIONS[name].kinks, *BENDS.get(name, ())):
        z = z[np.abs(z - kink) > 1e-3]
    wide, h = z.astype(np.float64), 1e-5
    slope = (plain(name, wide + h) - plain(name, wide - h)) / (2 * h)
    assert np.max(np.abs(derivative(name, z) - slope)) < (2e-6 if dtype is np.float32 else 1e-8)


@activations
def test_derivatives_at_kinks_and_infinities_are_finite(name):
    z = np.array([*ACTIVATIONS[name].kinks, -np.inf, np.inf], np.float32)
    assert np.all(np.isfinite(derivative(name, z)))
    if name == "relu":
        assert derivative(name, np.zeros(1, np.float32)) == 0


@precisions
@activations
def test_activations_at_infinity_and_nan(name, dtype):
    got = activate(name, np.array([-np.inf, np.inf, np.nan], dtype))
    np.testing.assert_allclose(got, [*limits(name), np.nan], rtol=1e-6, atol=1e-7)
    assert np.isnan(derivative(name, np.array([np.nan], dtype)))[0]


@pytest.mark.parametrize("name", ELEMENTARY)
@precisions
def test_nan_propagates(name, dtype):
    assert np.isnan(over(getattr(elementary, name), np.full(40, np.nan, dtype))).all()


@precisions
@pytest.mark.parametrize("name", [*ELEMENTARY, *ACTIVATIONS])
def test_plain_python_gives_the_compiled_numbers(name, dtype):
    low, high = ELEMENTARY.get(name, (None, {dtype: (-8, 8)}))[1][dtype]
    x = np.linspace(low, high, 80).astype(dtype)
    if name in ELEMENTARY:
        pairs = [(over(getattr(elementary, name), x), [getattr(elementary, name)(v) for v in x])]
    else:
        row, alpha = ACTIVATIONS[name], dtype(alpha_of(name))
        code = row.code
        pairs = [(activate(name, x), [scalars.activate(code, v, alpha) for v in x])]
        d, at = (scalars.derivative_from_z, x) if row.needs_z else (scalars.derivative, pairs[0][0])
        pairs.append((derivative(name, x), [d(code, v, alpha) for v in at]))
    for compiled, plain in pairs:
        assert {type(v) for v in plain} == {dtype}
        close = (
            np.abs(compiled - plain) <= 2 * np.spacing(np.maximum(np.abs(plain), 0.5))
            if name in ACTIVATIONS
            else ulps(compiled, plain) <= 2
        )
        assert np.all(close)


# --- updates --------------------------------------------------------------------------------------

# Formulas of updates → their optimiser, and its constants.
UPDATES = {name: (row.code, name, {}) for name, row in OPTIMIZERS.items()} | {
    "momentum": (opcodes.MOMENTUM, "sgd", {"beta1": 0.9}),
    "nesterov": (opcodes.NESTEROV, "sgd", {"beta1": 0.9, "nesterov": 1}),
}
CONSTANTS = {"beta2": 0.999, "epsilon": 1e-6, "momentum_decay": 0.004, "nesterov": 0}
ETA, DECAY = 0.1, 0.01


def optimizer_of(name):
    """The optimiser's record, with fields as attributes."""
    _, owner, constants = UPDATES[name]
    beta1 = 0.0 if name == "sgd" else 0.9
    given = {**CONSTANTS, "code": OPTIMIZERS[owner].code, "beta1": beta1, **constants}
    return SimpleNamespace(**given)


def update_constants(name, t, mu_product, dtype):
    """The constants of step t."""
    o = optimizer_of(name)
    mu, mu_next = momentum_factor(o, t), momentum_factor(o, t + 1)
    rates = bias_correction(o, ETA, DECAY, t, mu, mu_next, mu_product)
    decoupled = OPTIMIZERS[UPDATES[name][1]].decoupled_decay
    values = scalars.UpdateConstants(
        lr=rates.eta,
        step=rates.step,
        step_gradient=rates.step_gradient,
        beta1=o.beta1,
        one_minus_beta1=1 - o.beta1,
        beta2=o.beta2,
        one_minus_beta2=1 - o.beta2,
        inv_sqrt_bias2=rates.inv_sqrt_bias2,
        epsilon=o.epsilon,
        coupled_decay=0.0 if decoupled else DECAY,
        decay_factor=1 - rates.eta * DECAY if decoupled else 1.0,
    )
    return scalars.UpdateConstants(*map(dtype, values))


@functools.cache
def update_loop(code):
    @njit(**OPTIONS)
    def run(w, g, m, v, c):
        for i in range(w.size):
            gradient = g[i] + c.coupled_decay * w[i]
            w[i], m[i], v[i] = scalars.update(code, c.decay_factor * w[i], gradient, m[i], v[i], c)

    return run


@precisions
@pytest.mark.parametrize("name", UPDATES)
def test_updates_follow_the_reference(name, dtype):
    code, owner, _ = UPDATES[name]
    row, record, rng = OPTIMIZERS[owner], vars(optimizer_of(name)), np.random.default_rng(0)
    w, m, v = rng.normal(size=50).astype(dtype), np.zeros(50, dtype), np.zeros(50, dtype)
    exact, slots = w.astype(np.float64), np.zeros((2, 50))
    mu_product, exact_product = 1.0, np.ones(1)
    for t in range(1, 11):
        g = rng.normal(size=50).astype(dtype)
        mu_product *= momentum_factor(optimizer_of(name), t)
        update_loop(code)(w, g, m, v, update_constants(name, t, mu_product, dtype))
        gradient = g.astype(np.float64)
        if row.decoupled_decay:
            exact *= 1 - ETA * DECAY
        else:
            gradient += DECAY * exact
        update = reference.UPDATE_OF[row.code]
        update(exact, gradient, slots[: row.n_slots], ETA, record, t, exact_product)
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(w, exact, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose((m, v), slots, rtol=tolerance, atol=tolerance / 100)


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
    row = ACTIVATIONS[name]
    d = scalars.derivative_from_z if row.needs_z else scalars.derivative
    for function in (scalars.activate, d):
        if name != "linear":  # that becomes a copy
            assert_float32_vectors(loop(function, row.code), x, alpha, x.copy())


@pytest.mark.skipif(not JIT, reason="nothing is compiled")
@pytest.mark.parametrize("name", UPDATES)
def test_update_loops_are_float32_vectors(name):
    code = UPDATES[name][0]
    arrays = (np.ones(100, np.float32) for _ in range(4))
    assert_float32_vectors(update_loop(code), *arrays, update_constants(name, 1, 0.9, np.float32))
