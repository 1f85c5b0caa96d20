"""Signals to the command line as a process: what was learnt is saved."""

import os
import signal
import subprocess
import sys
import time

import pytest

import fastnn as fnn

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

FOREVER = ("train", "--epochs", "1000000", "--layers", "16", "--backend", "numpy")


def started(*arguments, before=None):
    command = [sys.executable, "-m", "fastnn", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


def ended(process, *signals, after=0.3):
    """Exit status, standard output and error of a process that gets signals once it trains."""
    lines = [process.stderr.readline() for _ in range(2)]  # of the data, and of the network
    assert lines[1].startswith("network")
    for number in signals:
        time.sleep(after)
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_and_saves_the_model(number, status, tmp_path):
    model, metrics = tmp_path / "m.fastnn", tmp_path / "m.json"
    process = started(*FOREVER, "--out", str(model), "--metrics", str(metrics))
    returned, out, err = ended(process, number)
    assert (returned, err) == (status, "")
    assert "interrupted" in out
    assert fnn.load(model, "numpy").epochs >= 1
    assert metrics.exists()


def test_sigterm_twice_still_saves(tmp_path):
    process = started(*FOREVER, "--out", str(tmp_path / "m.fastnn"))
    # The second may come when all is saved and the process is about to end.
    assert ended(process, signal.SIGTERM, signal.SIGTERM)[0] in (143, -signal.SIGTERM)
    assert fnn.load(tmp_path / "m.fastnn", "numpy").epochs >= 1


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    """``nohup`` and background jobs of a shell start a process that ignores Ctrl-C."""
    ignore = lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)  # noqa: E731
    arguments = ("train", "--epochs", "30", "--layers", "16", "--backend", "numpy")
    returned, out, _ = ended(started(*arguments, before=ignore), signal.SIGINT, after=0.05)
    assert returned == 0
    assert "after 30 epochs" in out


@pytest.mark.parametrize("delay", [0.05, 0.1, 0.15, 0.2, 0.3])
def test_ctrl_c_while_modules_load_is_one_line(delay):
    process = started(*FOREVER)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    # Where Python itself was still starting, its traceback names no file of ours.
    assert "__main__.py" not in err
    assert process.returncode in (130, -signal.SIGINT, 1)
    if process.returncode == 130 and "network" not in err:  # which is where training begins
        assert err.splitlines()[-1:] in ([], ["fastnn: interrupted"])


BROKEN_IMPORT = """
import os, signal, sys, time
from fastnn import __main__
from fastnn.cli import app
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, as under nohup
def main():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt as error:
        raise AttributeError("partially initialized module") from error
app.main = main
sys.exit(__main__.main())
"""


def test_ctrl_c_that_an_import_turns_into_another_error_is_one_line():
    """As pandas does, which pyarrow imports while a table is read."""
    done = subprocess.run(
        [sys.executable, "-c", BROKEN_IMPORT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "fastnn: interrupted\n")


# click writes UTF-8 where the encoding is ASCII, which tells nothing of the console.
@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "→".encode()), ("cp1252", b"\\u2192")])
def test_a_console_without_the_letters_shows_their_codes(encoding, shown, tmp_path):
    rows = "\n".join(f"{i % 7},{'日本🎉' if i % 2 else 'naïve'}" for i in range(60))
    (tmp_path / "d.csv").write_text(f"größe,→ target\n{rows}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "fastnn", "train", "d.csv", "--epochs", "1", "--out", "m.fastnn"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shown + b" target" in done.stderr
    assert (tmp_path / "m.fastnn").exists()
