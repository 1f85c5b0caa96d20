"""Run the cases and write their results to a file, with what they depend on."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cases import select_cases

import fastnn as fnn

PROGRESS = 500  # cases between two lines of progress


def write(path: Path, engines: Sequence[str], only: str) -> int:
    """Run the cases and write their results.

    Parameters
    ----------
    path : Path
        The JSON file to write: ``about``, and ``cases`` by name.
    engines : sequence of str
    only : str
        A text that the names of cases must contain.

    Returns
    -------
    int
        The exit status: 1 if a case failed or there was none.
    """
    compile_numba(engines)
    started, results, failed = time.perf_counter(), {}, 0
    cases = select_cases(engines, only)
    for number, (name, run) in enumerate(cases.items(), 1):
        try:
            results[name] = run()
        except Exception as error:  # the file records it, and `compare` counts it as a difference
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            print(f"failed: {name}: {results[name]['error']}", file=sys.stderr)
            failed += 1
        if number % PROGRESS == 0:
            print(f"{number} of {len(cases)} after {time.perf_counter() - started:.0f} s")
    write_json(path, {"about": about(), "cases": results})
    seconds = time.perf_counter() - started
    print(f"{len(results)} cases, {failed} failed, {seconds:.0f} s; written to {path}")
    report_threads(results)
    return 1 if failed or not results else 0


def report_threads(results: Mapping[str, Any]) -> None:
    """Print how many cases on two threads differ from those on one.

    Two threads sum in another order. Where nothing differs, probably only one thread ran.
    """
    pairs = {name: name.replace(" 2 |", " 1 |") for name in results if " 2 |" in name}
    differing = sum(results[two] != results.get(one) for two, one in pairs.items())
    print(f"{len(pairs)} cases on two threads, {differing} of them with other bits than on one")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def about() -> dict[str, Any]:
    """What results depend on beside fastnn, and the folder of fastnn."""
    packages = ("numpy", "scipy", "numba", "llvmlite", "safetensors")
    settings = ("FASTNN_CPU_LEVEL", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE")
    return {
        "fastnn": str(Path(fnn.__file__).parent),
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {processor()}",
        **{package: version(package) for package in packages},
        **{name: os.environ.get(name) for name in settings},
    }


def processor() -> str:
    """The model name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def compile_numba(engines: Sequence[str]) -> None:
    """Compile Numba's kernels in another process, unless they are in its cache.

    The process that compiles them contracts a b + c d in other places than the processes that
    read them from the cache.
    """
    if "numba" in engines:
        run_fastnn("warmup")


def run_fastnn(*arguments: Any) -> None:
    """Run ``python -m fastnn`` of the version that is imported here.

    Raises
    ------
    RuntimeError
        If the command fails; the message contains its output.
    """
    # With -P the current folder is not searched: it may hold another version.
    command = [sys.executable, "-P", "-m", "fastnn", *map(str, arguments)]
    folders = [str(Path(fnn.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
