"""Generate Cython source from the kernels' own tables, so that each of them is written down once.

``opcodes.pxi`` has the constants and records of `fastnn._kernels.opcodes` and the codes of
`fastnn._kernels.tables`; ``arguments.pxi`` the struct of `fastnn._kernels.kernel_arguments` and
what fills it; ``dispatch.pxi`` the functions that choose a loop by the code of an activation, loss
or optimiser.
"""

import importlib
import sys
import typing
from pathlib import Path
from types import ModuleType

import numpy as np

C_TYPES = {"i": "int64_t", "f": "double"}
C_SCALARS = {int: "int64_t", bool: "bint"}


def load(root: Path, name: str) -> ModuleType:
    """A module of ``fastnn._kernels``, imported from the source tree at ``root``."""
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module(f"fastnn._kernels.{name}")
    finally:
        sys.path.remove(str(root))


def include_files(root: Path) -> dict[str, str]:
    """File name → text of the include files that the kernels need."""
    opcodes, tables = load(root, "opcodes"), load(root, "tables")
    arguments = load(root, "kernel_arguments").KernelArguments
    return {
        "opcodes.pxi": opcodes_pxi(opcodes, tables, load(root, "vocabulary").vocabulary()),
        "arguments.pxi": arguments_pxi(arguments),
        "dispatch.pxi": dispatch_pxi(tables),
    }


# --- constants and records ------------------------------------------------------------------------


def opcodes_pxi(opcodes: ModuleType, tables: ModuleType, vocabulary: dict[str, object]) -> str:
    """Constants as an enum, records as structs, saturation bounds, and what `levels` compares."""
    constants = {
        name: value
        for name, value in vars(opcodes).items()
        if type(value) is int and name.isupper()
    }
    for table in (tables.ACTIVATIONS, tables.LOSSES, tables.OPTIMIZERS):
        constants |= {name.upper(): row.code for name, row in table.items()}
    records = {name: value for name, value in vars(opcodes).items() if isinstance(value, np.dtype)}
    sizes = ", ".join(f"{name!r}: sizeof({name.capitalize()})" for name in records)
    parts = [
        "from libc.stdint cimport int64_t, uint64_t",
        "\n".join(["cdef enum:", *(f"    {name} = {value}" for name, value in constants.items())]),
        *(_struct(name, record) for name, record in records.items()),
        _saturation(tables.ACTIVATIONS),
        _predicate("needs_z", tables.ACTIVATIONS, "needs_z"),
        _predicate("corrects_bias", tables.OPTIMIZERS, "bias_correction"),
        _predicate("decouples_decay", tables.OPTIMIZERS, "decoupled_decay"),
        f"VOCABULARY = {vocabulary}",
        f"RECORD_SIZES = {{{sizes}}}",
    ]
    return "\n\n".join(parts) + "\n"


def _struct(name: str, record: np.dtype) -> str:
    fields = {field: C_TYPES[record[field].kind] for field in record.names}
    if record.itemsize != 8 * len(fields) or any(record[field].itemsize != 8 for field in fields):
        raise ValueError(f"{name} must consist of fields of 8 bytes; got {record}")
    lines = [f"    {c_type} {field}" for field, c_type in fields.items()]
    return "\n".join([f"ctypedef struct {name.capitalize()}:", *lines])


def _saturation(activations: dict) -> str:
    """``saturates(code, &low, &high)``: whether an activation saturates, and its bounds."""
    cases = [
        "    case {}: *low = {!r}; *high = {!r}; return 1;".format(row.code, *row.saturation)
        for row in activations.values()
        if row.saturation
    ]
    head = "static int fastnn_saturates(long long code, double *low, double *high)"
    text = "\n    ".join([head, "{", "    switch (code) {", *cases, "    }", "    return 0;", "}"])
    return f'''cdef extern from *:
    """
    {text}
    """
    bint saturates "fastnn_saturates"(int64_t code, double *low, double *high) noexcept nogil'''


def _predicate(name: str, table: dict, attribute: str) -> str:
    """``name(code)``: whether the row of a code has the attribute."""
    codes = [row.code for row in table.values() if getattr(row, attribute)]
    test = " or ".join(f"code == {code}" for code in codes)
    return f"cdef inline bint {name}(int64_t code) noexcept nogil:\n    return {test}"


# --- arguments ------------------------------------------------------------------------------------

_CONTEXT = """ctypedef struct KernelContext:
    # The arguments of a run and what differs between threads.
    int64_t rank, n_threads
    const real* X
    int64_t n_inputs
    PrefetchQueue* prefetch_queue  # NULL in a prediction"""

