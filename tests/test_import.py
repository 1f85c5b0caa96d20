"""The package as a whole: a light import, and every public name there and documented."""

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
SOURCES = {
    path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", "."): path
    for path in PACKAGE.rglob("*.py")
}
SOURCES = {name.removesuffix(".__init__"): path for name, path in SOURCES.items()}
HEAVY = (
    "numba",
    "scipy",
    "matplotlib",
    "rich",
    "pyarrow",
    "torch",
    "safetensors",
    "click",
    "pandas",
)

# What writes to standard output because that is its purpose.
PRINTING = {"cli", "experiments", "nielsen"}


def python(code):
    """What a new interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LIGHT = {
    "import": "import fastnn",
    "network": "import fastnn as f; f.Network([f.Dense(3, 'relu')], 4, 'mse', backend='numpy')",
    "predict": "import fastnn as f; f.mlp([4, 3], backend='numpy').predict([[1, 2, 3, 4]])",
    "fit": "import fastnn as f; f.mlp([4, 3], backend='numpy').fit([[1, 2, 3, 4]], [1])",
    "data": "import fastnn as f; f.data.k_fold; f.datasets.mnist",
}


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_nothing_heavy_is_imported(code):
    loaded = python(f"{code}\nimport sys; print(*sys.modules)")
    assert not set(loaded) & set(HEAVY)


def test_import_alone_does_not_need_typing():
    """In a bare interpreter it would take ten times as long as everything else."""
    folder = str(Path(fastnn.__file__).parents[1])
    code = f"import sys; sys.path.append({folder!r}); import fastnn; print('typing' in sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    assert subprocess.run(command, capture_output=True, text=True).stdout.strip() == "False"


def test_import_alone_does_not_need_numpy():
    assert "numpy" not in python("import fastnn, sys; print(*sys.modules)")


def test_every_public_name_is_there_and_listed():
    assert len(set(fastnn.__all__)) == len(fastnn.__all__)
    assert set(dir(fastnn)) >= set(fastnn.__all__)
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None, name


def test_the_contracts_names_are_public():
    contract = """Network mlp load Dense Activation BatchNorm LayerNorm Dropout GaussianNoise
    Residual SGD AdaGrad AdaDelta RMSProp Adam AdamW NAdam LBFGS Constant StepDecay Exponential
    InverseTime Cosine Warmup OneCycle EarlyStopping Checkpoint ReduceOnPlateau CSVLogger History
    check_gradients backends set_num_threads datasets data ModelFileError DivergenceError"""
    assert set(contract.split()) <= set(fastnn.__all__)


def test_type_checkers_see_the_names_that_load_on_first_use():
    """`fastnn.__getattr__` finds them when they are used; type checkers read imports."""
    tree = ast.parse(SOURCES["fastnn"].read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname: f"{node.module}.{alias.name}" for node in block.body for alias in node.names
    }
    names = {name: f"fastnn.{module}.{name}" for name, module in fastnn._HOME.items()}
    rooms = {name: f"fastnn.{name}" for name in fastnn._SUBMODULES}
    assert seen == names | rooms


def test_star_import():
    assert "Network" in python("from fastnn import *; print(*dir())")


def test_unknown_names_are_reported():
    with pytest.raises(AttributeError, match="'fastnn' has no attribute 'Netwrok'"):
        fastnn.Netwrok  # noqa: B018
    assert not hasattr(fastnn, "__wrapped__")


def public_members(owner):
    for name, member in inspect.getmembers(owner):
        home = getattr(member, "__module__", None) or getattr(
            getattr(member, "fget", None), "__module__", ""
        )
        if (
            not name.startswith("_")
            and home.startswith("fastnn")
            and (inspect.isroutine(member) or isinstance(member, property))
        ):
            yield name, member


@pytest.mark.parametrize("name", [name for name in fastnn.__all__ if name != "__version__"])
def test_every_public_name_is_documented(name):
    value = getattr(fastnn, name)
    assert (value.__doc__ or "").strip()
    assert not value.__doc__.startswith(f"{name}("), (
        "nothing but the signature that a dataclass makes up"
    )


def test_every_module_is_documented():
    undocumented = [
        name
        for name, path in SOURCES.items()
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not undocumented


@pytest.mark.parametrize("name", ["Network", "History", "Initializer", "Loss"])
def test_public_methods_are_documented(name):
    owner = getattr(fastnn, name)
    # attributes of the class may be documented there
    described = owner.__doc__.split("Attributes", 1)[-1]
    missing = [
        member
        for member, value in public_members(owner)
        if not value.__doc__ and member not in described
    ]
    assert not missing


# --- the rest -------------------------------------------------------------------------------------


def test_the_library_does_not_print():
    printing = []
    for name, path in SOURCES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "print"
            ):
                printing.append(name)
    assert not [name for name in printing if name.split(".")[1] not in PRINTING]


def test_the_version_is_that_of_the_distribution():
    assert importlib.metadata.version("fastnn") == fastnn.__version__
