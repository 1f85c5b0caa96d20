"""Download and installed size of a package, alone and with its dependencies.

    python benchmarks/sizes.py dist/fastnn-0.1.0-*.whl torch==2.13.0

Each is installed into a virtual environment of its own. The download is the size of its wheel. The
installed size is the sum of the files that its installation recorded, bytecode included. A megabyte
is 10⁶ bytes.
"""

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import report

# Run inside the environment: bytes of each distribution.
_INSTALLED = """
import importlib.metadata as metadata, json
def size(distribution):
    paths = [file.locate() for file in distribution.files]
    return sum(path.stat().st_size for path in paths if path.exists())
print(json.dumps({each.name: size(each) for each in metadata.distributions()}))
"""


def measure(requirement: str) -> dict[str, dict[str, int]]:
    """Bytes of each distribution: its wheel, and its files once installed."""
    with tempfile.TemporaryDirectory() as folder:
        wheels, environment = Path(folder, "wheels"), Path(folder, "environment")
        venv.create(environment, with_pip=True)
        python = next(
            path
            for path in (environment / "bin" / "python", environment / "Scripts" / "python.exe")
            if path.exists()
        )
        before = json.loads(_run(python, "-I", "-c", _INSTALLED))
        _run(
            python,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--only-binary=:all:",
            "--dest",
            wheels,
            requirement,
        )
        _run(python, "-m", "pip", "install", "--quiet", *wheels.iterdir())
        installed = json.loads(_run(python, "-I", "-c", _INSTALLED))
        return {
            "download": {path.name: path.stat().st_size for path in sorted(wheels.iterdir())},
            "installed": {
                name: size for name, size in sorted(installed.items()) if name not in before
            },
        }


def _run(*command: str | Path) -> str:
    return subprocess.run(
        [*map(str, command)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _lines(sizes: dict[str, int]) -> str:
    rows = [*sizes.items(), ("together", sum(sizes.values()))]
    return report.table(["", "MB"], [[name, f"{size / 1e6:.1f}"] for name, size in rows])


def main() -> None:
    for requirement in sys.argv[1:]:
        for what, sizes in measure(requirement).items():
            print(f"\n{requirement}: {what}\n{_lines(sizes)}", flush=True)


if __name__ == "__main__":
    main()
