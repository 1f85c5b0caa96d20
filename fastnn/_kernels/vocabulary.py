"""What compiled Cython modules and the Python that calls them must agree on."""

from typing import Any

import numpy as np

from fastnn._kernels import opcodes, tables
from fastnn._kernels.kernel_arguments import KernelArguments


def vocabulary() -> dict[str, Any]:
    """Constants and record layouts, codes of the tables, names of the kernels' arguments."""
    constants = {
        name: value.descr if isinstance(value, np.dtype) else value
        for name, value in vars(opcodes).items()
        if name.isupper() and isinstance(value, int | np.dtype)
    }
    rows = {"ACTIVATIONS": tables.ACTIVATIONS, "LOSSES": tables.LOSSES}
    rows["OPTIMIZERS"] = tables.OPTIMIZERS
    codes = {name: {key: row.code for key, row in table.items()} for name, table in rows.items()}
    return {**constants, **codes, "ARGUMENTS": list(KernelArguments._fields)}
