"""Recipes "realmlp" and "realmlp-s": RealMLP-TD and TD-S (Holzmüller, Grinsztajn & Steinwart 2024).

Constants are those of the authors' package, pytabkit. Here and there the best epoch is that of the
lowest class error or RMSE; with metric "log_loss" or "auc" there is no label smoothing, as the
authors advise. One thing differs: one-hot columns are 0 and 1, where theirs are scaled as numbers
are.
"""

from collections.abc import Mapping

from fastnn.nn.layers import Activation, Dense, Dropout, Layer, Periodic, Scale
from fastnn.nn.losses import Loss
from fastnn.optim.optimizers import AdamW
from fastnn.optim.schedules import CosineLog, FlatCosine, Schedule
from fastnn.recipes.plan import CLASSIFICATION, REGRESSION, Plan, Problem, Recipe, embedding, steps

_EPOCHS, _BATCH_SIZE = 256, 256
_WIDTHS, _SIZE = (256, 256, 256), 8
_DROPOUT, _DECAY, _SMOOTHING = 0.15, 0.02, 0.1
_SLOW, _SCALE = 0.1, 6.0  # factors of the learning rate
_RATES = {CLASSIFICATION: 0.04, REGRESSION: 0.2}  # of TD
_RATES_S = {CLASSIFICATION: 0.04, REGRESSION: 0.07}
_ONE_HOT_S = 1000  # TD-S has no other; beyond that many names, vectors


def tuned_defaults(problem: Problem, epochs: int | None = None) -> Plan:
    """RealMLP-TD: periodic embeddings, a start from data, dropout and decay that end at 0."""
    epochs = epochs or _EPOCHS
    n = _steps(problem, epochs)
    layers = embedding(problem, _SIZE)
    if problem.numbers:
        layers.append(Periodic(features=problem.numbers, lr_factor=_SLOW, decay_factor=_SLOW))
    layers.append(Scale(_SCALE, _SCALE))
    for units in _WIDTHS:
        layers.append(_dense(units))
        layers.append(_activation(problem, parametric=True))
        layers.append(Dropout(FlatCosine(_DROPOUT, n)))
    return _plan(problem, [*layers, _dense(problem.outputs)], _RATES, FlatCosine(_DECAY, n), epochs)


def simplified(problem: Problem, epochs: int | None = None) -> Plan:
    """RealMLP-TD-S: scale, three layers, NTK parametrisation, and the schedule."""
    layers: list[Layer] = [*embedding(problem, _SIZE), Scale(_SCALE)]
    normal = "standard_normal"
    for units in _WIDTHS:
        layers.append(_dense(units, normal, normal))
        layers.append(_activation(problem, parametric=False))
    layers.append(_dense(problem.outputs, "zeros", "zeros"))
    return _plan(problem, layers, _RATES_S, 0.0, epochs or _EPOCHS)


def _dense(units: int, init: str = "data", bias_init: str = "he+5") -> Dense:
    return Dense(units, init=init, bias_init=bias_init, scaling="ntk", bias_lr_factor=_SLOW)


def _activation(problem: Problem, parametric: bool) -> Activation:
    name = "selu" if problem.classifies else "mish"
    if not parametric:
        return Activation(name)
    return Activation(name, parametric=True, lr_factor=_SLOW, decay_factor=_SLOW)


def _plan(
    problem: Problem,
    layers: list[Layer],
    rates: Mapping[str, float],
    decay: float | Schedule,
    epochs: int,
) -> Plan:
    n = _steps(problem, epochs)
    loss = Loss("mse")
    if problem.classifies:
        is_of_errors = problem.metric not in ("log_loss", "auc")
        smoothing = _SMOOTHING if is_of_errors else 0.0
        loss = Loss("softmax_cross_entropy", label_smoothing=smoothing)
    optimizer = AdamW(CosineLog(rates[problem.task], n), beta2=0.95, weight_decay=decay)
    size = problem.batch_size or _BATCH_SIZE
    return Plan(layers, loss, optimizer, epochs, size, options={"drop_last": True})


def _steps(problem: Problem, epochs: int) -> int:
    return steps(problem, epochs, problem.batch_size or _BATCH_SIZE, drop_last=True)


_METRICS = {CLASSIFICATION: "accuracy", REGRESSION: "rmse"}
TD = Recipe(tuned_defaults, metrics=_METRICS)
TD_S = Recipe(simplified, metrics=_METRICS, one_hot=_ONE_HOT_S)
