"""Elementary functions of the Numba engines: exp, log1p, tanh, sigmoid, erf, cos and sin.

They are plain Python, take NumPy scalars and are compiled into the kernels that call them.

a) **Everything inlines, loops vectorise.** Numba's vector maths library is gone, and a call to the
   C library's ``exp`` stops LLVM from vectorising. exp, log1p, tanh, erf, cos and sin are therefore
   short polynomials without branches (``tools/fit_polynomials.py`` fits them). In float32 `exp` and
   `expm1_negative` err by less than 1 unit in the last place, `log1p`, `tanh` and `sigmoid` by less
   than 2, `erf` by less than 3, wherever the result is a normal number. This was checked for every
   float32, with fused multiply-add and without. `cos_sin_turns` errs by less than 2.
b) **float32 stays float32.** In Numba ``float32 * 0.5`` and ``float32 + 1`` are float64, so
   constants that enter arithmetic are written ``type(x)(0.5)``. A comparison may keep its literal
   where float32 can represent it: ``x > 0`` and ``x < 0.625`` are narrowed again, ``x > 0.6`` is
   not.
c) **NaN propagates**, so divergence stays visible; infinities give limits. Comparisons are false
   for NaN, hence the order of the branches below: ``0 if z < 0 else z`` keeps a NaN, ``z if z > 0
   else 0`` would hide it, and so does ``max`` on CUDA.
d) **Own fastmath flags.** LLVM's flags belong to each instruction and survive inlining.
   ``reassoc`` would undo the rounding and the two-part ln 2 of `_exp_parts` and the correction in
   `sigmoid`, so these functions do without it, whatever their caller uses. ``nnan`` and ``ninf``
   would break (c). Numba's CUDA target takes any flag as leave to divide float32 by
   ``fast_fdividef``, which errs by up to 2 units in the last place and gives 0 for divisors above
   2¹²⁶: no divisor here may be that large and matter.
e) **Common subset.** NumPy's ufuncs do not compile for scalars on CUDA. Roots are ``math.sqrt``,
   which plain Python must cast back to the type of x; in compiled code the cast costs nothing.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

_OPTIONS: Any = {"error_model": "numpy", "fastmath": {"contract", "nsz"}, "forceinline": True}
scalar = register_jitable(**_OPTIONS)


def _by_precision(single, double):
    """The function of x that is ``single`` for float32 and ``double`` for float64."""

    def function(x):
        # To type checkers float32 is an alias, not a class.
        is_single = isinstance(x, np.float32)  # pyright: ignore[reportArgumentType]
        return single(x) if is_single else double(x)

    @overload(function, jit_options=_OPTIONS)
    def _(x):
        return single if x == types.float32 else double

    return function


def _constants(single, double):
    """The function of x that is the one tuple of numbers or the other, in x's own type."""
    single = tuple(np.float32(c) for c in single)
    return _by_precision(lambda x: single, lambda x: double)


# the largest finite number of x's type
_LARGEST = _constants((np.finfo(np.float32).max,), (float(np.finfo(np.float64).max),))


@scalar
def below(z, highest):
    """z − max z, but not −∞ of a finite z: a probability of 0 times that would be NaN."""
    difference, lowest = z - highest, -_LARGEST(z)[0]
    return lowest if difference < lowest and z >= lowest else difference


@scalar
def scaled_square(x):
    """(2⁻⁶⁰⁰ x)² of a float64, for sums of squares that overflow."""
    scaled = x * 2.0**-600
    return scaled * scaled


# --- elementary functions -------------------------------------------------------------------------

# log₂e; ln 2 in two parts, k · high being exact for every k that occurs; the number whose addition
# leaves no place for a fraction
_REDUCTION = _constants(
    (1.4426950408889634, 0.693359375, -2.12194440e-4, 1.5 * 2**23),
    (1.4426950408889634, 6.93147180369123816490e-01, 1.90821492927058770002e-10, 1.5 * 2**52),
)
_EXP_RANGE = _constants((-104.0, 89.0), (-746.0, 710.0))  # outside it exp is 0 or ∞

