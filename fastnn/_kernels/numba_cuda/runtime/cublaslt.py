"""Large matrix products by cuBLASLt, through `nvmath.bindings.cublasLt`.

cuBLASLt is column-major, and a row-major (r, c) array read by columns is its transpose, (c, r) with
leading dimension c. So each product here is the transposed one:

    forward          Z  = X W     zᵀ (n_out, rows) = Wᵀ (n_out, n_in) · xᵀ (n_in, rows)
    input gradient   dX = dZ Wᵀ   d_xᵀ (n_in, rows) = (Wᵀ)ᵀ (n_in, n_out) · d_zᵀ (n_out, rows)
    weight gradient  dW = Xᵀ dZ   d_wᵀ (n_out, n_in) = d_zᵀ (n_out, rows) · (xᵀ)ᵀ (rows, n_in)

A bias is as long as the result has rows, n_out, as the epilogue BIAS wants it. The bias's gradient
sums d_zᵀ, which is the first matrix of the last product, over the columns: BGRADA. The library's
GELU is not used: frameworks take it for the tanh approximation, its documentation does not say, and
ours is the exact one, by erf.

Precision, by cublas_api.h of CUDA 13: the default types (COMPUTE_32F) "guarantee internal storage
precision with at least the same precision and range", and only _FAST types "allow for some loss of
precision", FAST_TF32 "down-converting inputs to TF32", FAST_16BF "to bfloat16 or TF32". So
"float32" never rounds its inputs to TF32. All types read and write float32: weights and sums stay
float32.

Two runs give the same bits. The algorithm is the first that the heuristic names, which depends on
shapes, alignments and the device alone. Reductions in the order in which blocks arrive (INPLACE)
are not allowed.
"""

import functools
import weakref
from typing import Any, NamedTuple

import numpy as np

_REAL = {"float32": 0, "float64": 1}  # CUDA_R_32F and CUDA_R_64F of library_types.h
# precision: (dtype in memory, compute type, cublasComputeType_t)
PRECISIONS = {
    "float32": ("float32", 68),  # CUBLAS_COMPUTE_32F
    "tf32": ("float32", 77),  # CUBLAS_COMPUTE_32F_FAST_TF32
    "bf16": ("float32", 75),  # CUBLAS_COMPUTE_32F_FAST_16BF
    "float64": ("float64", 70),  # CUBLAS_COMPUTE_64F
}
_PLAIN, _TRANSPOSED = 0, 1  # cublasOperation_t
# Split-K reductions in the workspace, in the type of the sum or of the result; not 1, INPLACE.
_REDUCTIONS = 2 | 4
_N_ALGORITHMS = 8  # that the heuristic may return; the first that fits is used
_MAX_ALIGNMENT = 256  # bytes that the heuristic assumes if not told otherwise
# Bytes of the workspace that the heuristic is not told of: with an epilogue some algorithms use 16
# more than they report.
_SPARE = 256
_MIN_VERSION = 120304  # the first that has BGRADA for one row too
_UNSUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
_INSTALL = "pip install 'fastnn[cuda]' brings nvmath-python and nvidia-cublas"


def unavailable_reason() -> str | None:
    """Why cuBLASLt cannot be used here, or ``None``."""
    try:
        version = _library().get_version()
    except ImportError as error:
        return f"nvmath-python does not import ({error}): {_INSTALL}"
    except (RuntimeError, OSError) as error:  # no driver, no libcublasLt
        return f"cuBLASLt does not load ({str(error).splitlines()[0]}): {_INSTALL}"
    return (
        None
        if version >= _MIN_VERSION
        else f"cuBLASLt {version} is too old, {_MIN_VERSION} is needed: {_INSTALL}"
    )


class Shape(NamedTuple):
    """Sizes of a dense operation."""

    rows: int
    n_in: int
    n_out: int


