"""The command line: one module a command, put together in `fastnn.cli.app`."""

from fastnn.cli.app import main

__all__ = ["main"]
