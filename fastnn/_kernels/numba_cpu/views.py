"""Views into flat vectors.

A view made here owns nothing: no reference count is touched, which would cost an atomic operation
on a cache line that all threads share. The vectors outlive every call. Without the JIT
(``NUMBA_DISABLE_JIT=1``) plain NumPy stands in.
"""

from numba import config, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array

from fastnn._kernels.numba_cpu.vectors import unowned_view_as


def matrix(vector, offset, rows, columns):
    """``vector[offset : offset + rows * columns]`` as a (rows, columns) view."""
    return vector[offset : offset + rows * columns].reshape(rows, columns)


def segment(vector, offset, n):
    """``vector[offset : offset + n]`` as a view."""
    return vector[offset : offset + n]


def unowned_view(array):
    """``array`` as a view that owns nothing."""
    return array


def read_only(array):
    """``array`` as a view that owns nothing, of the type of arrays that are only read."""
    return array


def _view_of(array, shape):
    """Type and code of a C-contiguous view of ``array``, which is C-contiguous too.

    The arguments of the code are the array, the first element and ``shape``.
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
def _read_only(typing_context, array):
    return array.copy(readonly=True)(array), unowned_view_as(array)


@intrinsic
def _unowned_view(typing_context, array):
    return array(array), unowned_view_as(array)


if not config.DISABLE_JIT:
    matrix, segment, unowned_view = _matrix, _segment, _unowned_view
    read_only = _read_only
