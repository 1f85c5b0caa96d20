"""Philox4x32-10 for one element at a time; `fastnn._kernels.philox` says how numbers are laid out.

The thread that uses a mask or noise computes it. It is never stored: ten rounds cost less than the
memory traffic would.
"""

import math

import numpy as np

from fastnn._kernels.numba_cuda.kernels.blocks import divide
from fastnn._kernels.numba_cuda.toolchain.shim import device

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HIGH_SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10
_TERMS = 9  # of Taylor's series: those after it are below 1e-17 for angles up to π/4


@device
def random_word(row, element, words_a_row, seed, stream, step):
    """Word ``element`` of the ``words_a_row`` random words of a row, below 2³² as a uint64."""
    blocks = (words_a_row + 3) // 4
    word, block = divide(element, blocks)
    c0, c1 = np.uint64(row * blocks + block) & _LOW, np.uint64(step) & _LOW
    c2, c3 = np.uint64(step) >> _HIGH_SHIFT, np.uint64(stream)
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _HIGH_SHIFT
    for _ in range(_ROUNDS):
        product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (
            (product_1 >> _HIGH_SHIFT) ^ c1 ^ k0,
            product_1 & _LOW,
            (product_0 >> _HIGH_SHIFT) ^ c3 ^ k1,
            product_0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL_0) & _LOW, (k1 + _WEYL_1) & _LOW
    return c0 if word == 0 else c1 if word == 1 else c2 if word == 2 else c3


@device
def is_kept(threshold, row, column, n, seed, stream, step):
    """Whether dropout keeps an element of a row of n: its word is not below the threshold."""
    return random_word(row, column, n, seed, stream, step) >= threshold


@device
def normal(row, column, n, seed, stream, step):
    """A standard normal number in float64, by Box–Muller.

    Of the 2n words of a row the first n give radii and the last n angles.
    """
    u = (np.float64(random_word(row, column, 2 * n, seed, stream, step)) + 0.5) * 2.0**-32
    v = (np.float64(random_word(row, n + column, 2 * n, seed, stream, step)) + 0.5) * 2.0**-32
    return math.sqrt(-2.0 * math.log(u)) * _cos_of_turns(v)


@device
def _cos_of_turns(v):
    """cos 2πv for 0 < v < 1, by Taylor's series around the nearest multiple of a quarter turn.

    CUDA's cosine handles angles of any size, and for that keeps a table on each thread's stack.
    """
    quarter = math.floor(4.0 * v + 0.5)
    x = (v - 0.25 * quarter) * (2.0 * math.pi)
    t = x * x
    cosine, sine = 1.0, 1.0
    for n in range(_TERMS, 0, -1):
        # The factors are constants: a division takes tens of instructions.
        cosine = 1.0 - cosine * t * (1.0 / ((2.0 * n - 1.0) * (2.0 * n)))
        sine = 1.0 - sine * t * (1.0 / ((2.0 * n) * (2.0 * n + 1.0)))
    value = sine * x if quarter == 1 or quarter == 3 else cosine
    return -value if quarter == 1 or quarter == 2 else value
