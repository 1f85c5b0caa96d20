"""BatchEnsemble: TabM as its authors' package has it, in every engine."""

import copy

import numpy as np
import pytest
from builders import (
    COMPILED,
    INPUTS,
    OUTPUTS,
    assert_same_bits,
    features,
    network,
    relative_error,
    sample_weights,
    targets,
)
from network_cases import raises

import fastnn as fnn
from fastnn._kernels import cpu_engine
from fastnn.diagnostics import variants

MEMBERS, WIDTH = 5, 6
LOSSES = {"softmax_cross_entropy": "labels", "binary_cross_entropy": "bits", "mse": "values"}
START = {"init": "fan_in_uniform", "bias_init": "fan_in_uniform"}
SCALINGS = ("all", "first")


def tabm(scaling="all", members=MEMBERS, outputs=OUTPUTS, width=WIDTH, rate=0.0, **options):
    block = [fnn.Dense(width, "relu", **START), fnn.Dropout(rate)]
    return fnn.BatchEnsemble(members, [*block, *block, fnn.Heads(outputs)], scaling, **options)


def outputs(net, X, scaling):
    """The definition, a member at a time: (n, members, outputs)."""
    p, members = net.parameters, len(net.parameters["0.r"])
    found = []
    for m in range(members):
        x = p["0.r"][m] * X
        for i, name in enumerate(("0.0.", "0.2.")):
            r = p[f"{name}r"][m] if i > 0 and scaling == "all" else 1
            x = (r * x) @ p[f"{name}weight"]
            own = scaling == "all"
            x = p[f"{name}s"][m] * x + p[f"{name}bias"][m] if own else x + p[f"{name}bias"]
            x = np.maximum(x, 0)
        found.append(x @ p["0.4.weight"][m] + p["0.4.bias"][m])
    return np.stack(found, axis=1)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("rows", [1, 2, 40])
def test_it_is_the_definition(engine, scaling, rows):
    net, X = network([tabm(scaling)], "mse", engine), features(rows)
    z = outputs(net, X, scaling)
    assert net.outputs == OUTPUTS
    np.testing.assert_allclose(net.forward(X), z, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(net.predict(X), z.mean(axis=1), rtol=1e-9, atol=1e-9)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z)
    return e / e.sum(axis=-1, keepdims=True)


