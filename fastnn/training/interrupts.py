"""Ctrl-C while `fit` runs: it ends training after the current chunk, or raises at once."""

import contextlib
import contextvars
import signal
import threading
from collections.abc import Iterator
from typing import Protocol


class Interruptible(Protocol):
    """Work that ends early once its flag is set: a training, or several of them."""

    interrupted: bool


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


_running: list[Interruptible] = []  # in the main thread, the innermost last


def request_stop() -> bool:
    """End the work in the main thread as Ctrl-C does, a training after its current chunk.

    Returns whether there is some. A handler of another signal may call it.
    """
    if _running:
        _running[-1].interrupted = True
    return bool(_running)


@contextlib.contextmanager
def ctrl_c_sets_flag(work: Interruptible) -> Iterator[None]:
    """While inside, the first Ctrl-C sets ``work.interrupted``; a second one raises.

    Python handles signals in the main thread alone, so in another thread nothing changes. Where
    Ctrl-C is ignored, as after ``nohup``, it stays so.
    """
    if threading.current_thread() is not threading.main_thread() or _raises.get():
        yield
        return
    previous = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def on_interrupt(number, frame):
        work.interrupted = True
        signal.signal(signal.SIGINT, previous)

    _running.append(work)
    try:
        if previous is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, on_interrupt)
        yield
    finally:
        _running.remove(work)
        signal.signal(signal.SIGINT, previous)
