"""How a model's predictions change with the numbers of a table, by exact derivatives."""

import numpy as np

from fastnn.diagnostics.input_gradients import input_gradients
from fastnn.estimators.calibration import LEAST
from fastnn.estimators.table_model import TableModel
from fastnn.tabular.columns.numbers import Number

_BLOCK_NUMBERS = 1 << 22  # of the derivatives of the rows that are looked at together


def prediction_gradients(model: TableModel, X: np.ndarray) -> np.ndarray:
    """∂p_k/∂x_j (n, outputs, numbers) of `TableModel.outputs` by the encoded numbers.

    The temperature counts, and of several networks the mean.
    """
    numbers, nets = model.encoder.n_numbers, model.networks
    p, slopes = np.zeros((len(X), nets.outputs)), np.zeros((len(X), nets.outputs, numbers))
    for net in nets:
        own, gradients = input_gradients(net, X)
        p += own / len(nets)
        slopes += gradients[:, :, :numbers] / len(nets)
    if model.temperature == 1.0:
        return slopes
    # q = softmax(log p / T): ∂q_k = q_k (∂log p_k − Σⱼ q_j ∂log p_j) / T
    logarithmic = slopes / np.maximum(p, LEAST)[:, :, None] * (p > LEAST)[:, :, None]
    q = np.maximum(p, LEAST) ** (1 / model.temperature)
    q = (q / q.sum(axis=1, keepdims=True))[:, :, None]
    return q * (logarithmic - (q * logarithmic).sum(axis=1, keepdims=True)) / model.temperature


def sensitivities(model: TableModel, X: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Mean |∂p/∂x| times the standard deviation of x, by column with numbers.

    Of classes |∂p/∂x| is half the sum over them: the probability that moves from some to others.

    Parameters
    ----------
    model : TableModel
    X : ndarray (n, inputs)
        Encoded rows.
    weights : ndarray (n,)
    """
    names = [f.name for f in model.encoder.features if isinstance(f, Number)]
    if not names:
        return {}
    widest = max(X.shape[1], model.networks.outputs)
    step = max(1, _BLOCK_NUMBERS // (model.networks.outputs * widest))
    total = np.zeros(len(names))
    for start in range(0, len(X), step):
        block = slice(start, start + step)
        moved = np.abs(prediction_gradients(model, X[block])).sum(axis=1)
        total += weights[block] @ moved
    share = weights / weights.sum()
    numbers = X[:, : len(names)].astype(np.float64)
    deviation = np.sqrt(share @ (numbers - share @ numbers) ** 2)
    total *= deviation * (0.5 if model.classifies else 1.0) / weights.sum()
    found = dict.fromkeys(names, 0.0)
    for name, value in zip(names, total.tolist(), strict=True):
        found[name] += value
    return found
