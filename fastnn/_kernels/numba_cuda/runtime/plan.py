"""How a program runs on a device: which kernels, in which order, with how many blocks.

Two paths. *persistent*: one launch takes all steps of a chunk. It is for narrow networks, whose
steps are shorter than their launches would be. *graph*: a step is a sequence of launches that is
captured once and replayed. It is for wide networks, where each product can use the whole device.
"""

from dataclasses import dataclass

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.contract import Program
from fastnn._kernels.numba_cuda.driver.launch import Gemm, Launch
from fastnn._kernels.numba_cuda.kernels import context, control
from fastnn._kernels.numba_cuda.kernels.op_table import has_derivative, operations

# The persistent path takes networks up to this many outputs of an operation, and parameters.
MAX_WIDTH, MAX_PARAMETERS = 128, 1 << 19
# Rows of a block: those of a tile of `gemm_small`; fewer where the gradients take longer.
ROWS_PER_BLOCK, MIN_ROWS_PER_BLOCK = 16, 4
# Multiplications for the gradients that one block of the persistent path should do at most.
GRADIENT_OPERATIONS_PER_BLOCK = 2e5
# Operations of a step that one multiprocessor does in less time than a grid barrier takes.
SINGLE_BLOCK_OPERATIONS = 2e6
ROWS_PER_PASS = 4096  # predicted at a time on the graph path
# Multiplications from which a product goes to cuBLASLt. Where the precision allows rounding, it has
# matrix units, which the kernels here do not use.
CUBLASLT_OPERATIONS, CUBLASLT_OPERATIONS_ROUNDED = 1 << 27, 1 << 21
PARAMETERS_PER_BLOCK = 4096  # of updates with a stored gradient
LARGE_TILE, SMALL_TILE = (64, 64), (16, 32)

# Kernels of a product by its kind: by small tiles, by large tiles.
_GEMM_KERNELS = {
    "forward": ("gemm_forward", "gemm_forward_large"),
    "input": ("gemm_input", "gemm_input_large"),
    "weight": ("operation_gradient", "gemm_weight_large"),
}


@dataclass(frozen=True)
class Limits:
    """What a plan needs to know of a device."""

    multiprocessors: int
    shared_per_block: int  # bytes
    block: int  # threads
    cooperative: bool = True  # whether several blocks can run at once


