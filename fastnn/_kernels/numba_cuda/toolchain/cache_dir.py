"""Kernels that were compiled on another machine and brought along: the variable FASTNN_CUDA_CACHE
names the folder that they lie in.
"""

import os

VARIABLE = "FASTNN_CUDA_CACHE"


def folder() -> str | None:
    """That folder; ``None`` where none is named."""
    return os.environ.get(VARIABLE) or None
