"""Recipe "auto": what is accurate on most tables within the time of gradient boosting."""

from fastnn.nn.layers import Dense, Dropout, Layer, PiecewiseLinear
from fastnn.nn.losses import Loss
from fastnn.optim.optimizers import AdamW
from fastnn.optim.schedules import Cosine
from fastnn.recipes.plan import Plan, Problem, Recipe, batch_size_by_rows, embedding, steps

_SIZE = 8  # of the vector of a code


def plan(problem: Problem, epochs: int | None = None) -> Plan:
    """Piecewise-linear encodings, then two layers of ReLU."""
    layers: list[Layer] = embedding(problem, _SIZE)
    if problem.numbers:
        layers.append(PiecewiseLinear(48, 16, features=problem.numbers))
    for units in (256, 128):
        layers.append(Dense(units, "relu"))
        if problem.classifies:
            layers.append(Dropout(0.3))
    layers.append(Dense(problem.outputs))
    epochs = epochs or 40
    size = batch_size_by_rows(problem.rows)
    rate = Cosine(1e-3, steps(problem, epochs, size))
    loss = Loss("softmax_cross_entropy" if problem.classifies else "mse")
    return Plan(layers, loss, AdamW(rate, weight_decay=0.0), epochs, size, patience=8)


RECIPE = Recipe(plan, folds=5)
