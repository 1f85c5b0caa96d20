"""Whatever `fit` accepts can be saved and loaded; what cannot is refused before training."""

import copy
import functools
import json
import pickle
import time

import numpy as np
import pytest
from builders import ENGINES
from model_cases import VALUES, X, assert_same_state, network, raises

import fastnn as fnn
from fastnn.optim.optimizers import OPTIMIZERS

f, i = np.float32, np.int64

LAYERS = {
    "dense": lambda: [fnn.Dense(i(3), bias=np.bool_(False), l1=f(1e-3), l2=f(1e-3), max_norm=i(3))],
    "names": lambda: [fnn.Dense(3, np.str_("relu"), np.str_("he_normal"))],
    "activation": lambda: [fnn.Dense(3, fnn.Activation("leaky_relu", alpha=f(0.1)))],
    "init": lambda: [fnn.Dense(3, init=fnn.Initializer("normal", std=f(0.1)))],
    "normalisation": lambda: [fnn.BatchNorm(f(0.1), f(1e-5)), fnn.LayerNorm(f(1e-5)), fnn.Dense(3)],
    "noise": lambda: [fnn.Dropout(f(0.5)), fnn.GaussianNoise(i(1)), fnn.Dense(3)],
    "residual": lambda: [fnn.Residual([fnn.Dense(3)], projection=np.bool_(True))],
}
OPTIMISERS = {
    "sgd": lambda: fnn.SGD(f(0.1), momentum=f(0.9), nesterov=np.bool_(True), clip_norm=i(1)),
    "adam": lambda: fnn.Adam(f(1e-3), f(0.9), f(0.999), f(1e-8), weight_decay=f(0.1)),
    "nadam": lambda: fnn.NAdam(i(1), momentum_decay=f(0.01), clip_value=f(1)),
    "rmsprop": lambda: fnn.RMSProp(f(0.01), rho=f(0.9)),
    "lbfgs": lambda: fnn.LBFGS(i(5), tolerance=f(1e-6)),
    "schedule": lambda: fnn.SGD(fnn.Warmup(i(3), fnn.StepDecay(f(0.1), i(2), f(0.5)))),
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_constants_out_of_numpy(tmp_path, layers):
    net = network(layers(), seed=np.uint32(7))
    net.fit(X, VALUES, epochs=i(2), batch_size=np.int32(5), shuffle=np.bool_(True))
    net.save(tmp_path / "m")
    loaded = fnn.load(tmp_path / "m", backend="numpy")
    assert_same_state(net, loaded)
    assert repr(loaded) == repr(net)
    assert "np." not in repr(net)


@pytest.mark.parametrize(
    "loss",
    [
        lambda: fnn.Loss("huber", delta=f(1.5)),
        lambda: fnn.Loss("softmax_cross_entropy", label_smoothing=f(0.25)),
        lambda: fnn.Loss(np.str_("mse")),
    ],
)
def test_losses_with_constants_out_of_numpy(tmp_path, loss):
    net = network(loss=loss())
    net.save(tmp_path / "m")
    assert repr(fnn.load(tmp_path / "m", backend="numpy").loss) == repr(net.loss)


@pytest.mark.parametrize("optimizer", OPTIMISERS.values(), ids=OPTIMISERS)
def test_optimisers_keep_plain_numbers(tmp_path, optimizer):
    net, kind = network(), optimizer()
    net.fit(X, VALUES, optimizer=kind)
    net.save(tmp_path / "m")
    assert_same_state(net, fnn.load(tmp_path / "m", backend="numpy"))
    assert "np." not in repr(kind)


# --- overflow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("where", ["slots", "buffers"])
def test_state_that_overflowed_comes_back(tmp_path, where, bad):
    net = network([fnn.BatchNorm(), fnn.Dense(3)])
    net.fit(X, VALUES, optimizer="adam")
    getattr(net.state, where)[..., 0] = bad
    net.save(tmp_path / "m")
    assert_same_state(net, fnn.load(tmp_path / "m", backend="numpy"))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("scale", [1e17, 1e25, 3e38])
def test_what_an_overflowing_training_leaves_can_be_saved(tmp_path, backend, optimizer, scale):
    layers = [fnn.Dense(2), fnn.BatchNorm(), fnn.Dense(1)]
    net = fnn.Network(layers, 4, "mae", backend=backend)
    try:
        with np.errstate(all="ignore"):
            net.fit(X * scale / 10, X[:, 0] * scale / 10, epochs=3, optimizer=optimizer)
    except (fnn.DivergenceError, ValueError):
        pass  # it is said
    net.save(tmp_path / "m")
    assert_same_state(net, fnn.load(tmp_path / "m", backend="numpy"))


def test_parameters_that_are_not_finite_are_refused(tmp_path):
    net = network()
    net.parameters["0.bias"][1] = np.nan
    with raises(ValueError, "0.bias", "NaN"):
        net.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "init", [np.full((4, 3), 1e300), fnn.Initializer("normal", std=1e39)], ids=["array", "normal"]
)
def test_initial_weights_beyond_float32_are_refused(init):
    with raises(ValueError, "0.weight", "float32"):
        network([fnn.Dense(3, init=init)], dtype="float32")


# --- depth and number of layers -------------------------------------------------------------------


def tower(depth):
    return functools.reduce(lambda inner, _: fnn.Residual([inner]), range(depth), fnn.Dense(4))


def test_blocks_in_blocks_come_back(tmp_path):
    net = network([tower(40)])
    for twin in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin.save(tmp_path / "m")
    assert repr(fnn.load(tmp_path / "m", backend="numpy")) == repr(net)


@pytest.mark.parametrize("depth", [41, 200])
def test_blocks_nested_too_deep_are_refused_at_construction(depth):
    with raises(ValueError, "Residual", "40 deep"):
        tower(depth)


def test_a_block_that_holds_itself_is_refused():
    block = fnn.Residual([fnn.Dense(4)])
    block.layers += [block, block]
    with raises(ValueError, "40 deep"):
        network([block])


def seconds(n):
    layers = [fnn.Dense(1) for _ in range(n)]
    started = time.process_time()
    net = fnn.Network(layers, 1, "mse", backend="numpy")
    return net, time.process_time() - started


def test_layers_take_linear_time(tmp_path):
    """Quadratic lowering took 30 times as long for 10 times as many."""
    few, many = (min(seconds(n)[1] for _ in range(3)) for n in (1000, 10_000))
    assert many < 20 * few


def test_more_text_than_a_file_holds_is_refused(tmp_path, monkeypatch):
    from fastnn import serialization

    monkeypatch.setattr(serialization, "_LONGEST_HEADER", 1000)
    with raises(ValueError, "fewer layers or less metadata"):
        network([fnn.Dense(3) for _ in range(20)]).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


# --- refused before training ----------------------------------------------------------------------


def test_a_checkpoint_that_could_not_be_saved(tmp_path):
    net = network()
    net.metadata = {"a": {1, 2}}
    with raises(TypeError, "metadata['a']"):
        net.fit(X, VALUES, callbacks=[fnn.Checkpoint(tmp_path / "m")])
    assert net.epochs == 0


def test_old_files_with_infinite_metadata_load(tmp_path):
    net = network()
    net.metadata = {"a": float("inf")}
    net.save(tmp_path / "m")
    assert fnn.load(tmp_path / "m", backend="numpy").metadata == json.loads('{"a": Infinity}')
