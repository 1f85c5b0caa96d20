"""Engines in several threads: the reference's numbers, the same bits each time, no deadlock."""

import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import (
    COMPILED,
    EVERYTHING,
    INPUTS,
    LOSS_CASES,
    OUTPUTS,
    STACKS,
    WIDTH,
    assert_same_bits,
    features,
    in_threads,
    learnt,
    network,
    optimizer,
    relative_error,
    targets,
)
from engine_cases import OPTIONS, ROWS, each_optimizer, train

import fastnn as fnn
from fastnn._kernels import opcodes, philox
from fastnn._kernels.contract import Chunk


def gradients(engine, layers, loss):
    given, kind = LOSS_CASES[loss]
    net = network(layers, given, engine)
    return net.gradients(features(ROWS), targets(kind, ROWS), training=True)[1]


def splits_k(net, batch_size, threads):
    """Whether threads share the first GEMM by features."""
    nothing = np.zeros(0, np.int64)
    chunk = Chunk(nothing, nothing, np.zeros(0), fnn.SGD().record(), batch_size)
    return net.engine._gains_by_split_k(chunk, threads)


@pytest.mark.parametrize("loss", LOSS_CASES)
def test_threads_agree_on_gradients(compiled, loss, use_threads):
    found = []
    for threads in (1, 2, 3, 5):
        use_threads(threads)
        stacks = ("nested residuals", "wide", "norms on inputs", "noise on inputs")
        found.append(
            {
                (stack, name): g
                for stack in stacks
                for name, g in gradients(compiled, STACKS[stack], loss).items()
            }
        )
    assert max(relative_error(other, found[0]) for other in found[1:]) <= 1e-10


@each_optimizer
@pytest.mark.parametrize("options", OPTIONS)
def test_threads_agree_on_trajectories(compiled, name, options, use_threads):
    nets = []
    for threads in (1, 2, 3):
        use_threads(threads)
        nets.append(
            train(
                network(EVERYTHING, backend=compiled), optimizer(name, **OPTIONS[options]), epochs=2
            )
        )
    assert max(relative_error(learnt(net), learnt(nets[0])) for net in nets[1:]) <= 1e-9


@pytest.mark.parametrize("name", ["sgd", "adam"])
@pytest.mark.parametrize("options", OPTIONS)
def test_threads_agree_where_the_first_gemm_is_split_k(compiled, name, options, use_threads):
    """A mini-batch of three rows is smaller than the weight, so threads share its features."""
    nets = []
    for threads in (1, 2, 3, INPUTS + 2):
        use_threads(threads)
        net = network(
            [
                fnn.Dense(WIDTH, activation="tanh", l1=0.01),
                fnn.BatchNorm(),
                fnn.Dropout(0.2),
                fnn.Dense(OUTPUTS),
            ],
            backend=compiled,
        )
        assert threads == 1 or splits_k(net, 3, min(threads, 3))
        net.fit(
            features(ROWS),
            targets("values", ROWS),
            epochs=3,
            batch_size=3,
            optimizer=optimizer(name, **OPTIONS[options]),
        )
        nets.append(net)
    assert max(relative_error(learnt(net), learnt(nets[0])) for net in nets[1:]) <= 1e-9


def test_split_k_gives_the_same_bits(compiled, use_threads):
    """A thread may begin a step while another still updates for the one before.

    It must read nothing that the other writes.
    """
    use_threads(2)
    X, y, nets = features(300, 200), targets("labels", 300), []
    for _ in range(4):
        net = fnn.Network(
            [fnn.Dense(512, "relu"), fnn.Dense(OUTPUTS)],
            200,
            "softmax_cross_entropy",
            "float32",
            compiled,
        )
        net.fit(X, y, epochs=4, batch_size=5)
        assert splits_k(net, 5, 2)
        nets.append(net)
    for net in nets[1:]:
        assert_same_bits(net, nets[0])


def test_threads_agree_on_predictions(compiled, use_threads):
    net, raw = network(STACKS["wide"], backend=compiled), []
    for threads in (1, 2, 3):
        use_threads(threads)
        raw.append(net.forward(features(1001)))
    np.testing.assert_allclose(raw[1:], [raw[0]] * 2, rtol=0, atol=1e-12)


