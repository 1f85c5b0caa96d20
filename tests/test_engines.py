"""What every engine owes beside the contract: training as the reference does it.

The same bits each time, no compilation for a new network, no copy of the data.
"""

import tracemalloc

import numpy as np
import pytest
from builders import (
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
    learnt,
    network,
    optimizer,
    relative_error,
    sample_weights,
    targets,
)
from engine_cases import BATCH, OPTIONS, ROWS, each_optimizer, train

import fastnn as fnn
from fastnn.engines import make_engine
from fastnn.optim.optimizers import OPTIMIZERS


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
def test_trajectories_are_the_references(compiled, name, options):
    nets = [
        train(
            network(EVERYTHING, backend=engine),
            optimizer(name, **OPTIONS[options]),
            sample_weight=sample_weights(ROWS),
        )
        for engine in (compiled, "numpy")
    ]
    assert nets[0].state.optimizer_step == 20
    for key, values in learnt(nets[0]).items():
        assert relative_error({key: values}, {key: learnt(nets[1])[key]}) <= 1e-9, key


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
    # The steps are long enough for every column to reach its limit.
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
def test_training_twice_gives_the_same_bits(engine, name):
    a, b = (train(network(EVERYTHING, backend=engine), optimizer(name)) for _ in range(2))
    assert_same_bits(a, b)


@each_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("saved", [False, True], ids=["", "saved"])
@pytest.mark.parametrize("validation", [None, 0.25], ids=["", "validation"])
def test_five_epochs_twice_are_ten(engine, name, dtype, saved, validation, tmp_path):
    how = {"optimizer": optimizer(name, lr=fnn.Cosine(0.01, 30)), "validation": validation}
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
    """`fit` cuts an epoch into chunks by the clock; a short last batch may be one of its own."""
    from fastnn._kernels import cpu_engine
    from fastnn.training import loop

    use_threads(threads)
    nets = [network(EVERYTHING, backend=engine) for _ in range(2)]
    # A mini-batch of six is then worth one thread more than one of five.
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


def test_training_restores_the_floating_point_mode(compiled):
    """Subnormals may be flushed to zero while parameters are updated, but not after."""
    tiny, one = np.full(64, 1e-40, np.float32), np.ones(64, np.float32)
    train(network(STACKS["max norm"], backend=compiled), fnn.Adam())
    # As bits: where subnormals count as 0 they also compare equal to 0.
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
        "plain": X,
        "Fortran": np.asfortranarray(X),
        "read-only": read_only,
        "list": X.tolist(),
        "strided": np.repeat(X, 2, axis=0)[::2],
        "memory map": np.memmap(tmp_path / "X.bin", dtype, "r", shape=X.shape),
        "other dtype": X.astype("float16"),
    }
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
    for name in STEPPING:
        train(
            network(EVERYTHING, backend="numba", dtype=dtype),
            optimizer(name, clip_norm=1.0),
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
