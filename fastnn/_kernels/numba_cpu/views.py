"""Views into flat vectors, and matrix products on them.

a) A view made here owns nothing: no reference count is touched, which would cost an atomic
   operation on a cache line that all threads share. The vectors outlive every call.
b) Products go to our own register tile (`tile`), or to BLAS (`blas`) where that is faster, which on
   machines with AVX-512 is nowhere: there SciPy, a fifth of a second to import, is not even loaded.
c) Without the JIT (``NUMBA_DISABLE_JIT=1``) plain NumPy stands in.
"""

from numba import config, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from fastnn._kernels.numba_cpu import gemm_tile
from fastnn._kernels.numba_cpu.compile import inline
from fastnn._kernels.numba_cpu.vectors import borrow_as, strided

if gemm_tile.NEEDS_BLAS:
    from fastnn._kernels.numba_cpu import blas


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
    """C ← α op(A) op(B) + β C for row-major matrices whose rows are contiguous; with β = 0 what was
    in C does not matter.
    """
    product = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    c[...] = alpha * product + (beta * c if beta != 0 else 0)


def _by_tile(transpose_a, transpose_b, alpha, a, b, beta, c):
    gemm_tile.product(
        bool(transpose_a),
        bool(transpose_b),
        float(alpha),
        strided(a),
        strided(b),
        float(beta),
        strided(c),
    )


def _by_size(transpose_a, transpose_b, alpha, a, b, beta, c):
    depth = a.shape[0] if transpose_a else a.shape[1]
    if depth * c.shape[1] <= gemm_tile.LARGEST_B:
        gemm_tile.product(
            bool(transpose_a),
            bool(transpose_b),
            float(alpha),
            strided(a),
            strided(b),
            float(beta),
            strided(c),
        )
    elif c.shape[0] > 0 and c.shape[1] > 0:
        blas.gemm(transpose_a, transpose_b, depth, alpha, a, b, beta, c)


def _view_of(array, shape):
    """Type and code of a C-contiguous view of the C-contiguous ``array``: arguments are the array,
    the first element and ``shape``.
    """
    result = array.copy(ndim=len(shape), layout="C")

    def codegen(context, builder, signature, args):
        source = make_array(array)(context, builder, args[0])
        offset, *extents = [
            context.cast(builder, v, t, types.intp)
            for v, t in zip(args[1:], signature.args[1:], strict=True)
        ]
        strides, stride = [], source.itemsize
        for extent in reversed(extents):
            strides.insert(0, stride)
            stride = builder.mul(stride, extent)
        view = make_array(result)(context, builder)
        populate_array(
            view,
            builder.gep(source.data, [offset]),
            extents,
            strides,
            source.itemsize,
            meminfo=None,
        )
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
    return array(array), borrow_as(array)


if not config.DISABLE_JIT:
    matrix, segment, borrow = _matrix, _segment, _borrow
    # a function of its own would be compiled for every combination of layouts
    gemm = inline(_by_size if gemm_tile.NEEDS_BLAS else _by_tile)
