"""The book's modules: the same numbers, files, lists and lines as its algorithm, here written out
sample by sample.
"""

import itertools
import json
import pickle
import random

import numpy as np
import pytest
from builders import ENGINES

import fastnn as fnn
from fastnn.nielsen import mnist_loader, network2
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


def hits(net, data):
    return sum(
        int(activations(net.weights, net.biases, x)[-1].argmax() == y.argmax()) for x, y in data
    )


def assert_same(ours, theirs, rtol=1e-11):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


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
    assert net.accuracy(given, convert=vectors) == hits(net, known)


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


# --- monitoring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [(), *((flag,) for flag in FLAGS), FLAGS[:2], FLAGS],
    ids=lambda flags: "+".join(flags) or "none",
)
def test_lists_and_printed_lines(flags, capsys):
    """The figures after each epoch, as lists and as lines in the book's order: training before
    evaluation, cost before accuracy.
    """
    train, held_out = pairs(20), pairs(9, seed=1)
    net, twin = new(), new()
    lists = net.SGD(
        train, 2, 20, 0.5, 1.0, pairs(9, seed=1, vectors=False), **dict.fromkeys(flags, True)
    )
    expected, lines = {flag: [] for flag in FLAGS}, []
    for epoch in range(2):
        twin.weights, twin.biases = step(
            CrossEntropyCost, twin.weights, twin.biases, train, 0.5, 1.0, 20
        )
        lines.append(f"Epoch {epoch} training complete")
        for of, data in (("training", train), ("evaluation", held_out)):
            if f"monitor_{of}_cost" in flags:
                expected[f"monitor_{of}_cost"].append(cost_of(CrossEntropyCost, twin, data, 1.0))
                lines.append(f"Cost on {of} data: COST")
            if f"monitor_{of}_accuracy" in flags:
                expected[f"monitor_{of}_accuracy"].append(hits(twin, data))
                lines.append(f"Accuracy on {of} data: {hits(twin, data)} / {len(data)}")
        lines.append("")
    for ours, flag in zip(lists, FLAGS, strict=True):
        assert type(ours) is list
        np.testing.assert_allclose(ours, expected[flag], rtol=1e-11)
    printed = capsys.readouterr().out.splitlines()
    costs = [float(line.split(": ")[1]) for line in printed if line.startswith("Cost")]
    assert [
        line.split(": ")[0] + ": COST" if line.startswith("Cost") else line for line in printed
    ] == lines
    assert sorted(costs) == sorted(lists[0] + lists[2])


def test_arguments_come_in_the_books_order(capsys):
    lists = new().SGD(pairs(12), 3, 4, 0.5, 0.0, pairs(5), True, True, True, True)
    assert [len(figures) for figures in lists] == [3, 3, 3, 3]


@pytest.mark.parametrize("monitored", ["evaluation", "training"])
def test_early_stopping(monitored, capsys):
    """Accuracy that cannot rise: without a learning rate the best epoch is the first."""
    lists = new().SGD(
        pairs(30),
        50,
        10,
        0.0,
        evaluation_data=pairs(9),
        early_stopping_n=3,
        **{f"monitor_{monitored}_accuracy": True},
    )
    assert len(lists[1 if monitored == "evaluation" else 3]) == 4


def test_early_stopping_goes_by_the_evaluation_data_where_both_are_monitored(capsys):
    """No sample of the one kind is right and none can become so; those of the other go from none to
    all.
    """
    never = [(x, (np.argmax(y) + 1) % 3) for x, y in pairs(30)]
    lists = new(sizes=[6, 3]).SGD(
        pairs(30),
        60,
        5,
        0.5,
        0.0,
        never,
        monitor_evaluation_accuracy=True,
        monitor_training_accuracy=True,
        early_stopping_n=4,
    )
    assert int(np.argmax(lists[1])) + 5 == len(lists[1])
    assert int(np.argmax(lists[3])) + 5 > len(lists[3])


def test_early_stopping_waits_while_accuracy_rises(capsys):
    _, _, _, accuracy = new(initializer=INITIALIZERS[1]).SGD(
        pairs(60), 200, 5, 0.5, monitor_training_accuracy=True, early_stopping_n=5
    )
    best = int(np.argmax(accuracy))
    assert best > 0
    assert len(accuracy) == best + 1 + 5
    assert accuracy[best] > 50


