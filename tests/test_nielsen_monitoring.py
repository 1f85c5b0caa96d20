"""The book's ``network2.Network.SGD``: lists, printed lines, early stopping, mistakes."""

import numpy as np
import pytest
from nielsen_cases import (
    FLAGS,
    INITIALIZERS,
    SIZES,
    assert_same,
    cost_of,
    n_correct,
    new,
    pairs,
    step,
)

from fastnn.nielsen import network2
from fastnn.nielsen.network2 import CrossEntropyCost

# --- monitoring -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [(), *((flag,) for flag in FLAGS), FLAGS[:2], FLAGS],
    ids=lambda flags: "+".join(flags) or "none",
)
def test_lists_and_printed_lines(flags, capsys):
    """In the book's order: training before evaluation, cost before accuracy."""
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
                expected[f"monitor_{of}_accuracy"].append(n_correct(twin, data))
                lines.append(f"Accuracy on {of} data: {n_correct(twin, data)} / {len(data)}")
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
    """No sample of the one can become right; those of the other go from none to all."""
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
