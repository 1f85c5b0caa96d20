"""Kernels that were compiled on another machine and brought along: the variable FASTNN_CUDA_CACHE names the folder that they lie in."""

import os

VARIABLE = "FASTNN_CUDA_CACHE"


def folder() -> str | None:
    """That folder; ``None`` where none is named."""
    return os.environ.get(VARIABLE) or None


def how(capability: tuple[int, int]) -> str:
    """What fills it."""
    return f"`fastnn warmup --cuda-arch {capability[0]}.{capability[1]}` with {VARIABLE} set, on a machine with numba-cuda"
