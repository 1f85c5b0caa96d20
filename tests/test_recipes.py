"""Recipes: plans that fit the problem, whatever its shape."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.optim.schedules import Schedule
from fastnn.recipes import RECIPES, recipe
from fastnn.recipes.plan import CLASSIFICATION, REGRESSION, Problem, steps

SHAPES = {  # inputs, numbers, cardinalities
    "numbers": (4, 4, ()),
    "names": (5, 0, ()),
    "codes": (2, 0, (12, 30)),
    "all": (9, 3, (12,)),
}


def problem(shape, task, rows=500, **options):
    inputs, numbers, cardinalities = SHAPES[shape]
    outputs, metric = (3, "log_loss") if task == CLASSIFICATION else (1, "rmse")
    return Problem(task, rows, inputs, numbers, cardinalities, outputs, metric, **options)


@pytest.mark.parametrize("task", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", RECIPES)
def test_plans_fit_the_columns(name, shape, task):
    given = problem(shape, task)
    plan = recipe(name).plan(given, None)
    net = fnn.Network(plan.layers, given.inputs, plan.loss, backend="numpy")
    assert net.outputs == given.outputs
    assert net.program.cardinalities == given.cardinalities
    assert plan.epochs > 0
    assert 0 < plan.batch_size <= 1024


@pytest.mark.parametrize("name", RECIPES)
def test_options_of_the_user_come_first(name):
    plan = recipe(name).plan(problem("all", REGRESSION, batch_size=7), 3)
    assert (plan.epochs, plan.batch_size) == (3, 7)


@pytest.mark.parametrize("size", [None, 7, 10_000])
@pytest.mark.parametrize("name", RECIPES)
def test_schedules_end_with_the_last_step(name, size):
    """Of rates that fall to 0, the last is near it and none before is."""
    given = problem("all", REGRESSION, batch_size=size)
    plan = recipe(name).plan(given, None)
    if not isinstance(plan.optimizer.lr, Schedule):
        return
    drop_last = plan.options.get("drop_last", False)
    n = steps(given, plan.epochs, plan.batch_size, drop_last)
    rates = plan.optimizer.rates(0, n + 1)
    assert rates[-1] < 1e-3 * rates.max()
    assert np.argmin(rates[n // 2 :]) == n - n // 2


def test_fewer_epochs_and_one_network_of_large_tables():
    auto = recipe("auto")
    epochs = [auto.plan(problem("all", REGRESSION, n), None).epochs for n in (500, 20_000, 10**6)]
    assert epochs == sorted(epochs, reverse=True)
    assert [auto.folds(n) for n in (500, 99_999, 100_000)] == [5, 5, 1]


def test_an_unknown_recipe():
    with pytest.raises(ValueError, match=r"unknown recipe 'tab' \(did you mean 'tabm'"):
        recipe("tab")