# Highest power first.
_EXPM1 = _constants(
    (0.00019741752, 0.0013933713, 0.008333568, 0.041666478, 0.16666666, 0.5),
    (
        2.505730075384317e-08,
        2.7626380878372624e-07,
        2.7557396378872685e-06,
        2.48015043429239e-05,
        0.00019841269731684806,
        0.0013888888932433977,
        0.008333333333383526,
        0.04166666666657355,
        0.166666666666666,
        0.5000000000000006,
    ),
)
_LOG1P = _constants(
    (0.28022194, 0.27999416, 0.40021703, 0.6666641),
    (
        0.1774481864816799,
        0.09900122342465772,
        0.13586918939207865,
        0.15364221720317536,
        0.18182819387689622,
        0.22222192676376928,
        0.2857142906360286,
        0.3999999999597968,
        0.6666666666667802,
    ),
)
_TANH = _constants(
    (-0.0056977225, 0.020632116, -0.053737402, 0.13331412, -0.3333328),
    (
        -1.6040317874331135e-05,
        7.707437622915607e-05,
        -0.00022849853254458088,
        0.0005862816538498351,
        -0.001454947348637798,
        0.003591986720264145,
        -0.008863220666350846,
        0.021869487547273025,
        -0.05396825392982384,
        0.13333333333258404,
        -0.3333333333333282,
    ),
)
_ERF = tuple(
    np.float32(c)
    for c in (
        7.842288e-05,
        -0.0008006793,
        0.0051879627,
        -0.026853643,
        0.112835824,
        -0.37612626,
        0.12837917,
    )
)
_ERFC = tuple(
    np.float32(c)
    for c in (
        1.5652851e-05,
        0.00023394659,
        -5.1231473e-05,
        -0.0037435216,
        0.01039849,
        0.039879676,
        -0.2521597,
        0.37687144,
    )
)


def _power_of_two_32(x):
    return np.int32((np.int32(x) + 127) << 23).view(np.float32)


def _power_of_two_64(x):
    # by way of int32: AVX2 has no conversion to int64
    return np.int64((np.int64(np.int32(x)) + 1023) << 52).view(np.float64)


# 2ˣ of a whole number x, by writing the exponent; 2ˣ must be a normal number
_power_of_two = _by_precision(_power_of_two_32, _power_of_two_64)


@scalar
def _exp_parts(x):
    """k and q with eˣ = 2ᵏ (1 + q).

    k = round(x / ln 2), and q = expm1(r) = r + r² p(r) of the remainder r = x − k ln 2.
    """
    log2e, ln2_high, ln2_low, rounder = _REDUCTION(x)
    k = (x * log2e + rounder) - rounder
    r = x - k * ln2_high - k * ln2_low
    coefficients = _EXPM1(x)
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * r + c
    return k, r + r * r * p


@scalar
def exp(x):
    """eˣ."""
    lowest, highest = _EXP_RANGE(x)
    x = lowest if x < lowest else x
    x = highest if x > highest else x
    k, q = _exp_parts(x)
    # in two steps, as 2ᵏ overflows before eˣ does, and underflows gradually
    half = type(x)(np.int32(k * type(x)(0.5)))
    return (type(x)(1) + q) * _power_of_two(half) * _power_of_two(k - half)


@scalar
def expm1_negative(x):
    """eˣ − 1 for x ≤ 0, to full relative accuracy: 2ᵏ (1 + q) − 1 = 2ᵏ q + (2ᵏ − 1)."""
    lowest = type(x)(-45)
    k, q = _exp_parts(lowest if x < lowest else x)
    power = _power_of_two(k)
    return power * q + (power - type(x)(1))


@scalar
def log1p(u):
    """ln(1 + u) for 0 ≤ u ≤ 1, as 2 artanh(s) = 2 s + s³ p(s²) with s = u / (2 + u)."""
    two = type(u)(2)
    s = u / (two + u)
    t = s * s
    coefficients = _LOG1P(u)
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * t + c
    return two * s + s * t * p


