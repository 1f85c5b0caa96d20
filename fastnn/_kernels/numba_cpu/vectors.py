"""SIMD building blocks in LLVM's intermediate language.

Masked loads and stores, transposition of squares by shuffles, scratch matrices on the stack,
prefetch; and views of matrices under another type, which cost nothing.
"""

from typing import NamedTuple

import numpy as np
from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

FEATURES = binding.get_host_cpu_features()
WIDE = FEATURES.get("avx512f", False)
VECTOR_BYTES = 64 if WIDE else 32
CACHE_LINE = 64  # bytes


class Corner(NamedTuple):
    """The element of a matrix at which a block begins."""

    matrix: np.ndarray
    row: int
    column: int


def _corner(context, builder, corner_type, value):
    """Array struct, row and column of a `Corner`."""
    matrix, row, column = cgutils.unpack_tuple(builder, value)
    return make_array(corner_type.types[0])(context, builder, matrix), row, column


def row_stride_of(builder, array_type, struct):
    """Elements from one row to the next. The element size is a constant: no division."""
    return builder.sdiv(
        cgutils.unpack_tuple(builder, struct.strides)[0],
        ir.Constant(ir.IntType(64), array_type.dtype.bitwidth // 8),
    )


def masked_load(builder, vector):
    """LLVM's masked load: takes pointer, alignment, mask, and the lanes that are not loaded."""
    mask, word = ir.VectorType(ir.IntType(1), vector.count), ir.IntType(32)
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    function_type = ir.FunctionType(vector, [ir.PointerType(vector), word, mask, vector])
    return cgutils.get_or_insert_function(
        builder.module, function_type, f"llvm.masked.load.v{vector.count}f{bits}.p0"
    )


def masked_store(builder, vector):
    """LLVM's masked store: takes the vector, pointer, alignment and mask."""
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    operands = [
        vector,
        ir.PointerType(vector),
        ir.IntType(32),
        ir.VectorType(ir.IntType(1), vector.count),
    ]
    function_type = ir.FunctionType(ir.VoidType(), operands)
    return cgutils.get_or_insert_function(
        builder.module, function_type, f"llvm.masked.store.v{vector.count}f{bits}.p0"
    )


def lanes_below(builder, limit, lanes):
    """A mask of the lanes whose number is below ``limit``."""
    lane_type, word = ir.VectorType(ir.IntType(64), lanes), ir.IntType(32)
    single = builder.insert_element(
        ir.Constant(lane_type, ir.Undefined), limit, ir.Constant(word, 0)
    )
    limits = builder.shuffle_vector(
        single,
        ir.Constant(lane_type, ir.Undefined),
        ir.Constant(ir.VectorType(word, lanes), [0] * lanes),
    )
    return builder.icmp_signed("<", ir.Constant(lane_type, list(range(lanes))), limits)


@intrinsic
def stack_matrix(typing_context, c, rows, vectors):
    """An uninitialised matrix of C's dtype on the stack: ``rows`` × ``vectors``, both literal."""
    result = types.Array(c.dtype, 2, "C")

    def codegen(context, builder, signature, args):
        scalar, size, height = (
            context.get_data_type(c.dtype),
            c.dtype.bitwidth // 8,
            rows.literal_value,
        )
        columns = vectors.literal_value * VECTOR_BYTES // size
        with builder.goto_entry_block():  # not cgutils.alloca_once, which would fill it with zeros
            memory = builder.alloca(ir.ArrayType(scalar, height * columns))
        memory.align = VECTOR_BYTES
        panel = make_array(result)(context, builder)
        constants = [
            context.get_constant(types.intp, value)
            for value in (height, columns, columns * size, size)
        ]
        data = builder.bitcast(memory, scalar.as_pointer())
        populate_array(panel, data, constants[:2], constants[2:], constants[3], meminfo=None)
        return panel._getvalue()

    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    return result(c, rows, vectors), codegen


def _transposition(bounded):
    """An intrinsic that transposes a square one vector wide, in log₂ rounds of shuffles.

    From the corners of source and target on, target[j, i] = source[i, j]. Where the source has
    fewer ``rows`` or ``columns`` left than the square is wide, zeros stand in. They are stored too,
    unless ``bounded``.
    """

    @intrinsic
    def transpose(typing_context, source, rows, columns, target):
        dtype = source.types[0].dtype
        lanes, size = VECTOR_BYTES // (dtype.bitwidth // 8), dtype.bitwidth // 8

        def codegen(context, builder, signature, args):
            vector = ir.VectorType(context.get_data_type(dtype), lanes)
            align = ir.Constant(ir.IntType(32), size)
            zeros = ir.Constant(vector, [0.0] * lanes)
            load, store = masked_load(builder, vector), masked_store(builder, vector)

            def row_pointers(corner_type, value):
                struct, row, column = _corner(context, builder, corner_type, value)
                stride = row_stride_of(builder, corner_type.types[0], struct)
                for i in range(lanes):
                    r = builder.add(row, ir.Constant(ir.IntType(64), i))
                    position = builder.add(builder.mul(r, stride), column)
                    address = builder.gep(struct.data, [position])
                    yield builder.bitcast(address, ir.PointerType(vector))

            def existing(i, limit, width):
                """A mask of the first ``width`` lanes, or of none in rows from ``limit`` on."""
                exists = builder.icmp_signed("<", ir.Constant(ir.IntType(64), i), limit)
                none = ir.Constant(ir.IntType(64), 0)
                return lanes_below(builder, builder.select(exists, width, none), lanes)

            _, n_rows, n_columns, _ = args
            square = [
                builder.call(load, [pointer, align, existing(i, n_rows, n_columns), zeros])
                for i, pointer in enumerate(row_pointers(source, args[0]))
            ]
            _shuffle_round(builder, square)
            for j, pointer in enumerate(row_pointers(target, args[3])):
                if bounded:
                    mask = existing(j, n_columns, n_rows)
                    builder.call(store, [square[j], pointer, align, mask])
                else:
                    builder.store(square[j], pointer, align=align.constant)
            return context.get_dummy_value()

        return types.none(source, rows, columns, target), codegen

    return transpose


def _shuffle_round(builder, square):
    """Transpose a list of as many vectors as each has lanes."""
    lanes, word = len(square), ir.IntType(32)
    step = 1
    while step < lanes:
        # lanes whose number has the bit ``step`` change places with the row whose number has it
        low = [i + lanes - step if i & step else i for i in range(lanes)]
        high = [i + lanes if i & step else i + step for i in range(lanes)]
        for i in range(lanes):
            if not i & step:
                pair = square[i], square[i + step]
                for k, mask in ((i, low), (i + step, high)):
                    square[k] = builder.shuffle_vector(
                        *pair, ir.Constant(ir.VectorType(word, lanes), mask)
                    )
        step *= 2


transpose_square, transpose_part = _transposition(bounded=False), _transposition(bounded=True)


@intrinsic
def vector_length(typing_context, c):
    """Elements of C's dtype in a vector, a constant."""
    return types.intp(c), lambda context, builder, signature, args: context.get_constant(
        types.intp, VECTOR_BYTES // (c.dtype.bitwidth // 8)
    )


@intrinsic
def copy_vectors(typing_context, source, target):
    """Copy two vectors of a row, from the corner of source to the corner of target.

    Where the source has fewer columns, zeros stand in.
    """
    dtype = source.types[0].dtype
    size = dtype.bitwidth // 8
    lanes = VECTOR_BYTES // size

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(context.get_data_type(dtype), lanes)
        pointer, zeros = ir.PointerType(vector), ir.Constant(vector, [0.0] * lanes)
        load, align = masked_load(builder, vector), ir.Constant(ir.IntType(32), size)
        a, row, column = _corner(context, builder, source, args[0])
        left = builder.sub(cgutils.unpack_tuple(builder, a.shape)[1], column)
        start = builder.add(builder.mul(row, row_stride_of(builder, source.types[0], a)), column)
        b, row, column = _corner(context, builder, target, args[1])
        end = builder.add(builder.mul(row, row_stride_of(builder, target.types[0], b)), column)
        for j in range(2):
            by = ir.Constant(ir.IntType(64), j * lanes)
            mask = lanes_below(builder, builder.sub(left, by), lanes)
            place = builder.bitcast(builder.gep(a.data, [builder.add(start, by)]), pointer)
            values = builder.call(load, [place, align, mask, zeros])
            place = builder.bitcast(builder.gep(b.data, [builder.add(end, by)]), pointer)
            builder.store(values, place, align=VECTOR_BYTES)
        return context.get_dummy_value()

    return types.none(source, target), codegen


def unowned_view_as(result):
    """Code of a view of the same shape and strides, of type ``result``."""

    def codegen(context, builder, signature, args):
        source, view = (
            make_array(signature.args[0])(context, builder, args[0]),
            make_array(result)(context, builder),
        )
        shape, strides = (
            cgutils.unpack_tuple(builder, extent) for extent in (source.shape, source.strides)
        )
        populate_array(view, source.data, shape, strides, source.itemsize, meminfo=None)
        return view._getvalue()

    return codegen


@intrinsic
def strided(typing_context, matrix):
    """A view whose type promises no layout: one compiled GEMM serves whole matrices and blocks."""
    result = matrix.copy(layout="A", readonly=False)
    return result(matrix), unowned_view_as(result)


def prefetch(array, row, line):
    """Prefetch one cache line of a row of a matrix, or of an element of a vector."""


@intrinsic
def _prefetch(typing_context, array, row, line):
    def codegen(context, builder, signature, args):
        source = make_array(array)(context, builder, args[0])
        row_stride = cgutils.unpack_tuple(builder, source.strides)[0]
        byte, word = ir.IntType(8), ir.IntType(32)
        position = builder.add(
            builder.mul(args[1], row_stride),
            builder.mul(args[2], ir.Constant(row_stride.type, CACHE_LINE)),
        )
        address = builder.gep(builder.bitcast(source.data, byte.as_pointer()), [position])
        function_type = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        read, to_second_level, data = (ir.Constant(word, value) for value in (0, 2, 1))
        builder.call(function, [address, read, to_second_level, data])
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp), codegen


if not config.DISABLE_JIT:
    prefetch = _prefetch
