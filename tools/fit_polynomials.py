"""Fit the polynomials of ``fastnn/_kernels/elementary.py`` and the one of ``elementary.h``.

Run it and compare with, or paste, what it prints (needs mpmath).

Each is the polynomial p nearest to a function f on an interval in weighted least squares over
Chebyshev nodes, found in 60 digits; at these nodes that comes close to the minimax polynomial. The
weight turns the error of p into the relative error of the function built from it. Coefficients are
rounded from the constant term up, each rounding being followed by a new fit of those above it:
float32 coefficients then cost next to no accuracy.
"""

import numpy as np
from mpmath import mp, mpf

mp.dps = 60
NODES = 200


def least_squares(f, w, nodes, powers):
    """Coefficients c that minimise Σ w² (f − Σ c_j x^j)² over the nodes; j runs over ``powers``."""
    rows = mp.matrix([[w(x) * x**j for j in powers] for x in nodes])
    # overdetermined: solved by the normal equations
    return list(mp.lu_solve(rows, mp.matrix([w(x) * f(x) for x in nodes])))


def fit(name, f, low, high, degree, dtype, w):
    """Print the rounded coefficients, the highest power first, and their largest weighted error."""
    middle, half = (mpf(high) + low) / 2, (mpf(high) - low) / 2
    nodes = [middle - half * mp.cos(mp.pi * (i + mpf(1) / 2) / NODES) for i in range(NODES)]
    fixed = []

    def remainder(x):
        return f(x) - sum(a * x**j for j, a in enumerate(fixed))

    for power in range(degree + 1):
        c = least_squares(remainder, w, nodes, range(power, degree + 1))
        fixed.append(mpf(float(dtype(float(c[0])))))
    error = max(abs(w(x) * remainder(x)) for x in nodes)
    coefficients = ", ".join(str(dtype(a)) for a in reversed(fixed))
    print(f"{name} {dtype.__name__}, error {mp.nstr(error, 2)}:\n  {coefficients}")


def tanh_rest(t):
    """(tanh(x) − x) / x³ of x = √t."""
    return (mp.tanh(mp.sqrt(t)) / mp.sqrt(t) - 1) / t


def sine_factor(t):
    """sin(2πr)/r of r = √t."""
    return mp.sin(2 * mp.pi * mp.sqrt(t)) / mp.sqrt(t)


def erfc_root(y):
    """The eighth root of erfc(y + 5/2)."""
    return mp.root(mp.erfc(y + mpf(5) / 2), 8)


def scaled_erfc(u):
    """exp(x²) erfc(x) / t with t = 1 / (1 + 0.35 x) = (u + 1) / 2: nearly straight in u."""
    t = (u + 1) / 2
    x = (1 / t - 1) * 100 / 35
    return mp.exp(x * x) * mp.erfc(x) / t


def main():
    """Fit every table."""
    for dtype, degree in ((np.float32, 5), (np.float64, 9)):
        # expm1(r) = r + r² p(r) for |r| ≤ ln 2 / 2, with a margin for the rounding of x / ln 2
        fit(
            "EXPM1",
            lambda r: (mp.expm1(r) - r) / r**2,
            -0.347,
            0.347,
            degree,
            dtype,
            lambda r: r**2 / mp.expm1(r),
        )
    for dtype, degree in ((np.float32, 3), (np.float64, 8)):
        # log1p(u) = 2 artanh(s) = 2 s + s³ p(s²) with s = u / (2 + u) ≤ 1/3
        fit(
            "LOG1P",
            lambda t: 2 * (mp.atanh(mp.sqrt(t)) / mp.sqrt(t) - 1) / t,
            0,
            mpf(1) / 9,
            degree,
            dtype,
            lambda t: t / 2,
        )
    for dtype, degree in ((np.float32, 4), (np.float64, 10)):
        # tanh(x) = x + x³ p(x²) below 5/8
        fit(
            "TANH",
            tanh_rest,
            0,
            mpf(25) / 64,
            degree,
            dtype,
            lambda t: t * mp.sqrt(t) / mp.tanh(mp.sqrt(t)),
        )
    for dtype, of_sine, of_cosine in ((np.float32, 3, 3), (np.float64, 7, 7)):
        # sin 2πr = r p(r²) and cos 2πr = 1 + r² p(r²) for |r| ≤ 1/8
        fit(
            "SINE",
            sine_factor,
            0,
            mpf(1) / 64,
            of_sine,
            dtype,
            lambda t: 1 / sine_factor(t),
        )
        fit(
            "COSINE",
            lambda t: (mp.cos(2 * mp.pi * mp.sqrt(t)) - 1) / t,
            0,
            mpf(1) / 64,
            of_cosine,
            dtype,
            lambda t: t / mp.cos(2 * mp.pi * mp.sqrt(t)),
        )
    # erf(x) = x + x p(x²) below 1
    fit(
        "ERF",
        lambda t: mp.erf(mp.sqrt(t)) / mp.sqrt(t) - 1,
        0,
        1,
        6,
        np.float32,
        lambda t: mp.sqrt(t) / mp.erf(mp.sqrt(t)),
    )
    # erf(x) = 1 − p(x − 5/2)⁸ for 1 ≤ x ≤ 4: a power of p is much nearer to a Gaussian tail than a
    # polynomial is
    fit("ERFC", erfc_root, -1.5, 1.5, 7, np.float32, lambda y: 8 * erfc_root(y) ** 7)
    # erfc(x) = exp(−x²) t p(2t − 1) with t = 1 / (1 + 0.35 x), for x up to where erfc is 0
    for dtype, degree, highest in ((np.float32, 9, mpf(21) / 2), (np.float64, 21, mpf(55) / 2)):
        lowest = 2 / (1 + mpf(35) / 100 * highest) - 1
        fit(
            "ERFC (elementary.h, which begins with the constant)",
            scaled_erfc,
            lowest,
            1,
            degree,
            dtype,
            lambda u: 1 / scaled_erfc(u),
        )


if __name__ == "__main__":
    main()
