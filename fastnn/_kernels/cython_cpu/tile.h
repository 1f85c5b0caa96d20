/* Matrix products from one register tile, for processors with AVX2 or AVX-512, and plain loops for others.

   The tile keeps up to ROWS × 2 vectors of C in registers and walks down k once: two vector loads of B and one broadcast of A per row feed
   2 ROWS multiply-adds. Columns beyond the last are masked. A is read at any pair of strides, so op(A) = Aᵀ costs nothing, a stride of 0
   repeats one element, and op(B) = Bᵀ is turned round a panel at a time. What is added to the product is read at a stride of its own, which
   is 0 where it is a bias. */

#ifndef FASTNN_TILE_H
#define FASTNN_TILE_H

#include "machine.h"
#include "upcoming.h"

/* What is added to a product: beta times a matrix whose rows lie `stride` apart (0 for a bias); nothing where beta is 0. */
typedef struct {
    real beta;
    const real *data;
    int64_t stride;
} Addend;

#if defined(__AVX2__) && defined(__FMA__) && (defined(__GNUC__) || defined(__clang__))

#include <immintrin.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define ROWS 12 /* 24 of 32 registers for C */
/* Without AVX-512, BLAS wins once B leaves the cache: elements of B up to which the tile is used. */
#define CALLS_BLAS 0
#define LARGEST_B INT64_MAX
#else
#define VECTOR_BYTES 32
#define ROWS 6 /* 12 of 16 registers */
#define CALLS_BLAS 1
#define LARGEST_B ((int64_t)1 << 18)
#endif
#define LANES ((int64_t)(VECTOR_BYTES / sizeof(real)))

#define DEPTH 128 /* of A and B are worked through at a time: a panel of B then takes a third of the first-level cache */
/* Bytes over which the rows of a panel of B may lie: beyond, its pages outnumber the entries of the first-level TLB, and it is copied. */
#define SPREAD (1 << 18)
/* Rows of A that lie a multiple of so many bytes apart fall into the same few sets of the first-level cache: CHUNK rows are then copied. */
#define CLASH 1024
#define CHUNK (11 * 12)
#define ROW_VECTORS 8 /* of a single row: enough sums under way to hide the latency of an addition */

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* --- vectors, whole or the first lanes of one ------------------------------------------------------------------------------------- */

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

/* A whole vector, or its first lanes: on AVX-512 masks cost nothing; elsewhere whole vectors spare them. */
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

/* --- squares turned round --------------------------------------------------------------------------------------------------------- */

#define LIST2(F, s) F(0, s), F(1, s)
#define LIST4(F, s) LIST2(F, s), F(2, s), F(3, s)
#define LIST8(F, s) LIST4(F, s), F(4, s), F(5, s), F(6, s), F(7, s)
#define LIST16(F, s) LIST8(F, s), F(8, s), F(9, s), F(10, s), F(11, s), F(12, s), F(13, s), F(14, s), F(15, s)
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
#define ROUND(s)                                                                                                                           \
    _Pragma("GCC unroll 16") for (int i = 0; i < WIDTH; i++) if (!(i & (s)))                                                               \
    {                                                                                                                                      \
        const vec p = square[i], q = square[i + (s)];                                                                                      \
        square[i] = SHUFFLE(p, q, LOW, s);                                                                                                 \
        square[i + (s)] = SHUFFLE(p, q, HIGH, s);                                                                                          \
    }

/* target[j][i] = source[i][j] for a square one vector wide. Where the source has fewer rows or columns zeros stand in; they are stored too
   unless `bounded`. */
