"""The GEMM micro-kernel: a tile of C in vector registers, in LLVM's intermediate language.

The tile keeps up to `MR` × 2 vectors of C in registers and walks down k once: two vector loads of B
and one broadcast of A per row feed 2 `MR` fused multiply-adds. Columns beyond the last are masked.
A is read at any pair of strides, so op(A) = Aᵀ costs nothing. Numba's own language cannot promise
registers, hence LLVM's.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from fastnn._kernels.numba_cpu.vectors import (
    VECTOR_BYTES,
    WIDE,
    lanes_below,
    masked_load,
    masked_store,
    row_stride_of,
)

MR = 12 if WIDE else 6  # rows of a tile: 24 of 32 vector registers for C, or 12 of 16

_INDEX, _WORD = ir.IntType(64), ir.IntType(32)


class LeftOperand(NamedTuple):
    """A: element (i, k) is number ``offset + i row_stride + k depth_stride`` of its memory."""

    memory: np.ndarray
    offset: int
    row_stride: int
    depth_stride: int


class RightOperand(NamedTuple):
    """B: row k begins k rows after number ``offset`` of its memory."""

    memory: np.ndarray
    offset: int


# Parameters: an intrinsic also takes Numba's typing context.
@intrinsic
def microkernel(typing_context, rows, vectors, alpha, a, b, beta, c, depth):
    """C ← α A B + β C for a literal number of rows and of vectors of columns.

    ``a`` is a `LeftOperand`, ``b`` a `RightOperand`, and ``c`` the `Corner` of C at which the tile
    begins.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None

    def codegen(context, builder, signature, args):
        tile = _Tile(context, builder, signature.args, args)
        totals = tile.accumulate(args[-1])
        tile.store(totals, context, signature.args, args)
        return context.get_dummy_value()

    return types.none(rows, vectors, alpha, a, b, beta, c, depth), codegen


