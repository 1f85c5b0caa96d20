"""Counter-based random numbers: Philox4x32-10, in NumPy.

Every random number of the library is a pure function of (seed, stream, step, row, column): nothing
is ever drawn "next". Engines, thread counts and resumed runs therefore see the same numbers. The
generator is Philox4x32 with ten rounds of Salmon, Moraes, Dror and Shaw, "Parallel random numbers:
as easy as 1, 2, 3" (SC 2011); tests compare it with the vectors published in Random123.

Layout. The key is the 64-bit seed. The counter is (block, step low, step high, stream). A row of n
numbers takes ⌈n/4⌉ blocks, and word j of block b of that row is its element j·⌈n/4⌉ + b, so that
compiled loops store four contiguous runs.
"""

import sys

import numpy as np

_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_LOW, _HIGH_SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_HIGH_HALF = 1 if sys.byteorder == "little" else 0


def philox4x32(counter, key):
    """Ten rounds of Philox4x32.

    Parameters
    ----------
    counter : sequence of four uint32 arrays (or integers) of one shape
    key : pair of integers below 2³²

    Returns
    -------
    list of four uint64 arrays holding values below 2³²
    """
    c0, c1, c2, c3 = (np.asarray(c).astype(np.uint64) for c in counter)
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(10):
        product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0 = (product_1 >> _HIGH_SHIFT) ^ c1 ^ np.uint64(k0)
        c2 = (product_0 >> _HIGH_SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = product_1 & _LOW, product_0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def random_bits(seed, stream, step, n, rows=1, first_row=0):
    """Random 32-bit words (rows, n) as uint64; row r is row ``first_row + r`` of the stream."""
    blocks = -(-n // 4)
    first = first_row * blocks
    block = np.arange(first, first + rows * blocks, dtype=np.uint64) & _LOW
    counter = (block, step & 0xFFFFFFFF, (step >> 32) & 0xFFFFFFFF, stream)
    words = philox4x32(counter, (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF))
    lanes = np.stack(words).reshape(4, rows, blocks)
    return lanes.transpose(1, 0, 2).reshape(rows, 4 * blocks)[:, :n]


def uniform(seed, stream, step, n):
    """n float64 numbers, uniform on the open interval (0, 1), of 52 random bits each: one more
    would round the largest up to 1.
    """
    high, low = random_bits(seed, stream, step, n, rows=2)
    bits = (high >> np.uint64(6)) * np.uint64(1 << 26) + (low >> np.uint64(6))
    return (bits + 0.5) * 2.0**-52


def normal(seed, stream, step, n):
    """n float64 numbers from N(0, 1) by the Box–Muller transform."""
    u = uniform(seed, stream, step, 2 * n)
    return np.sqrt(-2.0 * np.log(u[:n])) * np.cos(2.0 * np.pi * u[n:])


def permutation(seed, stream, step, n):
    """A random order of 0 … n − 1 as int64: indices sorted by a random word of 32 bits, ties broken
    by the index itself.

    Engines are handed orders and never draw them, so the words may come from NumPy's own
    Philox4x64-10, two from each of its numbers, which is eight times as fast as the generator
    above: an epoch of a very small network takes few milliseconds.
    """
    # arrays of this size cost more to get from the system than to fill: no more than needed
    keys = np.arange(n, dtype=np.uint64)
    words = (
        np.random.Philox(key=seed, counter=[0, 0, step, stream])
        .random_raw(-(-n // 2))
        .view(np.uint32)
    )
    keys.view(np.uint32)[_HIGH_HALF::2] = words[:n]
    keys.sort()
    keys &= _LOW
    return keys.view(np.int64)


def dropout_threshold(rate):
    """A unit is dropped where its random word is below this number; P(dropped) = rate to within
    2⁻³³.
    """
    return round(rate * 2**32)
