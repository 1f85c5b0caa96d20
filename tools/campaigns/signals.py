"""Ctrl-C and SIGTERM while ``fastnn train --out`` runs: what was learnt is saved."""

import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

import fastnn as fnn
from campaigns.children import finished, process
from campaigns.running import check

_TABLE = "size,colour,price\n" + "".join(f"{i % 9},{'rgb'[i % 3]},{i % 2}\n" for i in range(300))
_SHORT, _LONG = "20", "1000000"  # epochs

# The command, and a line once its training has begun, which is when Ctrl-C and SIGTERM save.
_ANNOUNCED = """
import contextlib, os, sys
from fastnn.__main__ import main
from fastnn.training import fit
waits_for_signals = fit.ctrl_c_sets_flag
@contextlib.contextmanager
def announced(training):
    with waits_for_signals(training):
        os.write(2, b"begun\\n")
        yield
fit.ctrl_c_sets_flag = announced
sys.exit(main())
"""


class Campaign:
    """Signals at random moments, from the start of Python to the end of the process."""

    def __init__(self, folder: Path):
        # Children would inherit that Ctrl-C is ignored, as under nohup.
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self.folder = folder
        folder.joinpath("d.csv").write_text(_TABLE)
        started = time.perf_counter()
        with self._train("-m", "fastnn", epochs=_SHORT) as child:
            status, _, err = finished(child)
        check(status == 0, err)
        self.seconds = time.perf_counter() - started

    def attempt(self, rng: np.random.Generator) -> str:
        self.folder.joinpath("m.fastnn").unlink(missing_ok=True)
        number = signal.SIGTERM if rng.random() < 1 / 6 else signal.SIGINT
        if rng.random() < 0.5:
            outcome = self._at_any_moment(number, rng.uniform(0, 1.2 * self.seconds))
        else:
            delay, twice = rng.uniform(0, 1.0), number == signal.SIGTERM and rng.random() < 0.3
            outcome = self._while_training(number, delay, twice)
        return f"{number.name}: {outcome}"

    def _train(self, *program: str, epochs: str):
        options = ("--layers", "16", "--epochs", epochs, "--backend", "numpy", "--out", "m.fastnn")
        return process(*program, "train", "d.csv", *options, folder=self.folder)

    def _at_any_moment(self, number: signal.Signals, delay: float) -> str:
        """Of a command that may not have begun, and may have ended."""
        with self._train("-m", "fastnn", epochs=_SHORT) as child:
            time.sleep(delay)
            child.send_signal(number)
            status, out, err = finished(child)
        err = _without_scores(err)
        saved = self._saved(out, err)
        if status == 0:
            check(saved, "ended well and saved nothing")
            return "the command had ended"
        if _is_before_fastnn(err) or (status == -signal.SIGINT and not out + err):
            return "before Python had read the command's module"
        check("Traceback" not in err, err)
        if saved:
            is_after = status == -signal.SIGTERM  # after the last line
            check(is_after or status in _statuses(number), f"exit status {status}: {err}")
            return "saved"
        if number == signal.SIGTERM:
            check((status, err.count("fastnn: ")) == (-number, 0), f"exit status {status}: {err}")
            return "before the training, ended at once"
        check(status in _statuses(number), f"exit status {status} after {number.name}: {err}")
        check(err.splitlines()[-1] == "fastnn: interrupted", err)
        return "before the training, one line"

    def _while_training(self, number: signal.Signals, delay: float, twice: bool) -> str:
        """Of a training that has begun for certain."""
        with self._train("-c", _ANNOUNCED, epochs=_LONG) as child:
            lines = _lines_until(child, "begun\n")
            time.sleep(delay)
            child.send_signal(number)
            if twice:
                child.send_signal(number)
            status, out, err = finished(child)
        err = _without_scores(err)
        check("begun" in lines, f"the training did not begin: {lines}")
        check(self._saved(out, err), f"nothing saved, exit status {status}: {err}")
        check(status in _statuses(number) and not err, f"exit status {status}: {err}")
        return "while training, saved" + (", sent twice" if twice else "")

    def _saved(self, out: str, err: str) -> bool:
        """Whether a model was saved, which must be whole and reported in one line."""
        path = self.folder / "m.fastnn"
        if path.exists():
            fnn.load(path, "numpy")
        said = "saved to m.fastnn" in out
        check(said == path.exists(), f"a model: {path.exists()}, said {out!r}, {err}")
        check(len(out.splitlines()) == said, f"more than one line: {out!r}")
        return said


def _statuses(number: signal.Signals) -> tuple[int, ...]:
    """Exit statuses after a signal, as the shell shows them.

    CPython ends by SIGINT itself, which a shell shows as 130 too, where Ctrl-C has interrupted an
    ``exec`` of source text, of which modules make named tuples and data classes.
    """
    return (130, -signal.SIGINT) if number == signal.SIGINT else (143,)


def _without_scores(err: str) -> str:
    """Standard error without what a training that has ended says of its scores."""
    lines = err.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(("test ", "note: ")))


def _is_before_fastnn(err: str) -> bool:
    """Whether a traceback is Python's own, before anything of fastnn could catch the signal."""
    return "Traceback" in err and "fastnn/" not in err.replace("\\", "/")


def _lines_until(child: subprocess.Popen, last: str) -> str:
    """What a process writes to standard error until a line, or until it ends."""
    assert child.stderr is not None
    timer = threading.Timer(120, child.kill)
    timer.start()
    lines = ""
    while not lines.endswith(last) and (line := child.stderr.readline()):
        lines += line
    timer.cancel()
    return lines
