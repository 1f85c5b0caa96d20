"""The lock of all that imports, compiles or loads an engine.

A process that forks while another of its threads does one of these would leave a child in which an
import never ends and a lock is never released. A fork therefore waits until it is done.
"""

# Before a fork, hooks run in the reverse order of their registration. Logging's, which takes a lock
# that the thread that loads may want, must be registered before ours.
import logging  # noqa: F401
import os
import threading

# The thread that holds it may fork.
loading = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=loading.acquire, after_in_parent=loading.release, after_in_child=loading.release
    )
