"""The Cython source that the build generates from the kernels' tables."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, NamedTuple, get_args, get_type_hints

import numpy as np
import pytest

from fastnn._kernels import opcodes, tables
from fastnn._kernels.kernel_arguments import KernelArguments
from fastnn._kernels.tables import ActivationRow, OptimizerRow
from fastnn._kernels.vocabulary import vocabulary

ROOT = Path(__file__).parents[1]
if not (ROOT / "tools" / "generate_pxi.py").exists():
    pytest.skip("needs the source tree", allow_module_level=True)

TABLES = {"ACTIVATIONS": tables.ACTIVATIONS, "LOSSES": tables.LOSSES}
TABLES["OPTIMIZERS"] = tables.OPTIMIZERS


@pytest.fixture
def generate(monkeypatch):
    """The module that generates."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import generate_pxi

    return generate_pxi


def with_rows(**rows):
    """The tables with further rows."""
    return SimpleNamespace(**{name: table | rows.get(name, {}) for name, table in TABLES.items()})


def function(text, name):
    """The text of one generated function."""
    start = re.search(rf"^cdef .*\b{name}\(", text, re.MULTILINE).start()
    return re.split(r"\n\n(?=cdef )", text[start:])[0]


def test_each_file_is_generated_from_the_tables(generate):
    files = generate.include_files(ROOT)
    assert list(files) == ["opcodes.pxi", "arguments.pxi", "dispatch.pxi"]
    assert files["opcodes.pxi"] == generate.opcodes_pxi(opcodes, tables, vocabulary())
    assert files["arguments.pxi"] == generate.arguments_pxi(KernelArguments)
    assert files["dispatch.pxi"] == generate.dispatch_pxi(tables)
    sources = ROOT / "fastnn" / "_kernels" / "cython_cpu"
    whole = "".join(path.read_text(encoding="utf-8") for path in sources.glob("*.p[xy][xi]"))
    assert all(f'include "{name}"' in whole for name in files)


# --- opcodes.pxi ----------------------------------------------------------------------------------


def test_constants_codes_and_records_are_those_of_the_kernels(generate):
    text = generate.opcodes_pxi(opcodes, tables, vocabulary())
    records = {name: value for name, value in vars(opcodes).items() if isinstance(value, np.dtype)}
    assert set(records) == {"OP", "OPTIMIZER", "LOSS"}
    for name, value in records.items():
        kinds = {"f": "double", "i": "int64_t"}
        fields = "\n".join(f"    {kinds[value[field].kind]} {field}" for field in value.names)
        assert f"ctypedef struct {name.capitalize()}:\n{fields}\n" in text
    constants = {name: value for name, value in vars(opcodes).items() if type(value) is int}
    for table in TABLES.values():
        constants |= {name.upper(): row.code for name, row in table.items()}
    for name, value in constants.items():
        if name.isupper():
            assert text.count(f"\n    {name} = {value}\n") == 1, name
    assert (
        ast.literal_eval(re.search(r"^VOCABULARY = (.*)$", text, re.MULTILINE)[1]) == vocabulary()
    )


def test_what_rows_say_becomes_functions_of_the_code(generate):
    text = generate.opcodes_pxi(opcodes, tables, vocabulary())
    cases = {int(code): (float(low), float(high)) for code, low, high in re.findall(
        r"case (\d+): \*low = (\S+); \*high = (\S+); return 1;", text
    )}  # fmt: skip
    assert cases == {r.code: r.saturation for r in tables.ACTIVATIONS.values() if r.saturation}
    for name, rows, attribute in (
        ("needs_z", tables.ACTIVATIONS, "needs_z"),
        ("corrects_bias", tables.OPTIMIZERS, "bias_correction"),
        ("decouples_decay", tables.OPTIMIZERS, "decoupled_decay"),
    ):
        codes = {row.code for row in rows.values() if getattr(row, attribute)}
        assert set(map(int, re.findall(r"code == (\d+)", function(text, name)))) == codes


def test_a_record_that_c_would_lay_out_otherwise_is_refused(generate):
    for record in ([("code", np.int32)], [("code", np.int64), ("rate", np.float32)]):
        other = SimpleNamespace(OP=np.dtype(record, align=True))
        with pytest.raises(ValueError, match="OP must consist of fields of 8 bytes"):
            generate.opcodes_pxi(other, tables, {})


# --- arguments.pxi --------------------------------------------------------------------------------


def test_the_context_has_every_argument_in_its_place(generate):
    text = generate.arguments_pxi(KernelArguments)
    assert f"if len(arguments) != {len(KernelArguments._fields)}:" in text
    for number, (name, hint) in enumerate(
        get_type_hints(KernelArguments, None, None, True).items()
    ):
        if get_args(hint) and get_args(hint)[0] is np.ndarray:
            c_type = get_args(hint)[1]
            assert f"\n    {c_type}* {name}\n    int64_t n_{name}, {name}_stride\n" in text
            assert (
                f"\n    array = <cnp.ndarray>arguments[{number}]\n"
                f"    ctx.{name} = <{c_type}*>data_or_null(array)\n"
            ) in text
        else:
            assert re.search(rf"\n    (int64_t|uint64_t|bint) {name}\n", text)
            assert f"\n    ctx.{name} = arguments[{number}]\n" in text


def test_an_argument_of_an_unknown_type_is_refused(generate):
    class Arguments(NamedTuple):
        theta: Annotated[np.ndarray, "real"]
        name: str

    with pytest.raises(KeyError):
        generate.arguments_pxi(Arguments)


# --- dispatch.pxi ---------------------------------------------------------------------------------

NEW = {
    "new": ActivationRow(code=98, formula="z"),
    "newer": ActivationRow(code=99, formula="z", needs_z=True),
}


@pytest.mark.parametrize("further", [{}, NEW], ids=["", "further rows"])
def test_each_activation_has_its_loops(generate, further):
    rows = tables.ACTIVATIONS | further
    text = generate.dispatch_pxi(with_rows(ACTIVATIONS=further))
    from_z = {name for name, row in rows.items() if row.needs_z}
    from_output = set(rows) - from_z - {"linear"}
    for name, expected in (
        ("activate_all", from_output | from_z),
        ("activate_with_derivative", from_z),
        ("multiply_by_derivative", from_output),
    ):
        found = re.findall(r"code == (\w+):", function(text, name))
        assert sorted(found) == sorted(entry.upper() for entry in expected), name
    for name in from_z:
        assert function(text, "activate_all").count(f" fd_{name}(z[i], alpha, &d)") == 1
        assert function(text, "activate_with_derivative").count(f" fd_{name}(z[i], ") == 1
    for name in from_output:
        assert function(text, "activate_all").count(f" f_{name}(z[i], alpha)") == 1
        assert function(text, "multiply_by_derivative").count(f" d_{name}(y[i], alpha)") == 1


@pytest.mark.parametrize(
    "further", [{}, {"new": OptimizerRow(code=99, n_slots=1)}], ids=["", "new"]
)
def test_each_optimizer_has_its_loop(generate, further):
    text = generate.dispatch_pxi(with_rows(OPTIMIZERS=further))
    cases = dict(re.findall(r"code == (\w+):\n +return update_loop\((\w+),", text))
    names = [name.upper() for name in [*tables.OPTIMIZERS, *further, "momentum", "nesterov"]]
    assert list(cases) == names
    assert cases == {name: "ADAM" if name == "ADAMW" else name for name in names}
