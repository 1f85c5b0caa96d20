/* GEMM from one register tile, for processors with AVX2 or AVX-512, and plain loops for others.

   The tile keeps up to MR × 2 vectors of C in registers and walks down k once: two vector loads of
   B and one broadcast of A per row feed 2 MR multiply-adds. Columns beyond the last are masked. A
   is read at any pair of strides, so op(A) = Aᵀ costs nothing, a stride of 0 repeats one element,
   and op(B) = Bᵀ is transposed a panel at a time. What is added to the product is read at a
   stride of its own, which is 0 where it is a bias. */

#ifndef FASTNN_GEMM_TILE_H
#define FASTNN_GEMM_TILE_H

#include "machine.h"
#include "prefetch.h"
#include "vectors.h"

typedef struct {
    int64_t m, n, depth;
} GemmShape;

/* A row-major matrix whose rows lie `stride` apart, or its transpose. */
typedef struct {
    const real *data;
    int64_t stride;
    int transposed;
} Operand;

/* What is added to a product: β D, where rows of D lie `stride` apart (0 repeats a bias). Nothing
   is read where β is 0. */
typedef struct {
    real beta;
    const real *data;
    int64_t stride;
} SourceMatrix;

typedef struct {
    real *data;
    int64_t stride;
} OutputMatrix;

#if defined(VECTOR_BYTES)

#if defined(__AVX512F__)
#define MR 12 /* 24 of 32 registers for C */
/* Without AVX-512, BLAS wins once B leaves the cache: LARGEST_B elements. */
#define CALLS_BLAS 0
#define LARGEST_B INT64_MAX
#else
#define MR 6 /* 12 of 16 registers */
#define CALLS_BLAS 1
#define LARGEST_B ((int64_t)1 << 18)
#endif

/* Depth of a block of A and B: a panel of B takes a third of the first-level cache. */
#define KC 128
/* Bytes over which the rows of a panel of B may lie. Beyond, its pages outnumber the entries of the
   first-level TLB, and it is packed. */
#define PACK_SPREAD (1 << 18)
/* Rows of A that lie a multiple of so many bytes apart fall into the same few sets of the
   first-level cache; then MC rows of op(A) at a time are packed. The gradient of a weight of
   512 × 512, whose A is transposed: 115 GFLOP/s in place, 150 packed. */
#define CONFLICT_STRIDE 1024
#define MC (11 * 12)
#define PACKED_ROWS (12 * 12) /* whole vectors */
/* Vectors of a single row: enough sums under way to hide the latency of an addition. */
#define ROW_VECTORS 8

/* --- the micro-kernel ------------------------------------------------------------------------- */

/* Parameters: the operands of a tile are scalars, which stay in registers. A struct goes through
   memory, and cost a tenth of a step of 16-16-2. Element (i, k) of A is a[i a_row + k a_depth]. */
#define TILE_PARAMETERS                                                                            \
    real alpha, const real *a, int64_t a_row, int64_t a_depth, const real *b, int64_t b_row,       \
        SourceMatrix d, real *c, int64_t c_row, int64_t columns, int64_t depth
#define TILE_ARGUMENTS alpha, a, a_row, a_depth, b, b_row, d, c, c_row, columns, depth

#define UNROLL_ROWS _Pragma("GCC unroll 12") for (int i = 0; i < rows; i++)
#define UNROLL_VECTORS _Pragma("GCC unroll 8") for (int j = 0; j < vectors; j++)

