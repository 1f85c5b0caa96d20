"""The book's ``network2``: the same numbers as its algorithm, sample by sample; weights, seeds."""

import itertools
import random

import numpy as np
import pytest
from builders import ENGINES
from nielsen_cases import (
    COSTS,
    SIZES,
    activations,
    assert_same,
    cost_of,
    each_cost,
    each_start,
    logistic,
    n_correct,
    new,
    pairs,
    sample_cost,
    sample_gradient,
    step,
)

import fastnn as fnn
from fastnn.nielsen import mnist_loader, network2
from fastnn.nielsen.network2 import CrossEntropyCost


def test_modules_are_reached_by_their_names():
    assert fnn.nielsen.network2 is network2
    assert fnn.nielsen.mnist_loader is mnist_loader


# --- the same numbers -----------------------------------------------------------------------------


@each_cost
@each_start
def test_backprop(cost, initializer):
    net = new(cost, initializer)
    for x, y in pairs(3):
        nabla_b, nabla_w = net.backprop(x, y)
        by_bias, by_weight = sample_gradient(cost, net.weights, net.biases, x, y)
        assert_same(nabla_b, by_bias)
        assert_same(nabla_w, by_weight)


@each_cost
def test_backprop_of_several_columns_is_the_mean(cost):
    net, data = new(cost), pairs(4)
    together = net.backprop(*(np.hstack(part) for part in zip(*data, strict=True)))
    apart = [net.backprop(x, y) for x, y in data]
    for part in (0, 1):
        assert_same(
            together[part],
            [sum(layer) / 4 for layer in zip(*(each[part] for each in apart), strict=True)],
        )


@each_cost
@each_start
def test_update_mini_batch(cost, initializer):
    net, batch = new(cost, initializer), pairs(7)
    weights, biases = step(cost, net.weights, net.biases, batch, 0.5, 3.0, 40)
    net.update_mini_batch(batch, 0.5, 3.0, 40)
    assert_same(net.weights, weights)
    assert_same(net.biases, biases)


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-11), ("float32", 2e-5)])
@each_cost
@each_start
def test_sgd_on_one_batch_is_the_same_steps(backend, dtype, rtol, cost, initializer, capsys):
    """With the whole data as one mini-batch the order of samples does not matter."""
    net, data = new(cost, initializer, backend=backend, dtype=dtype), pairs(20)
    weights, biases = net.weights, net.biases
    net.SGD(data, 5, 20, 0.7, lmbda=2.0)
    for _ in range(5):
        weights, biases = step(cost, weights, biases, data, 0.7, 2.0, 20)
    assert_same(net.weights, weights, rtol)
    assert_same(net.biases, biases, rtol)
    assert {array.dtype for array in (*net.weights, *net.biases)} == {np.dtype(float)}


def test_sgd_takes_mini_batches_in_a_new_order_each_epoch(capsys):
    """Two epochs of mini-batches of 1 on 3 samples: the steps are those of two of the 6 orders."""
    net, data = new(sizes=[6, 3]), pairs(3)
    orders = list(itertools.permutations(data))
    outcomes = []
    for first, second in itertools.product(orders, orders):
        weights, biases = net.weights, net.biases
        for sample in (*first, *second):
            weights, biases = step(CrossEntropyCost, weights, biases, [sample], 1.0, 1.0, 3)
        outcomes.append(weights[0])
    net.SGD(data, 2, 1, 1.0, lmbda=1.0)
    assert sum(np.allclose(net.weights[0], outcome, rtol=1e-9) for outcome in outcomes) == 1


@each_cost
@each_start
@pytest.mark.parametrize("vectors", [True, False])
def test_total_cost_and_accuracy(cost, initializer, vectors):
    net, known, given = new(cost, initializer), pairs(30), pairs(30, vectors=vectors)
    assert net.total_cost(given, 4.0, convert=not vectors) == pytest.approx(
        cost_of(cost, net, known, 4.0), rel=1e-12
    )
    assert net.accuracy(given, convert=vectors) == n_correct(net, known)


@each_cost
def test_cost_classes(cost):
    z = np.array([[0.3], [-1.2], [2.0]])
    a, y = logistic(z), np.array([[1.0], [0.0], [1.0]])
    assert cost.fn(a, y) == pytest.approx(sample_cost(cost, a, y), rel=1e-12)
    h = 1e-6 * np.eye(3)
    nudged = [
        (
            sample_cost(cost, logistic(z + h[:, [j]]), y)
            - sample_cost(cost, logistic(z - h[:, [j]]), y)
        )
        / 2e-6
        for j in range(3)
    ]
    np.testing.assert_allclose(cost.delta(z, a, y)[:, 0], nudged, rtol=1e-8)


