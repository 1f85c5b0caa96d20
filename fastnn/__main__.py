"""``python -m fastnn``: the same as the command ``fastnn``."""

import signal
import sys
from types import FrameType

_INTERRUPTED = 130  # exit status, the shell's own


def main() -> int:
    """The command line of a process of its own: Ctrl-C ends it in one line at any moment."""
    pressed = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from fastnn.cli import app

        status = app.main()
    except BaseException:
        if not pressed:
            raise
        # While modules load; of one that is interrupted other errors may come than Ctrl-C's.
        sys.stderr.write("fastnn: interrupted\n")
        return _INTERRUPTED
    # All is done but the end of the interpreter, which would show a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


if __name__ == "__main__":
    sys.exit(main())
