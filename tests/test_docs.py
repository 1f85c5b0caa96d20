"""What the documentation shows works: examples, Python blocks, their output, and pictures."""

import ast
import contextlib
import doctest
import importlib
import io
import re
import runpy
from pathlib import Path

import pytest

import fastnn

ROOT = Path(fastnn.__file__).parents[1]
EXAMPLES = [
    path
    for path in sorted((ROOT / "fastnn").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
DOCS = ROOT / "docs"
TRANSLATIONS = sorted(DOCS.glob("**/*.ko.md"))
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))]
    if path.exists() and path not in TRANSLATIONS
]
BLOCK = re.compile(
    r"^```python[^\n]*\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+\.png)\)")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Examples may write files; they do so in a folder of their own, and show no windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert result.attempted > 0
    assert result.failed == 0


def test_the_networks_example_is_among_them():
    assert "network" in [path.stem for path in EXAMPLES]


def test_there_is_a_readme():
    if not (ROOT / "README.md").exists():
        pytest.skip("no README.md beside the tests: they run without the sources")
    assert BLOCK.search((ROOT / "README.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_python_blocks_run_one_after_the_other(page):
    """And print what the page says they print, if it does."""
    text, namespace = page.read_text(encoding="utf-8"), {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("code"))
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            # line numbers are the page's
            exec(compile("\n" * line + block["code"], str(page), "exec"), namespace)
        if block["output"] is not None:
            assert_alike(printed.getvalue(), block["output"], f"{page.name}, line {line}")


def assert_alike(printed, shown, place):
    """The same words; numbers may differ by what another processor's rounding does to training."""
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", shown), place
    ours, theirs = ([float(number) for number in NUMBER.findall(text)] for text in (printed, shown))
    assert ours == pytest.approx(theirs, rel=0.25, abs=0.03), place


@pytest.mark.parametrize("page", TRANSLATIONS, ids=lambda path: path.name)
def test_translations_show_the_same_code_and_output(page):
    """So they need not run: all but comments is the same."""
    original = page.with_name(page.name.replace(".ko.md", ".md"))
    ours, theirs = (
        [untranslated(block) for block in BLOCK.finditer(path.read_text(encoding="utf-8"))]
        for path in (page, original)
    )
    assert ours == theirs


def untranslated(block):
    """A block's output, and its code without comments and docstrings."""
    code = ast.parse(block["code"])
    for node in ast.walk(code):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    return ast.unparse(code), block["output"]


@pytest.mark.parametrize("page", [*PAGES, *TRANSLATIONS], ids=lambda path: path.name)
def test_pictures_are_there_and_described(page):
    for alternative, target in PICTURE.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).is_file(), target
        assert len(alternative) > 20, target


def test_every_picture_is_made_by_the_script_and_shown():
    if not DOCS.is_dir():
        pytest.skip("no docs/ beside the tests: they run without the sources")
    pytest.importorskip(
        "matplotlib", reason="Matplotlib is not installed: pip install 'fastnn[plot]'"
    )
    made = runpy.run_path(str(DOCS / "make_pictures.py"))["PICTURES"]
    pictures = {path.relative_to(ROOT).as_posix() for path in (DOCS / "pictures").iterdir()}
    shown = {
        (page.parent / target).relative_to(ROOT).as_posix()
        for page in PAGES
        for _, target in PICTURE.findall(page.read_text(encoding="utf-8"))
    }
    of_benchmarks = {name for name in shown if name.startswith("benchmarks/results/")}
    assert pictures == {f"docs/pictures/{name}.png" for name in made} == shown - of_benchmarks
    assert all((ROOT / name).stat().st_size < 120_000 for name in shown)
