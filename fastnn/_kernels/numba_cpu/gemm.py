"""Matrix products: our own register tile, or BLAS where that is faster.

BLAS is made for large matrices: a mini-batch of ten rows times a layer of thirty units leaves its
kernels half idle and pays for packing and for calls. SciPy's OpenBLAS also lacks AVX-512 kernels
for some processors that have it. Measured on such a one, one core, float32, GFLOP/s
(benchmarks/README.md): 10 × 784 × 30: 31 with BLAS, 228 here; 64 × 784 × 256: 103, 253;
256 × 1024 × 1024: 124, 236. With AVX-512 BLAS is faster nowhere, and SciPy, a fifth of a second to
import, is not even loaded. Without the JIT (``NUMBA_DISABLE_JIT=1``) plain NumPy stands in.
"""

from typing import NamedTuple

import numpy as np
from numba import config, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from fastnn._kernels.dispatch import loop_by_code
from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.gemm_tile import MR, LeftOperand, RightOperand, microkernel
from fastnn._kernels.numba_cpu.vectors import (
    CACHE_LINE,
    FEATURES,
    VECTOR_BYTES,
    WIDE,
    Corner,
    copy_vectors,
    prefetch,
    row_stride_of,
    stack_matrix,
    strided,
    transpose_square,
    vector_length,
)

NEEDS_BLAS = not WIDE
if NEEDS_BLAS:
    from fastnn._kernels.numba_cpu import blas

# Elements of B up to which the tile is used beside BLAS. With AVX2 both reach the same peak, and
# BLAS wins once B leaves the cache; without AVX2, masked loads are slow.
_LARGEST_B = 1 << 18 if FEATURES.get("avx2", False) else 0
# Depth of a block of A and B: a panel of B then takes a third of the first-level cache.
KC = 128
# Bytes over which the rows of a panel of B may lie. Beyond, its pages outnumber the entries of the
# first-level TLB (64 or more, of 4 KiB), and the panel is packed first. 128 × 1024 × 1024:
# 101 GFLOP/s in place, 207 packed; below the bound packing gains nothing.
_PACK_SPREAD = 1 << 18
# Rows of A that lie a multiple of so many bytes apart fall into the same few sets of the
# first-level cache; then `MC` rows of op(A) at a time are packed. 128 × 1024 × 1024: 122 GFLOP/s in
# place, 155 packed.
_CONFLICT_STRIDE, MC = 1024, 11 * 12
_LEAST_LANES = 8 if WIDE else 4  # of float64
_KC_VECTORS = KC // _LEAST_LANES
_MC_VECTORS = 160 // _LEAST_LANES  # pairs of vectors, of float32 too
# Vectors of a single row: enough sums under way to hide the latency of an addition, and B is read
# in long stretches.
_ROW_VECTORS = 8


@intrinsic
def _row_stride(typing_context, matrix):
    def codegen(context, builder, signature, args):
        return row_stride_of(builder, matrix, make_array(matrix)(context, builder, args[0]))

    return types.intp(matrix), codegen


# A tile of ``code`` rows, two vectors wide; and one vector wide, for the last columns or the few
# outputs of a classifier. The micro-kernel wants the number of rows as a literal.
_ARGUMENTS = "alpha, a, b, beta, c, depth"
_wide = kernel(loop_by_code(_ARGUMENTS, microkernel, {rows: "2, " for rows in range(1, MR + 1)}))
_narrow = kernel(loop_by_code(_ARGUMENTS, microkernel, {rows: "1, " for rows in range(1, MR + 1)}))


@kernel
def _transpose_pack(source, rows, columns, panel):
    """panel[:columns, :rows] = the block of source at a `Corner`, transposed.

    The panel has room for whole squares.
    """
    lanes = vector_length(panel)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            corner = Corner(source.matrix, source.row + i, source.column + j)
            transpose_square(corner, rows - i, columns - j, Corner(panel, j, i))


@kernel
def _pack(source, rows, columns, panel):
    """panel[:rows, :columns] = the block of source at a `Corner`.

    The panel has room for whole pairs of vectors.
    """
    width = 2 * vector_length(panel)
    for r in range(rows):
        for c in range(0, columns, width):
            corner = Corner(source.matrix, source.row + r, source.column + c)
            copy_vectors(corner, Corner(panel, r, c))


class PanelPrefetch(NamedTuple):
    """Cache lines to prefetch: ``lines`` from number ``line`` on, of ``rows`` from ``row`` on."""

    matrix: np.ndarray
    row: int
    rows: int
    line: int
    lines: int