/* C ← α A B + β D for a constant number of rows and of vectors. */
INLINE void microkernel(const int rows, const int vectors, const int whole, TILE_PARAMETERS)
{
    vec sums[MR][ROW_VECTORS]; /* only those of the tile, all in registers */
    lanes_mask masks[ROW_VECTORS];
    UNROLL_VECTORS masks[j] = first_lanes(columns - j * LANES);
    UNROLL_ROWS UNROLL_VECTORS sums[i][j] = (vec){0};
    for (int64_t k = 0; k < depth; k++) {
        vec row[ROW_VECTORS];
        UNROLL_VECTORS row[j] = load(b + k * b_row + j * LANES, whole, masks[j]);
        UNROLL_ROWS
        {
            const vec element = splat(a[i * a_row + k * a_depth]);
            UNROLL_VECTORS sums[i][j] += element * row[j];
        }
    }
    const vec factor = splat(alpha), old_factor = splat(d.beta);
    if (d.beta != 1 && alpha != 1)
        UNROLL_ROWS UNROLL_VECTORS sums[i][j] *= factor;
    /* All loads before all stores: a load that overlaps the masked lanes of a pending store would
       wait for it. */
    if (d.beta == 1) /* in most products of blocks of depth: one operation instead of two */
        UNROLL_ROWS UNROLL_VECTORS sums[i][j] =
            factor * sums[i][j] + load(d.data + i * d.stride + j * LANES, whole, masks[j]);
    else if (d.beta != 0)
        UNROLL_ROWS UNROLL_VECTORS sums[i][j] +=
            old_factor * load(d.data + i * d.stride + j * LANES, whole, masks[j]);
    UNROLL_ROWS UNROLL_VECTORS store(c + i * c_row + j * LANES, whole, masks[j], sums[i][j]);
}

#define TILE_CASE(n)                                                                               \
    case n:                                                                                        \
        microkernel(n, vectors, whole, TILE_ARGUMENTS);                                            \
        return;

INLINE void tile(int rows, const int vectors, const int whole, TILE_PARAMETERS)
{
    switch (rows) {
        TILE_CASE(1)
        TILE_CASE(2)
        TILE_CASE(3)
        TILE_CASE(4)
        TILE_CASE(5)
        TILE_CASE(6)
#if MR > 6
        TILE_CASE(7)
        TILE_CASE(8)
        TILE_CASE(9)
        TILE_CASE(10)
        TILE_CASE(11)
        TILE_CASE(12)
#endif
    }
}

static void narrow_tile(int rows, TILE_PARAMETERS) { tile(rows, 1, 0, TILE_ARGUMENTS); }

static void wide_tile(int rows, TILE_PARAMETERS)
{
#if !defined(__AVX512F__)
    if (columns >= 2 * LANES) {
        tile(rows, 2, 1, TILE_ARGUMENTS);
        return;
    }
#endif
    tile(rows, 2, 0, TILE_ARGUMENTS);
}

static void row_tile(TILE_PARAMETERS) { microkernel(1, ROW_VECTORS, 0, TILE_ARGUMENTS); }

/* target[: n] = source[: n]; for short rows faster than memcpy. */
INLINE void copy_row(const real *source, real *target, int64_t n)
{
    int64_t c = 0;
    for (; c + LANES <= n; c += LANES)
        *(vec_anywhere *)(target + c) = *(const vec_anywhere *)(source + c);
    if (c < n)
        store_lanes(target + c, first_lanes(n - c), load_lanes(source + c, first_lanes(n - c)));
}

/* --- packing, panels and blocks --------------------------------------------------------------- */

/* panel[r][:] = source[r][: columns], rows of two vectors; zeros stand in for missing columns. */
static void pack(const real *source, int64_t stride, int64_t rows, int64_t columns, real *panel,
                 int64_t panel_stride)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t column = 0; column < columns; column += LANES)
            *(vec_anywhere *)(panel + r * panel_stride + column) =
                load_lanes(source + r * stride + column, first_lanes(columns - column));
}

/* panel[j][i] = source[i][j], padded with zeros to a multiple of WIDTH in both directions. */
static void transpose_pack(const real *source, int64_t stride, int64_t rows, int64_t columns,
                           real *panel, int64_t panel_stride)
{
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES)
            transpose_square(source + i * stride + j, stride, rows - i, columns - j,
                             panel + j * panel_stride + i, panel_stride, 0);
}

