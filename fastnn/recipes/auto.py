"""Recipe "auto": what is accurate on most tables within the time of gradient boosting.

The hidden layers are RealMLP's (NTK parametrisation, a learnt scale, parametric activations:
Holzmüller, Grinsztajn & Steinwart 2024), the encoding of numbers is TabM's (piecewise linear:
Gorishniy et al. 2022, 2025), and several networks of other rows are averaged.
"""

from fastnn.nn.layers import Activation, Dense, Dropout, Layer, PiecewiseLinear, Scale
from fastnn.nn.losses import Loss
from fastnn.optim.optimizers import AdamW
from fastnn.optim.schedules import FlatCosine
from fastnn.recipes.plan import Plan, Problem, Recipe, batch_size_by_rows, embedding, steps

_SIZE = 8  # of the vector of a code
_BINS = 48
_DECAY = 0.02
_SLOW, _FAST = 0.1, 6.0  # factors of the learning rate, of biases and of the scale
_LARGEST_BATCH = 256  # of tables that several networks share
_MANY = 100_000  # rows from which one network is enough
_ROWS_SEEN = 300_000  # by a network in all its epochs, for larger tables
_EPOCHS = (2, 64)  # fewest and most
_PATIENCE = 10  # epochs


def plan(problem: Problem, epochs: int | None = None) -> Plan:
    """Encodings of numbers and vectors of codes, then two or three hidden layers."""
    epochs = epochs or int(min(max(_ROWS_SEEN // problem.rows, _EPOCHS[0]), _EPOCHS[1]))
    size = problem.batch_size or batch_size_by_rows(problem.rows)
    if problem.batch_size is None and problem.rows < _MANY:
        size = min(2 * size, _LARGEST_BATCH)
    kind = _classifier if problem.classifies else _regressor
    rate, layers = kind(problem)
    loss = Loss("softmax_cross_entropy" if problem.classifies else "mse")
    schedule = FlatCosine(rate, steps(problem, epochs, size))
    optimizer = AdamW(schedule, beta2=0.95, weight_decay=_DECAY)
    return Plan(layers, loss, optimizer, epochs, size, _PATIENCE if problem.classifies else None)


def _classifier(problem: Problem) -> tuple[float, list[Layer]]:
    """Much dropout, as the log-loss punishes certainty; the rate is low for the same reason."""
    return 0.02, _layers(problem, 8, (256, 128), "selu", 0.3)


def _regressor(problem: Problem) -> tuple[float, list[Layer]]:
    return 0.12, _layers(problem, 16, (256, 256, 256), "mish", 0.05)


def _layers(
    problem: Problem, size: int, widths: tuple[int, ...], activation: str, dropout: float
) -> list[Layer]:
    layers = embedding(problem, _SIZE)
    if problem.numbers:
        layers.append(PiecewiseLinear(_BINS, size, features=problem.numbers, lr_factor=_SLOW))
    layers.append(Scale(lr_factor=_FAST))
    for units in widths:
        layers += [
            Dense(units, scaling="ntk", bias_init="standard_normal", bias_lr_factor=_SLOW),
            Activation(activation, parametric=True, lr_factor=_SLOW),
            Dropout(dropout),
        ]
    last = Dense(problem.outputs, scaling="ntk", init="zeros", bias_lr_factor=_SLOW)
    return [*layers, last]


def folds(rows: int) -> int:
    """Five networks of small tables; of large ones the rows suffice for one."""
    return 5 if rows < _MANY else 1


RECIPE = Recipe(plan, folds)
