"""The folder of prebuilt kernels: the variable FASTNN_CUDA_CACHE names it.

Prebuilt kernels were compiled on another machine.
"""

import os

VARIABLE = "FASTNN_CUDA_CACHE"


def folder() -> str | None:
    """The folder of prebuilt kernels; ``None`` where none is named."""
    return os.environ.get(VARIABLE) or None