/* target[i][j] = source[j][i] for as many rows of the target as a vector has lanes, or fewer. */
static void transpose_back(const real *source, int64_t stride, int64_t rows, int64_t columns,
                           real *target, int64_t target_stride)
{
    for (int64_t j = 0; j < columns; j += LANES)
        transpose_square(source + j * stride, stride, columns - j, rows, target + j, target_stride,
                         1);
}

/* Cache lines of the next panel of B, which are prefetched while this one is worked on. */
typedef struct {
    const char *first;
    int64_t stride, rows, lines;
} PanelPrefetch;

/* The tiles of one panel of columns, of nearly equal height, for one block of depth. The next panel
   and the next mini-batch are prefetched at the pace of the tiles. */
INLINE void column_of_tiles(int64_t m, TILE_PARAMETERS, PanelPrefetch next, PrefetchQueue *queue)
{
    const int64_t tiles = (m + MR - 1) / MR, height = m / tiles, higher = m % tiles;
    const int64_t at_once = (next.rows + tiles - 1) / tiles;
    int64_t issued = 0;
    for (int64_t number = 0; number < tiles; number++) {
        const int64_t rows = height + (number < higher);
        if (columns <= LANES)
            narrow_tile((int)rows, TILE_ARGUMENTS);
        else
            wide_tile((int)rows, TILE_ARGUMENTS);
        a += rows * a_row;
        c += rows * c_row;
        d.data += rows * d.stride;
        for (int64_t r = issued; r < issued + at_once && r < next.rows; r++)
            for (int64_t line = 0; line < next.lines; line++)
                prefetch(next.first + r * next.stride + line * CACHE_LINE);
        issued += at_once;
        if (queue)
            prefetch_advance(queue, rows * columns * depth);
    }
}

/* What one block of depth, from row `first` of op(B) on, adds to C (m, n). On two cores half of a
   weight lies in the other's cache, where its new values were written: hence the prefetch of
   panels. Parameters: scalars, as for a tile. */
static void block_of_depth(int64_t m, int64_t n, real alpha, const real *a, int64_t a_row,
                           int64_t a_depth, Operand b, int64_t first, SourceMatrix d,
                           OutputMatrix c, int64_t depth, PrefetchQueue *queue)
{
    real panel[KC * 2 * WIDTH] __attribute__((aligned(VECTOR_BYTES)));
    const int64_t width = 2 * LANES, size = (int64_t)sizeof(real), row_bytes = b.stride * size;
    const int packs = m > 2 * MR && depth * row_bytes > PACK_SPREAD;
    for (int64_t column = 0; column < n; column += width) {
        const int64_t columns = n - column < width ? n - column : width;
        const int64_t left = n - column - columns, following = column + width;
        const real *right = panel;
        int64_t right_stride = width;
        PanelPrefetch next = {0};
        if (b.transposed) {
            transpose_pack(b.data + column * b.stride + first, b.stride, columns, depth, panel,
                           width);
            next = (PanelPrefetch){(const char *)(b.data + following * b.stride + first), row_bytes,
                                   left < width ? left : width,
                                   (depth * size + CACHE_LINE - 1) / CACHE_LINE};
        } else {
            const real *rows = b.data + first * b.stride;
            if (packs) {
                pack(rows + column, b.stride, depth, columns, panel, width);
            } else {
                right = rows + column;
                right_stride = b.stride;
            }
            next = (PanelPrefetch){(const char *)(rows + following), row_bytes,
                                   left > 0 ? depth : 0, 2 * VECTOR_BYTES / CACHE_LINE};
        }
        const SourceMatrix here = {d.beta, d.data + column, d.stride};
        column_of_tiles(m, alpha, a, a_row, a_depth, right, right_stride, here, c.data + column,
                        c.stride, columns, depth, next, queue);
    }
}

/* C ← α op(A) op(B) + β D. Panels of columns and blocks of depth follow each other, so that what is
   used again is in cache. `queue` may be NULL. */
