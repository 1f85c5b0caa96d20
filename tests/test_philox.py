"""The counter-based generator: published test vectors, and distributions of its samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn._kernels import philox

# Known answers of Random123 (kat_vectors, philox4x32 with 10 rounds): counter, key, words.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]
SEEDS = st.integers(0, 2**64 - 1)
STEPS = st.integers(0, 2**64 - 1)
STREAMS = st.integers(0, 2**32 - 1)


def words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    assert [int(word) for word in philox.philox4x32(words(counter), words(key))] == words(expected)


def test_arrays_of_counters_go_through_at_once():
    counters = np.array([words(counter) for counter, _, _ in KNOWN_ANSWERS], np.uint32)
    first = np.array(philox.philox4x32(counters.T, (0, 0)))[:, 0]
    assert first.tolist() == words(KNOWN_ANSWERS[0][2])


def test_layout_of_a_row():
    seed, stream, step = words("299f31d0")[0] << 32 | words("a4093822")[0], 7, 3 << 32 | 5
    bits = philox.random_bits(seed, stream, step, 10)[0]
    blocks = 3
    for element in range(10):
        lane, block = divmod(element, blocks)
        assert (
            bits[element]
            == philox.philox4x32((block, 5, 3, stream), (0xA4093822, 0x299F31D0))[lane]
        )


@given(SEEDS, STREAMS, STEPS, st.integers(1, 9), st.integers(2, 8), st.data())
def test_rows_do_not_depend_on_how_they_are_cut(seed, stream, step, n, rows, data):
    cut = data.draw(st.integers(1, rows - 1))
    whole = philox.random_bits(seed, stream, step, n, rows)
    head = philox.random_bits(seed, stream, step, n, cut)
    tail = philox.random_bits(seed, stream, step, n, rows - cut, first_row=cut)
    np.testing.assert_array_equal(whole, np.concatenate([head, tail]))


@given(SEEDS, STREAMS, STEPS, st.integers(0, 300))
def test_permutation_is_one(seed, stream, step, n):
    order = philox.permutation(seed, stream, step, n)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


@settings(max_examples=20)
@given(SEEDS, STREAMS, STEPS)
def test_seed_stream_and_step_each_matter(seed, stream, step):
    base = philox.random_bits(seed, stream, step, 8)
    for other in (
        (seed ^ 1 << 40, stream, step),
        (seed, stream ^ 1, step),
        (seed, stream, step ^ 1 << 40),
    ):
        assert (philox.random_bits(*other, 8) != base).any()


def test_permutation_places_every_index_everywhere_equally_often():
    n, trials = 5, 4000
    counts = np.zeros((n, n))
    for step in range(trials):
        counts[np.arange(n), philox.permutation(1, 0, step, n)] += 1
    assert np.abs(counts / trials - 1 / n).max() < 5 * np.sqrt(0.2 * 0.8 / trials)


def test_uniform_fills_the_open_interval():
    u = philox.uniform(3, 0, 0, 200_000)
    assert u.min() > 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / u.size)
    assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / u.size)


def test_moments_of_the_normal_distribution():
    z = philox.normal(3, 0, 0, 200_000)
    # E z^p, and the variance of z^p
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 5 * np.sqrt(spread / z.size), power


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.999])
def test_dropout_threshold_drops_at_its_rate(rate):
    dropped = philox.random_bits(5, 0, 0, 100_000)[0] < philox.dropout_threshold(rate)
    assert abs(dropped.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / dropped.size)
