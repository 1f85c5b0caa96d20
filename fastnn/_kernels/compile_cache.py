"""Folders of compiled kernels, named by the environment that they were compiled for.

Both caches use them: `numba_cpu.cache` and `numba_cuda.toolchain.ptx_cache`.

What a compiler wrote is good for one environment: these sources, these versions of packages, this
processor. Each environment has a folder of its own, named by a hash of all of that, so that what
differs in anything lies elsewhere.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fastnn._utils.files import cache_directory
from fastnn._version import __version__

# of an environment, by this version and all before
_FOLDER_NAME = re.compile(r"\d+\.\d+[\w.+]*-[0-9a-f]{16}")


def folder(
    environment: dict[str, object], prefix: str = "", chosen: str | None = None
) -> Path | None:
    """The folder of an environment, existing or not, in the ``chosen`` folder or the user's cache.

    ``None`` without a home directory.
    """
    chosen = chosen or os.environ.get("NUMBA_CACHE_DIR")
    try:
        base = Path(chosen) if chosen else cache_directory() / "kernels"
    except RuntimeError:  # no home directory
        return None
    key = hashlib.sha256(json.dumps(environment, sort_keys=True).encode()).hexdigest()[:16]
    return base / f"{prefix}{__version__}-{key}"


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