static void gemm_tiled(GemmShape shape, real alpha, Operand a, Operand b, SourceMatrix d,
                       OutputMatrix c, PrefetchQueue *queue)
{
    const int64_t m = shape.m, n = shape.n, depth = shape.depth;
    const int64_t a_row = a.transposed ? 1 : a.stride, a_depth = a.transposed ? a.stride : 1;
    if (m == 1 && !b.transposed) {
        for (int64_t column = 0; column < n; column += ROW_VECTORS * LANES) {
            const real *right = b.data + column;
            if (n - column <= LANES)
                narrow_tile(1, alpha, a.data, a_row, a_depth, right, b.stride, d, c.data + column,
                            c.stride, n - column, depth);
            else
                row_tile(alpha, a.data, a_row, a_depth, right, b.stride, d, c.data + column,
                         c.stride, n - column, depth);
            d.data += ROW_VECTORS * LANES;
        }
        return;
    }
    real packed_a[PACKED_ROWS * KC] __attribute__((aligned(VECTOR_BYTES)));
    const int packs =
        m > MR && n > 4 * LANES && a.stride * (int64_t)sizeof(real) % CONFLICT_STRIDE == 0;
    const int64_t left_row = !packs ? a_row : a.transposed ? 1 : KC;
    const int64_t left_depth = !packs ? a_depth : a.transposed ? PACKED_ROWS : 1;
    const int64_t chunk = packs ? MC : m;
    for (int64_t first = 0; first < depth || first == 0; first += KC) {
        const int64_t block = depth - first < KC ? depth - first : KC;
        for (int64_t row = 0; row < m; row += chunk) {
            const int64_t rows = m - row < chunk ? m - row : chunk;
            const real *left = a.data + row * a_row + first * a_depth;
            const OutputMatrix target = {c.data + row * c.stride, c.stride};
            SourceMatrix here = first == 0 ? d : (SourceMatrix){1, c.data, c.stride};
            here.data += row * here.stride;
            if (packs && a.transposed)
                pack(left, a.stride, block, rows, packed_a, PACKED_ROWS);
            else if (packs)
                pack(left, a.stride, rows, block, packed_a, KC);
            block_of_depth(rows, n, alpha, packs ? packed_a : left, left_row, left_depth, b, first,
                           here, target, block, queue);
        }
    }
}

#else

#define CALLS_BLAS 1
#define LARGEST_B                                                                                  \
    0 /* a call to BLAS pays even for the smallest: 16-16-2 takes half as long as with the loops   \
         below */
#define WIDTH 4

INLINE void copy_row(const real *source, real *target, int64_t n)
{
    memcpy(target, source, n * sizeof *target);
}

static void transpose_pack(const real *source, int64_t stride, int64_t rows, int64_t columns,
                           real *target, int64_t target_stride)
{
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < WIDTH; i++)
            target[j * target_stride + i] = i < rows ? source[i * stride + j] : 0;
}

static void transpose_back(const real *source, int64_t stride, int64_t rows, int64_t columns,
                           real *target, int64_t target_stride)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            target[i * target_stride + j] = source[j * stride + i];
}

static void gemm_tiled(GemmShape shape, real alpha, Operand a, Operand b, SourceMatrix d,
                       OutputMatrix c, PrefetchQueue *queue)
{
    const int64_t a_row = a.transposed ? 1 : a.stride, a_depth = a.transposed ? a.stride : 1;
    const int64_t b_row = b.transposed ? 1 : b.stride, b_column = b.transposed ? b.stride : 1;
    for (int64_t i = 0; i < shape.m; i++) {
        real *row = c.data + i * c.stride;
        for (int64_t j = 0; j < shape.n; j++)
            row[j] = d.beta != 0 ? d.beta * d.data[i * d.stride + j] : 0;
        for (int64_t k = 0; k < shape.depth; k++) {
            const real element = alpha * a.data[i * a_row + k * a_depth];
            for (int64_t j = 0; j < shape.n; j++)
                row[j] += element * b.data[k * b_row + j * b_column];
        }
        if (queue)
            prefetch_advance(queue, shape.n * shape.depth);
    }
}

#endif
#endif
