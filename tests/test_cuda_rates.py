"""What the CUDA engine's host works out of a rule for each step, against the reference's own
words.
"""

import numpy as np
import pytest

import fastnn as fnn
from fastnn._kernels.numba_cuda.kernels.step_rates import chunk_rates, running_products
from fastnn.optim.optimizers import OPTIMIZERS

STEPS = 40
LEARNING_RATES = np.linspace(0.1, 0.01, STEPS)
DESCENDING = [name for name in OPTIMIZERS if name != "lbfgs"]


@pytest.mark.parametrize("name", DESCENDING)
@pytest.mark.parametrize("cut", [1, 7, 39])
def test_where_a_chunk_is_cut_does_not_matter_to_the_last_bit(name, cut):
    rule = OPTIMIZERS[name]().record()
    products = running_products(rule, STEPS, 3, 0.7)
    first, rest = (
        running_products(rule, cut, 3, 0.7),
        running_products(rule, STEPS - cut, 3 + cut, products[cut]),
    )
    np.testing.assert_array_equal(np.append(first, rest[1:]), products)
    parts = (
        chunk_rates(rule, LEARNING_RATES[:cut], 3, 0.7),
        chunk_rates(rule, LEARNING_RATES[cut:], 3 + cut, products[cut]),
    )
    np.testing.assert_array_equal(np.concatenate(parts), chunk_rates(rule, LEARNING_RATES, 3, 0.7))


def test_nadam():
    """Dozat (2016) as torch.optim.NAdam has it, step by step."""
    optimizer, product = fnn.NAdam(), 1.0
    rule = optimizer.record()
    table = chunk_rates(rule, LEARNING_RATES, 0, 1.0)
    for t, eta in enumerate(LEARNING_RATES, 1):
        mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
        product *= mu
        expected = (
            eta,
            eta * mu_next / (1 - product * mu_next),
            eta * (1 - mu) / (1 - product),
            1 / np.sqrt(1 - 0.999**t),
        )
        np.testing.assert_allclose(table[t - 1], expected, rtol=1e-12)
    assert running_products(rule, STEPS, 0, 1.0)[-1] == pytest.approx(product, rel=1e-14)


def test_adam():
    table = chunk_rates(fnn.Adam().record(), LEARNING_RATES, 5, 1.0)
    t = 6 + np.arange(STEPS)
    np.testing.assert_allclose(table[:, 1], LEARNING_RATES / (1 - 0.9**t), rtol=1e-12)
    np.testing.assert_allclose(table[:, 3], 1 / np.sqrt(1 - 0.999**t), rtol=1e-12)
