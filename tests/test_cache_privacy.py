"""Compiled kernels are executed: a cache that another user can write is refused."""

import os

import pytest
from builders import empty_cache

from fastnn._kernels import compile_cache

pytest.importorskip("numba")
from fastnn._kernels.numba_cpu import cache

KERNEL = "float32"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    with empty_cache(cache, tmp_path, monkeypatch) as place:
        yield place


@pytest.fixture
def kept():
    """A folder with machine code as Numba leaves it."""
    place = cache.folder(KERNEL)
    (place / "numba_cpu_0").mkdir()
    (place / "numba_cpu_0" / "steps.run.1.nbc").write_bytes(b"machine code")
    return place


posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions of POSIX")


def forbidden(path):
    return pytest.raises(RuntimeError, match=rf"^{path} can be .* NUMBA_CACHE_DIR$")


@posix
@pytest.mark.parametrize("part", [".", "..", "../..", "numba_cpu_0/steps.run.1.nbc"])
def test_kernels_that_another_user_can_write_are_refused(kept, part):
    path = (kept / part).resolve()
    path.chmod(path.stat().st_mode | 0o002)
    with forbidden(path):
        cache.folder(KERNEL)
    path.chmod(path.stat().st_mode & ~0o002)
    assert cache.folder(KERNEL) == kept


@posix
def test_kernels_of_another_user_are_refused(kept, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: kept.stat().st_uid + 1)
    monkeypatch.setattr(compile_cache, "_OWNERS", ())
    with forbidden(kept.parent):
        cache.folder(KERNEL)


@posix
def test_a_group_of_others_must_not_write_kernels(kept, monkeypatch):
    kept.chmod(0o770)
    monkeypatch.setattr(compile_cache, "_is_own_group", lambda gid: True)
    assert cache.folder(KERNEL) == kept
    monkeypatch.setattr(compile_cache, "_is_own_group", lambda gid: False)
    with forbidden(kept):
        cache.folder(KERNEL)


@posix
def test_a_sticky_base_is_good_enough(kept):
    compile_cache.base().chmod(0o1777)
    assert cache.folder(KERNEL) == kept


@posix
def test_folders_are_made_for_this_user_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "new"))
    (tmp_path / "new").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        made = cache.folder(KERNEL)
    finally:
        os.umask(before)
    assert made.stat().st_mode & 0o777 == made.parent.stat().st_mode & 0o777 == 0o700