INLINE void turn_square(const real *source, int64_t stride, int64_t rows, int64_t columns, real *target, int64_t target_stride, int bounded)
{
    vec square[WIDTH];
    const lanes_mask existing = first_lanes(columns), filled = first_lanes(rows);
    _Pragma("GCC unroll 16") for (int i = 0; i < WIDTH; i++) square[i] = i < rows ? load_lanes(source + i * stride, existing) : (vec){0};
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

/* --- the tile --------------------------------------------------------------------------------------------------------------------- */

/* C ← α A B + β D for a constant number of rows and of vectors; element (i, k) of A is a[i a_row + k a_depth]. */
INLINE void tile(const int rows, const int vectors, const int whole, real alpha, const real *a, int64_t a_row, int64_t a_depth, const real *b,
                 int64_t b_row, Addend add, real *c, int64_t c_row, int64_t columns, int64_t depth)
{
    vec sums[ROWS][ROW_VECTORS]; /* only those of the tile, all in registers */
    lanes_mask masks[ROW_VECTORS];
    _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) masks[j] = first_lanes(columns - j * LANES);
    _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) sums[i][j] = (vec){0};
    for (int64_t k = 0; k < depth; k++) {
        vec row[ROW_VECTORS];
        _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) row[j] = load(b + k * b_row + j * LANES, whole, masks[j]);
        _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++)
        {
            const vec element = splat(a[i * a_row + k * a_depth]);
            _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) sums[i][j] += element * row[j];
        }
    }
    const vec factor = splat(alpha), old_factor = splat(add.beta);
    if (add.beta != 1 && alpha != 1)
        _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++) sums[i][j] *= factor;
    /* All loads before all stores: a load that overlaps the masked lanes of a pending store would wait for it. */
    if (add.beta == 1) /* in most products of blocks of depth: one operation instead of two */
        _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++)
            sums[i][j] = factor * sums[i][j] + load(add.data + i * add.stride + j * LANES, whole, masks[j]);
    else if (add.beta != 0)
        _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++)
            sums[i][j] += old_factor * load(add.data + i * add.stride + j * LANES, whole, masks[j]);
    _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++) _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++)
        store(c + i * c_row + j * LANES, whole, masks[j], sums[i][j]);
}

#define TILE_CASE(n)                                                                                                                       \
    case n:                                                                                                                                \
        tile(n, vectors, whole, alpha, a, a_row, a_depth, b, b_row, add, c, c_row, columns, depth);                                        \
        return;

INLINE void tile_of(int rows, const int vectors, const int whole, real alpha, const real *a, int64_t a_row, int64_t a_depth, const real *b,
                    int64_t b_row, Addend add, real *c, int64_t c_row, int64_t columns, int64_t depth)
{
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
#if ROWS > 6
        TILE_CASE(7)
        TILE_CASE(8)
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
#endif
    }
}

#define TILE_ARGUMENTS                                                                                                                     \
    real alpha, const real *a, int64_t a_row, int64_t a_depth, const real *b, int64_t b_row, Addend add, real *c, int64_t c_row,           \
        int64_t columns, int64_t depth
#define TILE_PASSED alpha, a, a_row, a_depth, b, b_row, add, c, c_row, columns, depth

static void narrow_tile(int rows, TILE_ARGUMENTS) { tile_of(rows, 1, 0, TILE_PASSED); }

static void wide_tile(int rows, TILE_ARGUMENTS)
{
#if !defined(__AVX512F__)
    if (columns >= 2 * LANES) {
        tile_of(rows, 2, 1, TILE_PASSED);
        return;
    }
#endif
    tile_of(rows, 2, 0, TILE_PASSED);
}

static void row_tile(TILE_ARGUMENTS) { tile(1, ROW_VECTORS, 0, TILE_PASSED); }

/* target[: n] = source[: n]; for short rows faster than memcpy. */
INLINE void copy_row(const real *source, real *target, int64_t n)
{
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES)
        *(vec_anywhere *)(target + c) = *(const vec_anywhere *)(source + c);
    if (c < n)
        store_lanes(target + c, first_lanes(n - c), load_lanes(source + c, first_lanes(n - c)));
}

/* --- products --------------------------------------------------------------------------------------------------------------------- */

/* panel[r][:] = source[r][: columns], rows of two vectors; zeros stand in for missing columns. */
static void pack(const real *source, int64_t stride, int64_t rows, int64_t columns, real *panel, int64_t panel_stride)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t column = 0; column < columns; column += LANES)
            *(vec_anywhere *)(panel + r * panel_stride + column) = load_lanes(source + r * stride + column, first_lanes(columns - column));
}

