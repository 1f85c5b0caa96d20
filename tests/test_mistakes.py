"""An error that helps for every mistake a user can make with a network and its data."""

import numpy as np
import pytest
from network_cases import LABELS, VALUES, X, arrays, assert_same_arrays, raises, small

import fastnn as fnn
from fastnn.engines import ENGINES
from fastnn.metrics import METRICS
from fastnn.nn.activations import ACTIVATIONS
from fastnn.nn.initializers import INITIALIZERS
from fastnn.nn.layers import LAYERS
from fastnn.nn.losses import LOSSES
from fastnn.optim.optimizers import OPTIMIZERS

ALL_LAYERS, ALL_ACTIVATIONS, ALL_INITS = list(LAYERS), list(ACTIVATIONS), [*INITIALIZERS, "auto"]
DENSE_3 = [fnn.Dense(3)]


class OwnDense(fnn.Dense):
    """A subclass of a layer."""


def with_(array, value):
    """A copy of ``array`` whose row 2, column 1 is ``value``."""
    array = np.array(array, float)
    array[2, 1] = value
    return array


def bad_fit(X=X, y=LABELS, loss="softmax_cross_entropy", **options):
    return lambda: small(loss).fit(X, y, **options)


BAD = {
    # Network
    "layers not a list": (
        lambda: fnn.Network(fnn.Dense(3), 4, "mse"),
        TypeError,
        ["layers", "list"],
    ),
    "layers a string": (lambda: fnn.Network("dense", 4, "mse"), TypeError, ["layers", "list"]),
    "layers a generator": (
        lambda: fnn.Network((fnn.Dense(n) for n in (3, 2)), 4, "mse"),
        TypeError,
        ["layers", "list"],
    ),
    "no layers": (lambda: fnn.Network([], 4, "mse"), ValueError, ["layers", "at least one"]),
    "a layer that is none": (
        lambda: fnn.Network([fnn.Dense(3), 10], 4, "mse"),
        TypeError,
        ["layers[1]", "10", *ALL_LAYERS],
    ),
    "a layer's class": (
        lambda: fnn.Network([fnn.BatchNorm], 4, "mse"),
        TypeError,
        ["layers[0]", "call it"],
    ),
    "a layer of no known kind": (
        lambda: fnn.Network([OwnDense(3)], 4, "mse"),
        TypeError,
        ["layers[0]", "OwnDense", *ALL_LAYERS],
    ),
    "nothing to learn": (
        lambda: fnn.Network([fnn.Activation("relu")], 4, "mse"),
        ValueError,
        ["layers", "parameters"],
    ),
    "nothing to do": (
        lambda: fnn.Network([fnn.Dropout(0.0)], 4, "binary_cross_entropy"),
        ValueError,
        ["layers", "parameters"],
    ),
    "inputs of 0": (
        lambda: fnn.Network(DENSE_3, 0, "mse"),
        ValueError,
        ["inputs", "0", "at least 1"],
    ),
    "inputs of 1.5": (
        lambda: fnn.Network(DENSE_3, 1.5, "mse"),
        TypeError,
        ["inputs", "1.5", "integer"],
    ),
    "inputs a bool": (lambda: fnn.Network(DENSE_3, True, "mse"), TypeError, ["inputs", "True"]),
    "unknown loss": (
        lambda: fnn.Network(DENSE_3, 4, "crossentropy"),
        ValueError,
        ["loss", "'crossentropy'", *LOSSES],
    ),
    "misspelt loss": (
        lambda: fnn.Network(DENSE_3, 4, "poison"),
        ValueError,
        ["did you mean 'poisson'"],
    ),
    "loss a number": (lambda: fnn.Network(DENSE_3, 4, 1), TypeError, ["loss", *LOSSES]),
    "constant of another loss": (lambda: fnn.Loss("mse", delta=1.0), TypeError, ["mse", "delta"]),
    "smoothing of 1": (
        lambda: fnn.Loss("softmax_cross_entropy", label_smoothing=1.0),
        ValueError,
        ["label_smoothing", "[0, 1)"],
    ),
    "delta of 0": (lambda: fnn.Loss("huber", delta=0), ValueError, ["delta", "(0, inf)"]),
    "dtype": (
        lambda: fnn.Network(DENSE_3, 4, "mse", dtype="float16"),
        ValueError,
        ["dtype", "float16", "float32", "float64"],
    ),
    "dtype of nonsense": (
        lambda: fnn.Network(DENSE_3, 4, "mse", dtype="double-ish"),
        ValueError,
        ["dtype", "float32", "float64"],
    ),
    "dtype None": (
        lambda: fnn.Network(DENSE_3, 4, "mse", dtype=None),
        (ValueError, TypeError),
        ["dtype", "float32", "float64"],
    ),
    "unknown backend": (
        lambda: fnn.Network(DENSE_3, 4, "mse", backend="torch"),
        ValueError,
        ["backend", "'torch'", "auto", *ENGINES],
    ),
    "backend a number": (
        lambda: fnn.Network(DENSE_3, 4, "mse", backend=1),
        TypeError,
        ["backend", *ENGINES],
    ),
    "seed below 0": (lambda: fnn.Network(DENSE_3, 4, "mse", seed=-1), ValueError, ["seed", "-1"]),
    "seed too large": (
        lambda: fnn.Network(DENSE_3, 4, "mse", seed=2**64),
        ValueError,
        ["seed", "2**64"],
    ),
    "seed None": (lambda: fnn.Network(DENSE_3, 4, "mse", seed=None), TypeError, ["seed", "None"]),
    # layers
    "units of 0": (lambda: fnn.Dense(0), ValueError, ["units", "0"]),
    "units below 0": (lambda: fnn.Dense(-3), ValueError, ["units", "-3"]),
    "units of 2.0": (lambda: fnn.Dense(2.0), TypeError, ["units", "2.0"]),
    "unknown activation": (
        lambda: fnn.Dense(3, "rleu"),
        ValueError,
        ["activation", "'rleu'", "did you mean 'relu'", *ALL_ACTIVATIONS],
    ),
    "activation None": (
        lambda: fnn.Dense(3, None),
        TypeError,
        ["activation", "None", *ALL_ACTIVATIONS],
    ),
    "alpha of relu": (lambda: fnn.Activation("relu", alpha=1), TypeError, ["relu", "alpha"]),
    "another constant": (
        lambda: fnn.Activation("elu", beta=1),
        TypeError,
        ["elu", "alpha", "beta"],
    ),
    "alpha of 1": (lambda: fnn.Activation("leaky_relu", alpha=1), ValueError, ["alpha", "(0, 1)"]),
    "alpha below 0": (lambda: fnn.Activation("elu", alpha=-1), ValueError, ["alpha", "(0, inf)"]),
    "unknown init": (lambda: fnn.Dense(3, init="he"), ValueError, ["init", "'he'", *ALL_INITS]),
    "init of words": (lambda: fnn.Dense(3, init=["a", "b"]), (ValueError, TypeError), ["init"]),
    "init None": (lambda: fnn.Dense(3, init=None), (ValueError, TypeError), ["init"]),
    "init with NaN": (lambda: fnn.Dense(3, init=[[np.nan]]), ValueError, ["init", "finite"]),
    "init of another shape": (
        lambda: small("mse", [fnn.Dense(3, init=np.ones((3, 4)))]),
        ValueError,
        ["0.weight", "(3, 4)", "(4, 3)"],
    ),
    "auto for biases": (
        lambda: fnn.Dense(3, bias_init="auto"),
        ValueError,
        ["bias_init", "auto", *INITIALIZERS],
    ),
    "std below 0": (lambda: fnn.Initializer("normal", std=-1), ValueError, ["std", "-1"]),
    "std of he": (lambda: fnn.Initializer("he_normal", std=1), TypeError, ["he_normal", "std"]),
    "l1 below 0": (lambda: fnn.Dense(3, l1=-1), ValueError, ["l1", "-1", "[0, inf)"]),
    "l2 NaN": (lambda: fnn.Dense(3, l2=np.nan), ValueError, ["l2", "nan"]),
    "l2 text": (lambda: fnn.Dense(3, l2="small"), TypeError, ["l2", "small"]),
    "max_norm of 0": (lambda: fnn.Dense(3, max_norm=0), ValueError, ["max_norm", "(0, inf)"]),
    "momentum of 0": (lambda: fnn.BatchNorm(momentum=0), ValueError, ["momentum", "(0, 1]"]),
    "epsilon of 0": (lambda: fnn.BatchNorm(epsilon=0), ValueError, ["epsilon", "(0, inf)"]),
    "epsilon of LayerNorm": (lambda: fnn.LayerNorm(-1e-5), ValueError, ["epsilon", "(0, inf)"]),
    "bias of text": (lambda: fnn.Dense(3, bias="no"), TypeError, ["bias", "no"]),
    "rate of 1": (lambda: fnn.Dropout(1.0), ValueError, ["rate", "[0, 1)"]),
    "rate a bool": (lambda: fnn.Dropout(True), TypeError, ["rate", "True"]),
    "noise below 0": (lambda: fnn.GaussianNoise(-1), ValueError, ["std", "-1"]),
    "residual without layers": (
        lambda: fnn.Residual([]),
        ValueError,
        ["layers of Residual", "at least one"],
    ),
    "residual of no list": (
        lambda: fnn.Residual(fnn.Dense(3)),
        TypeError,
        ["layers of Residual", "list"],
    ),
    "projection": (
        lambda: fnn.Residual(DENSE_3, projection="yes"),
        ValueError,
        ["projection", "'auto'", "True", "False", "'yes'"],
    ),
    "cannot add": (
        lambda: small(
            "mse", [fnn.Dense(5), fnn.Residual([fnn.Residual([fnn.Dense(3)], projection=False)])]
        ),
        ValueError,
        ["layer 1.0 (Residual)", "width 3", "width 5", "projection"],
    ),
    # mlp
    "sizes a number": (lambda: fnn.mlp(10), ValueError, ["sizes", "10", "input"]),
    "one size": (lambda: fnn.mlp([10]), ValueError, ["sizes", "[10]"]),
    "size of 0": (lambda: fnn.mlp([4, 0, 2]), ValueError, ["sizes", "0"]),
    "size of 1.5": (lambda: fnn.mlp([4, 1.5, 2]), TypeError, ["sizes", "1.5"]),
    "dropout of 1": (lambda: fnn.mlp([4, 3, 2], dropout=1.0), ValueError, ["dropout", "[0, 1)"]),
    "unknown output": (
        lambda: fnn.mlp([4, 3, 2], output="softmax"),
        ValueError,
        ["softmax", *ALL_ACTIVATIONS],
    ),
    "unknown option": (lambda: fnn.mlp([4, 3, 2], device="gpu"), TypeError, ["device"]),
    # optimisers
    "unknown optimizer": (
        bad_fit(optimizer="admm"),
        ValueError,
        ["optimizer", "'admm'", *OPTIMIZERS],
    ),
    "optimizer's class": (
        bad_fit(optimizer=fnn.Adam),
        TypeError,
        ["optimizer", "Adam", *OPTIMIZERS],
    ),
    "optimizer a number": (bad_fit(optimizer=0.1), TypeError, ["optimizer", "0.1"]),
    "lr below 0": (lambda: fnn.SGD(-0.1), ValueError, ["lr", "-0.1"]),
    "lr text": (lambda: fnn.Adam("fast"), TypeError, ["lr", "fast"]),
    "beta of 1": (lambda: fnn.Adam(beta1=1.0), ValueError, ["beta1", "[0, 1)"]),
    "nesterov alone": (lambda: fnn.SGD(0.1, nesterov=True), ValueError, ["nesterov", "momentum"]),
    "nesterov of text": (
        lambda: fnn.SGD(0.1, momentum=0.9, nesterov="no"),
        TypeError,
        ["nesterov", "no"],
    ),
    "clip_norm of 0": (lambda: fnn.SGD(0.1, clip_norm=0), ValueError, ["clip_norm", "(0, inf)"]),
    "weight_decay below 0": (
        lambda: fnn.LBFGS(weight_decay=-1),
        ValueError,
        ["weight_decay", "-1"],
    ),
    "memory of 0": (lambda: fnn.LBFGS(memory=0), ValueError, ["memory", "0"]),
    # fit
    "epochs of 0": (bad_fit(epochs=0), ValueError, ["epochs", "0"]),
    "epochs of 1.5": (bad_fit(epochs=1.5), TypeError, ["epochs", "1.5"]),
    "batch_size of 0": (bad_fit(batch_size=0), ValueError, ["batch_size", "0"]),
    "batch_size None": (bad_fit(batch_size=None), TypeError, ["batch_size", "None"]),
    "unknown metric": (
        bad_fit(metrics=("acuracy",)),
        ValueError,
        ["metric", "'acuracy'", "did you mean 'accuracy'", *METRICS],
    ),
    "metrics a string": (
        bad_fit(metrics="accuracy"),
        TypeError,
        ["metrics", "sequence", "('accuracy',)"],
    ),
    "metrics None": (bad_fit(metrics=None), TypeError, ["metrics"]),
    "a callback alone": (
        bad_fit(callbacks=fnn.EarlyStopping("loss")),
        TypeError,
        ["callbacks", "EarlyStopping"],
    ),
    "callbacks None": (bad_fit(callbacks=None), TypeError, ["callbacks", "None"]),
    "callback's class": (
        bad_fit(callbacks=[fnn.EarlyStopping]),
        TypeError,
        ["callbacks", "on_epoch_end"],
    ),
    "no callback": (
        bad_fit(callbacks=[print]),
        TypeError,
        ["callbacks", "on_fit_start", "on_chunk_end", "on_epoch_end", "on_fit_end"],
    ),
    "sample_weight of another length": (
        bad_fit(sample_weight=np.ones(29)),
        ValueError,
        ["sample_weight", "29", "30"],
    ),
    "sample_weight below 0": (
        bad_fit(sample_weight=-np.ones(30)),
        ValueError,
        ["sample_weight", "row 0"],
    ),
    "no weight": (bad_fit(sample_weight=np.zeros(30)), ValueError, ["sample_weight", "zero"]),
    "class_weight of no class": (
        bad_fit(class_weight={3: 1.0}),
        ValueError,
        ["class_weight", "3", "0 to 2"],
    ),
    "class_weight a word": (
        bad_fit(class_weight="even"),
        ValueError,
        ["class_weight", "even", "balanced"],
    ),
    "class_weight a list": (
        bad_fit(class_weight=[1, 2, 3]),
        TypeError,
        ["class_weight", "list", "mapping", "balanced"],
    ),
    "class_weight of values": (
        bad_fit(y=VALUES, loss="mse", class_weight="balanced"),
        ValueError,
        ["class_weight", "label"],
    ),
    # data
    "X of one dimension": (bad_fit(X=X[:, 0]), ValueError, ["X", "1-D", "X[:, None]"]),
    "X too narrow": (bad_fit(X=X[:, :3]), ValueError, ["X", "3 columns", "4"]),
    "X empty": (bad_fit(X=X[:0], y=LABELS[:0]), ValueError, ["X", "empty", "0 rows"]),
    "X with NaN": (
        bad_fit(X=with_(X, np.nan)),
        ValueError,
        ["X", "nan", "row 2, column 1", "finite"],
    ),
    "X with infinity": (bad_fit(X=with_(X, -np.inf)), ValueError, ["X", "-inf", "row 2, column 1"]),
    "X of text": (bad_fit(X=np.full((30, 4), "a")), TypeError, ["X", "'a'", "row 0"]),
    "X None": (bad_fit(X=None), TypeError, ["X", "None"]),
    "y None": (bad_fit(y=None), TypeError, ["y", "None"]),
    "y too short": (bad_fit(y=LABELS[:-1]), ValueError, ["y", "29", "30"]),
    "y with NaN": (
        bad_fit(y=with_(VALUES, np.nan), loss="mse"),
        ValueError,
        ["y", "nan", "row 2, column 1"],
    ),
    "y with infinity": (
        bad_fit(y=with_(VALUES, np.inf), loss="quadratic"),
        ValueError,
        ["y", "inf", "row 2, column 1"],
    ),
    "a label too large": (
        bad_fit(y=np.where(np.arange(30) == 7, 3, LABELS)),
        ValueError,
        ["y", "3", "row 7", "0 to 2"],
    ),
    "a label below 0": (
        bad_fit(y=LABELS - 1, loss="mse"),
        ValueError,
        ["y", "-1", "row 0", "0 to 2"],
    ),
    "half a label": (bad_fit(y=LABELS + 0.5), ValueError, ["y", "0.5", "row 0", "whole"]),
    "probabilities above 1": (
        bad_fit(y=np.ones((30, 3))),
        ValueError,
        ["y", "3.0", "row 0", "sum to 1"],
    ),
    "targets above 1": (
        bad_fit(y=VALUES * 0 + 2, loss="binary_cross_entropy"),
        ValueError,
        ["y", "2.0", "from 0 to 1"],
    ),
    "counts below 0": (
        bad_fit(y=with_(abs(VALUES), -1), loss="poisson"),
        ValueError,
        ["y", "-1", "row 2, column 1"],
    ),
    "y too narrow": (
        bad_fit(y=VALUES[:, :2], loss="mae"),
        ValueError,
        ["y", "2 columns", "3 outputs"],
    ),
    # other methods
    "predict": (lambda: small().predict(X[:, :2]), ValueError, ["X", "2 columns", "4"]),
    "forward": (lambda: small().forward(with_(X, np.nan)), ValueError, ["X", "nan", "row 2"]),
    "evaluate": (lambda: small().evaluate(X, LABELS + 9), ValueError, ["y", "9", "row 0"]),
    "evaluate's metrics": (
        lambda: small().evaluate(X, LABELS, metrics=("f2",)),
        ValueError,
        ["metric", "f2", *METRICS],
    ),
    "evaluate's weights": (
        lambda: small().evaluate(X, LABELS, sample_weight=[1]),
        ValueError,
        ["sample_weight", "30"],
    ),
    "gradients": (lambda: small().gradients(X[:3], LABELS), ValueError, ["y", "30", "3"]),
    "check_gradients' samples": (
        lambda: fnn.check_gradients(small(), X, LABELS, samples=0),
        ValueError,
        ["samples", "0"],
    ),
    "check_gradients' step": (
        lambda: fnn.check_gradients(small(), X, LABELS, step=0),
        ValueError,
        ["step", "0"],
    ),
    # callbacks
    "patience below 0": (lambda: fnn.EarlyStopping(patience=-1), ValueError, ["patience", "-1"]),
    "min_delta below 0": (lambda: fnn.EarlyStopping(min_delta=-1), ValueError, ["min_delta", "-1"]),
    "factor of 1": (lambda: fnn.ReduceOnPlateau(factor=1), ValueError, ["factor", "(0, 1)"]),
    "every of 0": (lambda: fnn.Checkpoint("m", every=0), ValueError, ["every", "0"]),
}


@pytest.mark.parametrize(("call", "error", "parts"), BAD.values(), ids=BAD)
def test_mistakes_are_named(call, error, parts):
    with raises(error, *parts):
        call()


@pytest.mark.parametrize("option", ["shuffle", "progress", "drop_last"])
def test_switches_take_only_booleans(option):
    with raises(TypeError, option):
        small().fit(X, LABELS, **{option: "no"})


def test_a_batch_may_be_larger_than_the_data(engine):
    nets = [small(backend=engine) for _ in range(2)]
    for net, batch_size in zip(nets, (30, 1000), strict=True):
        net.fit(X, LABELS, batch_size=batch_size, epochs=2)
    assert_same_arrays(*map(arrays, nets))


def test_one_sample_is_enough(engine):
    net = small(layers=[fnn.BatchNorm(), fnn.Dense(3)], backend=engine)
    history = net.fit(X[:1], LABELS[:1], epochs=3)
    assert np.isfinite(history["loss"]).all()
    assert net.evaluate(X[:1], LABELS[:1]).keys() == {"loss", "accuracy"}
