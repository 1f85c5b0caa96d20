/* Vectors of AVX2 and AVX-512, whole or their first lanes, and the transposition of squares.

   Where the processor or the compiler has neither, VECTOR_BYTES is not defined. */

#ifndef FASTNN_VECTORS_H
#define FASTNN_VECTORS_H

#include "machine.h"

#if defined(__AVX2__) && defined(__FMA__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 32
#endif
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_anywhere
    __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

#if defined(__AVX512F__) && IS_FLOAT64
typedef __mmask8 lanes_mask;
INLINE vec load_lanes(const real *p, lanes_mask m) { return (vec)_mm512_maskz_loadu_pd(m, p); }
INLINE void store_lanes(real *p, lanes_mask m, vec v) { _mm512_mask_storeu_pd(p, m, (__m512d)v); }
#elif defined(__AVX512F__)
typedef __mmask16 lanes_mask;
INLINE vec load_lanes(const real *p, lanes_mask m) { return (vec)_mm512_maskz_loadu_ps(m, p); }
INLINE void store_lanes(real *p, lanes_mask m, vec v) { _mm512_mask_storeu_ps(p, m, (__m512)v); }
#elif IS_FLOAT64
typedef __m256i lanes_mask;
INLINE vec load_lanes(const real *p, lanes_mask m) { return (vec)_mm256_maskload_pd(p, m); }
INLINE void store_lanes(real *p, lanes_mask m, vec v) { _mm256_maskstore_pd(p, m, (__m256d)v); }
#else
typedef __m256i lanes_mask;
INLINE vec load_lanes(const real *p, lanes_mask m) { return (vec)_mm256_maskload_ps(p, m); }
INLINE void store_lanes(real *p, lanes_mask m, vec v) { _mm256_maskstore_ps(p, m, (__m256)v); }
#endif

/* The first n lanes; none where n is not positive. */
INLINE lanes_mask first_lanes(int64_t n)
{
#if defined(__AVX512F__)
    return (lanes_mask)(n <= 0 ? 0u : n >= LANES ? ~0u : (1u << n) - 1);
#elif IS_FLOAT64
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
#else
    const int32_t limit = (int32_t)(n < 0 ? 0 : n > LANES ? LANES : n);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
#endif
}

/* A whole vector, or its first lanes: on AVX-512 masks cost nothing, elsewhere they do. */
INLINE vec load(const real *p, int whole, lanes_mask m)
{
    if (whole)
        return *(const vec_anywhere *)p;
    return load_lanes(p, m);
}

INLINE void store(real *p, int whole, lanes_mask m, vec v)
{
    if (whole)
        *(vec_anywhere *)p = v;
    else
        store_lanes(p, m, v);
}

INLINE vec splat(real x) { return x - (vec){0}; }

#define LIST2(F, s) F(0, s), F(1, s)
#define LIST4(F, s) LIST2(F, s), F(2, s), F(3, s)
#define LIST8(F, s) LIST4(F, s), F(4, s), F(5, s), F(6, s), F(7, s)
#define LIST16(F, s)                                                                               \
    LIST8(F, s), F(8, s), F(9, s), F(10, s), F(11, s), F(12, s), F(13, s), F(14, s), F(15, s)
#if VECTOR_BYTES == 64 && !IS_FLOAT64
#define WIDTH 16
#elif VECTOR_BYTES == 32 && IS_FLOAT64
#define WIDTH 4
#else
#define WIDTH 8
#endif
#define LIST JOIN(LIST, WIDTH)
#define LOW(i, s) ((i) & (s) ? (i) + WIDTH - (s) : (i))
#define HIGH(i, s) ((i) & (s) ? (i) + WIDTH : (i) + (s))
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(p, q, F, s) __builtin_shufflevector(p, q, LIST(F, s))
#else
typedef JOIN(JOIN(int, IS_FLOAT64 ? 64 : 32), _t) ivec __attribute__((vector_size(VECTOR_BYTES)));
#define SHUFFLE(p, q, F, s) __builtin_shuffle(p, q, (ivec){LIST(F, s)})
#endif
/* Lanes whose number has the bit s change places with the row whose number has it. */
#define ROUND(s)                                                                                   \
    _Pragma("GCC unroll 16") for (int i = 0; i < WIDTH; i++) if (!(i & (s)))                       \
    {                                                                                              \
        const vec p = square[i], q = square[i + (s)];                                              \
        square[i] = SHUFFLE(p, q, LOW, s);                                                         \
        square[i + (s)] = SHUFFLE(p, q, HIGH, s);                                                  \
    }

/* target[j][i] = source[i][j] for a square one vector wide. Where the source has fewer rows or
   columns zeros stand in; they are stored too unless `bounded`. */
INLINE void transpose_square(const real *source, int64_t stride, int64_t rows, int64_t columns,
                             real *target, int64_t target_stride, int bounded)
{
    vec square[WIDTH];
    const lanes_mask existing = first_lanes(columns), filled = first_lanes(rows);
    _Pragma("GCC unroll 16") for (int i = 0; i < WIDTH; i++) square[i] =
        i < rows ? load_lanes(source + i * stride, existing) : (vec){0};
    ROUND(1)
    ROUND(2)
#if WIDTH >= 8
    ROUND(4)
#endif
#if WIDTH >= 16
    ROUND(8)
#endif
    _Pragma("GCC unroll 16") for (int j = 0; j < WIDTH; j++)
    {
        if (!bounded)
            *(vec_anywhere *)(target + j * target_stride) = square[j];
        else if (j < columns)
            store_lanes(target + j * target_stride, filled, square[j]);
    }
}

#endif
#endif
