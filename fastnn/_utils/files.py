"""The user's cache folder, and atomic writing of files."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastnn._utils.temporary import open_temporary, remove_leftovers

_FRESH, _PRIVATE = 0o666, 0o600  # permissions of a temporary file: the umask's, or its owner's only


def cache_directory() -> Path:
    """The user's cache folder of this library; it may not exist yet.

    Linux: ``$XDG_CACHE_HOME`` or ``~/.cache``; macOS: ``~/Library/Caches``; Windows:
    ``%LOCALAPPDATA%``.
    """
    if sys.platform == "win32":
        base, default = os.environ.get("LOCALAPPDATA", ""), Path("AppData", "Local")
    elif sys.platform == "darwin":
        base, default = "", Path("Library", "Caches")
    else:
        base, default = os.environ.get("XDG_CACHE_HOME", ""), Path(".cache")
    # The XDG rules say to ignore a relative path.
    return (Path(base) if os.path.isabs(base) else Path.home() / default) / "fastnn"


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``: a reader finds the old file or the new one, never a part of it.

    A new file has the permissions that the umask leaves, and one that is replaced keeps its own,
    and its owner and group where this process may give files away. Of a file with several names
    (hard links) only ``path`` changes, so that a backup made of links stays as it was. What is no
    regular file, a device or a pipe, is written into, and so is a file that is a mount point of its
    own, which cannot be replaced.

    Raises
    ------
    OSError
        The file cannot be written. An old file is then intact, and no temporary file is left.
    """
    old = _status(path)
    if old is not None and _is_written_into(path, old):
        _check_special(path, old)
        _write_into(path, data)
        return
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    _check_replaceable(path, target, old)
    with _naming(path):
        descriptor, temporary = open_temporary(target.parent, _FRESH if old is None else _PRIVATE)
    try:
        with open(descriptor, "wb") as file, _naming(path):
            remove_leftovers(target.parent, os.fstat(descriptor).st_mtime)
            file.write(data)
            file.flush()
            if old is not None:
                _take_over(descriptor, temporary, old)
            os.fsync(descriptor)
            # Windows renames no open file; elsewhere the lock is held until the name is final.
            if os.name == "nt":
                file.close()
            os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if not (isinstance(error, OSError) and error.errno == errno.EBUSY):
            raise
        _write_into(path, data)  # a mount point


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the ``OSError`` that `write_atomically` would raise, before any work is lost.

    It makes a temporary file where the writer would, and removes it. Space that runs out later is
    all that it cannot foresee.
    """
    old = _status(path)
    if old is not None and _is_written_into(path, old):
        _check_special(path, old)
        return
    target = Path(os.path.realpath(path))
    _check_replaceable(path, target, old)
    with _naming(path):
        descriptor, temporary = open_temporary(target.parent, _PRIVATE)
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def check_apart(outputs: Mapping[str, Any], inputs: Mapping[str, Any] | None = None) -> None:
    """Raise `ValueError` where an output is an input or another output, under whatever name.

    Parameters
    ----------
    outputs, inputs : mapping
        What a file is for → its path, or ``None``.
    """
    given = [(name, path) for name, path in outputs.items() if path is not None]
    others = [(name, path) for name, path in (inputs or {}).items() if path is not None]
    for number, (name, path) in enumerate(given):
        for other, there in [*others, *given[:number]]:
            if _is_same_file(path, there):
                raise ValueError(
                    f"{name} and {other} name one file, {there}; {name} would overwrite it: "
                    "give it another name"
                )


def is_stdout(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` leads to standard output."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except (OSError, ValueError):
        return False


# --- pieces ---------------------------------------------------------------------------------------


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """That of the file that ``path`` leads to, ``None`` where there is none yet."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _is_written_into(path: str | os.PathLike[str], old: os.stat_result) -> bool:
    """Whether a file is written into: a device or a pipe, and where standard output goes."""
    return not stat.S_ISREG(old.st_mode) or is_stdout(path)


def _check_special(path: str | os.PathLike[str], old: os.stat_result) -> None:
    """Raise unless ``path`` can be written into."""
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if stat.S_ISBLK(old.st_mode) or stat.S_ISSOCK(old.st_mode):
        raise OSError(f"{path} is a disk or a socket; expected a file, a pipe or a terminal")
    if not os.access(path, os.W_OK):
        raise PermissionError(f"no permission to write {path}")


def _check_replaceable(
    path: str | os.PathLike[str], target: Path, old: os.stat_result | None
) -> None:
    """Raise where the folder is missing, or the old file must not be replaced."""
    if not os.fspath(path):
        raise FileNotFoundError("the path is empty; expected the name of a file")
    if os.fspath(path).endswith(os.sep):
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"no permission to write {path}")
    if old is None:
        return
    # Root may write to a file that is read-only, but it was made so to be kept.
    if not old.st_mode & 0o222 or not os.access(target, os.W_OK):
        raise PermissionError(f"no permission to write {path}: the file is read-only")
    folder = os.stat(target.parent)
    owners = (0, old.st_uid, folder.st_uid)
    if folder.st_mode & stat.S_ISVTX and os.name == "posix" and os.geteuid() not in owners:
        raise PermissionError(
            f"no permission to replace {path}: it is another user's, in a folder where only "
            "owners may do that (sticky bit)"
        )


def _take_over(descriptor: int, temporary: Path, old: os.stat_result) -> None:
    """Give a new file the owner, group and permissions of the old one, as far as permitted."""
    mode = stat.S_IMODE(old.st_mode)
    if os.name != "posix":
        os.chmod(temporary, mode)
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.fchown(descriptor, old.st_uid, old.st_gid)
        except OSError:
            try:
                os.fchown(descriptor, -1, old.st_gid)
            except OSError:  # what the old group might do, another group may not
                mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
    os.fchmod(descriptor, mode)


def _write_into(path: str | os.PathLike[str], data: bytes) -> None:
    place: str | os.PathLike[str] | int = path
    if is_stdout(path):
        if sys.stdout is not None:
            sys.stdout.flush()
        place = os.dup(1)  # its own descriptor: opened anew, a redirected file would be cut
    with _naming(path), open(place, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """An error inside names ``path``, the file that the caller knows, not the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def _is_same_file(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, by symbolic or hard links too.

    A device such as ``/dev/null`` may be named more than once.
    """
    try:
        first, second = os.stat(a), os.stat(b)
    except OSError:  # one of them is yet to be made
        return os.path.normcase(os.path.realpath(a)) == os.path.normcase(os.path.realpath(b))
    return os.path.samestat(first, second) and not stat.S_ISCHR(first.st_mode)
