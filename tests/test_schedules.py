"""Schedules: values computed by hand, and one function behind both ways of asking."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastnn as fnn
from fastnn.optim.schedules import SCHEDULES, as_schedule

EXAMPLES = {
    "Constant": fnn.Constant(0.1),
    "StepDecay": fnn.StepDecay(0.8, 10),
    "Exponential": fnn.Exponential(0.5, 0.9),
    "InverseTime": fnn.InverseTime(1.0, 0.25),
    "Cosine": fnn.Cosine(1.0, 20, 0.2),
    "FlatCosine": fnn.FlatCosine(0.5, 20),
    "CosineLog": fnn.CosineLog(0.5, 150),
    "Warmup": fnn.Warmup(4, fnn.Cosine(1.0, 10)),
    "OneCycle": fnn.OneCycle(1.0, 100),
}
BY_HAND = {  # step → rate
    "Constant": {0: 0.1, 1000: 0.1},
    "StepDecay": {0: 0.8, 9: 0.8, 10: 0.4, 19: 0.4, 20: 0.2, 35: 0.1},
    "Exponential": {0: 0.5, 1: 0.45, 2: 0.405},
    "InverseTime": {0: 1.0, 4: 0.5, 12: 0.25},
    "Cosine": {0: 1.0, 5: 0.2 + 0.4 * (1 + np.sqrt(0.5)), 10: 0.6, 20: 0.2, 1000: 0.2},
    "FlatCosine": {0: 0.5, 10: 0.5, 15: 0.25, 20: 0.0, 1000: 0.0},
    # log₂(1 + t/10) is whole at the ends of the cycles, 10, 30 and 70, and a half in their middle.
    "CosineLog": {0: 0.0, 10: 0.0, 30: 0.0, 70: 0.0, 150: 0.0, 10 * (2**1.5 - 1): 0.5, 1000: 0.0},
    "Warmup": {0: 0.25, 1: 0.5, 2: 0.75, 3: 1.0, 4: 1.0, 9: 0.5, 14: 0.0},
    "OneCycle": {0: 0.04, 15: 0.52, 30: 1.0, 65: 0.5 + 0.5 * 4e-6, 100: 4e-6, 1000: 4e-6},
}
each = pytest.mark.parametrize("name", SCHEDULES)


@each
def test_values_by_hand(name):
    for step, rate in BY_HAND[name].items():
        assert EXAMPLES[name](step) == pytest.approx(rate, rel=1e-12, abs=1e-15)


@each
@given(start=st.integers(0, 200), n=st.integers(0, 50))
def test_many_steps_are_single_steps(name, start, n):
    rates = EXAMPLES[name].rates(start, n)
    assert rates.dtype == np.float64
    assert rates.shape == (n,)
    np.testing.assert_allclose(
        rates, [EXAMPLES[name](step) for step in range(start, start + n)], rtol=1e-15
    )


@each
def test_rates_are_never_negative(name):
    assert EXAMPLES[name].rates(0, 2000).min() >= 0


@pytest.mark.parametrize("then", [0.3, *EXAMPLES.values()], ids=str)
def test_warm_up_rises_evenly_to_where_the_next_begins(then):
    schedule, first = fnn.Warmup(7, then), as_schedule(then)(0)
    np.testing.assert_allclose(schedule.rates(0, 7), first * np.arange(1, 8) / 7, rtol=1e-12)
    np.testing.assert_allclose(schedule.rates(7, 60), as_schedule(then).rates(0, 60), rtol=1e-12)


def test_one_cycle_is_continuous_at_its_peak():
    schedule = fnn.OneCycle(0.3, 1000, rise=0.2, start=10.0, final=100.0)
    rates = schedule.rates(0, 1001)
    assert rates.argmax() == 200
    assert rates.max() == pytest.approx(0.3, rel=1e-12)
    assert rates[0] == pytest.approx(0.03)
    assert rates[-1] == pytest.approx(0.0003)
    assert np.abs(np.diff(rates)).max() < 0.3 * np.pi / 2 / 200 * 1.01


def test_a_number_is_a_constant():
    assert as_schedule(0.25) == fnn.Constant(0.25)
    assert as_schedule(EXAMPLES["Cosine"]) is EXAMPLES["Cosine"]


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("lr", lambda: fnn.Constant(-1.0)),
        ("lr", lambda: fnn.Cosine(np.nan, 10)),
        ("steps", lambda: fnn.StepDecay(0.1, 0)),
        ("steps", lambda: fnn.Cosine(0.1, 2.5)),
        ("factor", lambda: fnn.Exponential(0.1, -0.5)),
        ("decay", lambda: fnn.InverseTime(0.1, "slow")),
        ("final", lambda: fnn.Cosine(0.1, 10, -1.0)),
        ("then", lambda: fnn.Warmup(3, "later")),
        ("steps", lambda: fnn.Warmup(0, 0.1)),
        ("steps", lambda: fnn.OneCycle(0.1, -3)),
        ("start", lambda: fnn.OneCycle(0.1, 10, start=0.0)),
        ("final", lambda: fnn.OneCycle(0.1, 10, final=0.0)),
        ("rise", lambda: fnn.OneCycle(0.1, 10, rise=1.5)),
    ],
)
def test_mistakes_are_named(argument, make):
    with pytest.raises((ValueError, TypeError), match=rf"\b{argument}\b"):
        make()
