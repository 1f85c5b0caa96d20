"""The command line: ``fastnn train``, ``evaluate``, ``predict``, ``experiment``, ``warmup`` and
``info``.
"""

from fastnn.cli.commands import main

__all__ = ["main"]