/* panel[j][i] = source[i][j]; up to the next multiple of WIDTH in both directions what the source lacks is 0. */
static void turn(const real *source, int64_t stride, int64_t rows, int64_t columns, real *panel, int64_t panel_stride)
{
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES)
            turn_square(source + i * stride + j, stride, rows - i, columns - j, panel + j * panel_stride + i, panel_stride, 0);
}

/* target[i][j] = source[j][i] for as many rows of the target as a vector has lanes, or fewer. */
static void turn_back(const real *source, int64_t stride, int64_t rows, int64_t columns, real *target, int64_t target_stride)
{
    for (int64_t j = 0; j < columns; j += LANES)
        turn_square(source + j * stride, stride, columns - j, rows, target + j, target_stride, 1);
}

/* Cache lines to ask for while working on something else. */
typedef struct {
    const char *first;
    int64_t stride, rows, lines;
} Ahead;

/* C[:, : width] for one block of depth, in tiles of nearly equal height; what is ahead comes meanwhile. */
INLINE void column_of_tiles(int64_t m, TILE_ARGUMENTS, Ahead ahead, Upcoming *upcoming)
{
    const int64_t tiles = (m + ROWS - 1) / ROWS, height = m / tiles, higher = m % tiles, at_once = (ahead.rows + tiles - 1) / tiles;
    int64_t asked = 0;
    for (int64_t number = 0; number < tiles; number++) {
        const int64_t rows = height + (number < higher);
        if (columns <= LANES)
            narrow_tile((int)rows, TILE_PASSED);
        else
            wide_tile((int)rows, TILE_PASSED);
        a += rows * a_row;
        c += rows * c_row;
        add.data += rows * add.stride;
        for (int64_t r = asked; r < asked + at_once && r < ahead.rows; r++)
            for (int64_t line = 0; line < ahead.lines; line++)
                prefetch(ahead.first + r * ahead.stride + line * CACHE_LINE);
        asked += at_once;
        if (upcoming)
            ask_for(upcoming, rows * columns * depth);
    }
}

/* The part of a product that one block of depth adds to C. While one panel of B is worked on the next is asked for: on two cores half of a
   weight lies in the other's cache, where its new values were written. */
static void block_of_depth(int transpose_b, int64_t m, int64_t n, real alpha, const real *a, int64_t a_row, int64_t a_depth, const real *b,
                           int64_t b_stride, int64_t first, Addend add, real *c, int64_t c_stride, int64_t depth, Upcoming *upcoming)
{
    real panel[DEPTH * 2 * WIDTH] __attribute__((aligned(VECTOR_BYTES)));
    const int64_t width = 2 * LANES;
    const int packs = m > 2 * ROWS && depth * b_stride * (int64_t)sizeof(real) > SPREAD;
    for (int64_t column = 0; column < n; column += width) {
        const int64_t columns = n - column < width ? n - column : width, left = n - column - columns, following = column + width;
        const real *right = panel;
        int64_t right_stride = width;
        Ahead ahead = {0};
        if (transpose_b) {
            turn(b + column * b_stride + first, b_stride, columns, depth, panel, width);
            ahead = (Ahead){(const char *)(b + following * b_stride + first), b_stride * (int64_t)sizeof(real), left < width ? left : width,
                            (depth * (int64_t)sizeof(real) + CACHE_LINE - 1) / CACHE_LINE};
        } else {
            if (packs) {
                pack(b + first * b_stride + column, b_stride, depth, columns, panel, width);
            } else {
                right = b + first * b_stride + column;
                right_stride = b_stride;
            }
            ahead = (Ahead){(const char *)(b + first * b_stride + following), b_stride * (int64_t)sizeof(real), left > 0 ? depth : 0,
                            2 * VECTOR_BYTES / CACHE_LINE};
        }
        Addend here = add;
        here.data += column;
        column_of_tiles(m, alpha, a, a_row, a_depth, right, right_stride, here, c + column, c_stride, columns, depth, ahead,
                        upcoming);
    }
}

