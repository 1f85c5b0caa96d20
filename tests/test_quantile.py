"""The loss "quantile": several quantiles at once, ordered in predictions, in every engine."""

import numpy as np
import pytest
from builders import network, relative_error
from network_cases import raises

import fastnn as fnn
from fastnn._kernels.contract import State

LEVELS = (0.05, 0.3, 0.5, 0.8)
LOSS = fnn.Loss("quantile", levels=LEVELS)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = X[:, 0] + RNG.normal(size=60)


def pinball(p, y, levels):
    e = y[:, None] - p
    return np.where(e > 0, np.array(levels) * e, (np.array(levels) - 1) * e)


def small(engine="numpy", loss=LOSS, dtype="float64"):
    return network([fnn.Dense(6, "tanh"), fnn.Dense(len(loss.levels))], loss, engine, dtype, 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_mean_pinball_loss_of_the_raw_outputs(engine, weighted):
    net, w = small(engine), RNG.integers(0, 3, 60).astype(float) if weighted else None
    expected = np.average(pinball(net.forward(X), Y, LEVELS).mean(axis=1), weights=w)
    for y in (Y, Y[:, None], Y.tolist()):
        assert net.evaluate(X, y, w)["loss"] == pytest.approx(expected, rel=1e-12)


def test_gradients(engine):
    errors = fnn.check_gradients(small(engine), X[:9], Y[:9], step=1e-6, samples=8)
    assert max(errors.values()) <= 1e-6, errors


@pytest.mark.parametrize("k", [1, 2, 3, 16, 40])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_engines_agree(compiled, k, dtype):
    loss = fnn.Loss("quantile", levels=np.linspace(0.01, 0.99, k))
    nets = [small(name, loss, dtype) for name in (compiled, "numpy")]
    for net in nets:
        net.fit(X, Y, 3, 16, fnn.Adam(0.01), progress=False)
    tolerance = {"float64": 1e-10, "float32": 1e-4}[dtype]
    assert relative_error(nets[0].parameters, nets[1].parameters) <= tolerance
    np.testing.assert_allclose(
        *(net.predict(X) for net in nets), rtol=100 * tolerance, atol=100 * tolerance
    )


def test_a_target_that_is_met_has_no_gradient(engine):
    net = small(engine)
    net.parameters["1.weight"] = np.zeros((6, 4))
    net.parameters["1.bias"] = [2.0, 2.0, 2.0, 2.0]
    loss, gradients = net.gradients(X, np.full(60, 2.0))
    assert loss == 0
    assert not any(array.any() for array in gradients.values())


def test_quantiles_never_cross(engine):
    net = small(engine)
    raw, predicted = net.forward(X), net.predict(X)
    assert (np.diff(raw) < 0).any()
    np.testing.assert_array_equal(predicted, np.sort(raw, axis=1))
    # Rearrangement never raises the loss.
    before, after = (pinball(p, Y, LEVELS).mean(axis=1) for p in (raw, predicted))
    assert (after <= before + 1e-12).all()


def test_equal_infinite_and_missing_outputs_are_sorted_too(engine):
    """Of numbers that overflowed, NaN last, as NumPy sorts them."""
    net = fnn.Network([fnn.Dense(4)], 1, LOSS, "float64", engine)
    theta = np.zeros_like(net.state.theta)
    rows = [
        [1.0, -np.inf, np.inf, 1.0],
        [np.nan, 2.0, np.nan, -np.inf],
        [np.nan, 3.0, 2.0, 1.0],
        [0.0, 0.0, -1.0, 0.0],
        [np.nan] * 4,
    ]
    for bias in rows:
        net.program.parameters[1].view(theta)[...] = bias
        outputs, _ = net.engine.forward(State(theta.copy(), net.state.buffers, 0), X[:3, :1], True)
        np.testing.assert_array_equal(outputs, np.sort([bias] * 3, axis=1))


def test_each_output_learns_its_level(engine):
    """Of noise whose spread grows with x: quantiles of the normal distribution."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, 4000)
    y = 2 * x + (0.2 + x) * rng.normal(size=4000)
    net = fnn.Network([fnn.Dense(16, "tanh"), fnn.Dense(3)], 1, "quantile", backend=engine, seed=1)
    net.fit(x[:, None], y, 60, 100, fnn.Adam(fnn.FlatCosine(0.02, 2400)), progress=False)
    at = np.array([0.1, 0.5, 0.9])
    expected = 2 * at[:, None] + (0.2 + at[:, None]) * np.array([-1.2816, 0.0, 1.2816])
    np.testing.assert_allclose(net.predict(at[:, None]), expected, atol=0.15)
    shares = (y[:, None] <= net.predict(x[:, None])).mean(axis=0)
    np.testing.assert_allclose(shares, [0.1, 0.5, 0.9], atol=0.03)


def test_metrics_are_of_the_level_nearest_a_half(engine):
    net = small(engine)
    scores, median = net.evaluate(X, Y, metrics=("accuracy", "mae", "rmse")), net.predict(X)[:, 2]
    assert list(scores) == ["loss", "r2", "mae", "rmse"]
    assert scores["mae"] == pytest.approx(np.abs(median - Y).mean())
    assert scores["rmse"] == pytest.approx(np.sqrt(np.square(median - Y).mean()))
    assert scores["r2"] == pytest.approx(1 - np.square(median - Y).mean() / Y.var())


def test_whole_numbers_are_no_classes():
    net, y = small(), np.arange(60) % 4
    assert "r2" in net.evaluate(X, y)
    history = net.fit(X, y, validation=0.2, progress=False)
    assert "val_r2" in history
    with raises(ValueError, "class_weight needs integer class labels"):
        net.fit(X, y, class_weight="balanced", progress=False)


@pytest.mark.parametrize(
    "loss", ["quantile", fnn.Loss("quantile", levels=np.array([0.2, 0.25, 0.9]))]
)
def test_a_saved_network_is_the_same(engine, loss, tmp_path):
    net = fnn.Network([fnn.Dense(3)], 3, loss, backend=engine)
    net.fit(X, Y, progress=False)
    net.save(tmp_path / "m.fastnn")
    again = fnn.load(tmp_path / "m.fastnn", backend=engine)
    assert repr(again) == repr(net)
    assert again.loss.levels == net.loss.levels
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def test_a_diagnosis_knows_the_best_constant():
    assert small().diagnose(X, Y, fnn.Adam()) is not None
    assert repr(fnn.Loss("quantile")) == "Loss('quantile', levels=(0.1, 0.5, 0.9))"


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("levels", "parts"),
    [
        ((), ["levels must be a list"]),
        (0.5, ["levels must be a list", "0.5"]),
        ("0.5", ["levels must be a list"]),
        ((0.0, 0.5), ["levels[0]", "(0, 1)"]),
        ((0.5, 1.0), ["levels[1]", "(0, 1)"]),
        ((0.5, 0.5), ["levels must rise", "levels[1] is 0.5"]),
        ((0.9, 0.1), ["levels must rise", "0.1 after 0.9"]),
        ((0.5, "0.9"), ["levels[1]", "number"]),
        ((np.nan,), ["levels[0]", "nan"]),
    ],
)
def test_bad_levels(levels, parts):
    with raises((ValueError, TypeError), *parts):
        fnn.Loss("quantile", levels=levels)


def test_other_mistakes():
    with raises(TypeError, "quantile", "takes only levels", "delta"):
        fnn.Loss("quantile", delta=1.0)
    with raises(TypeError, "'mse' takes no constants", "levels"):
        fnn.Loss("mse", levels=(0.5,))
    with raises(ValueError, "an output for each of its levels (0.1, 0.5, 0.9)", "last layer has 2"):
        fnn.Network([fnn.Dense(2)], 3, "quantile")
    with raises(ValueError, "level 1e-50 of quantile is 0 in float32"):
        fnn.Network([fnn.Dense(1)], 3, fnn.Loss("quantile", levels=[1e-50]))
    with raises(ValueError, "is 1 in float32"):
        fnn.Network([fnn.Dense(1)], 3, fnn.Loss("quantile", levels=[1 - 1e-12]))
    net = small()
    with raises(ValueError, "y has 4 columns", "one value for each sample"):
        net.fit(X, np.tile(Y[:, None], 4))
    with raises(ValueError, "y has 59 rows"):
        net.fit(X, Y[:-1])