_FILL = '''
cdef KernelContext context_of(int64_t rank, int64_t n_threads, tuple arguments):
    """The context of a thread; ``arguments`` is a `KernelArguments`. Empty arrays become NULL."""
    cdef KernelContext ctx
    cdef cnp.ndarray array
    ctx.rank, ctx.n_threads, ctx.prefetch_queue = rank, n_threads, NULL
    if len(arguments) != {n}:
        raise TypeError("the kernel takes {n} arguments")'''


def arguments_pxi(arguments: type) -> str:
    """`KernelContext`, with pointer, length and row stride of each array, and what fills it."""
    hints = typing.get_type_hints(arguments, include_extras=True)
    struct, fill = [_CONTEXT], [_FILL.format(n=len(hints))]
    for number, (name, hint) in enumerate(hints.items()):
        base, c_type = _c_type(hint)
        if base is not np.ndarray:
            struct.append(f"    {c_type} {name}")
            fill.append(f"    ctx.{name} = arguments[{number}]")
            continue
        struct += [f"    {c_type}* {name}", f"    int64_t n_{name}, {name}_stride"]
        fill += [
            f"    array = <cnp.ndarray>arguments[{number}]",
            f"    ctx.{name} = <{c_type}*>data_or_null(array)",
            f"    ctx.n_{name}, ctx.{name}_stride = array.shape[0], row_stride_of(array)",
        ]
    return "\n".join([*struct, *fill, "    return ctx"]) + "\n"


def _c_type(hint: object) -> tuple[type, str]:
    if typing.get_origin(hint) is typing.Annotated:
        base, c_type = typing.get_args(hint)
        return base, c_type
    return hint, C_SCALARS[hint]


# --- dispatch -------------------------------------------------------------------------------------


def dispatch_pxi(tables: ModuleType) -> str:
    """The functions that run the loop of one formula, chosen by its code."""
    activations = tables.ACTIVATIONS
    from_output = [n for n, row in activations.items() if not row.needs_z and n != "linear"]
    from_z = [name for name, row in activations.items() if row.needs_z]
    return (
        "\n\n".join(
            [
                _loops(
                    "void activate_all(int64_t code, real* z, int64_t n, real alpha)",
                    "z ← f(z).",
                    {
                        name: "z[i] = " + _call(name, name in from_z)
                        for name in [*from_output, *from_z]
                    },
                    needs_derivative=True,
                ),
                _loops(
                    "void activate_with_derivative("
                    "int64_t code, real* z, real_target aux, int64_t n, real alpha)",
                    "z ← f(z) and aux ← f′(z), of activations that need z.",
                    {
                        name: f"z[i] = {_call(name, True)}\n            aux[i] = d"
                        for name in from_z
                    },
                    needs_derivative=True,
                ),
                _loops(
                    "void multiply_by_derivative("
                    "int64_t code, real_target d, const real* y, int64_t n, real alpha)",
                    "d ← d · f′ of what gave y.",
                    {name: f"d[i] *= d_{name}(y[i], alpha)" for name in from_output},
                ),
                _updates(tables.OPTIMIZERS),
            ]
        )
        + "\n"
    )


def _call(name: str, needs_z: bool) -> str:
    return f"fd_{name}(z[i], alpha, &d)" if needs_z else f"f_{name}(z[i], alpha)"


def _loops(
    signature: str, docstring: str, bodies: dict[str, str], needs_derivative: bool = False
) -> str:
    lines = [f"cdef {signature} noexcept nogil:", f'    """{docstring}"""', "    cdef int64_t i"]
    lines += ["    cdef real d"] if needs_derivative else []
    for number, (name, body) in enumerate(bodies.items()):
        lines.append(f"    {'elif' if number else 'if'} code == {name.upper()}:")
        lines += ["        for i in range(n):", f"            {body}"]
    return "\n".join(lines)


def _updates(optimizers: dict) -> str:
    lines = [
        "cdef WeightSums update_by_code(const Optimizer* optimizer, const StepRates* rates,",
        "                               real_target w, const real* g, real_target m,",
        "                               real_target v, int64_t n) noexcept nogil:",
        '    """Run `update_loop` for the formula of an optimiser."""',
        "    cdef int64_t code = formula_of(optimizer)",
        "    cdef UpdateConstants c = constants_of(optimizer, rates)",
    ]
    for name in [*optimizers, "momentum", "nesterov"]:
        formula = "ADAM" if name == "adamw" else name.upper()  # its decay is the only difference
        lines.append(f"    if code == {name.upper()}:")
        lines.append(f"        return update_loop({formula}, c, w, g, m, v, n)")
    return "\n".join([*lines, "    return WeightSums(0, 0)"])