class CublasLt:
    """The products of one network, or of several that share a stream.

    The first call of a shape makes a plan: descriptors and the algorithm. Later calls neither
    allocate nor wait, so they can be captured in a graph. The library loads an algorithm's code
    when it first runs, so each product must run once before a capture.

    Parameters
    ----------
    device : CudaDevice
        Each call locks it, so that two threads do not fill in one descriptor.
    precision : {"float32", "tf32", "bf16", "float64"}
        Of the arithmetic; see above.
    """

    def __init__(self, device: Any, precision: str):
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        reason = unavailable_reason()
        if reason is not None:
            raise RuntimeError(reason)
        dtype, self._compute = PRECISIONS[precision]
        self.device, self.precision, self.dtype = device, precision, np.dtype(dtype)
        self._lt = _library()
        with device.working():
            self._handle = _handle()
        # NVIDIA's documentation of cublasSetWorkspace asks for 32 MiB on Hopper and later, and 4
        # MiB before.
        self._size = (32 if device.compute_capability >= (9, 0) else 4) << 20
        self._workspace = device.empty(self._size // self.dtype.itemsize, self.dtype)
        self._scalars = np.array([0, 1], self.dtype)
        self._plans: dict[tuple, _Plan] = {}
        # of the library: (function that frees it, handle)
        self._objects: list[tuple[str, int]] = []
        weakref.finalize(self, _free, self._lt, self._objects).atexit = False

    def forward(
        self, x: int, w: int, bias: int, z: int, shape: Shape, relu: bool, stream: int
    ) -> None:
        """z = x W, + bias unless its pointer is 0, and of that the positive part if ``relu``."""
        self._run(self._forward(x, w, bias, z, shape, relu), stream)

    def input_gradient(
        self, d_z: int, w: int, d_x: int, shape: Shape, add: bool, stream: int
    ) -> None:
        """d_x = d_z Wᵀ, or d_x += d_z Wᵀ with ``add``."""
        self._run(self._input_gradient(d_z, w, d_x, shape, add), stream)

    def weight_gradient(
        self, x: int, d_z: int, d_w: int, shape: Shape, d_bias: int, stream: int
    ) -> None:
        """d_w = xᵀ d_z and, unless its pointer is 0, d_bias = Σ over rows of d_z."""
        self._run(self._weight_gradient(x, d_z, d_w, shape, d_bias), stream)

    # --- calls in the library's terms -------------------------------------------------------------

    def _forward(self, x, w, bias, z, shape, relu):
        (rows, n_in, n_out), kinds = shape, self._lt.Epilogue
        with_bias = kinds.RELU_BIAS if relu else kinds.BIAS
        without = kinds.RELU if relu else kinds.DEFAULT
        return _Call(
            a=_Matrix(w, (n_out, n_in)),
            b=_Matrix(x, (n_in, rows)),
            d=_Matrix(z, (n_out, rows)),
            epilogue=int(with_bias if bias else without),
            bias=bias,
        )

    def _input_gradient(self, d_z, w, d_x, shape, add):
        rows, n_in, n_out = shape
        return _Call(
            a=_Matrix(w, (n_out, n_in), _TRANSPOSED),
            b=_Matrix(d_z, (n_out, rows)),
            d=_Matrix(d_x, (n_in, rows)),
            add=bool(add),
            epilogue=int(self._lt.Epilogue.DEFAULT),
        )

    def _weight_gradient(self, x, d_z, d_w, shape, d_bias):
        (rows, n_in, n_out), kinds = shape, self._lt.Epilogue
        return _Call(
            a=_Matrix(d_z, (n_out, rows)),
            b=_Matrix(x, (n_in, rows), _TRANSPOSED),
            d=_Matrix(d_w, (n_out, n_in)),
            epilogue=int(kinds.BGRADA if d_bias else kinds.DEFAULT),
            bias=d_bias,
        )

    def _run(self, call, stream):
        with self.device.working():
            self._start(call, self._plan(call), stream)

    def _start(self, call, plan, stream):
        if call.bias:
            self._set_bias(plan.operation, call.bias)
        scalar = self._scalars.ctypes.data
        self._lt.matmul(
            self._handle,
            plan.operation,
            scalar + self.dtype.itemsize,  # α = 1
            call.a.pointer,
            plan.a,
            call.b.pointer,
            plan.b,
            scalar + self.dtype.itemsize * call.add,  # β
            call.d.pointer,
            plan.d,
            call.d.pointer,
            plan.d,
            plan.algorithm.ctypes.data,
            self._workspace.pointer,
            self._size,
            stream,
        )

    # --- plans ------------------------------------------------------------------------------------

    def _plan(self, call):
        key = call.key()
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make_plan(call)
        return plan

    def _make_plan(self, call):
        attributes, preferences = self._lt.MatmulDescAttribute, self._lt.MatmulPreferenceAttribute
        operation = self._keep(
            "matmul_desc_destroy",
            self._lt.matmul_desc_create(self._compute, _REAL[self.dtype.name]),
        )
        for attribute, value, kind in (
            (attributes.TRANSA, call.a.transposed, np.int32),
            (attributes.TRANSB, call.b.transposed, np.int32),
            (attributes.EPILOGUE, call.epilogue, np.uint32),
        ):
            _set(self._lt.matmul_desc_set_attribute, operation, attribute, value, kind)
        if call.bias:
            self._set_bias(operation, call.bias)  # the heuristic asks it for its alignment
        a, b, d = (self._layout(matrix.shape) for matrix in (call.a, call.b, call.d))
        preference = self._lt.matmul_preference_create()
        try:
            for attribute, value, kind in (
                (preferences.MAX_WORKSPACE_BYTES, self._size - _SPARE, np.uint64),
                (preferences.REDUCTION_SCHEME_MASK, _REDUCTIONS, np.uint32),
                (preferences.MIN_ALIGNMENT_A_BYTES, _alignment(call.a.pointer), np.uint32),
                (preferences.MIN_ALIGNMENT_B_BYTES, _alignment(call.b.pointer), np.uint32),
                (preferences.MIN_ALIGNMENT_C_BYTES, _alignment(call.d.pointer), np.uint32),
                (preferences.MIN_ALIGNMENT_D_BYTES, _alignment(call.d.pointer), np.uint32),
            ):
                _set(self._lt.matmul_preference_set_attribute, preference, attribute, value, kind)
            algorithm = self._algorithm((operation, a, b, d, d), preference, call)
            return _Plan(operation, a, b, d, algorithm)
        finally:
            self._lt.matmul_preference_destroy(preference)

    def _algorithm(self, descriptors, preference, call):
        """The first usable algorithm of the heuristic, which orders them by expected time."""
        record: np.dtype = self._lt.matmul_heuristic_result_dtype
        found = np.zeros(_N_ALGORITHMS, record)
        count = np.zeros(1, np.int32)
        pointers = found.ctypes.data, count.ctypes.data
        try:
            self._lt.matmul_algo_get_heuristic(
                self._handle, *descriptors, preference, _N_ALGORITHMS, *pointers
            )
        except self._lt.cuBLASLtError as error:
            if error.status != _UNSUPPORTED:  # pyright: ignore[reportAttributeAccessIssue]
                raise
            raise NoAlgorithm(f"{_describe(call, self.precision)} is not supported") from error
        good = [
            i
            for i in range(count[0])
            if found["state"][i] == 0 and found["workspace_size"][i] <= self._size - _SPARE
        ]
        if not good:
            raise NoAlgorithm(f"{_describe(call, self.precision)} has no algorithm")
        return np.array(found["algo"][good[0]])  # a copy that owns its bytes

    def _layout(self, shape):
        rows, columns = shape
        return self._keep(
            "matrix_layout_destroy",
            self._lt.matrix_layout_create(_REAL[self.dtype.name], rows, columns, rows),
        )

    def _keep(self, free, handle):
        self._objects.append((free, handle))
        return handle

    def _set_bias(self, operation, pointer):
        _set(
            self._lt.matmul_desc_set_attribute,
            operation,
            self._lt.MatmulDescAttribute.BIAS_POINTER,
            pointer,
            np.uint64,
        )


class NoAlgorithm(RuntimeError):
    """cuBLASLt cannot do a product."""


class _Matrix(NamedTuple):
    """A matrix by columns; its leading dimension is the number of rows."""

    pointer: int
    shape: tuple[int, int]
    transposed: int = _PLAIN


class _Call(NamedTuple):
    """D = op(A) op(B), or D += op(A) op(B) with ``add``."""

    a: _Matrix
    b: _Matrix
    d: _Matrix
    epilogue: int
    add: bool = False
    bias: int = 0  # pointer to what is added, or to where its gradient is written; 0 for none

    def key(self) -> tuple:
        """What a plan depends on: all but the pointers, of which only the alignments matter."""
        matrices = self.a, self.b, self.d
        layouts = tuple((matrix.shape, matrix.transposed) for matrix in matrices)
        pointers = *(matrix.pointer for matrix in matrices), self.bias
        return layouts, self.epilogue, self.add, tuple(map(_alignment, pointers))


class _Plan(NamedTuple):
    """Descriptors, and a cublasLtMatmulAlgo_t."""

    operation: int
    a: int
    b: int
    d: int
    algorithm: np.ndarray


def _alignment(pointer):
    """The largest power of two that divides a pointer, up to _MAX_ALIGNMENT."""
    return min(pointer & -pointer, _MAX_ALIGNMENT) if pointer else _MAX_ALIGNMENT


def _set(function, handle, attribute, value, kind):
    buffer = np.array([value], kind)
    function(handle, int(attribute), buffer.ctypes.data, buffer.nbytes)


def _describe(call, precision):
    a, b = (f"{matrix.shape}{'ᵀ' if matrix.transposed else ''}" for matrix in (call.a, call.b))
    return f"cuBLASLt: the product {a} · {b} in {precision} with epilogue {call.epilogue}"


@functools.cache
def _library():
    """The module of the binding."""
    from nvmath.bindings import cublasLt

    return cublasLt


@functools.cache
def _handle():
    """The library's handle in this process, never freed: at exit the driver may be gone already."""
    return _library().create()


def _free(library, objects):
    for function, handle in objects:
        getattr(library, function)(handle)
