"""A plan's matrix products on the engine's buffers, by cuBLASLt."""

from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Program
from fastnn._kernels.numba_cuda.driver.launch import Gemm
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES
from fastnn._kernels.numba_cuda.runtime.cublaslt import CublasLt, Shape


class CublasLtProducts:
    """Products of one program; see `launch.Gemm`. The library is loaded with the first of them."""

    def __init__(self, device: Any, program: Program):
        self._device, self._program = device, program
        self._cublaslt: CublasLt | None = None

    def multiply(self, gemm: Gemm, arguments: list[Any], capacity: int) -> None:
        """Start a product, in a workspace of so many rows."""
        program, stream = self._program, self._device.stream
        if self._cublaslt is None:
            precision = "float64" if program.dtype == np.float64 else program.precision
            self._cublaslt = CublasLt(self._device, precision)
        buffers, op = dict(zip(ARRAY_NAMES, arguments, strict=True)), program.ops[gemm.index]

        def at(name: str, offset: int) -> int:
            return buffers[name].pointer + int(offset) * program.dtype.itemsize

        x, y, weight = op["x"] * capacity, op["y"] * capacity, op["weight"]
        shape = Shape(gemm.rows, int(op["member_in"]), int(op["member_out"]))
        if gemm.kind == "forward":
            bias = at("theta", op["bias"]) if gemm.adds_bias else 0
            pointers = at("work", x), at("theta", weight), bias, at("work", y)
            self._cublaslt.forward(*pointers, shape, False, stream)
        elif gemm.kind == "input":
            pointers = at("d_work", y), at("theta", weight), at("d_work", x)
            adds = bool(op["x_grad"] == opcodes.GRAD_ADD)
            self._cublaslt.input_gradient(*pointers, shape, adds, stream)
        else:
            pointers = at("work", x), at("d_work", y), at("gradient", weight)
            self._cublaslt.weight_gradient(*pointers, shape, 0, stream)
