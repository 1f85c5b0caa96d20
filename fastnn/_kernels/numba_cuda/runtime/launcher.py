"""Launches a plan's kernels and products, one by one or as a captured graph."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from fastnn._kernels.contract import Chunk, Program
from fastnn._kernels.numba_cuda.driver.launch import Gemm, Launch
from fastnn._kernels.numba_cuda.kernels.context import ARRAY_NAMES
from fastnn._kernels.numba_cuda.runtime.cublaslt_products import CublasLtProducts

_MAX_GRAPHS = 8  # that are kept


class Launcher:
    """Runs a program's launches on a device."""

    def __init__(self, device: Any, program: Program):
        self._device, self._program = device, program
        self._products = CublasLtProducts(device, program)
        # The graph and its arguments, which must live as long as it.
        self._graphs: OrderedDict[tuple, tuple[Any, list[Any]]] = OrderedDict()

    def run(self, launches: Sequence[Launch | Gemm], arguments: list[Any], capacity: int) -> None:
        """Start the launches, in a workspace of so many rows."""
        for launch in launches:
            if isinstance(launch, Gemm):
                self._products.multiply(launch, arguments, capacity)
            else:
                self._device.launch(launch, arguments)

    def graph(
        self,
        launches: Sequence[Launch | Gemm],
        arguments: list[Any],
        capacity: int,
        chunk: Chunk,
    ) -> Any:
        """One step, captured; used again as long as its pointers are those of ``arguments``."""
        key = (chunk.optimizer.tobytes(), chunk.batch_size, chunk.every, *map(id, arguments))
        if key not in self._graphs:
            kernels = [launch.kernel for launch in launches if isinstance(launch, Launch)]
            self._device.prepare(kernels, self._program.dtype)
            # Run the products once before the capture, which loads cuBLASLt's code. A step
            # overwrites their results before it reads them.
            products = [launch for launch in launches if isinstance(launch, Gemm)]
            self.run(products, arguments, capacity)
            recorded = self._device.record(lambda: self.run(launches, arguments, capacity))
            self._graphs[key] = recorded, arguments
            if len(self._graphs) > _MAX_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key][0]

    def forget_graphs(self) -> None:
        """Release the graphs, and the memory of samples that they hold."""
        self._graphs.clear()

    def check_finite(self, vector: Any, arguments: list[Any]) -> None:
        """Start a kernel that sets NONFINITE in ``control`` if a vector is not finite."""
        block = self._device.warp_block
        grid = max(1, min(-(-vector.n // (4 * block)), 4 * self._device.multiprocessors))
        named = dict(zip(ARRAY_NAMES, arguments, strict=True)) | {"theta": vector}
        launch = Launch("check_finite", grid, block)
        self._device.launch(launch, [named[name] for name in ARRAY_NAMES])
