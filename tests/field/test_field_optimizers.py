"""Optimisers where reports say that they stand still, go elsewhere, or end without a word."""

import numpy as np
import pytest

import fastnn as fnn

ADAPTIVE = [fnn.Adam(1e-3), fnn.AdamW(1e-3), fnn.NAdam(1e-3), fnn.RMSProp(1e-3), fnn.AdaGrad(1e-3)]


def linear(inputs, engine, **options):
    layers = [fnn.Dense(1, init="zeros")]
    return fnn.Network(layers, inputs=inputs, loss="mse", backend=engine, **options)


@pytest.mark.parametrize("optimizer", ADAPTIVE, ids=lambda optimizer: type(optimizer).__name__)
def test_a_square_that_overflows_does_not_freeze_training(engine, optimizer, tmp_path):
    """Where g² is infinite and g is not, g/√g² would be 0 for ever, at a finite loss.

    FeRx-NLME/ferx-core#1112; bonlime/keras-deeplab-v3-plus#75 on files that then cannot be used.
    """
    rng = np.random.default_rng(3)
    X = 3e4 * rng.normal(size=(50, 2))
    net, said = linear(2, engine), False
    try:
        net.fit(X, 1e17 * X[:, 1], epochs=4, batch_size=50, optimizer=optimizer)
    except (fnn.DivergenceError, ValueError):
        said = True
    assert said or np.abs(net.parameters["0.weight"]).max() > 1e-4
    net.save(tmp_path / "m.fastnn")
    np.testing.assert_array_equal(
        fnn.load(tmp_path / "m.fastnn", engine).predict(X / 3e4), net.predict(X / 3e4)
    )


@pytest.mark.parametrize(("dtype", "size"), [("float32", 3e18), ("float64", 1e158)])
def test_a_norm_that_overflows_still_clips_to_a_step(engine, dtype, size):
    """Of a gradient whose squares are infinite the norm is finite, and the step has its length.

    pytorch/pytorch#46849, FeRx-NLME/ferx-core#1112.
    """
    net = linear(3, engine, dtype=dtype)
    X = size * np.array([[1.0, -2.0, 2.0]])
    try:
        net.fit(X, [1e-3 * size], optimizer=fnn.SGD(0.3, clip_norm=1.0))
    except (fnn.DivergenceError, ValueError):
        return  # said, which is right too
    got = net.parameters["0.weight"][:, 0]
    np.testing.assert_allclose(got, [0.1, -0.2, 0.2], rtol=1e-3)


def test_one_norm_clips_the_gradients_of_all_layers(engine):
    """Not one norm a layer: keras-team/keras#13575."""
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(20, 3)), np.arange(20) % 4
    net = fnn.mlp([3, 6, 4], seed=2, backend=engine)
    gradients = net.gradients(X, y)[1]
    before = {name: values.copy() for name, values in net.parameters.items()}
    net.fit(X, y, batch_size=20, optimizer=fnn.SGD(1.0, clip_norm=0.02))
    norm = np.sqrt(sum((gradients[name] ** 2).sum() for name in before))
    for name, values in before.items():
        expected = values - 0.02 / norm * gradients[name]
        np.testing.assert_allclose(net.parameters[name], expected, atol=1e-6)


@pytest.mark.parametrize("gradient", [1e4, 0.5, 1e-5, 1e-8, 3e-11])
def test_adams_first_step_is_about_the_learning_rate(engine, gradient):
    """The averages start at 0, and without their correction the step is far too short or long.

    ml-explore/mlx#1640.
    """
    net = linear(1, engine)
    net.fit([[1.0]], [gradient / 2], optimizer=fnn.Adam(0.25))
    expected = 0.25 * gradient / (gradient + 1e-8)
    np.testing.assert_allclose(net.parameters["0.weight"], [[expected]], rtol=2e-3)


def test_decoupled_weight_decay_shrinks_weights_alone(engine):
    """No biases, and no scales and shifts of a norm.

    huggingface/transformers#14539, oumi-ai/oumi#341, Lightning-AI/lit-llama#254.
    """
    net = fnn.Network([fnn.LayerNorm(), fnn.Dense(2)], inputs=3, loss="mse", backend=engine)
    net.parameters["1.bias"] = np.array([0.5, -2.0])
    before = {name: values.copy() for name, values in net.parameters.items()}
    X, y = np.zeros((6, 3)), np.tile([0.5, -2.0], (6, 1))  # all is fitted: no gradient
    net.fit(X, y, epochs=4, batch_size=3, optimizer=fnn.AdamW(0.2, weight_decay=0.25))
    for name, values in net.parameters.items():
        factor = 0.95**8 if name == "1.weight" else 1.0
        np.testing.assert_allclose(values, factor * before[name], rtol=1e-5)


def test_lbfgs_reaches_the_minimum_that_its_tolerance_asks_for(engine):
    """Not one that limits of SciPy's, which nobody asked for, leave it at.

    scikit-learn/scikit-learn#18074, #27191 and #9274.
    """
    rng = np.random.default_rng(5)
    X = rng.normal(size=(150, 4)) * [1, 20, 5, 0.5]
    y = X @ [2.0, -0.5, 1.0, 7.0] - 3 + rng.normal(size=150)
    net = linear(4, engine, dtype="float64")
    history = net.fit(X, y, epochs=3000, optimizer=fnn.LBFGS(tolerance=1e-9))
    expected = np.linalg.lstsq(np.column_stack([X, np.ones(150)]), y, rcond=None)[0]
    found = [*net.parameters["0.weight"][:, 0], *net.parameters["0.bias"]]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert max(np.abs(g).max() for g in net.gradients(X, y)[1].values()) < 1e-6
    assert history.stopped


def test_divergence_beside_early_stopping_is_named_as_what_it_is(engine):
    """It must end in no complaint about NaN in somebody's input, nor go on with scores of NaN.

    scikit-learn/scikit-learn#29504 and #29773.
    """
    rng = np.random.default_rng(6)
    X = rng.normal(size=(120, 3))
    net = fnn.mlp([3, 20, 1], loss="mse", backend=engine)
    with pytest.raises(fnn.DivergenceError) as caught:
        net.fit(
            X,
            500 * X.sum(axis=1),
            epochs=30,
            optimizer=fnn.SGD(20.0),
            validation=0.25,
            callbacks=[fnn.EarlyStopping(patience=3)],
        )
    assert caught.value.epoch >= 1
    assert caught.value.step >= 1
    assert caught.value.history is not None
    assert np.isfinite(net.state.theta).all()
    assert np.isfinite(net.predict(X)).all()
