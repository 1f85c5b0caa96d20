"""Ctrl-C while `fit` runs: it ends training after the current chunk, or raises at once."""

import contextlib
import contextvars
import signal
import threading
from collections.abc import Iterator

from fastnn.training.training import Training

_raises = contextvars.ContextVar("fastnn.training.ctrl_c_raises", default=False)


@contextlib.contextmanager
def ctrl_c_raises() -> Iterator[None]:
    """While inside, Ctrl-C raises `KeyboardInterrupt` out of `fit` too.

    For work of many trainings, where a training cut short would be taken for a result.
    """
    token = _raises.set(True)
    try:
        yield
    finally:
        _raises.reset(token)


_running: list[Training] = []  # in the main thread, the innermost last


def request_stop() -> bool:
    """End the training that runs in the main thread after its current chunk, as Ctrl-C does.

    Returns whether there is one. A handler of another signal may call it.
    """
    if _running:
        _running[-1].interrupted = True
    return bool(_running)


@contextlib.contextmanager
def ctrl_c_sets_flag(training: Training) -> Iterator[None]:
    """While inside, the first Ctrl-C sets ``training.interrupted``; a second one raises.

    Python handles signals in the main thread alone, so in another thread nothing changes. Where
    Ctrl-C is ignored, as after ``nohup``, it stays so.
    """
    if threading.current_thread() is not threading.main_thread() or _raises.get():
        yield
        return
    previous = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def on_interrupt(number, frame):
        training.interrupted = True
        signal.signal(signal.SIGINT, previous)

    _running.append(training)
    try:
        if previous is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, on_interrupt)
        yield
    finally:
        _running.remove(training)
        signal.signal(signal.SIGINT, previous)
