"""Gradient flow: the callback, its figures by layer, and histories on disk."""

import json

import numpy as np
import pytest
from builders import ENGINES, features, network, targets

import fastnn as fnn
from fastnn.diagnostics import gradient_flow

ROWS = 40
DEEP = [
    fnn.Dense(8, "relu"),
    fnn.Dense(6),
    fnn.BatchNorm(),
    fnn.Activation("tanh"),
    fnn.Dropout(0.25),
    fnn.Residual([fnn.Dense(5, "relu"), fnn.Dense(4)], activation="relu"),
    fnn.Dense(3),
]


def fit(layers=DEEP, backend="numpy", every=1, optimizer="adam", epochs=3, **options):
    net = network(layers, "softmax_cross_entropy", backend)
    arguments = {
        "batch_size": 16,
        "optimizer": optimizer,
        "callbacks": [fnn.GradientFlow(every)],
        **options,
    }
    return net, net.fit(features(ROWS), targets("labels", ROWS), epochs, **arguments)


def test_layers_and_the_operations_that_have_their_figures():
    net = network(DEEP, "softmax_cross_entropy")
    ops = gradient_flow.layer_ops(net.program)
    # the projection is none of the user's layers
    assert [op.name for op in ops] == ["0", "1", "5.0", "5.1", "6"]
    assert [op.activation for op in ops] == ["relu", "tanh", "relu", "linear", "linear"]
    assert [op.normalised for op in ops] == [False, True, False, False, False]
    codes = net.program.ops["code"]
    # BatchNorm's shift takes the bias's place
    assert [codes[op.shift] for op in ops] == [0, 1, 0, 0, 0]


def test_figures_are_those_of_the_gradient():
    net, history = fit(batch_size=ROWS, epochs=1, shuffle=False)
    again = network(DEEP, "softmax_cross_entropy")
    _, gradients = again.gradients(features(ROWS), targets("labels", ROWS), training=True)
    found = history.gradient_flow
    assert found.layers == ("0", "1", "5.0", "5.1", "6")
    assert found.units == (8, 6, 5, 4, 3)
    assert found.normalised == (False, True, False, False, False)
    norms = [
        np.linalg.norm(gradients[name])
        for name in ("0.bias", "2.shift", "5.0.bias", "5.1.bias", "6.bias")
    ]
    np.testing.assert_allclose(found.learning_speed[0], norms, rtol=1e-9)
    for i, name in enumerate(found.layers):
        weight = f"{name}.weight"
        before = again.parameters[weight]
        assert found.gradient_norm[0, i] == pytest.approx(np.linalg.norm(gradients[weight]))
        assert found.weight_norm[0, i] == pytest.approx(np.linalg.norm(before))
        assert found.update_ratio[0, i] == pytest.approx(
            np.linalg.norm(net.parameters[weight] - before) / np.linalg.norm(before)
        )


def test_activations_are_those_of_the_layers():
    X = features(ROWS)
    net = network(
        [fnn.Dense(8, "relu"), fnn.Dense(6, "tanh"), fnn.Dense(3)], "softmax_cross_entropy"
    )
    net.parameters["0.bias"][2] = -99
    values = [np.maximum(X @ net.parameters["0.weight"] + net.parameters["0.bias"], 0)]
    values.append(np.tanh(values[0] @ net.parameters["1.weight"] + net.parameters["1.bias"]))
    found = net.fit(
        X, targets("labels", ROWS), batch_size=ROWS, callbacks=[fnn.GradientFlow(1)]
    ).gradient_flow
    for i, value in enumerate(values):
        assert found.activation_mean[0, i] == pytest.approx(value.mean())
        assert found.activation_variance[0, i] == pytest.approx(value.var())
    assert found.dead[0, 0] == np.all(values[0] == 0, axis=0).mean() > 0
    assert found.saturated[0, 1] == pytest.approx((np.abs(values[1]) > 0.9).mean())
    assert np.isnan(found.dead[0, 1:]).all()
    assert np.isnan(found.saturated[0, [0, 2]]).all()


def test_under_dropout_saturation_is_counted_among_what_is_kept():
    net = network([fnn.Dense(500, "tanh"), fnn.Dropout(0.6), fnn.Dense(3)], "softmax_cross_entropy")
    net.parameters["0.weight"] = 50 * net.parameters["0.weight"]
    z = features(ROWS) @ net.parameters["0.weight"] + net.parameters["0.bias"]
    found = net.fit(
        features(ROWS), targets("labels", ROWS), batch_size=ROWS, callbacks=[fnn.GradientFlow(1)]
    ).gradient_flow
    assert found.saturated[0, 0] == pytest.approx((np.abs(np.tanh(z)) > 0.9).mean(), abs=0.01)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lbfgs"])
