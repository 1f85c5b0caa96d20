"""Writing of files: devices and pipes stay what they are, what will fail is known before, and
leftovers of killed writers go."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fastnn._utils import files, temporary

posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")
root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away"
)
NOBODY = 65534


def errors(path):
    """What the check and the writer say, ``None`` where they have no objection."""
    found = []
    for function, arguments in ((files.check_writable, ()), (files.write_atomically, (b"new",))):
        try:
            found.append(function(path, *arguments))
        except OSError as error:
            found.append(error)
    return found


def as_nobody(function, *arguments):
    """What a function returns, as text, in a process of a user without rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.write(writing, repr(function(*arguments)).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading) as answer:
        return answer.read()


# --- what is no regular file ----------------------------------------------------------------------


@posix
@root
def test_a_device_stays_a_device(tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices in this container")
    files.check_writable(device)
    files.write_atomically(device, b"gone")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert os.listdir(tmp_path) == ["null"]


@posix
def test_a_pipe_is_written_into(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    files.check_writable(pipe)  # which must not wait for a reader, nor end one's input
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    files.write_atomically(pipe, b"data")
    reader.join(10)
    assert read == [b"data"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="a path of Linux and macOS")
@pytest.mark.parametrize("redirected", [True, False])
def test_standard_output_is_written_into(tmp_path, redirected):
    """What is printed before and after is there too, in a redirected file as in a pipe."""
    code = (
        "from fastnn._utils import files; print('before'); files.check_writable('/dev/stdout');"
        "files.write_atomically('/dev/stdout', b'data\\n'); print('after')"
    )
    with open(tmp_path / "out", "w+b") as out:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=out if redirected else subprocess.PIPE, check=True
        )
        out.seek(0)
        assert (out.read() if redirected else done.stdout) == b"before\ndata\nafter\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_device_that_fails_is_named():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        files.write_atomically("/dev/full", b"data")


@posix
def test_a_socket_is_refused(tmp_path, monkeypatch):
    import socket

    monkeypatch.chdir(tmp_path)  # the names of sockets must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for function in (files.check_writable, lambda path: files.write_atomically(path, b"")):
            with pytest.raises(OSError, match="socket is a disk or a socket"):
                function("socket")


# --- what will fail is known before ---------------------------------------------------------------


def both(path):
    """The error of the check, which is the writer's too."""
    before, after = errors(path)
    assert before is not None
    assert (type(before), str(before)) == (type(after), str(after))
    return before


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing/m", FileNotFoundError),
        ("file/m", NotADirectoryError),
        ("folder", IsADirectoryError),
        ("new/", IsADirectoryError),
        ("a" * 300, OSError),
        ("folder/" * 2000 + "m", OSError),
        ("loop", OSError),
        ("", OSError),
    ],
)
@posix
def test_impossible_paths(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"old")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    error = both(name)
    assert isinstance(error, kind)
    assert ".fastnn-" not in str(error)
    assert sorted(os.listdir()) == ["file", "folder", "loop"]


@posix
@pytest.mark.parametrize("mode", [0o444, 0o400, 0o000])
def test_a_read_only_file_is_not_replaced(tmp_path, mode):
    """Not even by root, who may write to it: it was made so to be kept."""
    path = tmp_path / "m"
    path.write_bytes(b"old")
    path.chmod(mode)
    assert "read-only" in str(both(path))
    path.chmod(0o600)
    assert path.read_bytes() == b"old"


@posix
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT, errno.ENOSPC])
def test_a_folder_that_takes_no_file(tmp_path, monkeypatch, code):
    """What a read-only file system or a full one says when the check makes a file there."""

    def fail(path, *arguments):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(os, "open", fail)
    error = both(tmp_path / "m")
    assert (error.errno, error.filename) == (code, str(tmp_path / "m"))


@posix
@root
def test_another_users_file_in_a_sticky_folder():
    with tempfile.TemporaryDirectory() as name:  # not in pytest's, which others may not enter
        folder = Path(name)
        folder.chmod(0o1777)
        theirs = folder / "theirs"
        theirs.write_bytes(b"old")
        theirs.chmod(0o666)
        answer = as_nobody(errors, theirs)
        assert answer.count("PermissionError") == answer.count("sticky") == 2
        assert theirs.read_bytes() == b"old"
        assert as_nobody(errors, folder / "mine") == "[None, None]"
        folder.chmod(0o755)
        assert as_nobody(errors, folder / "new").count("PermissionError") == 2
        assert sorted(os.listdir(folder)) == ["mine", "theirs"]


# --- permissions, owners, links -------------------------------------------------------------------


@posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o200])
def test_a_temporary_file_is_never_more_readable_than_its_target(tmp_path, monkeypatch, mode):
    path, seen = tmp_path / "m", []
    path.write_bytes(b"old")
    path.chmod(mode)
    real = os.fsync

    def look(descriptor):
        seen.extend(stat.S_IMODE(p.stat().st_mode) for p in tmp_path.glob(".fastnn-*"))
        real(descriptor)

    monkeypatch.setattr(temporary, "remove_leftovers", lambda *_: look(1))
    monkeypatch.setattr(
        files,
        "remove_leftovers",
        lambda folder, now: seen.extend(
            stat.S_IMODE(p.stat().st_mode) for p in tmp_path.glob(".fastnn-*")
        ),
    )
    monkeypatch.setattr(os, "fsync", look)
    files.write_atomically(path, b"new")
    assert seen == [0o600, mode]
    assert stat.S_IMODE(path.stat().st_mode) == mode