@scalar
def tanh(x):
    """x + x³ p(x²) for |x| < 5/8, where 1 − e would cancel; else tanh |x| = 1 − 2e / (1 + e).

    Here e = exp(−2|x|).
    """
    t = x * x
    coefficients = _TANH(x)
    p = coefficients[0]
    for c in coefficients[1:]:
        p = p * t + c
    one, y, lowest = type(x)(1), type(x)(-2) * abs(x), type(x)(-45)
    k, q = _exp_parts(lowest if y < lowest else y)
    power = _power_of_two(k)
    e = power + power * q
    far = one - (e + e) / (one + e)
    return x + x * (t * p) if abs(x) < 0.625 else -far if x < 0 else far


@scalar
def sigmoid(x):
    """1 / s, or e / s below 0, with e = exp(−|x|) and s = 1 + e.

    The rounding of s is corrected to first order (s ≈ 1).
    """
    one = type(x)(1)
    e = exp(-abs(x))
    s = one + e
    y = (e if x < 0 else one) / s
    return y - y * (e - (s - one))


def _erf_32(x):
    """x + x p(x²) below 1, 1 − q(x − 5/2)⁸ above, for x ≥ 0.

    A power of q is nearer to a Gaussian tail than any short polynomial.
    """
    t = x * x
    p = _ERF[0]
    for c in _ERF[1:]:
        p = p * t + c
    a = abs(x)
    # 1 − erf(4) is less than half a unit in the last place
    y = (np.float32(4) if a > 4 else a) - np.float32(2.5)
    q = _ERFC[0]
    for c in _ERFC[1:]:
        q = q * y + c
    q *= q
    q *= q
    tail = np.float32(1) - q * q
    return x + x * p if a < 1 else -tail if x < 0 else tail


def _erf_64(x):
    return np.float64(math.erf(x))


# the error function 2/√π ∫₀ˣ exp(−t²) dt; in float64 a call to the C library, which does not
# vectorise
erf = _by_precision(_erf_32, _erf_64)


# turns from which on a number counts as 0: in float32 it tells no phase apart
_MOST_TURNS = _constants((2.0**21,), (2.0**30,))
_SINE = _constants(
    (-75.838005, 81.60462, -41.34176, 6.2831855),
    (
        0.4213327245990136,
        3.753185230417832,
        -15.09307346848728,
        42.05867514345482,
        -76.70585963229259,
        81.60524927567641,
        -41.34170224039918,
        6.283185307179586,
    ),
)
_COSINE = _constants(
    (58.814774, -85.4295, 64.93918, -19.739208),
    (
        -0.5450818760051663,
        -1.6602121155440404,
        7.902080950887087,
        -26.426236205493076,
        60.24464120855171,
        -85.4568172059786,
        64.93939402266673,
        -19.739208802178716,
    ),
)


@scalar
def cos_sin_turns(t):
    """cos 2πt and sin 2πt; NaN of ±∞.

    q = round(4 t′) quarters of a turn, of t′ = t − round(t), leave r with |r| ≤ 1/8; all of it is
    exact. sin 2πr = r p(r²) and cos 2πr = 1 + r² p(r²) change places where q is odd.
    """
    rounder, one, half = _REDUCTION(t)[3], type(t)(1), type(t)(0.5)
    t = t if abs(t) < _MOST_TURNS(t)[0] else t - t
    t = t - ((t + rounder) - rounder)
    q = (type(t)(4) * t + rounder) - rounder
    r = t - type(t)(0.25) * q
    square = r * r
    of_sine, of_cosine = _SINE(t), _COSINE(t)
    s, c = of_sine[0], of_cosine[0]
    for a in of_sine[1:]:
        s = s * square + a
    for a in of_cosine[1:]:
        c = c * square + a
    s, c = r * s, one + square * c
    swaps = abs(q) == 1
    cosine, sine = s if swaps else c, c if swaps else s
    cosine = -cosine if abs(q + half) > 1 else cosine
    return cosine, -sine if abs(q - half) > 1 else sine


@scalar
def sign(x):
    """−1, 0 or 1; NaN for NaN."""
    zero, one = type(x)(0), type(x)(1)
    return one if x > 0 else -one if x < 0 else zero if x == 0 else x