def test_no_epochs(capsys):
    net = new()
    assert net.SGD(pairs(5), 0, 2, 0.5, monitor_training_cost=True) == ([], [], [], [])
    assert capsys.readouterr().out == ""


def test_it_learns_and_iterators_are_welcome(capsys):
    """What `zip` returns in Python 3 serves as data."""
    train, held_out = pairs(300), pairs(100, seed=1, vectors=False)
    net = new()
    _, accuracy, _, _ = net.SGD(
        zip(*zip(*train, strict=True), strict=True),
        30,
        10,
        0.5,
        evaluation_data=iter(held_out),
        monitor_evaluation_accuracy=True,
    )
    assert accuracy[-1] >= 95
    assert net.accuracy(iter(held_out)) == accuracy[-1]


MISTAKES = {
    "empty": (
        {"training_data": []},
        "training_data must be .*: there are none; an iterator can be read only once",
    ),
    "no pairs": ({"training_data": [1, 2]}, r"training_data must be pairs \(x, y\)"),
    "triples": ({"training_data": [(1, 2, 3)]}, r"training_data must be pairs \(x, y\)"),
    "width": (
        {"training_data": [(np.zeros((5, 1)), 0)]},
        "training_data must be .*: x has 5 columns, but the network takes 6",
    ),
    "ragged": (
        {"training_data": [*pairs(2), (np.zeros((5, 1)), np.zeros((3, 1)))]},
        "training_data must be .*: x cannot be read",
    ),
    "label": (
        {"evaluation_data": [(np.zeros((6, 1)), 3)]},
        "evaluation_data must be .*: y is 3 at row 0; class labels are whole numbers",
    ),
    "outputs": (
        {"evaluation_data": [(np.zeros((6, 1)), np.zeros((4, 1)))]},
        "evaluation_data must be .*: y has 4 columns",
    ),
    "nothing to monitor": ({"monitor_evaluation_cost": True}, "need evaluation_data"),
    "nothing to stop by": (
        {"early_stopping_n": 2},
        "early_stopping_n needs monitor_evaluation_accuracy",
    ),
    "eta": ({"eta": -1.0}, "eta must lie in"),
    "lmbda": ({"lmbda": -1.0}, "lmbda must lie in"),
    "epochs": ({"epochs": 1.5}, "epochs must be an integer"),
    "mini_batch_size": ({"mini_batch_size": 0}, "mini_batch_size must be an integer of at least 1"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_named_before_anything_is_trained(arguments, message, capsys):
    net = new()
    weights = [w.copy() for w in net.weights]
    with pytest.raises((ValueError, TypeError), match=message):
        net.SGD(
            **{
                "training_data": pairs(5),
                "epochs": 1,
                "mini_batch_size": 2,
                "eta": 0.1,
                **arguments,
            }
        )
    assert_same(net.weights, weights, rtol=0)
    assert capsys.readouterr().out == ""


def test_the_cost_must_be_one_of_the_two():
    with pytest.raises(
        ValueError, match="cost must be QuadraticCost or CrossEntropyCost, not <class 'str'>"
    ):
        network2.Network(SIZES, cost=str)


# --- files ----------------------------------------------------------------------------------------


@each_cost
def test_files_are_the_books(cost, tmp_path):
    """Its schema: sizes, nested lists of weights and biases, the cost's name; and back without a
    bit lost.
    """
    net, path = new(cost), tmp_path / "net.json"
    net.SGD(pairs(10), 1, 5, 0.5)
    net.save(path)
    data = json.loads(path.read_text())
    assert data == {
        "sizes": SIZES,
        "weights": [w.tolist() for w in net.weights],
        "biases": [b.tolist() for b in net.biases],
        "cost": cost.__name__,
    }
    again = network2.load(path)
    assert again.cost is cost
    assert again.sizes == SIZES
    assert_same(again.weights, net.weights, rtol=0)
    assert_same(again.biases, net.biases, rtol=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"sizes": [2, 1], "weights": [[[1, 2]]], "biases": [[[0]]], "cost": "HingeCost"}',
        '{"sizes": [2, 1], "weights": [[[1, 2, 3]]], "biases": [[[0]]], "cost": "QuadraticCost"}',
        '{"sizes": [2, 1], "weights": [[["a", 2]]], "biases": [[[0]]], "cost": "QuadraticCost"}',
        '{"sizes": [2], "weights": [], "biases": [], "cost": "QuadraticCost"}',
    ],
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(fnn.ModelFileError, match=r"net\.json is no file of network2"):
        network2.load(path)


# --- the loader -----------------------------------------------------------------------------------


@pytest.fixture
def small_mnist(monkeypatch):
    """Three small sets where MNIST's would be."""
    sets = tuple((np.full((n, 784), n / 8, np.float32), np.arange(n) % 10) for n in (5, 3, 2))
    monkeypatch.setattr(mnist_loader, "mnist", lambda path: sets)
    return sets


def test_load_data_is_mnist_as_arrays(small_mnist):
    assert mnist_loader.load_data() is small_mnist


def test_load_data_wrapper_gives_columns(small_mnist):
    training_data, validation_data, test_data = mnist_loader.load_data_wrapper()
    assert [len(part) for part in (training_data, validation_data, test_data)] == [5, 3, 2]
    for part in (training_data, validation_data, test_data):
        assert isinstance(part, list)
        assert all(x.shape == (784, 1) and (x == len(part) / 8).all() for x, _ in part)
    for digit, (_, y) in enumerate(training_data):
        np.testing.assert_array_equal(y, mnist_loader.vectorized_result(digit))
    assert [int(y) for _, y in validation_data] == [0, 1, 2]


def test_lists_as_they_were_made_are_not_put_together_again(small_mnist, monkeypatch, capsys):
    training_data, validation_data, _ = mnist_loader.load_data_wrapper()
    net = network2.Network([784, 10], seed=0, backend="numpy")
    plain = net.accuracy(list(training_data)), net.total_cost(list(validation_data), 1.0)
    monkeypatch.setattr(network2, "_put_together", None)
    assert (net.accuracy(training_data), net.total_cost(validation_data, 1.0)) == plain
    net.SGD(
        training_data, 1, 2, 0.5, evaluation_data=validation_data, monitor_evaluation_accuracy=True
    )


CHANGES = {
    "swapped": lambda data: data.reverse(),
    "shorter": lambda data: data.pop(),
    "another": lambda data: data.__setitem__(1, (data[1][0], data[2][1])),
    "longer": lambda data: data.append(data[0]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_lists_are(change, small_mnist):
    training_data, _, _ = mnist_loader.load_data_wrapper()
    change(training_data)
    net = network2.Network([784, 10], seed=0, backend="numpy")
    assert training_data.arrays() is None
    assert net.total_cost(training_data, 1.0) == net.total_cost(list(training_data), 1.0)


def test_copies_are_plain_lists(small_mnist):
    """Their images are no longer views of one array."""
    part = mnist_loader.load_data_wrapper()[1]
    again = pickle.loads(pickle.dumps(part))
    assert type(again) is list
    assert len(again) == 3
    np.testing.assert_array_equal(again[0][0], part[0][0])


@pytest.mark.parametrize("module", [mnist_loader, network2])
def test_vectorized_result(module):
    np.testing.assert_array_equal(module.vectorized_result(3)[:, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    assert module.vectorized_result(3).shape == (10, 1)


@pytest.mark.parametrize("bad", ["NaN", "1e400"])
def test_weights_that_are_not_finite_are_refused(tmp_path, bad):
    path = tmp_path / "net.json"
    path.write_text(
        f'{{"sizes": [2, 1], "weights": [[[{bad}, 2]]], "biases": [[[0]]], "cost": "CrossEntropyCost"}}'
    )
    with pytest.raises(fnn.ModelFileError, match=r"weights\[0\] must be finite"):
        network2.load(path)


def test_a_file_nested_without_end_is_refused(tmp_path):
    (tmp_path / "net.json").write_text("[" * 100_000)
    with pytest.raises(fnn.ModelFileError):
        network2.load(tmp_path / "net.json")