/* C ← α op(A) op(B) + β D; columns and blocks of depth one after the other, so that what is used again is in cache. `upcoming` may be NULL. */
static void tile_product(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t depth, real alpha, const real *a, int64_t a_stride,
                         const real *b, int64_t b_stride, Addend add, real *c, int64_t c_stride, Upcoming *upcoming)
{
    const int64_t a_row = transpose_a ? 1 : a_stride, a_depth = transpose_a ? a_stride : 1;
    if (m == 1 && !transpose_b) {
        for (int64_t column = 0; column < n; column += ROW_VECTORS * LANES) {
            if (n - column <= LANES)
                narrow_tile(1, alpha, a, a_row, a_depth, b + column, b_stride, add, c + column, c_stride, n - column, depth);
            else
                row_tile(alpha, a, a_row, a_depth, b + column, b_stride, add, c + column, c_stride, n - column, depth);
            add.data += ROW_VECTORS * LANES;
        }
        return;
    }
    real rows_of_a[CHUNK * DEPTH] __attribute__((aligned(VECTOR_BYTES)));
    const int copies = !transpose_a && m > ROWS && n > 4 * LANES && a_stride * (int64_t)sizeof(real) % CLASH == 0;
    const int64_t chunk = copies ? CHUNK : m;
    for (int64_t first = 0; first < depth || first == 0; first += DEPTH) {
        const int64_t block = depth - first < DEPTH ? depth - first : DEPTH;
        for (int64_t row = 0; row < m; row += chunk) {
            const int64_t rows = m - row < chunk ? m - row : chunk;
            const real *left = a + row * a_row + first * a_depth;
            Addend here = first == 0 ? add : (Addend){1, c, c_stride};
            here.data += row * here.stride;
            if (copies)
                pack(left, a_stride, rows, block, rows_of_a, DEPTH);
            block_of_depth(transpose_b, rows, n, alpha, copies ? rows_of_a : left, copies ? DEPTH : a_row, a_depth, b, b_stride, first, here,
                           c + row * c_stride, c_stride, block, upcoming);
        }
    }
}

#else

#define CALLS_BLAS 1
#define LARGEST_B 0 /* a call to BLAS pays even for the smallest: 16-16-2 takes half as long as with the loops below */
#define WIDTH 4

INLINE void copy_row(const real *source, real *target, int64_t n) { memcpy(target, source, n * sizeof *target); }

static void turn(const real *source, int64_t stride, int64_t rows, int64_t columns, real *target, int64_t target_stride)
{
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < WIDTH; i++)
            target[j * target_stride + i] = i < rows ? source[i * stride + j] : 0;
}

static void turn_back(const real *source, int64_t stride, int64_t rows, int64_t columns, real *target, int64_t target_stride)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            target[i * target_stride + j] = source[j * stride + i];
}

static void tile_product(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t depth, real alpha, const real *a, int64_t a_stride,
                         const real *b, int64_t b_stride, Addend add, real *c, int64_t c_stride, Upcoming *upcoming)
{
    const int64_t a_row = transpose_a ? 1 : a_stride, a_depth = transpose_a ? a_stride : 1;
    const int64_t b_row = transpose_b ? 1 : b_stride, b_column = transpose_b ? b_stride : 1;
    for (int64_t i = 0; i < m; i++, c += c_stride) {
        for (int64_t j = 0; j < n; j++)
            c[j] = add.beta != 0 ? add.beta * add.data[i * add.stride + j] : 0;
        for (int64_t k = 0; k < depth; k++) {
            const real element = alpha * a[i * a_row + k * a_depth];
            for (int64_t j = 0; j < n; j++)
                c[j] += element * b[k * b_row + j * b_column];
        }
        if (upcoming)
            ask_for(upcoming, n * depth);
    }
}

#endif
#endif
