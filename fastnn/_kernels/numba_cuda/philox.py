"""Philox4x32-10 for one element at a time; `fastnn._kernels.philox` says how numbers are laid out.

Masks and noise are made by the thread that uses them and never stored: ten rounds cost less than the memory would.
"""

import math

import numpy as np

from fastnn._kernels.numba_cuda.shim import device

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HIGH_SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10


@device
def random_word(row, element, words_a_row, seed, stream, step):
    """Word ``element`` of the ``words_a_row`` random words of a row, below 2³² as a uint64."""
    blocks = (words_a_row + 3) // 4
    c0, c1 = np.uint64(row * blocks + element % blocks) & _LOW, np.uint64(step) & _LOW
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
    word = element // blocks
    return c0 if word == 0 else c1 if word == 1 else c2 if word == 2 else c3


@device
def is_kept(rate, row, column, n, seed, stream, step):
    """Whether dropout of that rate keeps an element of a row of n."""
    return random_word(row, column, n, seed, stream, step) >= np.uint64(math.floor(rate * 4294967296.0 + 0.5))


@device
def normal(row, column, n, seed, stream, step):
    """A standard normal number in float64, by Box–Muller: of the 2n words of a row the first n give radii and the last n angles."""
    u = (np.float64(random_word(row, column, 2 * n, seed, stream, step)) + 0.5) * 2.0**-32
    v = (np.float64(random_word(row, n + column, 2 * n, seed, stream, step)) + 0.5) * 2.0**-32
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * v)
