"""Matrix products from one register tile.

BLAS is made for large matrices: a mini-batch of ten rows times a layer of thirty units leaves its
kernels half idle and pays for packing and for calls. And SciPy's OpenBLAS knows no AVX-512 on some
processors that have it. Measured on such a one, one core, float32, GFLOP/s (benchmarks/README.md):
10 × 784 × 30: 31 there, 228 here; 64 × 784 × 256: 103, 253; 256 × 1024 × 1024: 124, 236.

The tile keeps up to `ROWS` × 2 vectors of C in registers and walks down k once: two vector loads of
B and one broadcast of A per row feed 2 `ROWS` multiply-adds. Columns beyond the last are masked. A
is read at any pair of strides, so op(A) = Aᵀ costs nothing; op(B) = Bᵀ is turned round a panel at a
time. It is written in LLVM's own language because Numba's cannot promise registers.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.vectors import (
    CACHE_LINE,
    FEATURES,
    VECTOR_BYTES,
    WIDE,
    copy_vectors,
    lanes_below,
    masked_load,
    masked_store,
    prefetch,
    row_stride_of,
    stack_matrix,
    strided,
    transpose_square,
    vector_length,
)

NEEDS_BLAS = not WIDE
# Elements of B up to which the tile is used beside BLAS. With AVX2 both reach the same peak, and
# BLAS wins once B leaves the cache; without, masked loads are slow.
LARGEST_B = 1 << 18 if FEATURES.get("avx2", False) else 0
# of A and B are worked through at a time: a panel of B then takes a third of the first-level cache
_DEPTH = 128
# Bytes over which the rows of a panel of B may lie: beyond, its pages outnumber the entries of the
# first-level TLB (64 or more, of 4 KiB), and the panel is copied together first. 128 × 1024 × 1024:
# 101 GFLOP/s in place, 207 copied; below it is no gain.
_SPREAD = 1 << 18
# Rows of A that lie a multiple of so many bytes apart fall into the same few sets of the
# first-level cache; then so many rows at a time are copied together. 128 × 1024 × 1024: 122 GFLOP/s
# in place, 155 copied.
_CLASH, _CHUNK = 1024, 11 * 12
_DEPTH_VECTORS = _DEPTH // 8 if WIDE else _DEPTH // 4  # enough for float64
# of a single row: enough sums under way to hide the latency of an addition, and B is read in long
# stretches
_ROW_VECTORS = 8
ROWS = 12 if WIDE else 6  # 24 of 32 registers for C, or 12 of 16


@intrinsic
def _row_stride(typing_context, matrix):
    def codegen(context, builder, signature, args):
        return row_stride_of(builder, matrix, make_array(matrix)(context, builder, args[0]))

    return types.intp(matrix), codegen


@intrinsic
def _tile(
    typing_context,
    rows,
    vectors,
    alpha,
    a,
    a_offset,
    a_row,
    a_depth,
    b,
    b_offset,
    beta,
    c,
    c_row,
    c_column,
    depth,
):
    """C[c_row : c_row + rows, columns] ← α A B + β C for a literal number of rows and of vectors of
    columns.

    Element (i, k) of A is number a_offset + i a_row + k a_depth of its memory, and row k of B
    begins k rows after number b_offset.
    """

    def codegen(context, builder, signature, args):
        (
            _,
            _,
            alpha_value,
            a_value,
            a_offset,
            a_row,
            a_depth,
            b_value,
            b_offset,
            beta_value,
            c_value,
            c_row,
            c_column,
            depth_value,
        ) = args
        scalar = context.get_data_type(c.dtype)
        lanes = VECTOR_BYTES // (c.dtype.bitwidth // 8)
        vector, index = ir.VectorType(scalar, lanes), ir.IntType(64)
        height, breadth = rows.literal_value, range(vectors.literal_value)
        matrix_a, matrix_b, matrix_c = (
            make_array(t)(context, builder, v)
            for t, v in ((a, a_value), (b, b_value), (c, c_value))
        )

        def splat(value):
            single = builder.insert_element(
                ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)

        def at(struct, position):
            return builder.gep(struct.data, [position])

        def column_mask(first):
            """Lanes whose column exists."""
            left = builder.sub(
                cgutils.unpack_tuple(builder, matrix_c.shape)[1],
                builder.add(c_column, ir.Constant(index, first)),
            )
            return lanes_below(builder, left, lanes)

        pointer, align = ir.PointerType(vector), ir.Constant(ir.IntType(32), c.dtype.bitwidth // 8)
        load = masked_load(builder, vector)
        store = masked_store(builder, vector)
        fma_type = ir.FunctionType(vector, [vector, vector, vector])
        fma = cgutils.get_or_insert_function(
            builder.module, fma_type, f"llvm.fma.v{lanes}f{c.dtype.bitwidth}"
        )
        masks = [column_mask(j * lanes) for j in breadth]
        nothing = ir.Constant(vector, [0.0] * lanes)

        def load_row(struct, position):
            pointers = [
                builder.bitcast(
                    at(struct, builder.add(position, ir.Constant(index, j * lanes))), pointer
                )
                for j in breadth
            ]
            return [
                builder.call(load, [p, align, mask, nothing])
                for p, mask in zip(pointers, masks, strict=True)
            ]

        b_row, c_stride = row_stride_of(builder, b, matrix_b), row_stride_of(builder, c, matrix_c)
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", depth_value, ir.Constant(index, 0)), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(index)
        k.add_incoming(ir.Constant(index, 0), before)
        sums = [[builder.phi(vector) for _ in breadth] for _ in range(height)]
        b_vectors = load_row(matrix_b, builder.add(builder.mul(k, b_row), b_offset))
        a_position, advanced = builder.add(a_offset, builder.mul(k, a_depth)), []
        for i in range(height):
            element = builder.load(
                at(matrix_a, builder.add(a_position, builder.mul(ir.Constant(index, i), a_row)))
            )
            spread = splat(element)
            advanced.append(
                [builder.call(fma, [spread, b_vectors[j], sums[i][j]]) for j in breadth]
            )
        following = builder.add(k, ir.Constant(index, 1))
        last = builder.block
        k.add_incoming(following, last)
        builder.cbranch(builder.icmp_signed("<", following, depth_value), loop, after)

        builder.position_at_end(after)
        totals = [[builder.phi(vector) for _ in breadth] for _ in range(height)]
        for i in range(height):
            for j in breadth:
                sums[i][j].add_incoming(nothing, before)
                sums[i][j].add_incoming(advanced[i][j], last)
                totals[i][j].add_incoming(nothing, before)
                totals[i][j].add_incoming(advanced[i][j], last)
        factor = splat(context.cast(builder, alpha_value, alpha, c.dtype))
        scaled = [[builder.fmul(factor, total) for total in row] for row in totals]
        positions = [
            builder.add(builder.mul(builder.add(c_row, ir.Constant(index, i)), c_stride), c_column)
            for i in range(height)
        ]

        def store_all(rows_of_results):
            for position, results in zip(positions, rows_of_results, strict=True):
                for j in breadth:
                    target = builder.bitcast(
                        at(matrix_c, builder.add(position, ir.Constant(index, j * lanes))), pointer
                    )
                    builder.call(store, [results[j], target, align, masks[j]])

        with builder.if_else(
            builder.fcmp_unordered("!=", beta_value, ir.Constant(beta_value.type, 0.0))
        ) as (accumulates, overwrites):
            with accumulates:
                # All loads come before all stores: a load that overlaps even the masked lanes of a
                # pending store would wait for it.
                old_factor = splat(context.cast(builder, beta_value, beta, c.dtype))
                old = [load_row(matrix_c, position) for position in positions]
                store_all(
                    [
                        [builder.call(fma, [old_factor, old[i][j], scaled[i][j]]) for j in breadth]
                        for i in range(height)
                    ]
                )
            with overwrites:
                store_all(scaled)
        return context.get_dummy_value()

    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    return types.none(
        rows,
        vectors,
        alpha,
        a,
        a_offset,
        a_row,
        a_depth,
        b,
        b_offset,
        beta,
        c,
        c_row,
        c_column,
        depth,
    ), codegen


@inline
def _rows(
    rows, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
):
    """One tile of as many rows: the tile wants their number as a literal."""
    if rows == 1:
        _tile(
            1, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 2:
        _tile(
            2, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 3:
        _tile(
            3, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 4:
        _tile(
            4, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 5:
        _tile(
            5, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 6:
        _tile(
            6, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 7:
        _tile(
            7, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 8:
        _tile(
            8, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 9:
        _tile(
            9, vectors, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth
        )
    elif rows == 10:
        _tile(
            10,
            vectors,
            alpha,
            a,
            a_offset,
            a_row,
            a_depth,
            b,
            b_offset,
            beta,
            c,
            row,
            column,
            depth,
        )
    elif rows == 11:
        _tile(
            11,
            vectors,
            alpha,
            a,
            a_offset,
            a_row,
            a_depth,
            b,
            b_offset,
            beta,
            c,
            row,
            column,
            depth,
        )
    elif rows == 12:
        _tile(
            12,
            vectors,
            alpha,
            a,
            a_offset,
            a_row,
            a_depth,
            b,
            b_offset,
            beta,
            c,
            row,
            column,
            depth,
        )


@kernel
def _wide(rows, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth):
    """A tile two vectors wide."""
    _rows(rows, 2, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth)


@kernel
def _narrow(rows, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth):
    """A tile one vector wide: for the last columns, or the few outputs of a classifier."""
    _rows(rows, 1, alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, row, column, depth)


@kernel
def _transpose(source, row, column, rows, columns, panel):
    """panel[:columns, :rows] = source[row : row + rows, column : column + columns]ᵀ; the panel has
    room for whole squares.
    """
    lanes = vector_length(panel)
    for i in range(0, rows, lanes):
        for j in range(0, columns, lanes):
            transpose_square(source, row + i, column + j, rows - i, columns - j, panel, j, i)


@kernel
def _pack(source, row, column, rows, columns, panel):
    """panel[:rows, :columns] = source[row : row + rows, column : column + columns]; the panel has
    room for whole pairs of vectors.
    """
    width = 2 * vector_length(panel)
    for r in range(rows):
        for c in range(0, columns, width):
            copy_vectors(source, row + r, column + c, panel, r, c)


class Ahead(NamedTuple):
    """Cache lines to ask for while working on something else: ``lines`` from number ``line`` on, of
    ``rows`` from ``row`` on.
    """

    matrix: np.ndarray
    row: int
    rows: int
    line: int
    lines: int


@inline
def _column_of_tiles(
    alpha, a, a_offset, a_row, a_depth, b, b_offset, beta, c, column, depth, ahead
):
    """C[:, column : column + width] for one block of depth, in tiles of nearly equal height; what
    is ``ahead`` comes meanwhile.
    """
    narrow, m = c.shape[1] - column <= vector_length(c), len(c)
    tiles = max(1, (m + ROWS - 1) // ROWS)
    height, higher, row = m // tiles, m % tiles, 0
    asked, at_once = 0, (ahead.rows + tiles - 1) // tiles
    for tile in range(tiles if m > 0 else 0):
        rows = height + (1 if tile < higher else 0)
        if narrow:
            _narrow(
                rows,
                alpha,
                a,
                a_offset + row * a_row,
                a_row,
                a_depth,
                b,
                b_offset,
                beta,
                c,
                row,
                column,
                depth,
            )
        else:
            _wide(
                rows,
                alpha,
                a,
                a_offset + row * a_row,
                a_row,
                a_depth,
                b,
                b_offset,
                beta,
                c,
                row,
                column,
                depth,
            )
        row += rows
        for r in range(asked, min(asked + at_once, ahead.rows)):
            for line in range(ahead.lines):
                prefetch(ahead.matrix, ahead.row + r, ahead.line + line)
        asked += at_once


@kernel
def product(transpose_a, transpose_b, alpha, a, b, beta, c):
    """C ← α op(A) op(B) + β C; columns and blocks of depth one after the other, so that what is
    used again is in cache.

    A transposed B is turned round one panel at a time, into a matrix on the stack; what lies
    awkwardly is copied together there.
    """
    a_stride, depth, m, n = (
        _row_stride(a),
        a.shape[0] if transpose_a else a.shape[1],
        c.shape[0],
        c.shape[1],
    )
    if m == 1 and not transpose_b:
        a_depth = a_stride if transpose_a else 1
        if n <= vector_length(c):
            _narrow(1, alpha, a, 0, 1, a_depth, b, 0, beta, c, 0, 0, depth)
            return
        for column in range(0, n, _ROW_VECTORS * vector_length(c)):
            _tile(1, _ROW_VECTORS, alpha, a, 0, 1, a_depth, b, column, beta, c, 0, column, depth)
        return
    copies = (
        not transpose_a
        and m > ROWS
        and n > 4 * vector_length(c)
        and a_stride * c.itemsize % _CLASH == 0
    )
    chunk, rows_of_a = (
        _CHUNK if copies else max(m, 1),
        strided(stack_matrix(c, _CHUNK, _DEPTH_VECTORS)),
    )
    for first in range(0, max(depth, 1), _DEPTH):
        block = min(_DEPTH, depth - first)
        for row in range(0, m, chunk):
            c_rows, kept = c[row : row + chunk], beta if first == 0 else 1.0
            if copies:
                _pack(a, row, first, len(c_rows), block, rows_of_a)
                left, offset, a_row, a_depth = rows_of_a, 0, _row_stride(rows_of_a), 1
            elif transpose_a:
                left, offset, a_row, a_depth = a, first * a_stride + row, 1, a_stride
            else:
                left, offset, a_row, a_depth = a, first + row * a_stride, a_stride, 1
            _block(transpose_b, alpha, left, offset, a_row, a_depth, b, first, kept, c_rows, block)


@kernel
def _block(transpose_b, alpha, a, a_offset, a_row, a_depth, b, first, beta, c, depth):
    """The part of a product that one block of depth, from row ``first`` of op(B) on, adds to C.

    While one panel of B is worked on the next is asked for: on two cores half of a weight lies in
    the other's cache, where its new values were written. 784-1024-1024-10: a tenth of a step;
    twenty blocks of 96: a sixth.
    """
    b_stride, width, n, panel = (
        _row_stride(b),
        2 * vector_length(c),
        c.shape[1],
        strided(stack_matrix(c, _DEPTH, 2)),
    )
    packs = len(c) > 2 * ROWS and depth * b_stride * c.itemsize > _SPREAD
    for column in range(0, n, width):
        columns = min(width, n - column)
        if transpose_b:
            _transpose(b, column, first, columns, depth, panel)
            right, offset = panel, 0
        elif packs:
            _pack(b, first, column, depth, columns, panel)
            right, offset = panel, 0
        else:
            right, offset = b, first * b_stride + column
        following = column + width
        if transpose_b:
            rows, line = max(0, min(width, n - following)), first * c.itemsize // CACHE_LINE
            ahead = Ahead(
                b, following, rows, line, (depth * c.itemsize + CACHE_LINE - 1) // CACHE_LINE
            )
        else:
            ahead = Ahead(
                b,
                first,
                depth if following < n else 0,
                following * c.itemsize // CACHE_LINE,
                2 * VECTOR_BYTES // CACHE_LINE,
            )
        _column_of_tiles(
            alpha, a, a_offset, a_row, a_depth, right, offset, beta, c, column, depth, ahead
        )
