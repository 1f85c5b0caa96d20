"""Files out of memory: a first start reads its libraries from the disk.

The system is asked to forget what it holds of a file. It keeps what other processes have mapped,
such as Python's own library, so the start that follows is a little faster than the one after the
machine was switched on. It needs no rights, but Linux.
"""

import contextlib
import os
import sysconfig
from pathlib import Path

import fastnn as fnn

POSSIBLE = hasattr(os, "posix_fadvise")


def forget() -> None:
    """Ask the system to forget Python's standard library, all packages installed, and fastnn."""
    for folder in {
        *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")),
        str(Path(fnn.__file__).parent),
    }:
        for parent, _, names in os.walk(folder):
            for name in names:
                with contextlib.suppress(OSError):  # a link that leads nowhere
                    _forget_file(os.path.join(parent, name))


def _forget_file(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
