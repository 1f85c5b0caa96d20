"""Vectors of the processor by name: masked loads, squares turned round, scratch matrices on the
stack; in LLVM's own language.

And views of matrices under another type, which cost nothing.
"""

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

FEATURES = binding.get_host_cpu_features()
WIDE = FEATURES.get("avx512f", False)
VECTOR_BYTES = 64 if WIDE else 32
CACHE_LINE = 64  # bytes


def row_stride_of(builder, array_type, struct):
    """Elements from one row to the next; the element size is a constant here, which spares a
    division.
    """
    return builder.sdiv(
        cgutils.unpack_tuple(builder, struct.strides)[0],
        ir.Constant(ir.IntType(64), array_type.dtype.bitwidth // 8),
    )


def masked_load(builder, vector):
    """LLVM's function that loads a vector (from a pointer, with an alignment, where a mask says so,
    else from another vector).
    """
    mask, word = ir.VectorType(ir.IntType(1), vector.count), ir.IntType(32)
    bits = 32 if isinstance(vector.element, ir.FloatType) else 64
    function_type = ir.FunctionType(vector, [ir.PointerType(vector), word, mask, vector])
    return cgutils.get_or_insert_function(
        builder.module, function_type, f"llvm.masked.load.v{vector.count}f{bits}.p0"
    )


def masked_store(builder, vector):
    """LLVM's function that stores a vector (to a pointer, with an alignment, where a mask says
    so).
    """
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
    """An uninitialised matrix of C's dtype on the stack, so many ``rows`` high and ``vectors``
    wide, both literal.
    """
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
    """An intrinsic that turns a square one vector wide round, in log₂ rounds of shuffles:

    target[target_row + j, target_column + i] = source[row + i, column + j].

    Where the source has fewer ``rows`` or ``columns`` left than the square is wide, zeros stand in;
    they are stored too unless ``bounded``.
    """

    @intrinsic
    def transpose(
        typing_context, source, row, column, rows, columns, target, target_row, target_column
    ):
        def codegen(context, builder, signature, args):
            lanes, n_rows, n_columns = (
                VECTOR_BYTES // (source.dtype.bitwidth // 8),
                args[3],
                args[4],
            )
            vector = ir.VectorType(context.get_data_type(source.dtype), lanes)
            align, nothing = (
                ir.Constant(ir.IntType(32), source.dtype.bitwidth // 8),
                ir.Constant(vector, [0.0] * lanes),
            )
            matrix_a, matrix_b = (
                make_array(t)(context, builder, v)
                for t, v in ((source, args[0]), (target, args[5]))
            )
            load, store = masked_load(builder, vector), masked_store(builder, vector)

            def vector_at(struct, first_row, i, column):
                r = builder.add(first_row, ir.Constant(ir.IntType(64), i))
                position = builder.add(
                    builder.mul(r, row_stride_of(builder, source, struct)), column
                )
                return builder.bitcast(builder.gep(struct.data, [position]), ir.PointerType(vector))

            def existing(i, limit, width):
                """A mask of the first ``width`` lanes, or of none in rows from ``limit`` on."""
                exists = builder.icmp_signed("<", ir.Constant(ir.IntType(64), i), limit)
                return lanes_below(
                    builder, builder.select(exists, width, ir.Constant(ir.IntType(64), 0)), lanes
                )

            square = [
                builder.call(
                    load,
                    [
                        vector_at(matrix_a, args[1], i, args[2]),
                        align,
                        existing(i, n_rows, n_columns),
                        nothing,
                    ],
                )
                for i in range(lanes)
            ]
            _shuffle_round(builder, square)
            for j in range(lanes):
                place = vector_at(matrix_b, args[6], j, args[7])
                if bounded:
                    builder.call(store, [square[j], place, align, existing(j, n_columns, n_rows)])
                else:
                    builder.store(square[j], place, align=align.constant)
            return context.get_dummy_value()

        return types.none(
            source, row, column, rows, columns, target, target_row, target_column
        ), codegen

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
def copy_vectors(typing_context, source, row, column, target, target_row, target_column):
    """target[target_row, target_column :] = source[row, column :], two vectors; where the source
    has fewer columns, zeros stand in.
    """

    def codegen(context, builder, signature, args):
        lanes, align = VECTOR_BYTES // (source.dtype.bitwidth // 8), source.dtype.bitwidth // 8
        vector = ir.VectorType(context.get_data_type(source.dtype), lanes)
        matrix_a, matrix_b = (
            make_array(t)(context, builder, v) for t, v in ((source, args[0]), (target, args[3]))
        )
        load, pointer = masked_load(builder, vector), ir.PointerType(vector)
        left = builder.sub(cgutils.unpack_tuple(builder, matrix_a.shape)[1], args[2])
        start = builder.add(builder.mul(args[1], row_stride_of(builder, source, matrix_a)), args[2])
        end = builder.add(builder.mul(args[4], row_stride_of(builder, target, matrix_b)), args[5])
        for j in range(2):
            by = ir.Constant(ir.IntType(64), j * lanes)
            mask = lanes_below(builder, builder.sub(left, by), lanes)
            place = builder.bitcast(builder.gep(matrix_a.data, [builder.add(start, by)]), pointer)
            values = builder.call(
                load,
                [
                    place,
                    ir.Constant(ir.IntType(32), align),
                    mask,
                    ir.Constant(vector, [0.0] * lanes),
                ],
            )
            builder.store(
                values,
                builder.bitcast(builder.gep(matrix_b.data, [builder.add(end, by)]), pointer),
                align=VECTOR_BYTES,
            )
        return context.get_dummy_value()

    return types.none(source, row, column, target, target_row, target_column), codegen


def borrow_as(result):
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
    """A view whose type promises no layout: one compiled product serves whole matrices and
    blocks.
    """
    result = matrix.copy(layout="A", readonly=False)
    return result(matrix), borrow_as(result)


def prefetch(array, row, line):
    """Ask for one cache line of a row of a matrix, or of an element of a vector, so that it is
    there when it is read.
    """


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