def test_cross_entropy_of_a_certain_and_right_answer_is_zero():
    y = np.array([[1.0], [0.0]])
    assert CrossEntropyCost.fn(y, y) == 0


def test_sigmoid_and_its_derivative():
    z = np.array([-800.0, -1.0, 0.0, 2.0, 800.0])
    np.testing.assert_allclose(
        network2.sigmoid(z), [0, 1 / (1 + np.e), 0.5, 1 / (1 + np.exp(-2.0)), 1]
    )
    np.testing.assert_allclose(
        network2.sigmoid_prime(z), network2.sigmoid(z) * network2.sigmoid(-z)
    )


def test_feedforward():
    net, data = new(), pairs(4)
    expected = [activations(net.weights, net.biases, x)[-1] for x, _ in data]
    assert_same([net.feedforward(x) for x, _ in data], expected)
    assert_same([net.feedforward(np.hstack([x for x, _ in data]))], [np.hstack(expected)])


# --- weights --------------------------------------------------------------------------------------


@each_start
def test_seeds_draw_the_books_numbers(initializer):
    """Biases first, then weights, from NumPy's generator."""
    net, book = new(initializer=initializer, seed=7), np.random.RandomState(7)
    biases = [book.randn(n_out, 1) for n_out in SIZES[1:]]
    large = [book.randn(n_out, n_in) for n_in, n_out in itertools.pairwise(SIZES)]
    assert_same(net.biases, biases, rtol=0)
    assert_same(
        net.weights,
        [w / np.sqrt(w.shape[1]) if "default" in initializer else w for w in large],
        rtol=0,
    )


def test_without_a_seed_the_global_generators_decide():
    outcomes = []
    for start in (3, 3, 4):
        np.random.seed(start)  # noqa: NPY002 (what readers of the book call)
        random.seed(start)
        net = network2.Network(SIZES)
        net.SGD(pairs(30), 2, 4, 0.5)
        outcomes.append(net.weights[0])
    np.testing.assert_array_equal(outcomes[0], outcomes[1])
    assert not np.array_equal(outcomes[0], outcomes[2])
    assert not np.array_equal(
        network2.Network(SIZES).weights[0], network2.Network(SIZES).weights[0]
    )


def test_training_goes_on():
    at_once, in_two = new(), new()
    at_once.SGD(pairs(30), 4, 4, 0.5, lmbda=1.0)
    for _ in range(2):
        in_two.SGD(pairs(30), 2, 4, 0.5, lmbda=1.0)
    assert_same(at_once.weights, in_two.weights, rtol=0)


def test_weights_can_be_read_changed_and_assigned():
    net, (x, _) = new(), pairs(1)[0]
    net.weights[0] = 2 * net.weights[0]
    net.biases[1][2] = -3.0
    net.weights[2] += 0.5
    np.testing.assert_allclose(
        net.feedforward(x), activations(net.weights, net.biases, x)[-1], rtol=1e-12
    )
    net.weights = [np.zeros_like(w) for w in net.weights]
    net.biases = [np.ones(b.shape, int) for b in net.biases]
    np.testing.assert_allclose(net.feedforward(x), logistic(1.0), rtol=1e-12)
    assert net.total_cost(pairs(3), 0.0) == pytest.approx(
        cost_of(CrossEntropyCost, net, pairs(3), 0.0)
    )


def test_training_leaves_arrays_alone_that_were_handed_out(capsys):
    net = new()
    for _ in range(2):
        before = net.weights, net.biases
        kept = [[array.copy() for array in part] for part in before]
        net.SGD(pairs(3), 1, 2, 0.1)
        assert not np.array_equal(net.weights[0], kept[0][0])
        for part, copies in zip(before, kept, strict=True):
            assert_same(part, copies, rtol=0)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "weights",
            [np.zeros((5, 6)), np.zeros((5, 4)), np.zeros((3, 4))],
            r"weights\[1\] must have the shape \(4, 5\), not \(5, 4\)",
        ),
        (
            "biases",
            [np.zeros((5, 1)), np.zeros(4), np.zeros((3, 1))],
            r"biases\[1\] must have the shape \(4, 1\), not \(4,\)",
        ),
        (
            "biases",
            [np.zeros((5, 1))],
            r"biases must be a list of 3 arrays, one per layer but the input; got 1",
        ),
    ],
)
def test_wrong_shapes_are_named(name, values, message):
    net = new()
    setattr(net, name, values)
    with pytest.raises(ValueError, match=message):
        net.accuracy(pairs(2))


@each_cost
def test_cost_can_be_assigned(cost):
    net, data = new(COSTS[cost is COSTS[0]]), pairs(10)
    net.cost = cost
    assert net.total_cost(data, 0.0) == pytest.approx(cost_of(cost, net, data, 0.0))
