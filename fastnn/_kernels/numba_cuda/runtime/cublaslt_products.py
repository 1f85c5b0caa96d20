"""A plan's matrix products on the engine's buffers, by cuBLASLt."""

from typing import Any

import numpy as np

from fastnn._kernels import opcodes
from fastnn._kernels.contract import Program
from fastnn._kernels.numba_cuda.driver.launch import Product
from fastnn._kernels.numba_cuda.runtime import cublaslt
from fastnn._kernels.numba_cuda.runtime.workspace import NAMES


class Library:
    """See `launch.Product`. The library is loaded when the first product is wanted."""

    def __init__(self, device: Any, program: Program):
        self._device, self._program = device, program
        self._products: cublaslt.Products | None = None

    def multiply(self, product: Product, arguments: list[Any], capacity: int) -> None:
        """Do a product, in a workspace of so many rows."""
        if self._products is None:
            is_double = self._program.dtype == np.float64
            self._products = cublaslt.Products(
                self._device, "float64" if is_double else self._program.precision
            )
        buffers, op, size = (
            dict(zip(NAMES, arguments, strict=True)),
            self._program.ops[product.index],
            self._program.dtype.itemsize,
        )

        def at(name, offset):
            return buffers[name].pointer + int(offset) * size

        x, y, weight = op["x"] * capacity, op["y"] * capacity, op["weight"]
        shape = product.rows, int(op["n_in"]), int(op["n_out"])
        if product.kind == "forward":
            bias = at("theta", op["bias"]) if product.adds_bias else 0
            self._products.forward(
                at("work", x),
                at("theta", weight),
                bias,
                at("work", y),
                *shape,
                False,
                self._device.stream,
            )
        elif product.kind == "input":
            adds = bool(op["x_grad"] == opcodes.GRAD_ADD)
            self._products.input_gradient(
                at("d_work", y),
                at("theta", weight),
                at("d_work", x),
                *shape,
                adds,
                self._device.stream,
            )
        else:
            d_weight = at("gradient", weight)
            self._products.weight_gradient(
                at("work", x), at("d_work", y), d_weight, *shape, 0, self._device.stream
            )
