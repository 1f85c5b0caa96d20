"""Write what the guide's code prints below it, in all languages: python tools/refresh_docs.py

Each Python block that is followed by a text block gets its output there. Translations show the same
code, so they get the same output.
"""

import contextlib
import io
import re
from pathlib import Path

from fastnn._utils.files import write_atomically

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?P<shown>\n```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE
)


def outputs(page: str) -> list[str]:
    """What each Python block prints, run one after the other."""
    namespace, printed = {"__name__": "__main__"}, []
    for block in BLOCK.finditer(page):
        with contextlib.redirect_stdout(io.StringIO()) as text:
            exec(compile(block["code"], "guide.md", "exec"), namespace)
        printed.append(text.getvalue())
    return printed


def with_outputs(page: str, printed: list[str]) -> str:
    """The page with these outputs in its text blocks."""
    each = iter(printed)

    def refresh(block):
        output, code = next(each), block[0].removesuffix(block["shown"] or "")
        return f"{code}\n```text\n{output}```\n" if block["shown"] else code

    return BLOCK.sub(refresh, page)


def main():
    printed = outputs((DOCS / "guide.md").read_text(encoding="utf-8"))
    for path in (DOCS / "guide.md", *DOCS.glob("guide.*.md")):
        write_atomically(path, with_outputs(path.read_text(encoding="utf-8"), printed).encode())


if __name__ == "__main__":
    main()