LINKS = {"softmax_cross_entropy": softmax, "binary_cross_entropy": sigmoid, "mse": lambda z: z}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_the_loss_is_the_mean_of_losses_and_the_prediction_that_of_predictions(
    engine, loss, weighted
):
    net, X, y = network([tabm()], loss, engine), features(40), targets(LOSSES[loss], 40)
    w = sample_weights(40) if weighted else None
    z = net.forward(X)
    one = fnn.Network([fnn.Scale()], OUTPUTS, loss, "float64", "numpy")
    losses = [one.evaluate(z[:, m], y, w)["loss"] for m in range(MEMBERS)]
    p = LINKS[loss](z).mean(axis=1)
    np.testing.assert_allclose(net.predict(X), p, rtol=1e-12, atol=1e-12)
    scores = net.evaluate(X, y, w, metrics=["accuracy", "rmse"])
    assert scores["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert net.gradients(X, y, sample_weight=w)[0] == pytest.approx(np.mean(losses), rel=1e-12)
    t = np.eye(OUTPUTS)[y] if y.ndim == 1 else y
    weights = np.ones(40) if w is None else w
    squares = np.average((p - t) ** 2, axis=0, weights=weights).mean()
    assert scores["rmse"] == pytest.approx(np.sqrt(squares), rel=1e-12)
    if loss != "mse":
        right = p.argmax(axis=1) == t.argmax(axis=1)
        assert scores["accuracy"] == pytest.approx(np.average(right, weights=weights))
        log = net.copy().fit(X, y, 1, 40, fnn.SGD(1e-9), sample_weight=w, progress=False)
        assert log["accuracy"][0] == pytest.approx(scores["accuracy"])


def test_quantiles_are_sorted_for_each_member_and_then_averaged(engine):
    loss = fnn.Loss("quantile", levels=(0.1, 0.5, 0.8))
    net, X, y = network([tabm(outputs=3)], loss, engine), features(40), targets("values", 40)[:, 0]
    z = net.forward(X)
    assert (np.diff(z) < 0).any()
    np.testing.assert_allclose(net.predict(X), np.sort(z).mean(axis=1), rtol=1e-12, atol=1e-12)
    one = fnn.Network([fnn.Scale()], 3, loss, "float64", "numpy")
    losses = [one.evaluate(z[:, m], y)["loss"] for m in range(MEMBERS)]
    scores = net.evaluate(X, y, metrics=["rmse"])
    rmse = np.sqrt(np.mean((net.predict(X)[:, 1] - y) ** 2))
    assert scores == pytest.approx({"loss": np.mean(losses), "rmse": rmse}, rel=1e-12)
    twin = network([tabm(outputs=3)], loss, "numpy")
    for each in (net, twin):
        each.fit(X, y, 2, 9, fnn.Adam(0.01), progress=False)
    assert relative_error(net.parameters, twin.parameters) < 1e-9


def test_one_output_of_two_classes(engine):
    net, X = network([tabm(outputs=1)], "binary_cross_entropy", engine), features(40)
    y = (X[:, :1] > 0).astype(float)
    right = (net.predict(X) > 0.5) == y
    assert net.evaluate(X, y)["accuracy"] == pytest.approx(right.mean())


def test_gradients(engine):
    for scaling in SCALINGS:
        layers = [fnn.Dense(WIDTH, "tanh"), tabm(scaling, members=3, rate=0.2)]
        net = network(layers, "softmax_cross_entropy", engine)
        errors = fnn.check_gradients(net, features(9), targets("labels", 9))
        assert max(errors.values()) < 1e-6


@pytest.mark.parametrize("rows", [1, 2, 7, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("members", [1, 2, 70])
def test_engines_agree(compiled, rows, dtype, threads, members, use_threads):
    use_threads(threads)
    X, y = features(rows), targets("labels", rows)
    for scaling in SCALINGS:
        layers = [fnn.Dense(9, "gelu"), tabm(scaling, members, rate=0.3)]
        ours, reference = (
            network(layers, "softmax_cross_entropy", name, dtype) for name in (compiled, "numpy")
        )
        (_, found), (_, expected) = (
            net.gradients(X, y, training=True) for net in (ours, reference)
        )
        assert relative_error(found, expected) <= {"float64": 1e-12, "float32": 3e-5}[dtype]
        for net in (ours, reference):
            net.fit(X, y, 2, 50, fnn.AdamW(0.01, clip_norm=1.0), progress=False)
        assert relative_error(ours.parameters, reference.parameters) <= (
            1e-6 if dtype == "float64" else 3e-3
        )


@pytest.mark.parametrize("compiled", [name for name in COMPILED if name != "cuda"])
def test_blocks_of_rows_change_no_bit(compiled, monkeypatch, use_threads):
    """A thread takes a few rows at a time; recorded steps and BatchNorm take all at once."""
    use_threads(2)
    X, y = features(90), targets("labels", 90)
    nets = []
    for rows in (1, 3 * MEMBERS, 10_000):
        monkeypatch.setattr(cpu_engine, "_ENSEMBLE_ROWS", rows)
        nets.append(network([tabm(rate=0.2)], "softmax_cross_entropy", compiled, "float32"))
        nets[-1].fit(X, y, 3, 40, "adam", progress=False)
    recorded = network([tabm(rate=0.2)], "softmax_cross_entropy", compiled, "float32")
    recorded.fit(X, y, 3, 40, "adam", callbacks=[fnn.GradientFlow(every=1)], progress=False)
    for other in (*nets[1:], recorded):
        assert_same_bits(nets[0], other)


def test_batch_norm_before_it(compiled):
    layers = [fnn.Dense(9), fnn.BatchNorm(), tabm()]
    X, y = features(40), targets("labels", 40)
    (_, found), (_, expected) = (
        network(layers, "softmax_cross_entropy", name).gradients(X, y, training=True)
        for name in (compiled, "numpy")
    )
    assert relative_error(found, expected) <= 1e-9


# --- how it starts --------------------------------------------------------------------------------


def test_only_the_first_scale_tells_members_apart():
    p = fnn.Network([tabm(width=400)], 50, "mse").parameters
    assert set(np.unique(p["0.r"])) == {-1.0, 1.0}
    assert abs(p["0.r"].mean()) < 0.3
    for name in ("0.0.s", "0.2.r", "0.2.s"):
        assert (p[name] == 1).all()
    for name, n_in in (("0.0.", 50), ("0.2.", 400)):
        bias = p[f"{name}bias"]
        assert bias.shape == (MEMBERS, 400)
        assert (bias == bias[0]).all()
        for started in (p[f"{name}weight"], bias[0]):
            assert 0.95 < np.abs(started).max() * n_in**0.5 <= 1
            assert len(np.unique(started)) > started.size // 2
    for started in (p["0.4.weight"], p["0.4.bias"]):
        assert np.abs(started).max() * 400**0.5 <= 1
        assert len(np.unique(started)) == started.size  # each member's own
    assert p["0.4.weight"].shape == (MEMBERS, 400, OUTPUTS)


def test_one_draw_for_the_columns_of_a_feature():
    ensemble = tabm(members=200, start="normal", groups=[3, 1, 2])
    r = fnn.Network([ensemble], 6, "mse").parameters["0.r"]
    assert (r[:, :3] == r[:, :1]).all()
    assert (r[:, 4] == r[:, 5]).all()
    drawn = r[:, [0, 3, 4]]
    assert len(np.unique(drawn)) == 600
    assert abs(drawn.mean()) < 0.2
    assert abs(drawn.std() - 1) < 0.15


def test_mini_has_one_scale_alone():
    names = list(fnn.Network([tabm("first")], 4, "mse").parameters)
    assert names == [
        *("0.r", "0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias", "0.4.weight", "0.4.bias"),
    ]


@pytest.mark.parametrize("init", ["orthogonal", "he_normal", "glorot_uniform", "zeros"])
def test_each_head_draws_its_own_numbers(init):
    ensemble = fnn.BatchEnsemble(3, [fnn.Heads(4, init, bias_init="standard_normal")])
    w = fnn.Network([ensemble], 4, "mse").parameters["0.0.weight"]
    assert w.shape == (3, 4, 4)
    if init != "zeros":
        assert len(np.unique(w)) == w.size
    if init == "orthogonal":
        np.testing.assert_allclose(w @ w.transpose(0, 2, 1), [np.eye(4)] * 3, atol=1e-6)


def test_factors(engine):
    """r and s have factors of their own; no bias decays."""
    frozen = {"lr_factor": 0.0}
    layers = [fnn.Dense(WIDTH), fnn.Heads(OUTPUTS, **frozen, decay_factor=0.0)]
    net = network([fnn.BatchEnsemble(2, layers, **frozen)], "mse", engine)
    before = copy.deepcopy(dict(net.parameters.items()))
    net.fit(features(20), targets("values", 20), 1, 20, "adamw", progress=False)
    for name, values in net.parameters.items():
        is_frozen = name in ("0.r", "0.0.s", "0.1.weight")
        assert (values == before[name]).all() == is_frozen, name
    decaying = network([fnn.BatchEnsemble(2, [fnn.Dense(OUTPUTS)], decay_factor=2.0)], "mse")
    no_gradient = fnn.SGD(1e-30, weight_decay=1e29)
    before = copy.deepcopy(dict(decaying.parameters.items()))
    decaying.fit(features(20), targets("values", 20), 1, 20, no_gradient, progress=False)
    for name, kept in {"0.r": 0.8, "0.0.s": 0.8, "0.0.weight": 0.9, "0.0.bias": 1.0}.items():
        np.testing.assert_allclose(decaying.parameters[name], kept * before[name])


# --- around it ------------------------------------------------------------------------------------


def test_it_learns(engine):
    X = features(400)
    y = (X[:, 0] * X[:, 1] > 0).astype(int)
    net = fnn.Network([tabm(width=24, outputs=2)], INPUTS, "softmax_cross_entropy", backend=engine)
    net.fit(X, y, 40, 50, fnn.Adam(0.01), progress=False)
    assert net.evaluate(X, y)["accuracy"] > 0.9


def test_behind_an_embedding_and_an_encoding(engine):
    X = np.hstack([features(60, 2), np.arange(60)[:, None] % 4])
    layers = [
        fnn.Embedding([4], 3),
        fnn.PiecewiseLinear(5, 2, 2),
        fnn.Periodic(3, 0.4, 2, "plr", features=4),
        fnn.Periodic(2, 0.4, 1, features=1),
        fnn.Dropout(fnn.FlatCosine(0.2, 6)),
        tabm(start="normal", groups=[2, 10], rate=0.1),
    ]
    nets = [network(layers, "mse", name, inputs=3) for name in (engine, "numpy")]
    decays = fnn.AdamW(0.01, weight_decay=fnn.Cosine(0.1, 6))
    for net in nets:
        net.fit(X, targets("values", 60), 2, 20, decays, progress=False)
    assert relative_error(nets[0].parameters, nets[1].parameters) < 1e-7


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_saved_network_is_the_same(engine, scaling, tmp_path):
    X, y = features(60), targets("labels", 60)
    ensemble = tabm(scaling, rate=0.1, start="normal", groups=[1, 3], decay_factor=0.5)
    net = network([ensemble], "softmax_cross_entropy", engine)
    net.fit(X, y, progress=False)
    net.save(tmp_path / "m.fastnn")
    again = fnn.load(tmp_path / "m.fastnn", backend=engine)
    assert repr(again) == repr(net)
    np.testing.assert_array_equal(again.forward(X), net.forward(X))
    np.testing.assert_array_equal(net.copy().predict(X), net.predict(X))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_what_looks_into_a_network(engine, scaling):
    X, y = features(320), targets("labels", 320)
    layers = [fnn.Dense(7, "tanh"), tabm(scaling, rate=0.1)]
    net = network(layers, "softmax_cross_entropy", engine)
    assert [a.shape for a in net.activations(X)] == [(320, 7)]
    assert net.learning_speed(X, y).shape == (3,)
    assert isinstance(net.diagnose(X, y, "adam"), list)
    history = net.fit(X, y, 2, callbacks=[fnn.GradientFlow(every=1)], progress=False)
    flow = history.gradient_flow
    assert flow.layers == ("0", "1.0", "1.2")
    assert flow.units == (7, MEMBERS * WIDTH, MEMBERS * WIDTH)
    assert flow.activations == ("tanh", "relu", "relu")
    for figure in ("learning_speed", "gradient_norm", "weight_norm", "update_ratio", "dead"):
        assert np.isfinite(getattr(flow, figure)[:, 1:]).all()


def test_the_figures_of_a_flow(compiled):
    X, y = features(40), targets("labels", 40)
    for scaling in SCALINGS:
        flows = []
        for name in (compiled, "numpy"):
            net = network([tabm(scaling)], "softmax_cross_entropy", name)
            callbacks = [fnn.GradientFlow(every=1)]
            history = net.fit(X, y, 2, 20, "adam", callbacks=callbacks, progress=False)
            flows.append(history.gradient_flow)
        for figure in ("learning_speed", "gradient_norm", "activation_variance", "dead"):
            np.testing.assert_allclose(*(getattr(flow, figure) for flow in flows), rtol=1e-8)


def test_variants():
    layers = [fnn.Dense(4), tabm()]
    with raises(ValueError, "no variants", "BatchEnsemble"):
        variants.with_activation(layers, "tanh")
    changed = variants.with_init(layers, "he_normal")
    assert changed[1].layers[0].init.name == "he_normal"


def test_lbfgs(engine):
    X, y = features(60), targets("values", 60)
    net = network([tabm()], "mse", engine)
    before = net.evaluate(X, y)["loss"]
    net.fit(X, y, 10, optimizer=fnn.LBFGS(), progress=False)
    assert net.evaluate(X, y)["loss"] < before


# --- arguments ------------------------------------------------------------------------------------

DENSE = [fnn.Dense(3)]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (dict(members=0, layers=DENSE), ["members", "0"]),
        (dict(members=5000, layers=DENSE), ["members", "4096", "5000"]),
        (dict(members=2, layers=[]), ["layers of BatchEnsemble", "at least one"]),
        (dict(members=2, layers=[fnn.Dropout(0.1)]), ["Dense or Heads"]),
        (dict(members=2, layers=[fnn.BatchNorm(), *DENSE]), ["[0]", "BatchNorm"]),
        (dict(members=2, layers=[fnn.Heads(2), *DENSE]), ["[0]", "Heads must be the last"]),
        (dict(members=2, layers=[fnn.Dense(3, init="data")]), ["[0]", "from data"]),
        (dict(members=2, layers=[*DENSE, fnn.Dense(3, bias_init="he+5")]), ["[1]", "he+5"]),
        (dict(members=2, layers=DENSE, scaling="some"), ["scaling 'some'", "all, first"]),
        (dict(members=2, layers=DENSE, start="ones"), ["start 'ones'", "signs, normal"]),
        (dict(members=2, layers=DENSE, groups="3"), ["groups", "list of integers"]),
        (dict(members=2, layers=DENSE, groups=[0]), ["groups[0]"]),
        (dict(members=2, layers=DENSE, lr_factor=-1), ["lr_factor"]),
    ],
)
def test_bad_arguments(arguments, parts):
    with raises((ValueError, TypeError), *parts):
        fnn.BatchEnsemble(**arguments)


def test_its_place():
    with raises(ValueError, "layer 0 (BatchEnsemble)", "last layer"):
        network([tabm(), fnn.Dense(OUTPUTS)])
    with raises(ValueError, "layer 1.0 (BatchEnsemble)", "last layer"):
        network([fnn.Dense(4), fnn.Residual([tabm()])])
    with raises(ValueError, "layer 1 (Heads)", "BatchEnsemble"):
        network([fnn.Dense(4), fnn.Heads(OUTPUTS)])
    with raises(ValueError, "layer 0 (BatchEnsemble)", "groups add up to 3", "4"):
        network([tabm(groups=[1, 2])])
