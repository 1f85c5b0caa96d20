"""Drop files from the page cache: a cold start reads its libraries from the disk.

The system keeps pages that other processes have mapped, such as Python's own library. The start
that follows is therefore a little faster than the first one after booting. This needs Linux, but no
privileges.
"""

import contextlib
import os
import sysconfig
from pathlib import Path

import fastnn as fnn

POSSIBLE = hasattr(os, "posix_fadvise")


def forget() -> None:
    """Drop Python's standard library, all installed packages and fastnn."""
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
