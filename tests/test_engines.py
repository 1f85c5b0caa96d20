"""What every engine owes beside the contract: the reference's numbers, for any number of threads,
and the same bits each time.
"""

import functools
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from builders import (
    COMPILED,
    ENGINES,
    EVERYTHING,
    INPUTS,
    LOSS_CASES,
    OUTPUTS,
    STACKS,
    STEPPING,
    WIDTH,
    assert_same_bits,
    features,
    in_threads,
    learnt,
    network,
    optimizer,
    relative_error,
    sample_weights,
    targets,
)

import fastnn as fnn
from fastnn._kernels import opcodes, philox
from fastnn.data.samples import checked_samples
from fastnn.engines import make_engine
from fastnn.optim.optimizers import OPTIMIZERS

ROWS, BATCH = 23, 6  # three batches and a last one of five
each_optimizer = pytest.mark.parametrize("rule", STEPPING)
# What rules share → arguments of the optimiser.
OPTIONS = {
    "plain": {},
    "weight decay": {"weight_decay": 0.1},
    "clip value": {"clip_value": 0.02},
    "clip norm": {"clip_norm": 0.05},
    "schedule": {"lr": fnn.Warmup(3, fnn.Cosine(0.01, 12, 0.001))},
    "all": {
        "weight_decay": 0.05,
        "clip_value": 0.1,
        "clip_norm": 0.2,
        "lr": fnn.Exponential(0.02, 0.9),
    },
}


def train(net, optimizer, epochs=5, rows=ROWS, **options):
    """20 steps of 6, 6, 6 and 5 samples."""
    loss_kind = LOSS_CASES[net.loss.name][1]
    net.fit(
        features(rows),
        targets(loss_kind, rows),
        epochs=epochs,
        batch_size=BATCH,
        optimizer=optimizer,
        **options,
    )
    return net


def gradients(engine, layers, loss="quadratic"):
    return network(layers, LOSS_CASES[loss][0], engine).gradients(
        features(ROWS), targets(LOSS_CASES[loss][1], ROWS), training=True
    )[1]


def test_parameters_and_names_are_the_same_everywhere(engine):
    reference = fnn.Network(STACKS["nested residuals"], INPUTS, "mse", backend="numpy", seed=3)
    other = fnn.Network(STACKS["nested residuals"], INPUTS, "mse", backend=engine, seed=3)
    assert_same_bits(other, reference)


# --- training as the reference does ---------------------------------------------------------------


@pytest.mark.parametrize("loss", ["quadratic", "softmax_cross_entropy"])
def test_an_epoch_as_the_reference_trains_it(compiled, loss):
    layers = [
        fnn.Dense(32, bias=False), fnn.BatchNorm(), fnn.Activation("relu"), fnn.Dropout(0.3),
        fnn.Residual([fnn.Dense(32, "relu"), fnn.Dense(32)], activation="relu"), fnn.Dense(OUTPUTS),
    ]  # fmt: skip
    nets = [train(network(layers, loss, name), "adam", 1, 500) for name in (compiled, "numpy")]
    for name, values in nets[0].parameters.items():
        np.testing.assert_allclose(
            values, nets[1].parameters[name], rtol=0, atol=1e-8, err_msg=name
        )
    for name, values in nets[0].buffers.items():
        np.testing.assert_allclose(values, nets[1].buffers[name], rtol=0, atol=1e-8, err_msg=name)


@each_optimizer
@pytest.mark.parametrize("options", OPTIONS)
def test_trajectories_are_the_references(compiled, rule, options):
    nets = [
        train(
            network(EVERYTHING, backend=name),
            optimizer(rule, **OPTIONS[options]),
            sample_weight=sample_weights(ROWS),
        )
        for name in (compiled, "numpy")
    ]
    assert nets[0].state.optimizer_step == 20
    for name, values in learnt(nets[0]).items():
        assert relative_error({name: values}, {name: learnt(nets[1])[name]}) <= 1e-9, name


@pytest.mark.parametrize("options", OPTIONS)
def test_each_option_matters(engine, options):
    plain, other = (
        train(network(EVERYTHING, backend=engine), optimizer("adam", **OPTIONS[o]))
        for o in ("plain", options)
    )
    assert (options == "plain") == (relative_error(other.parameters, plain.parameters) < 1e-6)


def test_histories_agree(compiled):
    histories = []
    for name in (compiled, "numpy"):
        net = network(EVERYTHING, "softmax_cross_entropy", name)
        weights = {"sample_weight": sample_weights(ROWS), "class_weight": "balanced"}
        histories.append(
            net.fit(
                features(ROWS),
                targets("labels", ROWS),
                epochs=4,
                batch_size=BATCH,
                validation=(features(9), targets("labels", 9)),
                **weights,
            )
        )
    for key in ("loss", "accuracy", "val_loss", "val_accuracy", "lr"):
        np.testing.assert_allclose(histories[0][key], histories[1][key], rtol=1e-9, err_msg=key)