class Plan:
    """How one program runs.

    Parameters
    ----------
    program : Program
    limits : Limits
    cublaslt : bool
        Whether large products go to cuBLASLt.
    """

    def __init__(self, program: Program, limits: Limits, cublaslt: bool = False):
        self._program, self._limits, self._cublaslt = program, limits, cublaslt
        self._ops = operations(program.ops)
        self._cublaslt_from = (
            CUBLASLT_OPERATIONS if program.precision == "float32" else CUBLASLT_OPERATIONS_ROUNDED
        )
        widest = int(self._ops["n_out"].max())
        narrow = widest <= MAX_WIDTH and program.n_parameters <= MAX_PARAMETERS
        self.path = "persistent" if narrow and not cublaslt else "graph"

    # --- sizes ------------------------------------------------------------------------------------

    def workers(self, rows: int) -> int:
        """Blocks that divide a mini-batch among themselves on the persistent path."""
        n_parameters = self._program.n_parameters * self._program.members
        if not self._limits.cooperative or 6 * rows * n_parameters < SINGLE_BLOCK_OPERATIONS:
            return 1
        for_gradients = int(rows * n_parameters / GRADIENT_OPERATIONS_PER_BLOCK)
        wanted = max(
            _ceil_div(rows, ROWS_PER_BLOCK),
            min(_ceil_div(rows, MIN_ROWS_PER_BLOCK), for_gradients),
        )
        return min(self._limits.multiprocessors, wanted)

    def statistics_blocks(self, rows: int) -> int:
        """Blocks that each write a part of the statistics."""
        return self.workers(rows) if self.path == "persistent" else self._update_blocks()

    def n_sums(self, rows: int) -> int:
        """Length of the kernels' argument ``sums`` in training."""
        return max(3 * self.statistics_blocks(rows), 2 * self._row_blocks(rows))

    def evaluation_blocks(self, rows: int) -> int:
        """Blocks that each write a part of the loss sums, in an evaluation of so many rows."""
        if self.path == "persistent":
            return self.workspace_rows(rows) // ROWS_PER_BLOCK
        return self._row_blocks(rows)

    def workspace_rows(self, rows: int) -> int:
        """Rows that the workspace needs room for to predict so many."""
        if self.path == "persistent":
            blocks = min(self._limits.multiprocessors, _ceil_div(rows, ROWS_PER_BLOCK))
            return ROWS_PER_BLOCK * blocks
        return min(rows, ROWS_PER_PASS)

    def rows_per_pass(self, rows: int) -> int:
        """Rows that one `predict` takes; on the persistent path the kernel loops over all rows."""
        return rows if self.path == "persistent" else min(rows, ROWS_PER_PASS)

    def control(self, rows: int) -> dict[int, int]:
        """Slots of ``control`` that say what is in shared memory."""
        theta, both = self._shared_bytes(rows)
        return {
            control.THETA_IN_SHARED: int(theta > 0),
            control.WORK_IN_SHARED: int(both > theta),
        }

    def _shared_bytes(self, rows: int) -> tuple[int, int]:
        """Bytes of dynamic shared memory: for θ or 0, and for θ with the workspaces if they fit."""
        program = self._program
        item = program.dtype.itemsize
        # The kernel's own arrays, and a kilobyte of CUDA's.
        own = context.TILE_ELEMENTS * item + context.MAX_THREADS * (item + 16) + 1024
        free = self._limits.shared_per_block - own
        theta = program.n_parameters * item
        if self.path != "persistent" or theta > free:
            return 0, 0
        both = theta + 2 * rows * program.n_columns * item
        return theta, both if self.workers(rows) == 1 and both <= free else theta

    # --- launches ---------------------------------------------------------------------------------

    def train(self, optimizer: np.ndarray, rows: int, every: int) -> list[Launch | Gemm]:
        """The whole chunk on the persistent path; one step, to be replayed, on the graph path.

        ``rows`` is the chunk's batch size.
        """
        if self.path == "persistent":
            workers, shared = self.workers(rows), self._shared_bytes(rows)[1]
            return [Launch("train", workers, self._limits.block, shared, cooperative=workers > 1)]
        return [
            *self._forward(rows),
            *self._loss(rows),
            *self._backward(rows),
            *self._update(optimizer[0], rows, every),
        ]

    def predict(self, rows: int, evaluates: bool = False) -> list[Launch | Gemm]:
        """Predict up to `rows_per_pass` rows from control[FIRST] on.

        With ``evaluates`` the blocks also add up the losses of the rows.
        """
        if self.path == "persistent":
            statistics = [
                self._launch("batch_statistics", self._column_blocks(op), i)
                for i, op in enumerate(self._ops)
                if op["code"] == oc.BATCH_NORM
            ]
            kernel = "evaluate" if evaluates else "predict"
            return [*statistics, self._launch(kernel, self.evaluation_blocks(rows))]
        blocks = self._row_blocks(rows)
        return [
            *self._forward(rows),
            self._launch("write_predictions", blocks),
            *([self._launch("losses", blocks)] if evaluates else []),
        ]

    def _forward(self, rows):
        launches = [self._launch("load", self._element_blocks(rows, self._program.n_inputs))]
        for i, op in enumerate(self._ops):
            if op["code"] == oc.DENSE:
                shape = rows * op["members"], op["member_out"], op["member_in"]
                launches += self._gemm("forward", i, shape)
                continue
            if op["code"] == oc.BATCH_NORM:
                launches.append(self._launch("batch_statistics", self._column_blocks(op), i))
            launches.append(self._launch("operation_forward", self._blocks_of(op, rows), i))
        return launches

    def _loss(self, rows):
        blocks = self._row_blocks(rows)
        return [self._launch("loss", blocks), self._launch("log_step", 1, blocks)]

    def _backward(self, rows):
        launches = []
        for i, op in reversed(list(enumerate(self._ops))):
            inputs_need = op["x_grad"] != oc.GRAD_NONE or op["skip_grad"] != oc.GRAD_NONE
            if op["weight"] < 0 and not inputs_need:
                continue
            if has_derivative(op):
                blocks = self._element_blocks(rows, op["n_out"])
                launches.append(self._launch("epilogue_backward", blocks, i))
            if op["code"] == oc.BATCH_NORM:
                launches.append(self._launch("batch_sums", self._column_blocks(op), i))
            if not inputs_need:
                continue
            if op["code"] == oc.DENSE:
                shape = rows * op["members"], op["member_in"], op["member_out"]
                launches += self._gemm("input", i, shape)
            else:
                launches.append(self._launch("operation_backward", self._blocks_of(op, rows), i))
        return launches

    def _update(self, optimizer, rows, every):
        launches, updates = [], optimizer["code"] != oc.NO_UPDATE
        if every > 0:
            launches.append(self._launch("record_statistics", self._update_blocks()))
        launches += self._gradients(rows)
        if updates and optimizer["clip_norm"] > 0:
            launches.append(self._launch("gradient_norm", self._update_blocks()))
        if every > 0 or (updates and optimizer["clip_norm"] > 0):
            launches.append(self._launch("apply_updates", self._update_blocks()))
        if updates:
            launches += [
                self._launch("constrain", self._column_blocks(op), i)
                for i, op in enumerate(self._ops)
                if op["max_norm"] > 0
            ]
        return launches

    def _gradients(self, rows):
        """Large weights have a launch each; where there are none, all operations share one."""
        own = [
            self._gemm("weight", i, (op["member_in"] + 1, op["member_out"], rows * op["members"]))
            for i, op in enumerate(self._ops)
            if op["code"] == oc.DENSE
        ]
        small = _GEMM_KERNELS["weight"][0]
        if all(isinstance(first, Launch) and first.kernel == small for first, *_ in own):
            return [self._launch("all_gradients", self._limits.multiprocessors)]
        norms = [
            self._launch(small, self._gradient_blocks(op), i)
            for i, op in enumerate(self._ops)
            if op["weight"] >= 0 and op["code"] != oc.DENSE
        ]
        return [*(launch for launches in own for launch in launches), *norms]

    def _gemm(self, kind, index, shape):
        """An m × n product of depth k, with shape = (m, n, k).

        It goes to cuBLASLt, to large tiles where there is one for each multiprocessor, or to small
        tiles.
        """
        m, n, depth = map(int, shape)
        multiprocessors, (small, large) = self._limits.multiprocessors, _GEMM_KERNELS[kind]
        has_factor = self._ops[index]["factor"] != 1  # which cuBLASLt's epilogues here have not
        if self._cublaslt and not has_factor and m * n * depth >= self._cublaslt_from:
            return self._cublaslt_gemm(kind, index, depth if kind == "weight" else m)
        large_tiles = _tiles(m, n, LARGE_TILE)
        if large_tiles >= multiprocessors:
            return [self._launch(large, large_tiles, index)]
        return [self._launch(small, min(_tiles(m, n, SMALL_TILE), multiprocessors), index)]

    def _cublaslt_gemm(self, kind, index, rows):
        """A product by cuBLASLt, and the kernel of its epilogue."""
        op = self._ops[index]
        if kind == "weight":
            blocks = 8 * self._limits.multiprocessors
            return [Gemm(kind, index, rows), self._launch("weight_epilogue", blocks, index)]
        if kind == "input":
            blocks = self._element_blocks(rows, op["member_in"])
            fuses = op["x_aux"] >= 0 or op["x_activation"] >= 0
            epilogue = [self._launch("input_epilogue", blocks, index)] if fuses else []
            return [Gemm(kind, index, rows), *epilogue]
        # cuBLASLt's ReLU may turn a NaN into 0, and a divergence would go unseen. So of its
        # epilogues only the bias is used, and only in float32: whether float64 has it is not known.
        is_plain = op["activation"] == oc.LINEAR and op["aux"] < 0 and op["threshold"] == 0
        if is_plain and self._program.dtype == np.float32:
            return [Gemm(kind, index, rows, adds_bias=bool(op["bias"] >= 0))]
        blocks = self._element_blocks(rows, op["member_out"])
        return [Gemm(kind, index, rows), self._launch("operation_forward", blocks, index)]

    # --- numbers of blocks ------------------------------------------------------------------------

    def _launch(self, kernel, grid, index=0):
        return Launch(kernel, int(grid), self._limits.block, index=index)

    def _row_blocks(self, rows):
        """Blocks with a warp for each row: at most as many as the device holds at once."""
        rows_per_block = max(self._limits.block // 32, 1)
        return min(_ceil_div(rows, rows_per_block), 4 * self._limits.multiprocessors)

    def _element_blocks(self, rows, width):
        """Blocks for rows whose elements are independent, with a few elements for each thread."""
        wanted = _ceil_div(int(rows) * int(width), 4 * self._limits.block)
        return max(1, min(rows, wanted, 4 * self._limits.multiprocessors))

    def _blocks_of(self, op, rows):
        """Blocks of an operation that is not a product."""
        if op["code"] == oc.LAYER_NORM:
            return self._row_blocks(rows)
        return self._element_blocks(rows, op["n_out"])

    def _column_blocks(self, op):
        """Blocks of 32 columns."""
        return _ceil_div(int(op["n_out"]), 32)

    def _gradient_blocks(self, op):
        """Blocks for the gradient of an operation that is no product of all members."""
        if op["code"] == oc.HEADS:
            return self._element_blocks(op["n_in"], op["member_out"])
        return self._column_blocks(op)

    def _update_blocks(self):
        wanted = self._program.n_parameters // PARAMETERS_PER_BLOCK
        return max(1, min(2 * self._limits.multiprocessors, wanted))


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _tiles(m: int, n: int, tile: tuple[int, int]) -> int:
    """Tiles of that shape that cover an m × n result."""
    return _ceil_div(m, tile[0]) * _ceil_div(n, tile[1])
