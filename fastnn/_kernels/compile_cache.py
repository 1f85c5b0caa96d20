"""Folders of compiled kernels, named by the environment that they were compiled for.

Both caches use them: `numba_cpu.cache` and `numba_cuda.toolchain.ptx_cache`.

What a compiler wrote is good for one environment: these sources, these versions of packages, this
processor. Each environment has a folder of its own, named by a hash of all of that, so that what
differs in anything lies elsewhere.
"""

import functools
import hashlib
import importlib.util
import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from fastnn._utils.files import cache_directory
from fastnn._version import __version__

_OWNERS = (0,)  # root may write everywhere
VARIABLE = "NUMBA_CACHE_DIR"  # names another base
# of an environment, by this version and all before
_FOLDER_NAME = re.compile(r"\d+\.\d+[\w.+]*-[0-9a-f]{16}")


def folder(
    environment: dict[str, object], prefix: str = "", chosen: str | None = None
) -> Path | None:
    """The folder of an environment, existing or not, in the ``chosen`` folder or the user's cache.

    ``None`` without a home directory.
    """
    place = base(chosen)
    if place is None:
        return None
    key = hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:16]
    return place / f"{prefix}{__version__}-{key}"


def base(chosen: str | None = None) -> Path | None:
    """The folder of all environments: the ``chosen`` one, or one in the user's cache.

    ``None`` without a home directory.
    """
    chosen = chosen or os.environ.get(VARIABLE)
    try:
        return Path(chosen) if chosen else cache_directory() / "kernels"
    except RuntimeError:  # no home directory
        return None


def outdated(current: Path | None, prefix: str = "") -> list[Path]:
    """Folders of other environments: older versions, other interpreters, other processors."""
    if current is None or not current.parent.is_dir():
        return []
    found = [path for path in current.parent.iterdir() if path.is_dir() and not path.is_symlink()]
    ours = [
        path
        for path in found
        if path.name.startswith(prefix) and _FOLDER_NAME.fullmatch(path.name[len(prefix) :])
    ]
    return sorted(path for path in ours if path != current)


def source_hash(paths: Iterable[Path]) -> str:
    """Of the sources that are compiled."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def version(module: str, package: str | None = None) -> str | None:
    """The version of an installed module, or of a package beside it, by the name of its metadata.

    Loading `importlib.metadata` takes longer than all else here.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    pattern = re.compile(rf"{package or module}-(.+?)(-py[\d.]+)?\.(dist|egg)-info")
    try:
        found = [
            match[1]
            for match in map(pattern.fullmatch, os.listdir(Path(spec.origin).parents[1]))
            if match
        ]
    except OSError:  # in an archive
        found = []
    return " ".join(sorted(found)) or _version_by_metadata(package or module)


def _version_by_metadata(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# --- whose files they are -------------------------------------------------------------------------


def private_folder(made: Path | None, base: Path | None, variable: str) -> Path | None:
    """The folder of an environment or kernel, created if need be, for this user alone.

    ``None`` where none can be written. It lies in ``base``, for which the environment variable
    ``variable`` may name another folder.

    Raises
    ------
    RuntimeError
        See `check_private`.
    """
    if made is None or base is None:
        return None
    try:
        base.mkdir(parents=True, exist_ok=True)
        for folder in (*reversed(made.relative_to(base).parents), made.relative_to(base)):
            (base / folder).mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    check_private(made, base, variable)
    return made if os.access(made, os.W_OK) else None


def check_private(folder: Path, base: Path, variable: str) -> None:
    """Refuse a folder with kernels that another user can write: what lies in it is executed.

    The folder, those above it up to ``base``, and the files in it must belong to this user or to
    root, and no others may write them.

    Raises
    ------
    RuntimeError
        Naming the folder or file, and ``variable``, which chooses another folder.
    """
    if not hasattr(os, "geteuid"):  # Windows keeps a user's folders from others
        return
    above = [path for path in folder.parents if path.is_relative_to(base)]
    for path in (*above, folder, *folder.rglob("*")):
        try:
            status = path.lstat()
        except FileNotFoundError:  # another process has just removed it
            continue
        if _others_write(status):
            raise RuntimeError(
                f"{path} can be written by other users, and compiled kernels are executed: take "
                f"their permission away (chmod go-w, chown), or name another folder in {variable}"
            )


def _others_write(status: os.stat_result) -> bool:
    if status.st_uid not in (os.geteuid(), *_OWNERS):
        return True
    if stat.S_ISLNK(status.st_mode):
        return False  # a link's own mode means nothing
    by_others = status.st_mode & stat.S_IWOTH
    # In a sticky folder, such as /tmp, others cannot replace what belongs to this user.
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    by_group = status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid)
    return bool((by_others or by_group) and not sticky)


@functools.cache
def _is_own_group(gid: int) -> bool:
    """Whether a group has no member but this user, as many systems give each user one."""
    import grp
    import pwd

    if gid == 0:
        return True  # root's
    try:
        me, members = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid).gr_mem
    except KeyError:
        return False
    others = [user for user in pwd.getpwall() if user.pw_gid == gid and user.pw_uid != me.pw_uid]
    return me.pw_gid == gid and not others and set(members) <= {me.pw_name}
