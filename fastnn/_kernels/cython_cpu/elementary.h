/* Coefficients of the elementary functions in scalars.pxi, the constant term first, and the sum of
   a polynomial.

   exp, log1p, sin and cos are Taylor series on the small intervals that are left: their
   coefficients are what they say. ERFC is fitted. */

#ifndef FASTNN_ELEMENTARY_H
#define FASTNN_ELEMENTARY_H

#include "machine.h"

/* c[0] + c[1] x + … + c[n − 1] xⁿ⁻¹ by Horner's rule; n is a constant, so the loop and the loads of
 * coefficients go away. */
INLINE real polynomial(const real *c, const int n, real x)
{
    real sum = c[n - 1];
#if defined(__GNUC__)
#pragma GCC unroll 24
#endif
    for (int i = n - 2; i >= 0; i--)
        sum = multiply_add(sum, x, c[i]);
    return sum;
}

/* (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2: 1/2!, 1/3!, … What is left out is below 1e-9 of eʳ in
 * float32, 1e-17 in float64. */
static const real EXP_REST[] = {
    1. / 2,     1. / 6,      1. / 24,      1. / 120,      1. / 720,       1. / 5040,
#if IS_FLOAT64
    1. / 40320, 1. / 362880, 1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800,
#endif
};
/* (artanh(s) / s − 1) / s² as a series in s² ≤ 1/9: 1/3, 1/5, … */
static const real ARTANH_REST[] = {
    1. / 3,  1. / 5,  1. / 7,  1. / 9,  1. / 11, 1. / 13, 1. / 15,
#if IS_FLOAT64
    1. / 17, 1. / 19, 1. / 21, 1. / 23, 1. / 25, 1. / 27, 1. / 29, 1. / 31, 1. / 33, 1. / 35,
#endif
};
/* exp(x²) erfc(x) / t as a polynomial in 2t − 1, where t = 1 / (1 + 0.35 x), for x from 0 to where
 * erfc is 0: see tools/fit_polynomials.py. */
#define ERFC_SLOPE 0.35
static const real ERFC[] = {
#if IS_FLOAT64
    0.37421275342294136,     0.30235720773584995,    0.19422459742520756,
    0.09509659025303588,     0.03183894746346035,    0.004582616163857599,
    -0.0015751382580554362,  -0.0008717218048796382, 2.7031130513812322e-05,
    0.00011697245826130037,  5.886264504220086e-06,  -1.7329555642151098e-05,
    -8.953916751849291e-07,  2.93743578650456e-06,   -6.255243789812702e-08,
    -5.254212328145097e-07,  8.087818436525705e-08,  8.357785291846718e-08,
    -2.7853703989616115e-08, -7.579490860613685e-09, 4.600400424118838e-09,
    -3.9273820347839035e-10,
#else
    0.37421274,  0.30235717,    0.19422479,    0.09509757,   0.03183871,
    0.004575691, -0.0015786861, -0.0008499631, 3.720237e-05, 8.478669e-05,
#endif
};

/* sin(2πr) / r and (cos(2πr) − 1) / r² as series in r² ≤ 1/64: powers of 2π over factorials. What
 * is left out is below 2e-9 in float32, 5e-17 in float64. */
static const real SINE[] = {
    6.283185307179586,   -41.341702240399755, 81.60524927607504,
    -76.70585975306136,  42.058693944897634,
#if IS_FLOAT64
    -15.094642576822984, 3.8199525848482803,  -0.7181223017785001,
#endif
};
static const real COSINE[] = {
    -19.739208802178716, 64.93939402266828,   -85.45681720669371,
    60.24464137187664,   -26.426256783374388,
#if IS_FLOAT64
    7.903536371318465,   -1.7143907110886711, 0.282005968455791,
#endif
};

#define COUNT(table) ((int)(sizeof(table) / sizeof(*table)))
INLINE real exp_rest(real r) { return polynomial(EXP_REST, COUNT(EXP_REST), r); }
INLINE real artanh_rest(real s_squared)
{
    return polynomial(ARTANH_REST, COUNT(ARTANH_REST), s_squared);
}
INLINE real erfc_rest(real t) { return polynomial(ERFC, COUNT(ERFC), t + t - 1); }
INLINE real sine_factor(real r_squared) { return polynomial(SINE, COUNT(SINE), r_squared); }
INLINE real cosine_rest(real r_squared) { return polynomial(COSINE, COUNT(COSINE), r_squared); }

/* Turns from which on a number counts as 0: in float32 it tells no phase apart. */
#if IS_FLOAT64
#define MOST_TURNS 0x1p30
#else
#define MOST_TURNS 0x1p21f
#endif

/* ln 2 in two parts, k times the first being exact for every k that occurs; the range outside which
 * exp is 0 or ∞. */
#if IS_FLOAT64
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define EXP_LOWEST -746.0
#define EXP_HIGHEST 710.0
#else
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#define EXP_LOWEST -104.0f
#define EXP_HIGHEST 89.0f
#endif

#endif
