"""How the kernels of the Cython engine are compiled: one C file, for each dtype and level.

One wheel is then fast on new processors and runs on old ones; `fastnn._kernels.cython_cpu.levels`
chooses among its modules. Without a compiler the package is built all the same and says why this
engine is missing; FASTNN_REQUIRE_EXT=1 makes that an error.
"""

import os
import re
from pathlib import Path
from typing import ClassVar

from compiler_probe import FAILURES, LEVELS, Probe, first_line
from generate_pxi import include_files
from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

KERNELS = Path("fastnn", "_kernels")
FOLDER = KERNELS / "cython_cpu"
PYX = FOLDER / "cython_cpu.pyx"
UNAVAILABLE_NOTE = FOLDER / "unavailable_reason.txt"
NUMBER_TYPES = {"float32": "float", "float64": "double"}

# A module of its own name and number type, around the C file that all share.
MODULE = """#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define REAL {real}
#define PyInit_cython_cpu PyInit_{name}
#if defined(_MSC_VER)
#define INLINED __forceinline
#else
#define INLINED inline __attribute__((always_inline))
#endif
#include "{c_file}"
"""


def extensions() -> list[Extension]:
    """The modules that there can be; which of them are compiled depends on the compiler."""
    tables = [KERNELS / f"{name}.py" for name in ("opcodes", "tables", "kernel_arguments")]
    depends = [*tables, *sorted(FOLDER.glob("*.pxi")), *sorted(FOLDER.glob("*.h"))]
    settings = {
        "depends": [*map(str, depends)],
        "optional": os.environ.get("FASTNN_REQUIRE_EXT", "0") != "1",
    }
    names = [f"{number_type}_{level}" for level in LEVELS for number_type in NUMBER_TYPES]
    return [
        Extension(f"fastnn._kernels.cython_cpu.{name}", [str(PYX)], **settings) for name in names
    ]


class BuildKernels(build_ext):
    """The command ``build_ext``; it also chooses flags and notes why modules are missing."""

    user_options: ClassVar = [
        *build_ext.user_options,
        ("only=", None, "the modules to compile, separated by commas: float32_v4,float64_v4"),
    ]

    def initialize_options(self):
        super().initialize_options()
        self.only = None
        self.parallel = os.cpu_count()

    def finalize_options(self):
        super().finalize_options()
        if self.only is not None:
            self.extensions = [
                extension
                for extension in self.extensions
                if _name(extension) in self.only.split(",")
            ]

    def build_extensions(self):
        self._wanted, self._failures = self.extensions, []
        try:
            self.extensions = self._prepared(self._wanted)
        except FAILURES as error:
            if not all(extension.optional for extension in self._wanted):
                raise
            self.extensions = []
            self._failures.append(str(error))
            self.warn(str(error))
        for extension in self._wanted:
            if extension not in self.extensions:
                self._output(extension).unlink(missing_ok=True)
        super().build_extensions()
        self._write_note(Path(self.build_lib, UNAVAILABLE_NOTE))

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except FAILURES as error:
            self._output(ext).unlink(missing_ok=True)
            self._failures.append(
                f"{_name(ext)} did not compile when fastnn was installed: {first_line(error)}"
            )
            raise

    def copy_extensions_to_source(self):
        """For an editable install; modules of another build that this one lacks are removed."""
        super().copy_extensions_to_source()
        for extension in self._wanted:
            if not self._output(extension).exists():
                (FOLDER / self._output(extension).name).unlink(missing_ok=True)
        self._write_note(UNAVAILABLE_NOTE)

    def _prepared(self, wanted: list[Extension]) -> list[Extension]:
        """Those of the modules that the compiler can make, with their sources and flags."""
        probe = Probe(self.compiler)
        if reason := probe.unavailable_reason():
            raise PlatformError(reason)
        c_file, levels = self._translate(), probe.flags_of_levels()
        for extension in wanted:
            number_type, level = _name(extension).split("_")
            source = c_file.parent / f"{_name(extension)}.c"
            _write(
                source,
                MODULE.format(
                    name=_name(extension), real=NUMBER_TYPES[number_type], c_file=c_file.name
                ),
            )
            extension.sources, extension.extra_compile_args = [str(source)], levels.get(level)
            extension.depends.append(str(c_file))
            extension.libraries = [] if self.compiler.compiler_type == "msvc" else ["m"]
        return [extension for extension in wanted if extension.extra_compile_args is not None]

    def _translate(self) -> Path:
        """Run Cython; returns the C file that all modules share."""
        import numpy as np
        from Cython.Build import cythonize

        folder = Path(self.build_temp, "cython")
        for name, text in include_files(Path(__file__).resolve().parents[1]).items():
            _write(folder / name, text)
        self.compiler.add_include_dir(str(FOLDER))
        self.compiler.add_include_dir(np.get_include())
        whole = Extension("fastnn._kernels.cython_cpu.cython_cpu", [str(PYX)])
        translated = cythonize(
            whole, build_dir=str(folder), include_path=[str(folder)], quiet=True, force=self.force
        )[0].sources[0]
        kernels = Path(translated).with_name("kernels.c")
        # What is inline in the source always is; Cython's own functions may be recursive.
        own = r"^static CYTHON_INLINE (?=.*\b__pyx_f_6fastnn_)"
        _write(
            kernels,
            re.sub(
                own,
                "static INLINED ",
                Path(translated).read_text(encoding="utf-8"),
                flags=re.MULTILINE,
            ),
        )
        return kernels

    def _output(self, extension: Extension) -> Path:
        return Path(self.build_lib, self.get_ext_filename(extension.name))

    def _write_note(self, path: Path) -> None:
        """Why modules are missing, for `levels.unavailable_reason`."""
        if self._failures:
            _write(path, self._failures[0] + "\n")
        else:
            path.unlink(missing_ok=True)


def _name(extension: Extension) -> str:
    return extension.name.rpartition(".")[2]


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all, and only if it changes, so that its age tells something."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
