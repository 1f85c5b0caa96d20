"""The step rates that the host computes for the engines, against the formulas of the papers."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn._kernels.step_rates import StepRates, step_rates
from fastnn.optim.optimizers import OPTIMIZERS

STEPS = 40
LEARNING_RATES = np.linspace(0.1, 0.01, STEPS)
DECAYS = np.linspace(0.0, 0.2, STEPS)
ETA, STEP, STEP_GRADIENT, INV_SQRT_BIAS2, DECAY = range(len(StepRates._fields))
DESCENDING = [name for name in OPTIMIZERS if name != "lbfgs"]


@pytest.mark.parametrize("name", DESCENDING)
@pytest.mark.parametrize("cut", [1, 7, 39])
def test_where_a_chunk_is_cut_does_not_matter_to_the_last_bit(name, cut):
    record = OPTIMIZERS[name]().record()
    rates, products = step_rates(record, LEARNING_RATES, DECAYS, 3, 0.7)
    first, products_1 = step_rates(record, LEARNING_RATES[:cut], DECAYS[:cut], 3, 0.7)
    rest, products_2 = step_rates(
        record, LEARNING_RATES[cut:], DECAYS[cut:], 3 + cut, products_1[-1]
    )
    np.testing.assert_array_equal(np.concatenate([first, rest]), rates)
    np.testing.assert_array_equal(np.append(products_1, products_2[1:]), products)


def test_nadam():
    """Dozat (2016) as torch.optim.NAdam has it, step by step."""
    product = 1.0
    rates, products = step_rates(fnn.NAdam().record(), LEARNING_RATES, DECAYS, 0, 1.0)
    for t, eta in enumerate(LEARNING_RATES, 1):
        mu, mu_next = (0.9 * (1 - 0.5 * 0.96 ** (k * 0.004)) for k in (t, t + 1))
        product *= mu
        expected = (
            eta,
            eta * mu_next / (1 - product * mu_next),
            eta * (1 - mu) / (1 - product),
            1 / np.sqrt(1 - 0.999**t),
            DECAYS[t - 1],
        )
        np.testing.assert_allclose(rates[t - 1], expected, rtol=1e-12)
    assert products[0] == 1.0
    assert products[-1] == pytest.approx(product, rel=1e-14)


@pytest.mark.parametrize("optimizer", [fnn.Adam(), fnn.AdamW()])
def test_adam(optimizer):
    rates, products = step_rates(optimizer.record(), LEARNING_RATES, DECAYS, 5, 1.0)
    t = 6 + np.arange(STEPS)
    np.testing.assert_allclose(rates[:, STEP], LEARNING_RATES / (1 - 0.9**t), rtol=1e-12)
    np.testing.assert_allclose(rates[:, INV_SQRT_BIAS2], 1 / np.sqrt(1 - 0.999**t), rtol=1e-12)
    np.testing.assert_array_equal(products, 1.0)


@pytest.mark.parametrize("name", [name for name in DESCENDING if "adam" not in name])
def test_other_optimizers_have_no_bias_correction(name):
    rates, products = step_rates(OPTIMIZERS[name]().record(), LEARNING_RATES, DECAYS, 5, 0.5)
    np.testing.assert_array_equal(rates[:, ETA], LEARNING_RATES)
    np.testing.assert_array_equal(rates[:, STEP], LEARNING_RATES)
    np.testing.assert_array_equal(rates[:, STEP_GRADIENT], 0.0)
    np.testing.assert_array_equal(rates[:, INV_SQRT_BIAS2], 1.0)
    np.testing.assert_array_equal(rates[:, DECAY], DECAYS)
    np.testing.assert_array_equal(products, 0.5)
