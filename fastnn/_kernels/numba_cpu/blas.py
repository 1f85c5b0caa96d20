"""BLAS inside compiled code.

It is reached through SciPy's Cython interface (public, and on every platform), registered with LLVM
under our own name, so that cached machine code finds it in the next process. Unlike ``np.dot`` it
takes α, β and strided blocks. Numba's private ``numba_xxgemm`` would do the same at the same speed;
this needs no private name.
"""

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic
from numba.np.arrayobj import make_array

from fastnn._kernels import scipy_blas

with scipy_blas.alone():
    for _name in ("sgemm", "dgemm"):
        binding.add_symbol(
            f"fastnn_{_name}", get_cython_function_address("scipy.linalg.cython_blas", _name)
        )


# Parameters: an intrinsic also takes Numba's typing context.
@intrinsic
def gemm(typing_context, transpose_a, transpose_b, depth, alpha, a, b, beta, c):
    """C ← α op(A) op(B) + β C, none of them empty.

    A row-major C is a column-major Cᵀ = op(B)ᵀ op(A)ᵀ, hence the swapped operands.
    """
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
            return as_int(
                builder.sdiv(row_stride, ir.Constant(row_stride.type, c.dtype.bitwidth // 8))
            )

        matrices = [
            make_array(t)(context, builder, v)
            for t, v in ((a, args[4]), (b, args[5]), (c, args[7]))
        ]
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
