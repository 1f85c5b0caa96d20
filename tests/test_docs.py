"""What the documentation shows works: examples in docstrings, and the Python blocks of the README."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import fastnn

ROOT = Path(fastnn.__file__).parents[1]
EXAMPLES = [path for path in sorted((ROOT / "fastnn").rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]
PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))] if path.exists()]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Examples may write files; they do so in a folder of their own, and show no windows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_in_docstrings(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
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
    text, namespace = page.read_text(encoding="utf-8"), {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)  # line numbers are the page's