def test_lbfgs_follows_the_reference(compiled):
    layers = [fnn.Dense(WIDTH, "tanh", l2=0.01), fnn.Dense(OUTPUTS)]
    nets = [
        train(network(layers, backend=name), fnn.LBFGS(), epochs=8) for name in (compiled, "numpy")
    ]
    assert relative_error(nets[0].parameters, nets[1].parameters) <= 1e-6


def test_max_norm_holds_after_each_step(engine):
    # far enough for every column to meet its limit
    net = train(network(STACKS["max norm"], backend=engine), fnn.SGD(2.0))
    for name, limit in (("0.weight", 0.7), ("1.weight", 0.2)):
        assert np.linalg.norm(net.parameters[name], axis=0) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_stops_before_the_update(engine, dtype):
    net = fnn.Network([fnn.Dense(8), fnn.Dense(OUTPUTS)], INPUTS, "mse", dtype, engine)
    with pytest.raises(fnn.DivergenceError, match="diverged"):
        train(net, fnn.SGD(1e6), epochs=200)
    assert np.isfinite(net.state.theta).all()


# --- the same bits --------------------------------------------------------------------------------


@each_optimizer
def test_training_twice_gives_the_same_bits(engine, rule):
    a, b = (train(network(EVERYTHING, backend=engine), optimizer(rule)) for _ in range(2))
    assert_same_bits(a, b)


@each_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("saved", [False, True], ids=["", "saved"])
@pytest.mark.parametrize("validation", [None, 0.25], ids=["", "validation"])
def test_five_epochs_twice_are_ten(engine, rule, dtype, saved, validation, tmp_path):
    how = {"optimizer": optimizer(rule, lr=fnn.Cosine(0.01, 30)), "validation": validation}
    whole = train(network(EVERYTHING, backend=engine, dtype=dtype), epochs=10, **how)
    parts = train(network(EVERYTHING, backend=engine, dtype=dtype), epochs=5, **how)
    if saved:
        parts.save(tmp_path / "half.fastnn")
        parts = fnn.load(tmp_path / "half.fastnn", backend=engine)
    assert_same_bits(train(parts, epochs=5, **how), whole)


@pytest.mark.parametrize("target", ENGINES)
def test_a_network_moves_to_another_engine(engine, target, tmp_path):
    whole = train(network(EVERYTHING, backend=engine), "adam", epochs=4)
    half = train(network(EVERYTHING, backend=engine), "adam", epochs=2)
    half.save(tmp_path / "half.fastnn")
    moved = train(fnn.load(tmp_path / "half.fastnn", backend=target), "adam", epochs=2)
    assert relative_error(moved.parameters, whole.parameters) <= 1e-9


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_where_fit_cuts_an_epoch_is_not_seen(engine, threads, use_threads, monkeypatch):
    """`fit` cuts an epoch into chunks by the clock; a short last batch may or may not be a chunk of
    its own.
    """
    from fastnn._kernels import cpu_engine
    from fastnn.training import loop

    use_threads(threads)
    nets = [network(EVERYTHING, backend=engine) for _ in range(2)]
    # such that a batch of six is worth one thread more than a batch of five
    monkeypatch.setattr(
        cpu_engine, "_OPERATIONS_PER_BARRIER", 3 * BATCH * nets[0].program.n_parameters / threads**2
    )
    train(nets[0], "adam")
    monkeypatch.setattr(loop, "_CHUNK_SECONDS", 0)
    monkeypatch.setattr(loop, "_FIRST_CHUNK_OPERATIONS", 0)
    assert_same_bits(train(nets[1], "adam"), nets[0])


@pytest.mark.parametrize("classes", [2, 16, 17, 32, 33, 50])
def test_any_number_of_classes(compiled, classes):
    """Softmax has one loop for few classes, a vector of samples at a time, and one for many."""
    for rows in (1, 15, 16, 17, 40):
        labels, weights = np.arange(rows) * 7 % classes, np.linspace(0, 2, rows) + 0.1
        loss, found = fnn.Loss("softmax_cross_entropy", label_smoothing=0.1), []
        for name in (compiled, "numpy"):
            net = network([fnn.Dense(classes)], loss, name)
            cost, gradient = net.gradients(features(rows), labels, sample_weight=weights)
            history = net.fit(
                features(rows),
                labels,
                sample_weight=weights,
                optimizer=fnn.SGD(0.0),
                progress=False,
            )
            found.append(({**gradient, "cost": [cost]}, history["accuracy"]))
        assert relative_error(found[0][0], found[1][0]) <= 1e-12
        assert found[0][1] == pytest.approx(found[1][1])


