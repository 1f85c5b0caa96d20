"""The book's files and its loader of MNIST."""

import json
import pickle

import numpy as np
import pytest
from nielsen_cases import SIZES, assert_same, each_cost, new, pairs

import fastnn as fnn
from fastnn.nielsen import mnist_loader, network2

# --- files ----------------------------------------------------------------------------------------


@each_cost
def test_files_are_the_books(cost, tmp_path):
    """Sizes, nested lists of weights and biases, the cost's name; and back without a bit lost."""
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
    monkeypatch.setattr(network2, "_as_arrays", None)
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
        f'{{"sizes": [2, 1], "weights": [[[{bad}, 2]]], "biases": [[[0]]], '
        '"cost": "CrossEntropyCost"}'
    )
    with pytest.raises(fnn.ModelFileError, match=r"weights\[0\] must be finite"):
        network2.load(path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    net = new(network2.QuadraticCost)
    net.biases[0][0] = np.inf
    with pytest.raises(ValueError, match=r"biases\[0\] must be finite"):
        net.save(tmp_path / "net.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sizes", ["[1000000000, 1]", "[2, 1000000000, 1]", "[2, 1, 1]", "2", "[]"])
def test_sizes_that_the_weights_do_not_have_take_no_memory(tmp_path, sizes):
    (tmp_path / "net.json").write_text(
        f'{{"sizes": {sizes}, "weights": [[[1, 2]]], "biases": [[[0]]], "cost": "QuadraticCost"}}'
    )
    with pytest.raises(fnn.ModelFileError, match=r"sizes are .* the weights are of \[2, 1\]"):
        network2.load(tmp_path / "net.json")


def test_a_file_nested_without_end_is_refused(tmp_path):
    (tmp_path / "net.json").write_text("[" * 100_000)
    with pytest.raises(fnn.ModelFileError):
        network2.load(tmp_path / "net.json")
