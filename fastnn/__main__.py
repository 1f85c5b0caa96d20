"""``python -m fastnn``: the same as the command ``fastnn``."""

import signal
import sys

_INTERRUPTED = 130  # exit status, the shell's own


def main() -> int:
    """The command line of a process of its own: Ctrl-C ends it in one line at any moment."""
    try:
        from fastnn.cli import app

        status = app.main()
    except KeyboardInterrupt:  # while modules load
        sys.stderr.write("fastnn: interrupted\n")
        return _INTERRUPTED
    # All is done but the end of the interpreter, which would show a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


if __name__ == "__main__":
    sys.exit(main())
