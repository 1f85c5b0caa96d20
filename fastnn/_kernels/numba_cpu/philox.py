"""Philox4x32-10 in compiled loops: dropout masks and Gaussian noise, row by row.

`fastnn._kernels.philox` describes the order of the numbers.
"""

import math

import numpy as np

from fastnn._kernels.numba_cpu.compile import inline, kernel
from fastnn._kernels.numba_cpu.views import segment

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HIGH_SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


@inline
def _round(c0, c1, c2, c3, k0, k1, number):
    product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
    key_0, key_1 = (k0 + number * _WEYL_0) & _LOW, (k1 + number * _WEYL_1) & _LOW
    return (
        (product_1 >> _HIGH_SHIFT) ^ c1 ^ key_0,
        product_1 & _LOW,
        (product_0 >> _HIGH_SHIFT) ^ c3 ^ key_1,
        product_0 & _LOW,
    )


@inline
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds; all arguments and results are uint64 below 2³².

    They are written out: a loop here would keep the loops over blocks, around it, from being
    vectorised.
    """
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(0))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(1))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(2))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(3))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(4))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(5))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(6))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(7))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(8))
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1, np.uint64(9))
    return c0, c1, c2, c3


@inline
def _block(index, seed, stream, step):
    low, high = np.uint64(step) & _LOW, np.uint64(step) >> _HIGH_SHIFT
    key_low, key_high = np.uint64(seed) & _LOW, np.uint64(seed) >> _HIGH_SHIFT
    return philox4x32(np.uint64(index) & _LOW, low, high, np.uint64(stream), key_low, key_high)


@kernel
def dropout_masks(masks, rate, first_row, seed, stream, step):
    """Fill ``masks`` (rows, n), which begins at row ``first_row`` of the mini-batch.

    A mask is 0 where a unit is dropped, 1/(1 − rate) elsewhere.
    """
    rows, n = masks.shape
    threshold, kept = (
        np.uint64(np.floor(rate * 4294967296.0 + 0.5)),
        masks.dtype.type(1.0 / (1.0 - rate)),
    )
    blocks = (n + 3) // 4
    whole = max(n - 3 * blocks, 0)  # blocks whose fourth word is an element of the row
    zero = kept - kept
    flat = masks.reshape(-1)
    for r in range(rows):
        start, first = r * n, (first_row + r) * blocks
        run_0, run_1 = segment(flat, start, whole), segment(flat, start + blocks, whole)
        run_2, run_3 = (
            segment(flat, start + 2 * blocks, whole),
            segment(flat, start + 3 * blocks, whole),
        )
        for b in range(whole):
            w0, w1, w2, w3 = _block(first + b, seed, stream, step)
            run_0[b] = kept if w0 >= threshold else zero
            run_1[b] = kept if w1 >= threshold else zero
            run_2[b] = kept if w2 >= threshold else zero
            run_3[b] = kept if w3 >= threshold else zero
        mask = masks[r]
        for b in range(whole, blocks):
            words = _block(first + b, seed, stream, step)
            for j in range(4):
                if j * blocks + b < n:
                    mask[j * blocks + b] = kept if words[j] >= threshold else zero


@kernel
def add_noise(z, x, std, first_row, seed, stream, step):
    """z = x + std · N(0, 1) by Box–Muller.

    Of the 2n words of a row the first n give radii and the last n angles.
    """
    rows, n = z.shape
    blocks = (2 * n + 3) // 4
    for r in range(rows):
        first = (first_row + r) * blocks
        for c in range(n):
            radius = math.sqrt(-2.0 * math.log(_uniform(first, c, blocks, seed, stream, step)))
            angle = 2.0 * math.pi * _uniform(first, n + c, blocks, seed, stream, step)
            z[r, c] = x[r, c] + type(x[r, c])(std * radius * math.cos(angle))


@inline
def _uniform(first, element, blocks, seed, stream, step):
    """Element of a row of random words, as a number in (0, 1)."""
    words = _block(first + element % blocks, seed, stream, step)
    return (float(words[element // blocks]) + 0.5) * 2.0**-32
