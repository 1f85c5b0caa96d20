"""Recipe "plain": the network that ``fastnn train`` builds from its own options' defaults."""

from fastnn.nn.layers import Dense
from fastnn.nn.losses import Loss
from fastnn.optim.optimizers import Adam
from fastnn.recipes.plan import Plan, Problem, Recipe, embedding

_EPOCHS, _BATCH_SIZE, _WIDTHS, _SIZE = 10, 32, (256, 128), 8


def plan(problem: Problem, epochs: int | None = None) -> Plan:
    """Two layers of ReLU, Adam, ten epochs."""
    layers = [*embedding(problem, _SIZE), *(Dense(units, "relu") for units in _WIDTHS)]
    loss = "softmax_cross_entropy" if problem.classifies else "mse"
    layers = [*layers, Dense(problem.outputs)]
    size = problem.batch_size or _BATCH_SIZE
    return Plan(layers, Loss(loss), Adam(), epochs or _EPOCHS, size)


RECIPE = Recipe(plan)
