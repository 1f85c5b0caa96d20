"""Recipes "tabm" and "tabm-mini": TabM as its authors' package and pytabkit build it."""

import numpy as np
import pytest

import fastnn as fnn
from fastnn.recipes import recipe
from fastnn.recipes.plan import CLASSIFICATION, METRICS, REGRESSION, Problem


def problem(task=CLASSIFICATION, rows=1000, numbers=3, cardinalities=(), outputs=2):
    inputs = numbers + 4 + len(cardinalities)  # four columns of gaps and names
    return Problem(task, rows, inputs, numbers, cardinalities, outputs, METRICS[task])


def network(name, of):
    plan = recipe(name).plan(of, None)
    return fnn.Network(plan.layers, of.inputs, plan.loss, backend="numpy"), plan


@pytest.mark.parametrize("name", ["tabm", "tabm-mini"])
@pytest.mark.parametrize("numbers", [0, 3])
def test_what_is_trained(name, numbers):
    net, _ = network(name, problem(numbers=numbers, cardinalities=(2000,)))
    shapes = {key: array.shape for key, array in net.parameters.items()}
    at, columns = ("2", 16 * 3 + 4 + 8) if numbers else ("1", 4 + 8)
    blocks = [0, 2] if numbers else [0, 2, 4]
    assert shapes[f"{at}.r"] == (32, columns)
    assert [shapes[f"{at}.{i}.weight"] for i in blocks] == [
        (columns, 512),
        *[(512, 512)] * (len(blocks) - 1),
    ]
    assert shapes[f"{at}.{blocks[-1] + 2}.weight"] == (32, 512, 2)
    assert (f"{at}.0.s" in shapes) == (name == "tabm")
    first = net.parameters[f"{at}.r"]
    assert (np.abs(first) == 1).all() == (numbers == 0)
    if numbers:
        assert shapes["1.weight"] == (3, 49, 16)
        of_features = first[:, :48].reshape(32, 3, 16)
        assert (of_features == of_features[:, :, :1]).all()
        assert (first[:, -8:] == first[:, -8:-7]).all()
        assert len(np.unique(first)) == 32 * (3 + 4 + 1)


def test_how_it_is_trained():
    _, plan = network("tabm", problem())
    record = plan.optimizer.record()
    assert (plan.batch_size, plan.patience) == (32, 16)
    assert record["clip_norm"] == 1.0
    assert plan.loss.name == "softmax_cross_entropy"
    _, plan = network("tabm", problem(REGRESSION, 40_000, outputs=1))
    assert (plan.batch_size, plan.loss.name) == (512, "mse")
    assert recipe("tabm").plan(problem(), 3).epochs == 3
    assert recipe("tabm").scaling == "quantile"


def test_what_decays():
    """Weights, heads and the members' factors, but no bias and no embedding."""
    net, _ = network("tabm", problem())
    decays = {op["weight"] for op in net.program.ops if op["weight_decay"] > 0}
    names = {array.name for array in net.program.parameters if array.offset in decays}
    assert names == {"1.r", "1.0.weight", "1.0.s", "1.2.r", "1.2.weight", "1.2.s", "1.4.weight"}
    assert not net.program.ops["bias_decay"].any()


@pytest.mark.parametrize("rows", [1, 2, 30])
def test_few_rows(rows):
    net, _ = network("tabm-mini", problem(rows=rows))
    X = np.random.default_rng(0).normal(size=(rows, 7))
    net.fit(X, np.arange(rows) % 2, 1, progress=False)
    assert np.isfinite(net.predict(X)).all()
