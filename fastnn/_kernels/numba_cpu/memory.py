"""Views into flat vectors, and matrix products on them.

a) A view made here owns nothing: no reference count is touched, which would cost an atomic operation on a cache line that all threads
   share. The vectors outlive every call.
b) BLAS is reached through SciPy's Cython interface (public, and there on every platform), registered with LLVM under our own name, so that
   cached machine code finds it in the next process. Unlike ``np.dot`` it takes α, β and strided blocks. Numba's private ``numba_xxgemm``
   would do the same at the same speed; this needs no private name.
c) Products go to our own register tile where that is faster, which on machines with AVX-512 is everywhere; see `tile`.
d) Without the JIT (``NUMBA_DISABLE_JIT=1``) plain NumPy stands in.
"""

from llvmlite import binding, ir
from numba import config, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic, overload
from numba.np.arrayobj import make_array, populate_array

from fastnn._kernels.numba_cpu import tile

for _name in ("sgemm", "dgemm"):
    binding.add_symbol(f"fastnn_{_name}", get_cython_function_address("scipy.linalg.cython_blas", _name))


def matrix(vector, offset, rows, columns):
    """``vector[offset : offset + rows * columns]`` as a (rows, columns) view."""
    return vector[offset : offset + rows * columns].reshape(rows, columns)


def segment(vector, offset, n):
    """``vector[offset : offset + n]`` as a view."""
    return vector[offset : offset + n]


def borrow(array):
    """``array`` as a view that owns nothing."""
    return array


def gemm(transpose_a, transpose_b, alpha, a, b, beta, c):
    """C ← α op(A) op(B) + β C for row-major matrices whose rows are contiguous; with β = 0 what was in C does not matter."""
    product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    c[...] = alpha * product + (beta * c if beta != 0 else 0)


@overload(gemm)
def _(transpose_a, transpose_b, alpha, a, b, beta, c):
    def by_blas(transpose_a, transpose_b, alpha, a, b, beta, c):
        if c.shape[0] > 0 and c.shape[1] > 0:
            _blas(transpose_a, transpose_b, a.shape[0] if transpose_a else a.shape[1], alpha, a, b, beta, c)

    def by_size(transpose_a, transpose_b, alpha, a, b, beta, c):
        depth = a.shape[0] if transpose_a else a.shape[1]
        if depth * c.shape[1] <= tile.LARGEST_B:
            tile.product(transpose_a, transpose_b, float(alpha), _strided(a), _strided(b), float(beta), _strided(c))
        elif c.shape[0] > 0 and c.shape[1] > 0:
            _blas(transpose_a, transpose_b, depth, alpha, a, b, beta, c)

    return by_size if tile.LARGEST_B > 0 else by_blas


@intrinsic
def _strided(typing_context, matrix):
    """The same view with a type that promises no layout: one compiled product serves whole matrices and blocks."""

    def codegen(context, builder, signature, args):
        return args[0]

    return matrix.copy(layout="A", readonly=False)(matrix), codegen


def _view_of(array, shape):
    """Type and code of a C-contiguous view of the C-contiguous ``array``: arguments are the array, the first element and ``shape``."""
    result = array.copy(ndim=len(shape), layout="C")

    def codegen(context, builder, signature, args):
        source = make_array(array)(context, builder, args[0])
        offset, *extents = [context.cast(builder, v, t, types.intp) for v, t in zip(args[1:], signature.args[1:], strict=True)]
        strides, stride = [], source.itemsize
        for extent in reversed(extents):
            strides.insert(0, stride)
            stride = builder.mul(stride, extent)
        view = make_array(result)(context, builder)
        populate_array(view, builder.gep(source.data, [offset]), extents, strides, source.itemsize, meminfo=None)
        return view._getvalue()

    return result, codegen


@intrinsic
def _matrix(typing_context, vector, offset, rows, columns):
    result, codegen = _view_of(vector, (rows, columns))
    return result(vector, offset, rows, columns), codegen


@intrinsic
def _segment(typing_context, vector, offset, n):
    result, codegen = _view_of(vector, (n,))
    return result(vector, offset, n), codegen


@intrinsic
def _borrow(typing_context, array):
    def codegen(context, builder, signature, args):
        source, view = (make_array(array)(context, builder, value) for value in (args[0], None))
        shape, strides = (cgutils.unpack_tuple(builder, extent) for extent in (source.shape, source.strides))
        populate_array(view, source.data, shape, strides, source.itemsize, meminfo=None)
        return view._getvalue()

    return array(array), codegen


@intrinsic
def _blas(typing_context, transpose_a, transpose_b, depth, alpha, a, b, beta, c):
    """The BLAS call. A row-major C is a column-major Cᵀ = op(B)ᵀ op(A)ᵀ, hence the swapped operands."""
    name = {types.float32: "fastnn_sgemm", types.float64: "fastnn_dgemm"}[c.dtype]

    def codegen(context, builder, signature, args):
        integer = ir.IntType(32)

        def by_reference(value):
            return cgutils.alloca_once_value(builder, value)

        def as_int(value):
            return by_reference(builder.trunc(value, integer))

        def as_flag(value):
            chars = [ir.Constant(ir.IntType(8), ord(letter)) for letter in "TN"]
            return by_reference(builder.select(value, *chars))

        def as_scalar(value, from_type):
            return by_reference(context.cast(builder, value, from_type, c.dtype))

        def leading_dimension(struct):
            """Row stride in elements."""
            row_stride, _ = cgutils.unpack_tuple(builder, struct.strides)
            return as_int(builder.sdiv(row_stride, ir.Constant(row_stride.type, c.dtype.bitwidth // 8)))

        matrices = [make_array(t)(context, builder, v) for t, v in ((a, args[4]), (b, args[5]), (c, args[7]))]
        rows, columns = cgutils.unpack_tuple(builder, matrices[2].shape)
        arguments = [
            as_flag(args[1]),
            as_flag(args[0]),
            as_int(columns),
            as_int(rows),
            as_int(args[2]),
            as_scalar(args[3], alpha),
            matrices[1].data,
            leading_dimension(matrices[1]),
            matrices[0].data,
            leading_dimension(matrices[0]),
            as_scalar(args[6], beta),
            matrices[2].data,
            leading_dimension(matrices[2]),
        ]
        function_type = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(builder.module, function_type, name)
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.none(transpose_a, transpose_b, depth, alpha, a, b, beta, c), codegen


if not config.DISABLE_JIT:
    matrix, segment, borrow = _matrix, _segment, _borrow
