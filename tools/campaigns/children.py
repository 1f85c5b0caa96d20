"""Processes of a campaign: they import the same fastnn, and none outlives its attempt."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fastnn

_LONGEST = 300  # seconds; what takes longer hangs


def environment() -> dict[str, str]:
    """That of this process, with its fastnn first in the path, and BLAS as users have it."""
    home = str(Path(fastnn.__file__).parents[1])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH", "")]))
    found = {**os.environ, "PYTHONPATH": path}
    found.pop("OPENBLAS_NUM_THREADS", None)  # which campaign.py sets for its own process
    return found


@contextlib.contextmanager
def process(*arguments: str, folder: Path) -> Iterator[subprocess.Popen]:
    """A Python process in a session of its own, so that Ctrl-C reaches the campaign alone."""
    child = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment(),
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def finished(child: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, standard output and error of a process that ends soon."""
    out, err = child.communicate(timeout=_LONGEST)
    return child.returncode, out, err


def run(*arguments: str, folder: Path) -> tuple[int, str, str]:
    """Exit status, standard output and error of a Python process."""
    with process(*arguments, folder=folder) as child:
        return finished(child)


@contextlib.contextmanager
def forked(work: Callable[[], object]) -> Iterator[int]:
    """A child of this process that does ``work``; begins once the child has begun."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.write(writing, b"begun")
            work()
            os._exit(0)
        os._exit(1)
    os.close(writing)
    try:
        os.read(reading, 1)
        yield child
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def killed_after(work: Callable[[], object], seconds: float) -> None:
    """Do ``work`` in a child and kill it after so many seconds, wherever it is then."""
    with forked(work):
        time.sleep(seconds)
