"""Ctrl-C and SIGTERM while a command trains: what was learnt is saved before it ends."""

import signal
import threading
from types import FrameType, TracebackType

from fastnn.training.interrupts import request_stop

INTERRUPTED, TERMINATED = 130, 143  # exit statuses, the shell's own


class InterruptShield:
    """From the start of a training until its results are written, a signal only ends the training.

    A signal that comes before the training raises, as there is nothing to lose. Once more Ctrl-C
    after two always raises. What the process ignores, such as Ctrl-C after ``nohup``, it ignores
    here too.

    Attributes
    ----------
    trained : bool
        To be set when the training has ended.
    """

    def __init__(self) -> None:
        self.trained: bool = False
        self._seen: list[int] = []
        self._before = {}

    def __enter__(self) -> "InterruptShield":
        # Python handles signals in the main thread alone.
        here = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGINT, signal.SIGTERM) if here else ():
            handler = signal.getsignal(number)
            if handler is not signal.SIG_IGN:
                self._before[number] = handler or signal.SIG_DFL
                signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        insists = number == signal.SIGINT and number in self._seen
        self._seen.append(number)
        if insists or not (request_stop() or self.trained):
            raise KeyboardInterrupt

    def status(self, interrupted: bool) -> int:
        """The exit status, given whether the training was interrupted."""
        if signal.SIGTERM in self._seen:
            return TERMINATED
        return INTERRUPTED if interrupted or self._seen else 0
