"""Large matrix products by cuBLASLt, through `nvmath.bindings.cublasLt`.

cuBLASLt reads matrices by columns, and a row-major (r, c) array read by columns is its transpose,
(c, r) with leading dimension c. So each product here is the transposed one:

    forward          Z  = X W       zᵀ (n_out, rows) = Wᵀ (n_out, n_in) · xᵀ (n_in, rows)            as they lie
    input gradient   dX = dZ Wᵀ     d_xᵀ (n_in, rows) = Wᵀ (n_out, n_in) transposed · d_zᵀ (n_out, rows)
    weight gradient  dW = Xᵀ dZ     d_wᵀ (n_out, n_in) = d_zᵀ (n_out, rows) · xᵀ (n_in, rows) transposed

A bias is as long as the result has rows, n_out, as the epilogue BIAS wants it. The bias's gradient
sums d_zᵀ, which is the first matrix of the last product, over the columns: BGRADA. The library's
GELU is not used: what frameworks take it for is the tanh approximation, and its own documentation
does not say; ours is the exact one, by erf.

Precision, by cublas_api.h of CUDA 13: the default types (COMPUTE_32F) "guarantee internal storage
precision with at least the same precision and range", and only _FAST types "allow for some loss of
precision", FAST_TF32 "down-converting inputs to TF32", FAST_16BF "to bfloat16 or TF32". So
"float32" never rounds its inputs to TF32. All read and write float32: weights, and what is added
up, stay float32.

Two runs give the same bits: the algorithm is the first that the heuristic names, which depends on
shapes, alignments and the device alone, and reductions in the order in which blocks arrive
(INPLACE) are not allowed.
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
_REDUCTIONS = 2 | 4  # in the workspace, in the type of the sum or of the result; not 1, INPLACE
_ASKED = 8  # algorithms of which the first that fits is taken
_ALIGNED = 256  # bytes: what the heuristic takes for granted if not told otherwise
# bytes of the workspace that the heuristic is not told of: with an epilogue some algorithms use 16
# more than they say
_SPARE = 256
_OLDEST = 120304  # that knows BGRADA also for one row
_UNSUPPORTED = 15  # CUBLAS_STATUS_NOT_SUPPORTED
_INSTALL = "pip install 'fastnn[cuda]' brings nvmath-python and nvidia-cublas"


def available() -> str | None:
    """Why products cannot be done by cuBLASLt here, or ``None``."""
    try:
        version = _library().get_version()
    except ImportError as error:
        return f"nvmath-python does not import ({error}): {_INSTALL}"
    except (RuntimeError, OSError) as error:  # no driver, no libcublasLt
        return f"cuBLASLt does not load ({str(error).splitlines()[0]}): {_INSTALL}"
    return (
        None
        if version >= _OLDEST
        else f"cuBLASLt {version} is too old, {_OLDEST} is needed: {_INSTALL}"
    )


class Products:
    """The products of one network, or of several that share a stream.

    The first call of a shape makes a plan: descriptors and the algorithm. Later ones neither
    allocate nor wait, so they can be captured in a graph. As the library loads an algorithm's code
    when it first runs, run each product once before a capture.

    Parameters
    ----------
    device : CudaDevice
        Each call holds it, so that two threads do not fill in one description.
    precision : {"float32", "tf32", "bf16", "float64"}
        Of the arithmetic; see above.
    """

    def __init__(self, device: Any, precision: str):
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
        reason = available()
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
        self._plans: dict[_Key, _Plan] = {}
        # of the library: (function that frees it, handle)
        self._objects: list[tuple[str, int]] = []
        weakref.finalize(self, _free, self._lt, self._objects).atexit = False

    def forward(
        self,
        x: int,
        w: int,
        bias: int,
        z: int,
        rows: int,
        n_in: int,
        n_out: int,
        relu: bool,
        stream: int,
    ) -> None:
        """z = x W, + bias unless its pointer is 0, and of that the positive part if ``relu``."""
        self._run(self._forward(x, w, bias, z, rows, n_in, n_out, relu), stream)

    def input_gradient(
        self, d_z: int, w: int, d_x: int, rows: int, n_in: int, n_out: int, add: bool, stream: int
    ) -> None:
        """d_x = d_z Wᵀ, or d_x += d_z Wᵀ with ``add``."""
        self._run(self._input_gradient(d_z, w, d_x, rows, n_in, n_out, add), stream)

    def weight_gradient(
        self, x: int, d_z: int, d_w: int, rows: int, n_in: int, n_out: int, d_bias: int, stream: int
    ) -> None:
        """d_w = xᵀ d_z and, unless its pointer is 0, d_bias = Σ over rows of d_z."""
        self._run(self._weight_gradient(x, d_z, d_w, rows, n_in, n_out, d_bias), stream)

    # --- calls in the library's terms -------------------------------------------------------------

    def _forward(self, x, w, bias, z, rows, n_in, n_out, relu):
        kinds = self._lt.Epilogue
        epilogue = (
            (kinds.RELU_BIAS if relu else kinds.BIAS)
            if bias
            else (kinds.RELU if relu else kinds.DEFAULT)
        )
        return _Call(
            w,
            (n_out, n_in),
            _PLAIN,
            x,
            (n_in, rows),
            _PLAIN,
            z,
            (n_out, rows),
            False,
            int(epilogue),
            bias,
        )

    def _input_gradient(self, d_z, w, d_x, rows, n_in, n_out, add):
        epilogue = int(self._lt.Epilogue.DEFAULT)
        return _Call(
            w,
            (n_out, n_in),
            _TRANSPOSED,
            d_z,
            (n_out, rows),
            _PLAIN,
            d_x,
            (n_in, rows),
            bool(add),
            epilogue,
            0,
        )

    def _weight_gradient(self, x, d_z, d_w, rows, n_in, n_out, d_bias):
        epilogue = int(self._lt.Epilogue.BGRADA if d_bias else self._lt.Epilogue.DEFAULT)
        return _Call(
            d_z,
            (n_out, rows),
            _PLAIN,
            x,
            (n_in, rows),
            _TRANSPOSED,
            d_w,
            (n_out, n_in),
            False,
            epilogue,
            d_bias,
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
            call.a,
            plan.a,
            call.b,
            plan.b,
            scalar + self.dtype.itemsize * call.add,  # β
            call.d,
            plan.d,
            call.d,
            plan.d,
            plan.algorithm.ctypes.data,
            self._workspace.pointer,
            self._size,
            stream,
        )

    # --- plans ------------------------------------------------------------------------------------

    def _plan(self, call):
        key = _Key(
            call.a_shape, call.a_turned, call.b_shape, call.b_turned, call.d_shape, call.epilogue, call.add,
            *map(_alignment, (call.a, call.b, call.d, call.bias)),
        )  # fmt: skip
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make_plan(call, key)
        return plan

    def _make_plan(self, call, key):
        attributes, preferences = self._lt.MatmulDescAttribute, self._lt.MatmulPreferenceAttribute
        operation = self._keep(
            "matmul_desc_destroy",
            self._lt.matmul_desc_create(self._compute, _REAL[self.dtype.name]),
        )
        for attribute, value, kind in (
            (attributes.TRANSA, call.a_turned, np.int32),
            (attributes.TRANSB, call.b_turned, np.int32),
            (attributes.EPILOGUE, call.epilogue, np.uint32),
        ):
            _set(self._lt.matmul_desc_set_attribute, operation, attribute, value, kind)
        if call.bias:
            self._set_bias(operation, call.bias)  # the heuristic asks it for its alignment
        a, b, d = (self._layout(shape) for shape in (call.a_shape, call.b_shape, call.d_shape))
        preference = self._lt.matmul_preference_create()
        try:
            for attribute, value, kind in (
                (preferences.MAX_WORKSPACE_BYTES, self._size - _SPARE, np.uint64),
                (preferences.REDUCTION_SCHEME_MASK, _REDUCTIONS, np.uint32),
                (preferences.MIN_ALIGNMENT_A_BYTES, key.a_aligned, np.uint32),
                (preferences.MIN_ALIGNMENT_B_BYTES, key.b_aligned, np.uint32),
                (preferences.MIN_ALIGNMENT_C_BYTES, key.d_aligned, np.uint32),
                (preferences.MIN_ALIGNMENT_D_BYTES, key.d_aligned, np.uint32),
            ):
                _set(self._lt.matmul_preference_set_attribute, preference, attribute, value, kind)
            return _Plan(operation, a, b, d, self._algorithm(operation, a, b, d, preference, call))
        finally:
            self._lt.matmul_preference_destroy(preference)

    def _algorithm(self, operation, a, b, d, preference, call):
        """The first algorithm that the heuristic finds good: those it names are in order of the
        time it expects.
        """
        found, count = (
            np.zeros(_ASKED, self._lt.matmul_heuristic_result_dtype),
            np.zeros(1, np.int32),
        )
        try:
            self._lt.matmul_algo_get_heuristic(
                self._handle, operation, a, b, d, d, preference, _ASKED, found.ctypes.data, count.ctypes.data
            )  # fmt: skip
        except self._lt.cuBLASLtError as error:
            if error.status != _UNSUPPORTED:
                raise
            raise NoAlgorithm(f"{_said(call, self.precision)} is not supported") from error
        good = [
            i
            for i in range(count[0])
            if found["state"][i] == 0 and found["workspace_size"][i] <= self._size - _SPARE
        ]
        if not good:
            raise NoAlgorithm(f"{_said(call, self.precision)} has no algorithm")
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


class _Call(NamedTuple):
    """D = op(A) op(B) or D += op(A) op(B): pointers, shapes by columns, whether they are
    transposed.
    """

    a: int
    a_shape: tuple[int, int]
    a_turned: int
    b: int
    b_shape: tuple[int, int]
    b_turned: int
    d: int
    d_shape: tuple[int, int]
    add: bool
    epilogue: int
    bias: int  # that is added, or whose gradient is written; 0 for none


class _Key(NamedTuple):
    """What a plan depends on. Leading dimensions are the numbers of rows."""

    a_shape: tuple[int, int]
    a_turned: int
    b_shape: tuple[int, int]
    b_turned: int
    d_shape: tuple[int, int]
    epilogue: int
    add: bool
    a_aligned: int
    b_aligned: int
    d_aligned: int
    bias_aligned: int


class _Plan(NamedTuple):
    """Descriptors, and a cublasLtMatmulAlgo_t."""

    operation: int
    a: int
    b: int
    d: int
    algorithm: np.ndarray


def _alignment(pointer):
    """The largest power of two that divides it, up to what the library asks for."""
    return min(pointer & -pointer, _ALIGNED) if pointer else _ALIGNED


def _set(function, handle, attribute, value, kind):
    buffer = np.array([value], kind)
    function(handle, int(attribute), buffer.ctypes.data, buffer.nbytes)


def _said(call, precision):
    a, b = ("ᵀ" if turned else "" for turned in (call.a_turned, call.b_turned))
    return f"cuBLASLt: the product {call.a_shape}{a} · {call.b_shape}{b} in {precision} with epilogue {call.epilogue}"


@functools.cache
def _library():
    """The binding."""
    from nvmath.bindings import cublasLt

    return cublasLt


@functools.cache
def _handle():
    """The library's state in this process, never freed: at exit the driver may be gone already."""
    return _library().create()


def _free(library, objects):
    for function, handle in objects:
        getattr(library, function)(handle)
