/* What Cython cannot express: the network's dtype, single machine operations. */

#ifndef FASTNN_MACHINE_H
#define FASTNN_MACHINE_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

/* --- the number type: the build sets REAL to float or double ---------------------------------- */

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define IS_double 1
#define IS_FLOAT64 JOIN(IS_, REAL) /* an unknown name counts as 0 */

#if IS_FLOAT64
#define OF_REAL(function) function
#define LARGEST DBL_MAX  /* of finite numbers */
#define SMALLEST DBL_MIN /* of normal numbers */
#else
#define OF_REAL(function) JOIN(function, f)
#define LARGEST FLT_MAX
#define SMALLEST FLT_MIN
#endif

/* A literal is a double, in Cython as in C, and would drag float32 arithmetic with it. */
#define ZERO ((real)0)
#define HALF ((real)0.5)
#define ONE ((real)1)
#define TWO ((real)2)

#if defined(_MSC_VER)
#define INLINE static __forceinline
#define RESTRICT __restrict
#else
#define INLINE static inline __attribute__((always_inline))
#define RESTRICT restrict
#endif

/* A target that no source of the same loop overlaps: without this the compiler tests for it before
 * every loop. */
typedef real *RESTRICT real_target;

INLINE real absolute(real x) { return OF_REAL(fabs)(x); }
INLINE real square_root(real x) { return OF_REAL(sqrt)(x); }
INLINE real logarithm(real x) { return OF_REAL(log)(x); }

/* a b + c. Where the processor rounds once, optimisations that re-order sums cannot take it apart;
 * where it does not, they are off. */
INLINE real multiply_add(real a, real b, real c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return OF_REAL(fma)(a, b, c);
#else
    return a * b + c;
#endif
}

/* The same in float64, whatever `real` is. */
INLINE double multiply_add_double(double a, double b, double c)
{
#if defined(__FMA__) || defined(__aarch64__)
    return fma(a, b, c);
#else
    return a * b + c;
#endif
}

/* The nearest whole number, for |x| below 2³¹. */
INLINE real nearest(real x)
{
#if defined(__SSE4_1__) || defined(__aarch64__)
    return OF_REAL(rint)(x);
#else
    return (real)(int32_t)(x + (x < 0 ? (real)-0.5 : (real)0.5));
#endif
}

#if IS_FLOAT64
typedef int64_t real_bits;
typedef uint64_t real_word;
#define FRACTION_BITS 52
#define EXPONENT_BIAS 1023
#else
typedef int32_t real_bits;
typedef uint32_t real_word;
#define FRACTION_BITS 23
#define EXPONENT_BIAS 127
#endif

/* 2ᵏ for a whole number k, by writing the exponent; 2ᵏ must be a normal number. */
INLINE real power_of_two(real k)
{
    const real_bits exponent = (real_bits)((int32_t)k + EXPONENT_BIAS);
    const real_bits bits = (real_bits)((real_word)exponent << FRACTION_BITS);
    real power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* The whole number k with 2ᵏ ≤ x < 2ᵏ⁺¹, of a positive normal number. */
INLINE real exponent_of(real x)
{
    real_bits bits;
    memcpy(&bits, &x, sizeof bits);
    return (real)(int32_t)((bits >> FRACTION_BITS) - EXPONENT_BIAS);
}

/* 2ᵏ x, by adding to the exponent: both must be normal numbers. Unlike in a product of powers
 * nothing here can be multiplied in another order. */
INLINE real times_power_of_two(real x, real k)
{
    real_bits bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (real_bits)((real_word)bits + ((real_word)(real_bits)(int32_t)k << FRACTION_BITS));
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Treat subnormal results and operands as 0 (FTZ and DAZ) in this thread, until its mode is
   restored: processors take longer over subnormals, some many times. */
#if defined(__x86_64__) || defined(_M_X64)
INLINE uint64_t enable_ftz_daz(void)
{
    const unsigned setting = _mm_getcsr();
    _mm_setcsr(setting | 0x8040); /* results and operands */
    return setting;
}
INLINE void restore_fp_mode(uint64_t setting) { _mm_setcsr((unsigned)setting); }
#elif defined(__aarch64__)
INLINE uint64_t enable_ftz_daz(void)
{
    uint64_t setting;
    __asm__ volatile("mrs %0, fpcr" : "=r"(setting));
    __asm__ volatile("msr fpcr, %0" : : "r"(setting | (uint64_t)1 << 24));
    return setting;
}
INLINE void restore_fp_mode(uint64_t setting) { __asm__ volatile("msr fpcr, %0" : : "r"(setting)); }
#else
INLINE uint64_t enable_ftz_daz(void) { return 0; }
INLINE void restore_fp_mode(uint64_t setting) { (void)setting; }
#endif

/* Ask for the cache line of an address. */
INLINE void prefetch(const void *address)
{
#if defined(_MSC_VER)
    (void)address;
#else
    __builtin_prefetch(address, 0, 2);
#endif
}

#endif
