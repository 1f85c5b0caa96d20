"""Ctrl-C while training, and the progress display."""

import io
import os
import re
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from training_cases import LABELS, At, Recorder, X, network, noisy

from fastnn.training import loop as loop

# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.fixture
def handler():
    """A handler of Ctrl-C that counts; whatever a test leaves behind, the one before comes back."""
    calls, before = [], signal.getsignal(signal.SIGINT)

    def on_interrupt(number, frame):
        calls.append(number)

    signal.signal(signal.SIGINT, on_interrupt)
    yield SimpleNamespace(function=on_interrupt, calls=calls)
    signal.signal(signal.SIGINT, before)


def interrupt(training=None):
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_ctrl_c_ends_training_soon_and_keeps_what_was_learnt(engine, handler, optimizer):
    net = noisy(backend=engine)
    net.fit(X, LABELS)  # compiled by now
    before = net.state.theta.copy()
    timer = threading.Timer(0.2, interrupt)
    timer.start()
    started = time.perf_counter()
    slow = At("on_epoch_end", lambda training: time.sleep(0.01))
    history = net.fit(X, LABELS, epochs=10**6, batch_size=4, optimizer=optimizer, callbacks=[slow])
    timer.join()
    assert history.stopped == "interrupted"
    assert 0.1 < time.perf_counter() - started < 10
    assert len(history["loss"]) == len(history["seconds"]) > 0
    assert np.isfinite(net.state.theta).all()
    assert (net.state.theta != before).any()
    assert signal.getsignal(signal.SIGINT) is handler.function
    assert not handler.calls
    assert net.fit(X, LABELS).stopped is None


def test_ctrl_c_ends_after_the_current_chunk(engine, handler, monkeypatch):
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    recorder = Recorder()
    history = network(backend=engine).fit(
        X, LABELS, epochs=5, batch_size=4, callbacks=[recorder, At("on_chunk_end", interrupt)]
    )
    assert recorder.hooks == ["start", "chunk", "epoch 1", "end"]
    assert (history.stopped, len(history["loss"])) == ("interrupted", 1)


def test_a_second_ctrl_c_interrupts_at_once(handler):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt):
        network().fit(
            X,
            LABELS,
            callbacks=[recorder, At("on_chunk_end", lambda t: [interrupt(), interrupt()])],
        )
    assert recorder.hooks == ["start", "chunk", "end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_comes_back_after_an_error(handler):
    with pytest.raises(ZeroDivisionError):
        network().fit(X, LABELS, callbacks=[At("on_epoch_end", lambda t: 1 / 0)])
    assert signal.getsignal(signal.SIGINT) is handler.function


def test_fit_in_another_thread(engine, handler):
    net, main, results = noisy(backend=engine), noisy(backend=engine), []
    thread = threading.Thread(target=lambda: results.append(net.fit(X, LABELS, epochs=3)))
    thread.start()
    thread.join()
    assert results[0]["loss"] == main.fit(X, LABELS, epochs=3)["loss"]
    np.testing.assert_array_equal(net.state.theta, main.state.theta)


# --- progress -------------------------------------------------------------------------------------


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def terminal(monkeypatch):
    """Standard error as a terminal.

    It is no fixture, since pytest puts its own back when the test begins.
    """
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    return sys.stderr


def lines(text):
    """What was printed for good, without the bar and its control codes."""
    return re.findall(r"epoch .*samples/s.*", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def test_without_a_terminal_nothing_is_printed(capfd):
    network().fit(X, LABELS, epochs=2, validation=0.25)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_terminal_gets_a_line_an_epoch(monkeypatch, capfd, optimizer):
    error = terminal(monkeypatch)
    history = network().fit(X, LABELS, epochs=3, validation=0.25, optimizer=optimizer)
    shown = lines(error.getvalue())
    assert len(shown) == 3
    for epoch, line in enumerate(shown):
        assert line.startswith(f"epoch {epoch + 1}/3")
        for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
            assert f" {name} {history[name][epoch]:.4g} " in line
        assert f" {30 / history['seconds'][epoch]:,.0f} samples/s" in line
    assert capfd.readouterr().out == ""


def test_the_bar_ends_with_the_samples_that_are_used(monkeypatch):
    bars = []
    monkeypatch.setattr(
        "fastnn._utils.progress.Terminal.close",
        lambda display: bars.append(display._bar.tasks[0]),
    )
    terminal(monkeypatch)
    network().fit(X, LABELS, epochs=3, batch_size=12, drop_last=True)
    assert (bars[0].completed, bars[0].total) == (108, 108)


def test_progress_can_be_switched_off(monkeypatch):
    error = terminal(monkeypatch)
    network().fit(X, LABELS, progress=False)
    assert error.getvalue() == ""


def test_the_cursor_comes_back_after_an_error(monkeypatch):
    error = terminal(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        network().fit(X, LABELS, callbacks=[At("on_epoch_end", lambda t: 1 / 0)])
    text = error.getvalue()
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_no_standard_error_at_all(monkeypatch):
    """As under pythonw or a service."""
    monkeypatch.setattr(sys, "stderr", None)
    assert network().fit(X, LABELS)["loss"]
