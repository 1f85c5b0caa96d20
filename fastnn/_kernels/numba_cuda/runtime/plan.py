"""How a program runs on a device: which kernels, in which order, with how many blocks.

Two paths. *persistent*: one launch takes all steps of a chunk; for narrow networks, whose steps are
shorter than their launches would be. *graph*: a step is a row of launches that is recorded once and
replayed; for wide ones, where each product can use the whole device.
"""

from dataclasses import dataclass

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.contract import Program
from fastnn._kernels.numba_cuda.driver.launch import Launch, Product
from fastnn._kernels.numba_cuda.kernels import frame as fr
from fastnn._kernels.numba_cuda.kernels.op_table import operations

WIDEST = 128  # outputs of an operation, up to which a block carries its rows through alone
LARGEST = 1 << 19  # parameters of a network that every block reads in every step
# rows of a block: a tile's, of `products`; fewer where there is much to learn
ROWS_A_BLOCK, FEWEST_ROWS = 16, 4
# multiplications for the gradient that a block of the persistent path should not have more of
LEARNT_A_BLOCK = 2e5
# operations of a step that one multiprocessor does in less time than several need to meet
ALONE = 2e6
ROWS_A_PASS = 4096  # predicted at a time on the graph path
LIBRARY_PRODUCT = 1 << 27  # multiplications of a product from which the library is taken
# where it may round: it has matrix units, which the kernels have not
LIBRARY_PRODUCT_ROUNDED = 1 << 21
PARAMETERS_A_PART = 4096


@dataclass(frozen=True)
class Limits:
    """What a plan has to know of a device."""

    multiprocessors: int
    shared_per_block: int  # bytes
    block: int  # threads
    can_meet: bool = True  # whether several blocks can run at once