class _Tile:
    """The instructions of one tile, while they are emitted."""

    def __init__(self, context, builder, operand_types, operands):
        rows, vectors, _, a, b, _, c, _ = operand_types
        c_matrix = c.types[0]
        self.builder = builder
        self.height, self.breadth = rows.literal_value, range(vectors.literal_value)
        self.bits = c_matrix.dtype.bitwidth
        self.lanes = VECTOR_BYTES // (self.bits // 8)
        self.vector = ir.VectorType(context.get_data_type(c_matrix.dtype), self.lanes)
        self.zero = ir.Constant(self.vector, [0.0] * self.lanes)
        self.align = ir.Constant(_WORD, self.bits // 8)
        memory, *self.a_strides = cgutils.unpack_tuple(builder, operands[3])
        self.a = make_array(a.types[0])(context, builder, memory)
        memory, self.b_offset = cgutils.unpack_tuple(builder, operands[4])
        self.b = make_array(b.types[0])(context, builder, memory)
        self.b_stride = row_stride_of(builder, b.types[0], self.b)
        memory, self.c_row, self.c_column = cgutils.unpack_tuple(builder, operands[6])
        self.c = make_array(c_matrix)(context, builder, memory)
        self.c_stride = row_stride_of(builder, c_matrix, self.c)
        self.masks = [self._column_mask(j * self.lanes) for j in self.breadth]
        self.load, self.mask_store = (
            masked_load(builder, self.vector),
            masked_store(builder, self.vector),
        )

    def accumulate(self, depth):
        """Σₖ A[:, k] B[k, :], a list of vectors for each row."""
        builder = self.builder
        fma_type = ir.FunctionType(self.vector, [self.vector] * 3)
        fma = cgutils.get_or_insert_function(
            builder.module, fma_type, f"llvm.fma.v{self.lanes}f{self.bits}"
        )
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed(">", depth, ir.Constant(_INDEX, 0)), loop, after)

        builder.position_at_end(loop)
        k = builder.phi(_INDEX)
        k.add_incoming(ir.Constant(_INDEX, 0), before)
        sums = [[builder.phi(self.vector) for _ in self.breadth] for _ in range(self.height)]
        b_row = self._load_row(self.b, builder.add(builder.mul(k, self.b_stride), self.b_offset))
        offset, row_stride, depth_stride = self.a_strides
        column = builder.add(offset, builder.mul(k, depth_stride))
        advanced = []
        for i in range(self.height):
            position = builder.add(column, builder.mul(ir.Constant(_INDEX, i), row_stride))
            element = self._splat(builder.load(builder.gep(self.a.data, [position])))
            advanced.append(
                [builder.call(fma, [element, b_row[j], sums[i][j]]) for j in self.breadth]
            )
        following = builder.add(k, ir.Constant(_INDEX, 1))
        last = builder.block
        k.add_incoming(following, last)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, after)

        builder.position_at_end(after)
        totals = [[builder.phi(self.vector) for _ in self.breadth] for _ in range(self.height)]
        for i in range(self.height):
            for j in self.breadth:
                for phi in (sums[i][j], totals[i][j]):
                    phi.add_incoming(self.zero, before)
                    phi.add_incoming(advanced[i][j], last)
        return totals

    def store(self, totals, context, operand_types, operands):
        """C ← α totals + β C; what was in C is not read where β = 0."""
        builder, dtype = self.builder, operand_types[6].types[0].dtype
        alpha, beta = (
            (context.cast(builder, operands[i], operand_types[i], dtype), operands[i])
            for i in (2, 5)
        )
        factor = self._splat(alpha[0])
        scaled = [[builder.fmul(factor, total) for total in row] for row in totals]
        positions = [
            builder.add(
                builder.mul(builder.add(self.c_row, ir.Constant(_INDEX, i)), self.c_stride),
                self.c_column,
            )
            for i in range(self.height)
        ]
        fma = builder.module.globals[f"llvm.fma.v{self.lanes}f{self.bits}"]
        nonzero = builder.fcmp_unordered("!=", beta[1], ir.Constant(beta[1].type, 0.0))
        with builder.if_else(nonzero) as (accumulates, overwrites):
            with accumulates:
                # All loads come before all stores: a load that overlaps even the masked lanes of a
                # pending store would wait for it.
                old_factor = self._splat(beta[0])
                old = [self._load_row(self.c, position) for position in positions]
                sums = [
                    [builder.call(fma, [old_factor, old[i][j], scaled[i][j]]) for j in self.breadth]
                    for i in range(self.height)
                ]
                self._store_rows(positions, sums)
            with overwrites:
                self._store_rows(positions, scaled)

    def _column_mask(self, first):
        """Lanes whose column of C exists."""
        columns = cgutils.unpack_tuple(self.builder, self.c.shape)[1]
        taken = self.builder.add(self.c_column, ir.Constant(_INDEX, first))
        return lanes_below(self.builder, self.builder.sub(columns, taken), self.lanes)

    def _splat(self, value):
        """A vector whose lanes all hold ``value``."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, value, ir.Constant(_WORD, 0))
        lanes = ir.Constant(ir.VectorType(_WORD, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, lanes)

    def _vector_at(self, struct, position, j):
        by = self.builder.add(position, ir.Constant(_INDEX, j * self.lanes))
        address = self.builder.gep(struct.data, [by])
        return self.builder.bitcast(address, ir.PointerType(self.vector))

    def _load_row(self, struct, position):
        return [
            self.builder.call(
                self.load,
                [self._vector_at(struct, position, j), self.align, self.masks[j], self.zero],
            )
            for j in self.breadth
        ]

    def _store_rows(self, positions, rows):
        for position, row in zip(positions, rows, strict=True):
            for j in self.breadth:
                target = self._vector_at(self.c, position, j)
                self.builder.call(self.mask_store, [row[j], target, self.align, self.masks[j]])
