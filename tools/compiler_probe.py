"""What the C compiler at hand can do, found out by letting it try."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from setuptools.errors import BaseError, CCompilerError

FAILURES = (BaseError, CCompilerError)

# A level is a set of instructions that the compiler may use; the first is what it targets by
# itself.
LEVELS = {
    "base": [],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}
# NaN and infinity stay what they are: a divergence must be seen in the loss.
FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-freciprocal-math",
    "-ffp-contract=fast",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
    "-g0",
    "-Wno-unused-function",
]
# Sums may be taken in another order only where a·b + c is one instruction: elsewhere this would
# take careful arithmetic apart.
REORDER = "-fassociative-math"
HAS_FMA = "#if !defined(__FMA__) && !defined(__aarch64__)\n#error no fused multiply-add\n#endif\n"


class Probe:
    """A compiler of setuptools, asked what it accepts."""

    def __init__(self, compiler):
        self._compiler = compiler
        self._msvc = compiler.compiler_type == "msvc"

    def unavailable_reason(self) -> str | None:
        """Why no module can be compiled, or ``None``."""
        if error := self._error("typedef int nothing;\n"):
            return f"no working C compiler was found when fastnn was installed: {error}"
        if error := self._error("#include <Python.h>\n"):
            return f"Python's C headers were not found when fastnn was installed: {error}"
        return None

    def flags_of_levels(self) -> dict[str, list[str]]:
        """The levels that the compiler knows, each with all its flags.

        CFLAGS of the environment come after ours, but for the level's.
        """
        if self._msvc:
            return {"base": ["/O2"]}
        common = [*filter(self._accepts, FLAGS), *shlex.split(os.environ.get("CFLAGS", ""))]
        levels = {
            level: [*common, *flags] for level, flags in LEVELS.items() if self._accepts(*flags)
        }
        return {level: [*self._reorder(flags), *flags] for level, flags in levels.items()}

    def _reorder(self, flags: list[str]) -> list[str]:
        return (
            [REORDER]
            if self._error(HAS_FMA, flags) is None and self._accepts(*flags, REORDER)
            else []
        )

    def _accepts(self, *flags: str) -> bool:
        return self._error("typedef int nothing;\n", flags) is None

    def _error(self, source: str, flags: Sequence[str] = ()) -> str | None:
        """The first line of what the compiler says against ``source``."""
        with tempfile.TemporaryDirectory() as folder:
            file, said = Path(folder, "probe.c"), Path(folder, "said.txt")
            file.write_text(source)
            try:
                with _output_to(said):
                    self._compiler.compile([str(file)], output_dir=folder, extra_postargs=[*flags])
            except FAILURES as error:
                complaint = re.search(r"\b(fatal )?error\b.*", said.read_text(errors="replace"))
                return complaint.group().strip() if complaint else first_line(error)
        return None


def first_line(error: Exception) -> str:
    """The first line of an error's text, which is not the whole command."""
    cause = error.args[0] if error.args else error
    if isinstance(cause, subprocess.CalledProcessError):
        return f"{cause.cmd[0]} ended with exit status {cause.returncode}"
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """What this process and those it starts print goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    terminals = os.dup(1), os.dup(2)
    try:
        with open(path, "wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        for number, terminal in enumerate(terminals, 1):
            os.dup2(terminal, number)
            os.close(terminal)
