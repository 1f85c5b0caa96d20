"""The op table that the kernels of this engine read: `opcodes.OP` with fields derived from it.

Where one dense operation alone writes the gradient of a value, it multiplies by the derivative of
the operation that made the value. That operation has its derivative *fused*: it needs no pass over
its δ.
"""

import math

import numpy as np

from fastnn._kernels import opcodes as oc
from fastnn._kernels.tables import ACTIVATIONS

_SATURATION = {row.code: row.saturation or (-math.inf, math.inf) for row in ACTIVATIONS.values()}

OPERATION = np.dtype(
    [
        *((name, oc.OP[name]) for name in oc.OP.names),
        # Dropout keeps random words from it on; 0 for no dropout, anything above with a schedule.
        ("threshold", np.int64),
        ("kept", np.float64),  # factor of what dropout keeps: 1/(1 − rate)
        # Activation whose derivative ∂C/∂x is multiplied by; −1 for none, or if ``x_aux`` has it.
        ("x_activation", np.int64),
        ("x_alpha", np.float64),
        ("x_aux", np.int64),  # column offset of a stored derivative to multiply ∂C/∂x by, or −1
        # Bounds beyond which an output counts as saturated; infinite if the activation has none.
        ("low", np.float64),
        ("high", np.float64),
        ("derivative_fused", np.int64),  # whether ∂C/∂y is written as ∂C/∂z
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
        op["low"], op["high"] = _SATURATION[int(op["activation"])]
        if op["schedule"] >= 0:
            op["threshold"] = 1
        elif op["rate"] > 0:
            op["threshold"], op["kept"] = dropout_table(op["rate"])
        _fuse_derivative(table, op)
    return table


def has_derivative(op: np.void) -> bool:
    """Whether `elementwise.epilogue_backward` has anything to do."""
    is_inner = op["code"] == oc.FEATURE_DENSE and op["inner"] != oc.LINEAR
    of_epilogue = op["aux"] >= 0 or op["activation"] != oc.LINEAR
    return bool(is_inner or (of_epilogue and not op["derivative_fused"]))


def dropout_table(rates: np.ndarray | float) -> np.ndarray:
    """Threshold and factor of each rate: (…, 2) float64."""
    rates = np.asarray(rates)
    return np.stack([np.floor(rates * 2.0**32 + 0.5), 1.0 / (1.0 - rates)], axis=-1)


def _fuse_derivative(table: np.ndarray, op: np.void) -> None:
    """Fuse the derivative of the operation before ``op``, if ``op`` alone writes its gradient."""
    before = table[(table["y"] == op["x"]) & (op["x"] != oc.INPUT)]
    by_x = (table["x"] == op["x"]) & (table["x_grad"] == oc.GRAD_ADD)
    by_skip = (table["skip"] == op["x"]) & (table["skip_grad"] == oc.GRAD_ADD)
    is_added_to = by_x.any() or by_skip.any()
    writes = op["code"] == oc.DENSE and op["x_grad"] == oc.GRAD_WRITE
    if writes and len(before) == 1 and not is_added_to:
        op["x_aux"] = before[0]["aux"]
        if before[0]["aux"] < 0 and before[0]["activation"] != oc.LINEAR:
            op["x_activation"], op["x_alpha"] = before[0]["activation"], before[0]["alpha"]
        table["derivative_fused"][table["y"] == op["x"]] = 1
