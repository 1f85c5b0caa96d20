"""The book's algorithm, written out sample by sample, and networks to compare with it."""

import numpy as np
import pytest

from fastnn.nielsen import network2
from fastnn.nielsen.network2 import CrossEntropyCost, QuadraticCost

SIZES = [6, 5, 4, 3]
COSTS = (CrossEntropyCost, QuadraticCost)
INITIALIZERS = ("default_weight_initializer", "large_weight_initializer")
each_cost = pytest.mark.parametrize("cost", COSTS)
each_start = pytest.mark.parametrize("initializer", INITIALIZERS)
FLAGS = (
    "monitor_evaluation_cost",
    "monitor_evaluation_accuracy",
    "monitor_training_cost",
    "monitor_training_accuracy",
)


def pairs(n, seed=0, vectors=True, sizes=SIZES):
    """Samples whose class is in their inputs, in the book's shapes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(sizes[-1], size=n)
    x = rng.uniform(size=(n, sizes[0], 1))
    x[np.arange(n), labels] += 1.0
    return [
        (a, np.eye(sizes[-1])[:, [label]] if vectors else int(label))
        for a, label in zip(x, labels, strict=True)
    ]


def new(
    cost=CrossEntropyCost,
    initializer=INITIALIZERS[0],
    sizes=SIZES,
    seed=0,
    dtype="float64",
    **options,
):
    net = network2.Network(sizes, cost=cost, seed=seed, dtype=dtype, **options)
    getattr(net, initializer)()
    return net


# --- the algorithm, sample by sample --------------------------------------------------------------


def logistic(z):
    return 1 / (1 + np.exp(-z))


def activations(weights, biases, x):
    outputs = [x]
    for w, b in zip(weights, biases, strict=True):
        outputs.append(logistic(w @ outputs[-1] + b))
    return outputs


def sample_cost(cost, a, y):
    if cost is QuadraticCost:
        return ((a - y) ** 2).sum() / 2
    return -(y * np.log(a) + (1 - y) * np.log(1 - a)).sum()


def sample_gradient(cost, weights, biases, x, y):
    """∂C/∂b and ∂C/∂w of one sample by the four equations of the book's chapter 2."""
    a = activations(weights, biases, x)
    delta = (a[-1] - y) * (a[-1] * (1 - a[-1]) if cost is QuadraticCost else 1)
    by_bias, by_weight = [delta], [delta @ a[-2].T]
    for layer in range(len(weights) - 2, -1, -1):
        delta = (weights[layer + 1].T @ delta) * a[layer + 1] * (1 - a[layer + 1])
        by_bias.insert(0, delta)
        by_weight.insert(0, delta @ a[layer].T)
    return by_bias, by_weight


def step(cost, weights, biases, batch, eta, lmbda, n):
    """Weights and biases after one mini-batch."""
    gradients = [sample_gradient(cost, weights, biases, x, y) for x, y in batch]
    mean_b, mean_w = (
        [sum(layer) / len(batch) for layer in zip(*part, strict=True)]
        for part in zip(*gradients, strict=True)
    )
    weights = [(1 - eta * lmbda / n) * w - eta * g for w, g in zip(weights, mean_w, strict=True)]
    return weights, [b - eta * g for b, g in zip(biases, mean_b, strict=True)]


def cost_of(cost, net, data, lmbda):
    mean = sum(
        sample_cost(cost, activations(net.weights, net.biases, x)[-1], y) for x, y in data
    ) / len(data)
    return mean + lmbda / (2 * len(data)) * sum((w**2).sum() for w in net.weights)


def n_correct(net, data):
    return sum(
        int(activations(net.weights, net.biases, x)[-1].argmax() == y.argmax()) for x, y in data
    )


def assert_same(ours, theirs, rtol=1e-11):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)
