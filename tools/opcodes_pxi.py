"""The vocabulary of `fastnn/_kernels/opcodes.py` as Cython source, so that it is written down
once.
"""

import runpy
from pathlib import Path

import numpy as np

C_TYPES = {"i": "int64_t", "f": "double"}


def opcodes_pxi(opcodes: Path) -> str:
    """Text of an include file: constants, records as structs, the bounds of saturation, and what
    `levels` checks against.

    In it ``NAME`` is a constant of the compiler; ``Op``, ``Rule`` and ``Loss`` are structs laid out
    as the records are; and ``saturates(code, &low, &high)`` tells whether an activation has flat
    ends, and the bounds beyond which it counts as saturated.
    """
    names = runpy.run_path(str(opcodes))  # not imported: that would take the whole package
    constants = {
        name: value for name, value in names.items() if type(value) is int and name.isupper()
    }
    records = {name: value for name, value in names.items() if isinstance(value, np.dtype)}
    parts = [
        "from libc.stdint cimport int64_t",
        _enum(constants),
        *map(_struct, records, records.values()),
    ]
    parts += [_saturates(names["SATURATES"]), _vocabulary(names)]
    return "\n\n".join(parts) + "\n"


def _enum(constants: dict[str, int]) -> str:
    return "\n".join(
        ["cdef enum:", *(f"    {name} = {value}" for name, value in constants.items())]
    )


def _struct(name: str, record: np.dtype) -> str:
    fields = {field: C_TYPES[record[field].kind] for field in record.names}
    if record.itemsize != 8 * len(fields) or any(record[field].itemsize != 8 for field in fields):
        raise ValueError(f"{name} must consist of fields of 8 bytes; got {record}")
    return "\n".join(
        [
            f"ctypedef struct {name.capitalize()}:",
            *(f"    {c_type} {field}" for field, c_type in fields.items()),
        ]
    )


def _saturates(bounds: dict[int, tuple[float, float]]) -> str:
    cases = [
        f"    case {code}: *low = {low!r}; *high = {high!r}; return 1;"
        for code, (low, high) in bounds.items()
    ]
    c = [
        "static int fastnn_saturates(long long code, double *low, double *high)",
        "{",
        "    switch (code) {",
        *cases,
        "    }",
    ]
    text = "\n    ".join([*c, "    return 0;", "}"])
    return f'''cdef extern from *:
    """
    {text}
    """
    bint saturates "fastnn_saturates"(int64_t code, double *low, double *high) noexcept nogil'''


def _vocabulary(names: dict[str, object]) -> str:
    """What `levels` compares with `opcodes`, for a module that was compiled before that changed."""
    values = {
        name: value.descr if isinstance(value, np.dtype) else value
        for name, value in names.items()
        if name.isupper()
    }
    sizes = ", ".join(
        f"{name!r}: sizeof({name.capitalize()})"
        for name, value in names.items()
        if isinstance(value, np.dtype)
    )
    return f"VOCABULARY = {values}\nRECORD_SIZES = {{{sizes}}}"