def test_engines_agree(compiled, optimizer):
    left, right = (
        fit(backend=name, optimizer=optimizer)[1].gradient_flow for name in (compiled, "numpy")
    )
    np.testing.assert_array_equal(left.steps, right.steps)
    for name in gradient_flow.FIGURES:
        np.testing.assert_allclose(
            getattr(left, name), getattr(right, name), rtol=1e-4, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize("backend", ENGINES)
def test_every_counts_over_calls_of_fit(backend):
    net = network(DEEP, "softmax_cross_entropy", backend)
    steps = []
    for _ in range(3):  # three steps each
        history = net.fit(
            features(ROWS),
            targets("labels", ROWS),
            batch_size=16,
            callbacks=[fnn.GradientFlow(every=4)],
        )
        steps += history.gradient_flow.steps.tolist()
    assert steps == [0, 4, 8]


def test_an_iteration_of_lbfgs_is_a_step():
    _, history = fit(optimizer="lbfgs", every=2, epochs=5)
    assert history.gradient_flow.steps.tolist() == [0, 2, 4]
    assert (history.gradient_flow.update_ratio > 0).all()


def test_nothing_is_recorded_unasked():
    assert (
        fnn.mlp([4, 3], backend="numpy").fit(features(ROWS), targets("labels", ROWS)).gradient_flow
        is None
    )


def test_a_history_that_diverged_has_what_came_before(engine):
    net = fnn.mlp([4, 8, 3], loss="mse", backend=engine)
    with pytest.raises(fnn.DivergenceError) as caught:
        net.fit(
            features(ROWS),
            targets("values", ROWS),
            50,
            4,
            fnn.SGD(100.0),
            callbacks=[fnn.GradientFlow(1)],
        )
    history = caught.value.history
    assert history.stopped.startswith(f"diverged in epoch {caught.value.epoch}")
    assert len(history.gradient_flow) >= 1


def test_a_saved_history_comes_back(tmp_path):
    _, history = fit(validation=(features(9), targets("labels", 9)))
    history.stopped = "had enough"
    history["loss"][0] = float("nan")
    history.save(tmp_path / "history.json")
    # no NaN: any reader of JSON takes it
    json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail)
    again = fnn.History.load(tmp_path / "history.json")
    assert again.stopped == "had enough"
    assert list(again) == list(history)
    np.testing.assert_array_equal(list(again.values()), list(history.values()))
    for name in gradient_flow.DESCRIPTION:
        assert getattr(again.gradient_flow, name) == getattr(history.gradient_flow, name)
    for name in ("steps", *gradient_flow.FIGURES):
        np.testing.assert_array_equal(
            getattr(again.gradient_flow, name), getattr(history.gradient_flow, name)
        )
    assert [f.fault for f in again.diagnose()] == [f.fault for f in history.diagnose()]


def test_a_history_without_flow_comes_back(tmp_path):
    history = fnn.mlp([4, 3], backend="numpy").fit(features(ROWS), targets("labels", ROWS))
    history.save(tmp_path / "history.json")
    again = fnn.History.load(tmp_path / "history.json")
    assert again == history
    assert again.gradient_flow is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "else"}',
        b'{"format": "fastnn-history-1", "history": 3}',
        b"\xff\xfe",
        b"[" * 100000,
    ],
)
def test_a_file_that_is_no_history(tmp_path, content):
    (tmp_path / "h.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"h\.json is not a history that fastnn saved"):
        fnn.History.load(tmp_path / "h.json")


def test_mistakes(tmp_path):
    for every in (0, -1, 1.5, True):
        with pytest.raises((ValueError, TypeError), match="every"):
            fnn.GradientFlow(every)
    with pytest.raises(FileNotFoundError):
        fnn.History().save(tmp_path / "no" / "history.json")
    with pytest.raises(FileNotFoundError):
        fnn.History.load(tmp_path / "none.json")
    with pytest.raises(
        AttributeError, match="it has layers, units, activations, normalised, steps, learning_speed"
    ):
        fit()[1].gradient_flow.speed  # noqa: B018