@posix
@root
def test_owner_and_group_stay(tmp_path):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    os.chown(path, NOBODY, NOBODY)
    path.chmod(0o640)
    files.write_atomically(path, b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, NOBODY, 0o640)
    assert path.read_bytes() == b"new"


@posix
def test_a_group_that_cannot_be_kept_gives_its_rights_to_no_other(tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    path.chmod(0o664)
    status = os.stat(path)

    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    old = os.stat_result((*status[:5], status.st_gid + 1, *status[6:10]))
    descriptor = os.open(path, os.O_RDWR)
    files._take_over(descriptor, path, old)
    os.close(descriptor)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@posix
def test_other_names_of_a_file_keep_what_they_had(tmp_path):
    """A backup made of hard links is none any more where both names change."""
    path, backup = tmp_path / "m", tmp_path / "backup"
    path.write_bytes(b"old")
    os.link(path, backup)
    files.write_atomically(path, b"new")
    assert (path.read_bytes(), backup.read_bytes()) == (b"new", b"old")


@posix
def test_a_file_that_is_a_mount_point_is_written_into(tmp_path, monkeypatch):
    """As a container has it that is given a single file."""
    path = tmp_path / "m"
    path.write_bytes(b"a longer old one")

    def refuse(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "replace", refuse)
    inode = path.stat().st_ino
    files.write_atomically(path, b"new")
    assert (path.read_bytes(), path.stat().st_ino) == (b"new", inode)
    assert os.listdir(tmp_path) == ["m"]


# --- leftovers ------------------------------------------------------------------------------------

WRITER = """
import os, sys, time
from fastnn._utils import files
os.fsync = lambda descriptor: (print("writing", flush=True), time.sleep(600))
files.write_atomically(sys.argv[1], b"data")
"""


@posix
def test_a_killed_writers_leftover_goes_and_a_living_ones_stays(tmp_path):
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / name)], stdout=subprocess.PIPE, text=True
        )
        for name in ("dead", "alive")
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == "writing\n"
        files.write_atomically(tmp_path / "m", b"1")
        assert len(list(tmp_path.glob(".fastnn-*"))) == 2
        writers[0].kill()
        writers[0].wait()
        files.write_atomically(tmp_path / "m", b"2")
        assert len(list(tmp_path.glob(".fastnn-*"))) == 1
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    files.write_atomically(tmp_path / "m", b"3")
    assert os.listdir(tmp_path) == ["m"]


def leftover(folder, machine, age):
    path = folder / f".fastnn-{machine}{'0' * 16}.tmp"
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


@posix
@pytest.mark.parametrize(
    ("machine", "age", "goes"),
    [
        ("here", 0, True),
        ("0123abcd-", 0, False),  # another machine's, on a network folder: perhaps alive
        ("0123abcd-", 30 * 3600, True),
        ("", 0, False),  # of an older fastnn
        ("", 30 * 3600, True),
    ],
)
@pytest.mark.parametrize("locks", [True, False])
def test_which_leftovers_go(tmp_path, monkeypatch, machine, age, goes, locks):
    if not locks:  # a network file system may have none
        monkeypatch.setattr(temporary, "_lock", lambda descriptor: None)
    machine = f"{temporary._machine()}-" if machine == "here" else machine
    path = leftover(tmp_path, machine, age)
    files.write_atomically(tmp_path / "m", b"")
    assert path.exists() is not (goes and (locks or age > 24 * 3600))


@posix
def test_what_only_looks_like_a_leftover_stays(tmp_path):
    names = [".fastnn-mine.tmp", ".fastnn-0123.tmp", f"x.fastnn-{'0' * 16}.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    target = tmp_path / "target"
    target.write_bytes(b"")
    name = f".fastnn-{temporary._machine()}-{'0' * 16}.tmp"
    (tmp_path / name).symlink_to(target)
    files.write_atomically(tmp_path / "m", b"")
    assert sorted(os.listdir(tmp_path)) == sorted([*names, name, "m", "target"])


@posix
def test_a_writer_whose_new_file_is_taken_for_a_leftover_makes_another(tmp_path, monkeypatch):
    """Between making a file and locking it another writer may find it, and remove it."""
    real, taken = temporary._lock, []

    def remove_first(descriptor):
        if not taken:
            taken.extend(tmp_path.glob(".fastnn-*"))
            taken[0].unlink()
        return real(descriptor)

    monkeypatch.setattr(temporary, "_lock", remove_first)
    files.write_atomically(tmp_path / "m", b"data")
    assert taken
    assert (tmp_path / "m").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["m"]


@posix
def test_writers_side_by_side_do_not_disturb_each_other(tmp_path):
    code = (
        "import sys; from fastnn._utils import files\n"
        "for i in range(100): files.check_writable(sys.argv[1]);"
        " files.write_atomically(sys.argv[1], b'x' * 1000)"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / str(i % 2))]) for i in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


# --- outputs and inputs ---------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("alias", ["same", "./same", "folder/../same", "soft", "hard", "soft/same"])
def test_one_file_by_two_names(tmp_path, monkeypatch, alias, there):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    if there or alias == "hard":
        Path("same").write_bytes(b"")
    if alias == "hard":
        os.link("same", "hard")
    elif alias == "soft/same":
        Path("soft").symlink_to(".")
    else:
        Path("soft").symlink_to("same")
    for outputs, inputs in (({"--a": alias, "--b": "same"}, {}), ({"--a": alias}, {"B": "same"})):
        with pytest.raises(ValueError, match="name one file"):
            files.check_apart(outputs, inputs)
    files.check_apart({"--a": alias, "--b": None}, {"B": None, "C": "other"})


def test_a_device_may_be_named_twice():
    files.check_apart({"a": os.devnull, "b": os.devnull}, {"c": os.devnull})