def test_predictions_follow_a_change_of_threads(compiled, use_threads):
    """Each pair needs a workspace of 96 rows, and BatchNorm's scratch is one part a thread."""
    nets = [
        network([fnn.Dense(64), fnn.BatchNorm(), fnn.Dense(OUTPUTS)], backend=name)
        for name in (compiled, "numpy")
    ]
    for threads, rows in ((1, 96), (2, 48), (3, 32), (6, 16), (1, 96)):
        use_threads(threads)
        assert relative_error(*({"z": net.forward(features(rows))} for net in nets)) <= 1e-12


def masks_drawn(engine, units, rows, step=0):
    """Which units dropout keeps: the gradient of a layer whose row r sees only sample r."""
    net = fnn.Network(
        [fnn.Dense(units, init=np.ones((rows, units)), bias=False), fnn.Dropout(0.4)],
        rows,
        "quadratic",
        "float64",
        engine,
        11,
    )
    net.state.step = step
    return net.gradients(np.eye(rows), np.zeros((rows, units)), training=True)[1]["0.weight"] != 0


@pytest.mark.parametrize("units", [1, 2, 3, 4, 5, 7, 30])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_masks_are_the_generators(engine, units, threads, use_threads):
    use_threads(threads)
    for step in (0, 3, 2**32 + 5):
        bits = philox.random_bits(11, opcodes.STREAM_MASK, step, units, rows=12)
        np.testing.assert_array_equal(
            masks_drawn(engine, units, 12, step), bits >= philox.dropout_threshold(0.4)
        )


def test_more_threads_than_rows(compiled, use_threads):
    use_threads(4)
    for rows in (1, 2, 3):
        nets = [
            train(network(EVERYTHING, backend=name), "adam", rows=rows)
            for name in (compiled, "numpy")
        ]
        assert relative_error(nets[0].parameters, nets[1].parameters) <= 1e-7


TWO_AT_ONCE = """
import sys
import threading
sys.path.insert(0, {tests!r})
import fastnn as fnn
from fastnn._kernels import cpu_engine
from builders import *
cpu_engine._OPERATIONS_PER_THREAD = 1.0
fnn.set_num_threads({threads})
net = network(STACKS["wide"], backend={engine!r})
net.gradients(features(16), targets("values", 16))  # compiled, or loaded
sys.setswitchinterval(1e-6)
def work(seed):
    net = network(STACKS["wide"], backend={engine!r}, seed=seed)
    X, y = features(16), targets("values", 16)
    for _ in range(200):
        net.gradients(X, y, training=True)
workers = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
"""


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("name", COMPILED)
def test_networks_at_once_do_not_wait_for_each_other_for_ever(name, threads):
    """All threads of a network must run at once.

    Workers shared between networks could all be occupied by halves of two.
    """
    program = TWO_AT_ONCE.format(tests=str(Path(__file__).parent), engine=name, threads=threads)
    try:
        subprocess.run([sys.executable, "-c", program], check=True, timeout=20, capture_output=True)
    except subprocess.TimeoutExpired:
        pytest.fail(f"three networks at once, with {threads} threads each, did not end")


def test_two_networks_at_once_are_two_one_after_the_other(engine):
    def make(seed):
        return network(STACKS["wide"], backend=engine, seed=seed)

    alone = [train(make(seed), "adam", epochs=20, rows=200) for seed in (1, 2)]
    together = [make(seed) for seed in (1, 2)]
    in_threads(*(functools.partial(train, net, "adam", 20, 200) for net in together))
    for one, other in zip(together, alone, strict=True):
        assert_same_bits(one, other)


def test_one_network_predicts_in_several_threads(engine):
    net, wrong = network(STACKS["wide"], backend=engine), []
    blocks = [features(500, seed=seed) for seed in range(3)]
    alone = [net.forward(X) for X in blocks]

    def predict(X, expected):
        wrong.extend(
            i for i in range(50) if not np.allclose(net.forward(X), expected, rtol=0, atol=1e-9)
        )

    in_threads(*(functools.partial(predict, *pair) for pair in zip(blocks, alone, strict=True)))
    assert not wrong
