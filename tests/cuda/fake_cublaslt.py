"""A stand-in for `nvmath.bindings.cublasLt` that works on host memory; matrices are column-major.

It has the functions that `cublaslt` calls, with the binding's arguments: handles and addresses as
integers, attributes as bytes at an address. It refuses what the library refuses: an attribute of
the wrong size, a workspace too small, a pointer less aligned than promised.
"""

import ctypes
import enum
import itertools

import numpy as np


class Epilogue(enum.IntEnum):
    DEFAULT = 1
    RELU = 2
    BIAS = 4
    RELU_BIAS = 6
    BGRADA = 256
    BGRADB = 512


class MatmulDescAttribute(enum.IntEnum):
    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8


class MatmulPreferenceAttribute(enum.IntEnum):
    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class cuBLASLtError(Exception):
    def __init__(self, status):
        self.status = status
        super().__init__(f"status {status}")


matmul_algo_dtype = np.dtype([("data_", "<u8", (8,))])
matmul_heuristic_result_dtype = np.dtype(
    [
        ("algo", matmul_algo_dtype),
        ("workspace_size", "<u8"),
        ("state", "<i4"),
        ("waves_count", "<f4"),
        ("reserved", "<i4", (4,)),
    ]
)

ALGORITHM = 0xA1  # the one that works
COMPUTE = {68: np.float32, 75: np.float32, 77: np.float32, 70: np.float64}
REAL = {0: np.float32, 1: np.float64}
_DESC = {3: np.int32, 4: np.int32, 7: np.uint32, 8: np.uint64}
_PREFERENCE = {1: np.uint64, 3: np.uint32, 5: np.uint32, 6: np.uint32, 7: np.uint32, 8: np.uint32}


