"""The user's cache folder, and atomic writing of files."""

import os
import shutil
import sys
from pathlib import Path


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

    Permissions end up as ``open(path, "wb")`` would leave them: the umask's for a new file,
    unchanged for an old one.

    Raises
    ------
    OSError
        The file cannot be written. An old file is then intact, and no temporary file is left.
    """
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = target.with_name(f".fastnn-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(temporary):
            # The message names the file that the caller knows.
            error.filename = str(path)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the ``OSError`` that `write_atomically` would raise, before any work is lost.

    The causes: the folder does not exist, ``path`` is a folder, or permission is missing.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist")
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(f"no permission to write {path}")