# --- threads --------------------------------------------------------------------------------------


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
def test_threads_agree_on_trajectories(compiled, rule, options, use_threads):
    nets = []
    for threads in (1, 2, 3):
        use_threads(threads)
        nets.append(
            train(
                network(EVERYTHING, backend=compiled), optimizer(rule, **OPTIONS[options]), epochs=2
            )
        )
    assert max(relative_error(learnt(net), learnt(nets[0])) for net in nets[1:]) <= 1e-9


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("options", OPTIONS)
def test_threads_agree_where_they_share_features(compiled, rule, options, use_threads):
    """A mini-batch of three rows is less than the weight that reads it, so the first product is cut
    by features.
    """
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
        assert threads == 1 or net.engine._gains_by_features(3, min(threads, 3))
        net.fit(
            features(ROWS),
            targets("values", ROWS),
            epochs=3,
            batch_size=3,
            optimizer=optimizer(rule, **OPTIONS[options]),
        )
        nets.append(net)
    assert max(relative_error(learnt(net), learnt(nets[0])) for net in nets[1:]) <= 1e-9


def test_threads_that_share_features_give_the_same_bits(compiled, use_threads):
    """A thread may begin a step while another still learns from the one before: it must read
    nothing of what that one writes.
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
        assert net.engine._gains_by_features(5, 2)
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
    """Each pair needs a workspace of 96 rows, and BatchNorm's scratch one part a thread."""
    nets = [
        network([fnn.Dense(64), fnn.BatchNorm(), fnn.Dense(OUTPUTS)], backend=name)
        for name in (compiled, "numpy")
    ]
    for threads, rows in ((1, 96), (2, 48), (3, 32), (6, 16), (1, 96)):
        use_threads(threads)
        assert relative_error(*({"z": net.forward(features(rows))} for net in nets)) <= 1e-12