class Plan:
    """How one program runs.

    Parameters
    ----------
    program : Program
    limits : Limits
    library : bool
        Whether large products go to cuBLASLt.
    """

    def __init__(self, program: Program, limits: Limits, library: bool = False):
        self._program, self._limits, self._library = program, limits, library
        self._ops = operations(program.ops)
        self._library_from = (
            LIBRARY_PRODUCT if program.precision == "float32" else LIBRARY_PRODUCT_ROUNDED
        )
        narrow = int(self._ops["n_out"].max()) <= WIDEST and program.n_parameters <= LARGEST
        self.path = "persistent" if narrow and not library else "graph"

    # --- sizes ------------------------------------------------------------------------------------

    def workers(self, rows: int) -> int:
        """Blocks that share a mini-batch on the persistent path."""
        if not self._limits.can_meet or 6 * rows * self._program.n_parameters < ALONE:
            return 1
        wanted = int(rows * self._program.n_parameters / LEARNT_A_BLOCK)
        return min(
            self._limits.multiprocessors,
            max(-(-rows // ROWS_A_BLOCK), min(-(-rows // FEWEST_ROWS), wanted)),
        )

    def parts(self, rows: int) -> int:
        """Parts in which statistics come."""
        return self.workers(rows) if self.path == "persistent" else self._update_blocks()

    def sums(self, rows: int) -> int:
        """Length of the kernels' argument ``sums``."""
        return max(3 * self.parts(rows), 2 * self._row_blocks(rows))

    def rows_at_once(self, rows: int) -> int:
        """Rows there must be room for in the workspace to predict so many."""
        if self.path == "persistent":
            return ROWS_A_BLOCK * min(self._limits.multiprocessors, -(-rows // ROWS_A_BLOCK))
        return min(rows, ROWS_A_PASS)

    def rows_a_pass(self, rows: int) -> int:
        """Rows that `forward` predicts; on the persistent path the kernel itself goes over all of
        them.
        """
        return rows if self.path == "persistent" else min(rows, ROWS_A_PASS)

    def control(self, rows: int) -> dict[int, int]:
        """Slots of ``control`` that say what is kept on chip."""
        theta, both = self._on_chip(rows)
        return {fr.THETA_ON_CHIP: int(theta > 0), fr.WORK_ON_CHIP: int(both > theta)}

    def _on_chip(self, rows: int) -> tuple[int, int]:
        """Bytes of dynamic shared memory for θ, and for θ and the workspaces; 0 for what does not
        fit.
        """
        program = self._program
        item = program.dtype.itemsize
        # what kernels and CUDA have
        free = (
            self._limits.shared_per_block - fr.TILES * item - fr.MOST_THREADS * (item + 16) - 1024
        )
        theta = program.n_parameters * item
        if self.path != "persistent" or theta > free:
            return 0, 0
        both = theta + 2 * rows * program.n_columns * item
        return theta, both if self.workers(rows) == 1 and both <= free else theta

    # --- launches ---------------------------------------------------------------------------------

    def train(self, rule: np.ndarray, rows: int, every: int) -> list[Launch | Product]:
        """The whole chunk on the persistent path; one step, to be replayed, on the graph path.
        ``rows`` is the chunk's batch size.
        """
        if self.path == "persistent":
            workers = self.workers(rows)
            return [
                Launch(
                    "train",
                    workers,
                    self._limits.block,
                    self._on_chip(rows)[1],
                    together=workers > 1,
                )
            ]
        return [
            *self._there(rows),
            *self._loss(rows),
            *self._back(rows),
            *self._learn(rule[0], rows, every),
        ]

    def forward(self, rows: int) -> list[Launch | Product]:
        """Predict up to `rows_a_pass` rows from control[FIRST] on."""
        if self.path == "persistent":
            statistics = [
                self._launch("statistics", self._columns(op), i)
                for i, op in enumerate(self._ops)
                if op["code"] == oc.BATCH_NORM
            ]
            return [
                *statistics,
                Launch("predict", self.rows_at_once(rows) // ROWS_A_BLOCK, self._limits.block),
            ]
        return [*self._there(rows), self._launch("predictions", self._row_blocks(rows))]

    def _there(self, rows):
        launches = [self._launch("load", self._element_blocks(rows, self._program.n_inputs))]
        for i, op in enumerate(self._ops):
            if op["code"] == oc.DENSE:
                launches += self._product("forward", "dense", i, rows, op["n_out"], op["n_in"])
                continue
            if op["code"] == oc.BATCH_NORM:
                launches.append(self._launch("statistics", self._columns(op), i))
            blocks = (
                self._row_blocks(rows)
                if op["code"] == oc.LAYER_NORM
                else self._element_blocks(rows, op["n_out"])
            )
            launches.append(self._launch("other", blocks, i))
        return launches

    def _loss(self, rows):
        blocks = self._row_blocks(rows)
        return [self._launch("loss", blocks), self._launch("conclude", 1, blocks)]

    def _back(self, rows):
        launches = []
        for i, op in reversed(list(enumerate(self._ops))):
            if (
                op["weight"] < 0
                and op["x_grad"] == oc.GRAD_NONE
                and op["skip_grad"] == oc.GRAD_NONE
            ):
                continue
            if not op["finished"] and (op["aux"] >= 0 or op["activation"] != oc.LINEAR):
                launches.append(
                    self._launch("finish_backward", self._element_blocks(rows, op["n_out"]), i)
                )
            if op["code"] == oc.BATCH_NORM:
                launches.append(self._launch("sums", self._columns(op), i))
            if op["x_grad"] == oc.GRAD_NONE and op["skip_grad"] == oc.GRAD_NONE:
                continue
            if op["code"] == oc.DENSE:
                launches += self._product("input", "dense_input", i, rows, op["n_in"], op["n_out"])
            else:
                blocks = (
                    self._row_blocks(rows)
                    if op["code"] == oc.LAYER_NORM
                    else self._element_blocks(rows, op["n_out"])
                )
                launches.append(self._launch("other_backward", blocks, i))
        return launches

    def _learn(self, rule, rows, every):
        launches, updates = [], rule["code"] != oc.NO_UPDATE
        if every > 0:
            launches.append(self._launch("measure", self._update_blocks()))
        launches += self._gradients(rows)
        if updates and rule["clip_norm"] > 0:
            launches.append(self._launch("squares", self._update_blocks()))
        if every > 0 or (updates and rule["clip_norm"] > 0):
            launches.append(self._launch("apply", self._update_blocks()))
        if updates:
            launches += [
                self._launch("constrain", self._columns(op), i)
                for i, op in enumerate(self._ops)
                if op["max_norm"] > 0
            ]
        return launches

    def _gradients(self, rows):
        """Large weights have a launch of their own; where there are none, all operations share
        one.
        """
        own = {
            i: self._product("weight", "gradient", i, op["n_in"] + 1, op["n_out"], rows)
            for i, op in self._dense()
        }
        if all(
            isinstance(launches[0], Launch) and launches[0].kernel == "gradient"
            for launches in own.values()
        ):
            return [self._launch("gradients", self._limits.multiprocessors)]
        norms = [
            i for i, op in enumerate(self._ops) if op["weight"] >= 0 and op["code"] != oc.DENSE
        ]
        return [
            *(launch for launches in own.values() for launch in launches),
            *(self._launch("gradient", self._columns(self._ops[i]), i) for i in norms),
        ]

    def _dense(self):
        return [(i, op) for i, op in enumerate(self._ops) if op["code"] == oc.DENSE]

    def _product(self, kind, kernel, index, m, n, depth):
        """An m × n product of that depth: by the library, by large tiles where there is one for
        each multiprocessor, or by small ones.
        """
        multiprocessors = self._limits.multiprocessors
        if self._library and int(m) * int(n) * int(depth) >= self._library_from:
            return self._library_product(kind, index, int(depth) if kind == "weight" else int(m))
        large = -(-int(m) // 64) * -(-int(n) // 64)
        if large >= multiprocessors:
            return [
                self._launch(
                    {
                        "dense": "wide_dense",
                        "dense_input": "wide_input",
                        "gradient": "wide_gradient",
                    }[kernel],
                    large,
                    index,
                )
            ]
        small = -(-int(m) // 16) * -(-int(n) // 32)
        return [self._launch(kernel, min(small, multiprocessors), index)]

    def _library_product(self, kind, index, rows):
        """A product by the library, and what it leaves to do."""
        op = self._ops[index]
        if kind == "weight":
            return [
                Product(kind, index, rows),
                self._launch("finish_gradient", 8 * self._limits.multiprocessors, index),
            ]
        if kind == "input":
            after = [self._launch("finish_input", self._element_blocks(rows, op["n_in"]), index)]
            return [
                Product(kind, index, rows),
                *(after if op["x_aux"] >= 0 or op["x_activation"] >= 0 else []),
            ]
        # The library's ReLU may turn a NaN into 0, and a divergence would go unseen; so of its
        # epilogues only the bias is used, and only in float32: whether float64 has it is not known.
        is_plain = op["activation"] == oc.LINEAR and op["aux"] < 0 and op["threshold"] == 0
        if is_plain and self._program.dtype == np.float32:
            return [Product(kind, index, rows, adds_bias=bool(op["bias"] >= 0))]
        return [
            Product(kind, index, rows),
            self._launch("other", self._element_blocks(rows, op["n_out"]), index),
        ]

    def _launch(self, kernel, grid, index=0):
        return Launch(kernel, int(grid), self._limits.block, index=index)

    def _row_blocks(self, rows):
        """Blocks that share rows, with a warp for each: at most as many as the device holds at
        once.
        """
        return min(-(-rows // max(self._limits.block // 32, 1)), 4 * self._limits.multiprocessors)

    def _element_blocks(self, rows, width):
        """Blocks that share rows whose elements are worked on one by one, a few for each thread."""
        wanted = -(-int(rows) * int(width) // (4 * self._limits.block))
        return max(1, min(rows, wanted, 4 * self._limits.multiprocessors))

    def _columns(self, op):
        """Blocks of 32 columns."""
        return -(-int(op["n_out"]) // 32)

    def _update_blocks(self):
        return max(
            1,
            min(2 * self._limits.multiprocessors, self._program.n_parameters // PARAMETERS_A_PART),
        )
