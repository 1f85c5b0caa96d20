"""The op table as the kernels of this engine read it: `opcodes.OP`, and what follows from it but
would cost a thread time to work out.

A gradient that only one dense operation hands back is multiplied by the slope of the operation
before where it is written. That one is then *finished*: it has no pass of its own over its δ.
"""

import math

import numpy as np

from fastnn._kernels import opcodes as oc

OPERATION = np.dtype(
    [
        *((name, oc.OP[name]) for name in oc.OP.names),
        ("threshold", np.int64),  # random words from it on are kept; 0 where nothing is dropped
        ("kept", np.float64),  # what dropout multiplies those by
        # activation whose slope ∂C/∂x is multiplied by; −1 for none, or where ``x_aux`` has it
        ("x_activation", np.int64),
        ("x_alpha", np.float64),
        ("x_aux", np.int64),  # column offset of a stored slope that ∂C/∂x is multiplied by, or −1
        ("finished", np.int64),  # δ comes with the slope in it
    ],
    align=True,
)


def operations(ops: np.ndarray) -> np.ndarray:
    """The table of a program's ``ops``."""
    table = np.zeros(len(ops), OPERATION)
    for name in oc.OP.names:
        table[name] = ops[name]
    table["kept"], table["x_activation"], table["x_aux"] = 1.0, -1, -1
    for op in table:
        if op["rate"] > 0:
            op["threshold"], op["kept"] = (
                math.floor(op["rate"] * 2.0**32 + 0.5),
                1.0 / (1.0 - op["rate"]),
            )
        before = table[(table["y"] == op["x"]) & (op["x"] != oc.INPUT)]
        by_x, by_skip = table["x"] == op["x"], table["skip"] == op["x"]
        added = (by_x & (table["x_grad"] == oc.GRAD_ADD)).any() or (
            by_skip & (table["skip_grad"] == oc.GRAD_ADD)
        ).any()
        if (
            op["code"] == oc.DENSE
            and op["x_grad"] == oc.GRAD_WRITE
            and len(before) == 1
            and not added
        ):
            op["x_aux"] = before[0]["aux"]
            if before[0]["aux"] < 0 and before[0]["activation"] != oc.LINEAR:
                op["x_activation"], op["x_alpha"] = before[0]["activation"], before[0]["alpha"]
            table["finished"][table["y"] == op["x"]] = 1
    return table
