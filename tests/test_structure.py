"""The structure of the package: imports point downward, and files and functions stay small.

`FLOORS` is the plan: each room, a file or a folder of ``fastnn/``, imports from floors below alone.
"""

import ast
import graphlib
import re
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
SOURCES = {
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SOURCES = {name.removesuffix(".__init__"): path for name, path in SOURCES.items()}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}

# From the ground up. Rooms on one floor do not import each other; files in a room do, but not in
# circles.
FLOORS = [
    {"_version", "errors"},
    {"_utils"},
    {"_kernels"},
    {"data", "datasets", "optim", "engines"},
    {"nn", "tabular"},
    {"metrics"},
    {"callbacks"},
    {"diagnostics", "serialization"},
    {"training"},
    {"network", "recipes"},
    {"ensemble"},
    {"models"},
    {"nielsen", "plotting"},
    {"estimators"},
    {"experiments"},
    {"cli"},
    {"__main__"},
]

LINES, MODULES = 450, 14  # of a file, and in a folder
LENGTH, PARAMETERS = 60, 8  # of a function
CODE = {".py", ".pyx", ".pxi", ".h", ".c", ".sh"}
KERNEL_FOLDERS = {
    "fastnn/_kernels",
    "fastnn/_kernels/cython_cpu",
    "fastnn/_kernels/numba_cpu",
    "fastnn/_kernels/numba_cuda/kernels",
}


# --- imports --------------------------------------------------------------------------------------


def imports(name):
    """Modules of the package that a module imports anywhere in it, for type checkers too."""
    path = SOURCES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            found = [
                f"{base}.{alias.name}" if f"{base}.{alias.name}" in SOURCES else base
                for alias in node.names
            ]
        else:
            continue
        yield from (other for other in found if other in SOURCES and other != name)


IMPORTS = {name: set(imports(name)) for name in SOURCES}


def room(name):
    return name.split(".")[1]


def floor(name):
    found = [number for number, rooms in enumerate(FLOORS) if room(name) in rooms]
    assert found, f"{name} has no place in FLOORS: put it on a floor"
    return found[0]


@pytest.mark.parametrize("name", sorted(set(SOURCES) - {"fastnn"}))
def test_imports_point_downward(name):
    assert "fastnn" not in IMPORTS[name], f"{name} imports the package, which stands above all"
    above = [
        other
        for other in IMPORTS[name]
        if room(other) != room(name) and floor(other) >= floor(name)
    ]
    assert not above, f"{name} imports what is not below it"


def test_every_room_stands_once_in_the_plan():
    rooms = [room for rooms in FLOORS for room in rooms]
    assert sorted(rooms) == sorted({room(name) for name in SOURCES if name != "fastnn"})


def test_files_import_each_other_in_no_circle():
    graphlib.TopologicalSorter(IMPORTS).prepare()


def test_the_package_itself_imports_nothing_until_a_name_is_used():
    """Only type checkers read the imports under its ``if TYPE_CHECKING``."""
    at_import = [node for node in TREES["fastnn"].body if not isinstance(node, ast.If)]
    nodes = [inner for node in at_import for inner in ast.walk(node)]
    found = [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    assert found == ["import importlib"]


def test_kernels_import_nothing_above_them():
    """What an engine is given is plain arrays and records."""
    kernels = [name for name in SOURCES if room(f"{name}.") == "_kernels"]
    outside = {other for name in kernels for other in IMPORTS[name]} - set(kernels)
    assert {room(other) for other in outside} <= {"_utils", "_version"}


def test_the_reference_shares_no_arithmetic_with_compiled_kernels():
    assert IMPORTS["fastnn._kernels.reference"] <= {
        "fastnn._kernels.opcodes",
        "fastnn._kernels.philox",
        "fastnn._kernels.contract",
        "fastnn._kernels.tables",
    }


def test_reading_a_model_file_does_not_need_the_network():
    """`load` reads, checks, then builds: neither module calls private functions of the other."""
    assert not {"fastnn.network", "fastnn.models"} & IMPORTS["fastnn.serialization"]
    for user, used in [("network", "serialization"), ("models", "serialization")]:
        private = re.findall(rf"\b{used}\._\w+", SOURCES[f"fastnn.{user}"].read_text())
        assert not private
    assert not re.findall(r"\bnet\._\w+", SOURCES["fastnn.serialization"].read_text())


# --- sizes ----------------------------------------------------------------------------------------


def test_files_are_short():
    """Those of the package, of the tests, and in a checkout of the tools and benchmarks."""
    root = Path(__file__).parents[1]
    folders = [PACKAGE, *(root / name for name in ("tests", "tools", "benchmarks", "docs"))]
    paths = [path for folder in folders for path in folder.rglob("*") if path.suffix in CODE]
    lines = {str(path): len(path.read_text().splitlines()) for path in paths}
    assert not {path: n for path, n in lines.items() if n > LINES}


def test_folders_hold_few_modules():
    folders = {path.parent for path in SOURCES.values()}
    names = {folder: folder.relative_to(PACKAGE.parent).as_posix() for folder in folders}
    crowded = {
        names[folder]: n
        for folder in folders
        if names[folder] not in KERNEL_FOLDERS and (n := len(list(folder.glob("*.py")))) > MODULES
    }
    assert not crowded


def functions(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function):
    """Lines from ``def`` to the end, without the docstring."""
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= docstring.end_lineno - docstring.lineno + 1
    return lines


def parameter_names(function):
    a = function.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, [a.vararg, a.kwarg])]
    names = [argument.arg for argument in named]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def reasons(lines, function):
    """The words that begin comment lines directly above a function, or above its decorators."""
    starts = {function.lineno, *(d.lineno for d in function.decorator_list)}
    words = set()
    for start in (min(starts), max(starts)):
        number = start - 2
        while number >= 0 and lines[number].lstrip().startswith("#"):
            words |= set(re.findall(r"^\s*# (Long|Parameters): \S", lines[number]))
            number -= 1
    return words


@pytest.mark.parametrize("name", SOURCES)
def test_functions_are_short_or_say_why(name):
    """A longer one has the reason above it: ``# Long: …`` or ``# Parameters: …``."""
    lines = SOURCES[name].read_text().splitlines()
    for function in functions(name):
        given = reasons(lines, function)
        wanted = set()
        if length(function) > LENGTH:
            wanted.add("Long")
        if len(parameter_names(function)) > PARAMETERS:
            wanted.add("Parameters")
        assert given == wanted, (
            f"{name}:{function.lineno} {function.name} has {length(function)} lines and "
            f"{len(parameter_names(function))} parameters"
        )