@inline
def _column_of_tiles(alpha, a, b, beta, c, depth, ahead):
    """The tiles of one panel of columns of C, of nearly equal height, for one block of depth.

    What is ``ahead`` is prefetched meanwhile, at the pace of the tiles.
    """
    narrow, m = c.matrix.shape[1] - c.column <= vector_length(c.matrix), len(c.matrix)
    tiles = max(1, (m + MR - 1) // MR)
    height, higher, row = m // tiles, m % tiles, 0
    issued, at_once = 0, (ahead.rows + tiles - 1) // tiles
    for tile in range(tiles if m > 0 else 0):
        rows = height + (1 if tile < higher else 0)
        offset = a.offset + row * a.row_stride
        a_tile = LeftOperand(a.memory, offset, a.row_stride, a.depth_stride)
        c_tile = Corner(c.matrix, row, c.column)
        if narrow:
            _narrow(rows, alpha, a_tile, b, beta, c_tile, depth)
        else:
            _wide(rows, alpha, a_tile, b, beta, c_tile, depth)
        row += rows
        for r in range(issued, min(issued + at_once, ahead.rows)):
            for line in range(ahead.lines):
                prefetch(ahead.matrix, ahead.row + r, ahead.line + line)
        issued += at_once


@kernel
def _gemm_tiled(transpose_a, transpose_b, alpha, a, b, beta, c):
    """C ← α op(A) op(B) + β C, a panel of columns and a block of depth after the other.

    What is used again is then in cache. A transposed B is transposed a panel at a time, into a
    matrix on the stack; operands that lie awkwardly are packed there.
    """
    a_stride = _row_stride(a)
    depth = a.shape[0] if transpose_a else a.shape[1]
    m, n = c.shape[0], c.shape[1]
    if m == 1 and not transpose_b:
        row_of_a = LeftOperand(a, 0, 1, a_stride if transpose_a else 1)
        if n <= vector_length(c):
            _narrow(1, alpha, row_of_a, RightOperand(b, 0), beta, Corner(c, 0, 0), depth)
            return
        for column in range(0, n, _ROW_VECTORS * vector_length(c)):
            right, target = RightOperand(b, column), Corner(c, 0, column)
            microkernel(1, _ROW_VECTORS, alpha, row_of_a, right, beta, target, depth)
        return
    conflicts = a_stride * c.itemsize % _CONFLICT_STRIDE == 0
    packs = m > MR and n > 4 * vector_length(c) and conflicts
    chunk = MC if packs else max(m, 1)
    packed_a = strided(stack_matrix(c, MC, _KC_VECTORS))
    packed_transposed = strided(stack_matrix(c, KC, _MC_VECTORS))
    for first in range(0, max(depth, 1), KC):
        block = min(KC, depth - first)
        for row in range(0, m, chunk):
            c_rows, kept = c[row : row + chunk], beta if first == 0 else 1.0
            if packs and transpose_a:
                _pack(Corner(a, first, row), block, len(c_rows), packed_transposed)
                left = LeftOperand(packed_transposed, 0, 1, _row_stride(packed_transposed))
            elif packs:
                _pack(Corner(a, row, first), len(c_rows), block, packed_a)
                left = LeftOperand(packed_a, 0, _row_stride(packed_a), 1)
            elif transpose_a:
                left = LeftOperand(a, first * a_stride + row, 1, a_stride)
            else:
                left = LeftOperand(a, first + row * a_stride, a_stride, 1)
            _block_of_depth(transpose_b, alpha, left, b, first, kept, c_rows, block)


@kernel
def _block_of_depth(transpose_b, alpha, a, b, first, beta, c, depth):
    """What one block of depth, from row ``first`` of op(B) on, adds to C.

    While one panel of B is worked on, the next is prefetched: on two cores half of a weight lies in
    the other's cache, where its new values were written. This saves a tenth of a step of
    784-1024-1024-10, a sixth of one of twenty blocks of 96.
    """
    b_stride, width, n = _row_stride(b), 2 * vector_length(c), c.shape[1]
    panel = strided(stack_matrix(c, KC, 2))
    packs = len(c) > 2 * MR and depth * b_stride * c.itemsize > _PACK_SPREAD
    for column in range(0, n, width):
        columns = min(width, n - column)
        if transpose_b:
            _transpose_pack(Corner(b, column, first), columns, depth, panel)
            right = RightOperand(panel, 0)
        elif packs:
            _pack(Corner(b, first, column), depth, columns, panel)
            right = RightOperand(panel, 0)
        else:
            right = RightOperand(b, first * b_stride + column)
        following = column + width
        if transpose_b:
            rows, line = max(0, min(width, n - following)), first * c.itemsize // CACHE_LINE
            lines = (depth * c.itemsize + CACHE_LINE - 1) // CACHE_LINE
            ahead = PanelPrefetch(b, following, rows, line, lines)
        else:
            rows, line = depth if following < n else 0, following * c.itemsize // CACHE_LINE
            ahead = PanelPrefetch(b, first, rows, line, 2 * VECTOR_BYTES // CACHE_LINE)
        _column_of_tiles(alpha, a, right, beta, Corner(c, 0, column), depth, ahead)


def gemm(transpose_a, transpose_b, alpha, a, b, beta, c):
    """C ← α op(A) op(B) + β C for row-major matrices whose rows are contiguous.

    With β = 0 what was in C does not matter.
    """
    product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    c[...] = alpha * product + (beta * c if beta != 0 else 0)


def _by_tile(transpose_a, transpose_b, alpha, a, b, beta, c):
    left, right, target = strided(a), strided(b), strided(c)
    at, bt = bool(transpose_a), bool(transpose_b)
    _gemm_tiled(at, bt, float(alpha), left, right, float(beta), target)


def _by_size(transpose_a, transpose_b, alpha, a, b, beta, c):
    depth = a.shape[0] if transpose_a else a.shape[1]
    at, bt = bool(transpose_a), bool(transpose_b)
    if depth * c.shape[1] <= _LARGEST_B:
        left, right, target = strided(a), strided(b), strided(c)
        _gemm_tiled(at, bt, float(alpha), left, right, float(beta), target)
    elif c.shape[0] > 0 and c.shape[1] > 0:
        blas.gemm(transpose_a, transpose_b, depth, alpha, a, b, beta, c)


if not config.DISABLE_JIT:
    # A function of its own would be compiled for every combination of layouts.
    gemm = inline(_by_size if NEEDS_BLAS else _by_tile)
