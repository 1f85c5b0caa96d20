"""The temporary file that becomes another: made beside it, locked while its writer lives.

A writer that is killed leaves its temporary file behind. The next writer in that folder removes it,
once it is certain that its owner is dead: a live one holds a lock on it (``flock``), which the
system drops with the process. Between machines that share a folder, and where there are no locks,
locks prove nothing; then a leftover must also be a day old.
"""

import contextlib
import errno
import functools
import hashlib
import os
import platform
import re
import stat
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NAME = re.compile(r"\.fastnn-(?:([0-9a-f]{8})-)?[0-9a-f]{16}\.tmp")
_ATTEMPTS = 100
_OLD = 24 * 3600  # seconds without a change; no write of a file takes so long
# Flags that some systems lack.
_CLOSE_ON_EXEC, _NO_FOLLOW, _NO_WAIT, _BINARY = (
    getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
)


def open_temporary(folder: Path, mode: int) -> tuple[int, Path]:
    """Make a new file in ``folder`` with at most these permissions, and lock it.

    Returns
    -------
    int, Path
        An open descriptor, which holds the lock, and the file.

    Raises
    ------
    OSError
        The folder takes no new file.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _CLOSE_ON_EXEC | _NO_FOLLOW | _BINARY
    for _ in range(_ATTEMPTS):
        path = folder / f".fastnn-{_machine()}-{os.urandom(8).hex()}.tmp"
        descriptor = os.open(path, flags, mode)
        # Another writer may have found the file before it was locked, and removed it.
        if _lock(descriptor) is not False and os.path.lexists(path):
            return descriptor, path
        os.close(descriptor)
        path.unlink(missing_ok=True)
    raise BlockingIOError(errno.EAGAIN, "no temporary file can be locked", str(folder))


def remove_leftovers(folder: Path, now: float) -> None:
    """Remove temporary files in ``folder`` whose writers are certainly dead.

    Parameters
    ----------
    folder : Path
    now : float
        The time by the folder's own clock, which on a network folder is another machine's.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match is None:
                continue
            # One that cannot be examined or removed, another user's for instance, stays.
            with contextlib.suppress(OSError):
                _remove_if_dead(entry.path, match[1] == _machine(), now)


def _remove_if_dead(path: str, made_here: bool, now: float) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    descriptor = os.open(path, os.O_RDWR | _CLOSE_ON_EXEC | _NO_FOLLOW | _NO_WAIT | _BINARY)
    try:
        is_old = now - os.fstat(descriptor).st_mtime > _OLD
        locked = _lock(descriptor)
        if locked is False or not (is_old or (locked and made_here)):
            return
        if fcntl is not None:
            os.unlink(path)  # while it is locked, so that no writer starts to use it
            return
    finally:
        os.close(descriptor)
    os.unlink(path)  # Windows removes no open file


def _lock(descriptor: int) -> bool | None:
    """Whether this process holds the lock now; ``None`` where the file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@functools.cache
def _machine() -> str:
    """Eight digits that stand for the running kernel, which its containers share, as do locks."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        identity = platform.node()
    return hashlib.sha256(identity.encode()).hexdigest()[:8]