def masks_drawn(engine, units, rows, step=0):
    """Which units dropout keeps, read off the gradient of a layer whose row r sees only sample
    r.
    """
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
    net, X, y = network(STACKS["wide"], backend={engine!r}, seed=seed), features(16), targets("values", 16)
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
    """Each network's threads must all come to run: helpers shared between networks could all be
    taken by halves of two.
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


# --- prediction -----------------------------------------------------------------------------------


def test_prediction_ignores_dropout_and_noise(engine):
    noisy = [
        fnn.Dropout(0.5),
        fnn.Dense(WIDTH, "relu"),
        fnn.GaussianNoise(1.0),
        fnn.Dropout(0.5),
        fnn.Dense(OUTPUTS),
    ]
    quiet = [layer for layer in noisy if isinstance(layer, fnn.Dense)]
    raw, expected = (
        network(layers, backend=engine).forward(features(300)) for layers in (noisy, quiet)
    )
    np.testing.assert_array_equal(raw, expected)


def test_prediction_uses_running_statistics(engine):
    net = network([fnn.BatchNorm(epsilon=1e-3)], backend=engine)
    mean, var = np.array([1.0, 2.0, -3.0, 0.5]), np.array([4.0, 1.0, 0.25, 9.0])
    net.buffers["0.running_mean"], net.buffers["0.running_var"] = mean, var
    expected = (features(7) - mean) / np.sqrt(var + 1e-3) * net.parameters[
        "0.scale"
    ] + net.parameters["0.shift"]
    np.testing.assert_allclose(net.forward(features(7)), expected, rtol=1e-12)


def test_running_statistics_move_once_a_step(engine):
    net = network([fnn.BatchNorm(momentum=0.25), fnn.Dense(OUTPUTS)], backend=engine)
    mean, var = (net.buffers[f"0.running_{name}"].copy() for name in ("mean", "var"))
    X = features(ROWS)
    net.fit(X, targets("values", ROWS), epochs=1, batch_size=ROWS)
    np.testing.assert_allclose(
        net.buffers["0.running_mean"], 0.75 * mean + 0.25 * X.mean(axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(
        net.buffers["0.running_var"], 0.75 * var + 0.25 * X.var(axis=0, ddof=1), rtol=1e-12
    )


def test_prediction_does_not_depend_on_the_rows_around(engine):
    net = network(STACKS["nested residuals"], backend=engine)
    X = features(600)
    np.testing.assert_allclose(
        np.concatenate([net.forward(X[:1]), net.forward(X[1:270]), net.forward(X[270:])]),
        net.forward(X),
        atol=1e-12,
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "first",
    [fnn.Dense(OUTPUTS), fnn.LayerNorm(), fnn.Activation("hard_tanh")],
    ids=lambda layer: type(layer).__name__,
)
def test_a_row_that_is_not_finite_is_noticed(engine, first, dtype):
    """Wherever in the row it is, which some compilers hide: they may take x · 0 for 0."""
    for inputs in (1, 3, 4, 8, 17, 33, 70):
        net = fnn.Network([first, fnn.Dense(OUTPUTS)], inputs, "mse", dtype, engine)
        for value in (np.nan, np.inf, -np.inf):
            X = np.where(np.eye(inputs, dtype=bool), value, 1).astype(dtype)
            assert np.isnan(net.engine.forward(net.state, X)[0]).all()
            assert not any(net.engine.forward(net.state, row[None])[1] for row in X)
        assert net.engine.forward(net.state, np.full((3, inputs), 1e15, dtype))[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [2, 10, 32, 33])
def test_a_logit_that_is_not_finite_shows_in_the_loss(engine, classes, dtype):
    """Though no sample be of its class: a logarithm that took numbers apart by their bits would
    make a number of NaN.
    """
    X, labels = features(ROWS).astype(dtype), np.arange(ROWS) % classes // 2 * 2  # never 1
    for value in (np.nan, np.inf, -np.inf):
        for smoothing in (0.0, 0.1):
            net = fnn.Network(
                [fnn.Dense(classes)],
                INPUTS,
                fnn.Loss("softmax_cross_entropy", label_smoothing=smoothing),
                dtype,
                engine,
            )
            net.state.theta[net.program.parameters[1].offset + 1] = value
            assert not net.engine.gradients(
                net.state, checked_samples(net, X, labels), training=True
            )[0].finite


def test_training_puts_the_processors_setting_back(compiled):
    """Numbers below the smallest normal one may count as 0 while parameters are updated, but not
    after.
    """
    tiny, one = np.full(64, 1e-40, np.float32), np.ones(64, np.float32)
    train(network(STACKS["max norm"], backend=compiled), fnn.Adam())
    # bits: where tiny numbers count as 0 they also compare equal to it
    assert (tiny * one).view(np.uint32).all()


# --- what it costs --------------------------------------------------------------------------------


@pytest.mark.skipif("numba" not in ENGINES, reason="needs Numba")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_new_network_compiles_nothing(dtype, tmp_path):
    from fastnn._kernels.numba_cpu import cache
    from fastnn._kernels.numba_cpu.engine import KERNELS

    # compiled, or loaded
    network([fnn.Dense(OUTPUTS)], backend="numba", dtype=dtype).predict(features(3))
    assert cache.ready(dtype)
    X = features(ROWS).astype(dtype)
    X.tofile(tmp_path / "X.bin")
    read_only = X.copy()
    read_only.flags.writeable = False
    kinds = {
        "plain": X, "Fortran": np.asfortranarray(X), "read-only": read_only, "list": X.tolist(), "strided": np.repeat(X, 2, axis=0)[::2],
        "memory map": np.memmap(tmp_path / "X.bin", dtype, "r", shape=X.shape), "other dtype": X.astype("float16"),
    }  # fmt: skip
    for kind in kinds.values():
        net = network(STACKS["wide"], "softmax_cross_entropy", "numba", dtype)
        net.fit(kind, targets("labels", ROWS), sample_weight=sample_weights(ROWS).tolist())
        net.evaluate(kind, targets("labels", ROWS))
        net.predict(kind)
    for layers in STACKS.values():
        for loss, kind in LOSS_CASES.values():
            network(layers, loss, "numba", dtype).fit(
                X, targets(kind, ROWS), batch_size=5, sample_weight=np.ones(ROWS)
            )
    for rule in STEPPING:
        train(
            network(EVERYTHING, backend="numba", dtype=dtype),
            optimizer(rule, clip_norm=1.0),
            epochs=1,
            validation=0.2,
        )
    train(network(STACKS["wide"], backend="numba", dtype=dtype), OPTIMIZERS["lbfgs"](), epochs=2)
    assert len(KERNELS[dtype].signatures) == 1
    assert cache.ready(dtype)


def test_training_does_not_copy_the_data(engine):
    X = np.random.default_rng(0).random((100_000, 100), dtype=np.float32)
    y = np.zeros(len(X), np.int64)
    net = fnn.Network([fnn.Dense(2)], 100, "softmax_cross_entropy", backend=engine)
    net.fit(X[:1000], y[:1000], batch_size=500)  # compiled, or loaded
    tracemalloc.start()
    try:
        net.fit(X, y, batch_size=500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes / 4


def test_the_engine_is_made_for_the_program(engine):
    net = network(EVERYTHING, backend=engine)
    assert make_engine(engine, net.program).program is net.program
    assert net.backend == engine