class Library:
    """The functions, and all that was made and is not freed."""

    Epilogue, MatmulDescAttribute, MatmulPreferenceAttribute = (
        Epilogue,
        MatmulDescAttribute,
        MatmulPreferenceAttribute,
    )
    cuBLASLtError, matmul_heuristic_result_dtype = cuBLASLtError, matmul_heuristic_result_dtype

    def __init__(self, version=130100, refuses=()):
        self.version, self.refuses = version, refuses
        self.objects, self.numbers = {}, itertools.count(1000)
        self.heuristics = self.products = 0
        self.seen = []  # compute type, epilogue and streams of the products

    def get_version(self):
        return self.version

    def create(self):
        return self._new("library")

    def matmul_desc_create(self, compute_type, scale_type):
        assert COMPUTE[compute_type] is REAL[scale_type]
        return self._new(
            "operation",
            {"compute": compute_type, "scale": REAL[scale_type], 3: 0, 4: 0, 7: 1, 8: 0},
        )

    def matmul_desc_set_attribute(self, handle, attribute, buffer, size):
        self._of(handle, "operation")[attribute] = _read(buffer, size, _DESC[attribute])

    def matmul_desc_destroy(self, handle):
        self._free(handle, "operation")

    def matrix_layout_create(self, kind, rows, columns, ld):
        assert ld >= rows > 0 < columns
        return self._new("layout", (REAL[kind], rows, columns, ld))

    def matrix_layout_destroy(self, handle):
        self._free(handle, "layout")

    def matmul_preference_create(self):
        return self._new("preference", {1: 0, 3: 7, 5: 256, 6: 256, 7: 256, 8: 256})

    def matmul_preference_set_attribute(self, handle, attribute, buffer, size):
        self._of(handle, "preference")[attribute] = _read(buffer, size, _PREFERENCE[attribute])

    def matmul_preference_destroy(self, handle):
        self._free(handle, "preference")

    # Parameters: those of cublasLtMatmulAlgoGetHeuristic and cublasLtMatmul, which these replace.
    def matmul_algo_get_heuristic(
        self, handle, operation, a, b, c, d, preference, asked, results, count
    ):
        self._of(handle, "library")
        self.heuristics += 1
        desc, wishes = self._of(operation, "operation"), self._of(preference, "preference")
        assert not wishes[3] & 1, "a reduction in the order of arrival was allowed"
        _shapes(desc, *(self._of(layout, "layout") for layout in (a, b, c, d)))
        if desc[7] in self.refuses:
            raise cuBLASLtError(15)
        # Those first in line do not work: one says so, one needs too much memory.
        found = _memory(results, asked * matmul_heuristic_result_dtype.itemsize, np.uint8).view(
            matmul_heuristic_result_dtype
        )
        found[:3]["state"] = 15, 0, 0
        found[:3]["workspace_size"] = 0, wishes[1] + 1, wishes[1]
        bias = desc[8] & -desc[8] if desc[8] else 256
        found[2]["algo"]["data_"] = (
            ALGORITHM,
            wishes[5],
            wishes[6],
            wishes[7],
            wishes[8],
            min(bias, 256),
            wishes[1],
            operation,
        )
        _memory(count, 4, np.int32)[0] = 3

    # Parameters: those of cublasLtMatmul.
    def matmul(
        self,
        handle,
        operation,
        alpha,
        a,
        a_layout,
        b,
        b_layout,
        beta,
        c,
        c_layout,
        d,
        d_layout,
        algo,
        workspace,
        size,
        stream,
    ):
        self._of(handle, "library")
        desc = self._of(operation, "operation")
        algorithm = _memory(algo, 64, np.uint64).tolist()
        assert algorithm[0] == ALGORITHM
        assert algorithm[7] == operation
        for pointer, alignment in zip((a, b, c, d, desc[8]), algorithm[1:6], strict=True):
            assert pointer % alignment == 0
        assert size >= algorithm[6]
        assert _memory(workspace, size, np.uint8) is not None
        layouts = [
            self._of(layout, "layout") for layout in (a_layout, b_layout, c_layout, d_layout)
        ]
        _shapes(desc, *layouts)
        scale = desc["scale"]
        alpha, beta = (
            _memory(scalar, np.dtype(scale).itemsize, scale)[0] for scalar in (alpha, beta)
        )
        A, B = _by_columns(a, layouts[0]), _by_columns(b, layouts[1])
        D = alpha * ((A.T if desc[3] else A) @ (B.T if desc[4] else B))
        if beta:
            D += beta * _by_columns(c, layouts[2])  # with β = 0 C is not read
        epilogue = desc[7]
        if epilogue & 4:
            D += _memory(desc[8], len(D) * D.itemsize, scale)[:, None]
        if epilogue & 2:
            D = np.maximum(D, 0)
        if epilogue == Epilogue.BGRADA:  # a sum over the depth of the product, for each row of D
            _memory(desc[8], len(D) * D.itemsize, scale)[:] = (A.T if desc[3] else A).sum(axis=1)
        if epilogue == Epilogue.BGRADB:
            _memory(desc[8], D.shape[1] * D.itemsize, scale)[:] = (B.T if desc[4] else B).sum(
                axis=0
            )
        _by_columns(d, layouts[3])[:] = D
        self.products += 1
        self.seen.append((desc["compute"], epilogue, stream))

    def _new(self, kind, content=None):
        handle = next(self.numbers)
        self.objects[handle] = kind, content
        return handle

    def _of(self, handle, kind):
        found, content = self.objects[handle]
        assert found == kind
        return content

    def _free(self, handle, kind):
        self._of(handle, kind)
        del self.objects[handle]


def _read(buffer, size, kind):
    if size != np.dtype(kind).itemsize:
        raise cuBLASLtError(7)
    return int(_memory(buffer, size, kind)[0])


def _memory(address, size, kind):
    """The bytes at an address as an array."""
    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), kind)


def _by_columns(address, layout):
    """A matrix as a view of its memory: element (i, j) lies at i + j · ld."""
    kind, rows, columns, ld = layout
    size = ((columns - 1) * ld + rows) * np.dtype(kind).itemsize
    return np.lib.stride_tricks.as_strided(
        _memory(address, size, kind),
        (rows, columns),
        (np.dtype(kind).itemsize, ld * np.dtype(kind).itemsize),
    )


def _shapes(desc, a, b, c, d):
    (m, k), (k_too, n) = (
        (a[1:3][::-1] if desc[3] else a[1:3]),
        (b[1:3][::-1] if desc[4] else b[1:3]),
    )
    assert k == k_too
    assert (m, n) == c[1:3] == d[1:3]
    assert {layout[0] for layout in (a, b, c, d)} == {desc["scale"]}
